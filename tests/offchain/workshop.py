"""Operators made for a test, and a runner that runs them for real."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from broker.config import OperatorSettings
from workers.offchain.application import Application
from workers.offchain.commands import Run
from workers.offchain.ends import RunResult
from workers.offchain.operators.launcher import Launcher, OperatorLauncher
from workers.offchain.operators.operator_runner import OperatorRunner
from workers.offchain.operators.operator_table import OperatorTable, operator_table
from workers.offchain.operators.orphans import processes_of_runs
from workers.offchain.operators.scratch import Scratch
from workers.offchain.operators.seed_run import SeedLauncher

APPLICATION = Application("c" * 64, "a" * 64)
PATIENCE_S = 60.0  # for what must happen


class Runs:
    """A runner, and what it has told."""

    def __init__(self, launcher: Launcher, token: str) -> None:
        self.runner = OperatorRunner(launcher, self._end, lambda run, _: self.slow.append(run))
        self.token = token
        self.slow: list[int] = []
        self.pids: dict[int, int | None] = {}
        self._ends: dict[int, asyncio.Future[RunResult]] = {}

    def _end(self, run: int, result: RunResult) -> None:
        self._ends[run].set_result(result)

    def start(
        self, operator: str, content: str = "", *, attempt: int = 1, group: str | None = None
    ) -> int:
        run = len(self._ends) + 1
        self._ends[run] = asyncio.get_running_loop().create_future()
        order = Run(run, APPLICATION, run, attempt, group, operator, content)
        self.pids[run] = self.runner.start(order, self.token)
        return run

    async def end(self, run: int) -> RunResult:
        return await asyncio.wait_for(asyncio.shield(self._ends[run]), PATIENCE_S)

    def has_ended(self, run: int) -> bool:
        return self._ends[run].done()

    async def perform(self, operator: str, content: str = "") -> RunResult:
        return await self.end(self.start(operator, content))


class Workshop:
    """Where a test makes its operators."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.settings: dict[str, OperatorSettings] = {}
        self.scratch = directory / "scratch"
        self.token = f"test-{os.getpid()}-{directory.name}"
        self.environment = dict(os.environ)

    def program(self, name: str, path: str, **settings: object) -> None:
        self.settings[name] = OperatorSettings(path, **settings)

    def script(self, name: str, body: str, **settings: object) -> None:
        """An operator of the shell; $HERE is a directory that is there after it."""
        path = self.directory / name
        path.write_text(f"#!/bin/sh\nHERE='{self.directory}'\n{body}\n")
        path.chmod(0o755)
        self.program(name, str(path), **settings)

    @property
    def table(self) -> OperatorTable:
        return operator_table(self.settings)

    @asynccontextmanager
    async def open(self, *, seed: bool = False) -> AsyncIterator[Runs]:
        launcher = (
            SeedLauncher(self.table)
            if seed
            else OperatorLauncher(self.table, Scratch(self.scratch), self.environment, "origin")
        )
        runs = Runs(launcher, self.token)
        try:
            yield runs
        except BaseException:
            runs.runner.end_at_once()
            await runs.runner.shutdown()
            raise
        await runs.runner.shutdown()
        assert processes_of_runs({self.token}) == [], "nothing of a run is left"

    def play(self, story: Callable[[Runs], Awaitable[None]], *, seed: bool = False) -> None:
        async def told() -> None:
            async with self.open(seed=seed) as runs:
                await story(runs)

        asyncio.run(told())

    def run(self, name: str, content: str = "", *, seed: bool = False) -> RunResult:
        """One run from beginning to end."""
        results = []

        async def story(runs: Runs) -> None:
            results.append(await runs.perform(name, content))
            if not seed:
                assert processes_of_runs({self.token}) == [], "nothing of it is left when it ends"

        self.play(story, seed=seed)
        return results[0]


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that must happen."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.002)
