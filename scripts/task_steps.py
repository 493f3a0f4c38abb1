"""Where the time of an operator's run goes: a task processor's loop in one process, with clocks.

Core, journal, runner and operator are the real ones; the node service is played, and takes no
outcome. One run follows the other, so that their steps follow each other, too:

    core      what follows from the end of the last run
    journal   the turn's transaction
    start     launcher and posix_spawn(3), until the program is being executed
    operator  until the system says that it has ended; meanwhile the rest of the turn is done
    reap      read the rest, end what is left, fetch the status
    between   the event loop, in all
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, cast

from broker.config import OperatorSettings, TaskSettings
from workers.offchain.actions import ProcessorActions, Task
from workers.offchain.application import Application
from workers.offchain.hardened.processor import Processor
from workers.offchain.journal.journal import Journal
from workers.offchain.journal.journal_tables import JOURNAL_NAME
from workers.offchain.operators.child_process import ChildProcess
from workers.offchain.operators.launcher import OperatorLauncher
from workers.offchain.operators.operator_table import operator_table
from workers.offchain.operators.scratch import Scratch
from workers.offchain.processor_loop import ProcessorLoop
from workers.offchain.processor_process import core_settings, host_places
from workers.offchain.stimuli import Share, Updated

APPLICATION = Application("c" * 64, "a" * 64)
# An application whose outcomes nobody takes gets no more than 64 of them computed.
RUNS_A_PLAY = 50


class PlayedNode:
    """Lists all tasks at once, and does not answer when it is given an outcome."""

    def __init__(self, tasks: list[Task]) -> None:
        self._tasks = tasks

    async def next_actions(self, *_: object) -> ProcessorActions:
        return ProcessorActions(self._tasks)

    async def submit_outcome(self, *_: object) -> None:
        await asyncio.Event().wait()

    def watch(self, chain_id: str) -> None: ...


class Reading(NamedTuple):
    """What both clocks say."""

    wall_s: float
    cpu_s: float  # of this thread

    @classmethod
    def now(cls) -> Reading:
        return cls(time.perf_counter(), time.thread_time())


class Steps:
    """The steps of many runs, and how long each took."""

    def __init__(self) -> None:
        self.taken: dict[str, list[Reading]] = defaultdict(list)
        self._begun: dict[str, Reading] = {}

    def begin(self, name: str) -> None:
        self._begun[name] = Reading.now()

    def end(self, name: str) -> None:
        if (begun := self._begun.pop(name, None)) is not None:
            now = Reading.now()
            self.taken[name].append(Reading(now.wall_s - begun.wall_s, now.cpu_s - begun.cpu_s))

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            self.begin(name)
            try:
                return call(*args, **kwargs)
            finally:
                self.end(name)

        return step


def task_steps(program: str, content: str, runs: int) -> dict[str, dict[str, float]]:
    """Run a program so many times, at least; microseconds of each step, the median run's."""
    steps = Steps()
    for _ in range(0, runs, RUNS_A_PLAY):
        with tempfile.TemporaryDirectory(prefix="forgepool-bench-") as directory:
            asyncio.run(_play(program, content, Path(directory), steps))
    return {
        name: {
            "wall_us": statistics.median(each.wall_s for each in taken) * 1e6,
            "cpu_us": statistics.median(each.cpu_s for each in taken) * 1e6,
        }
        for name, taken in steps.taken.items()
    }


async def _play(program: str, content: str, directory: Path, steps: Steps) -> None:
    settings = TaskSettings(
        node_service="http://127.0.0.1:1",  # it is played
        operators={"program": OperatorSettings(program)},
        concurrency=1,
        per_application=1,
    )
    node = cast(Any, PlayedNode([Task("program", content, str(n)) for n in range(RUNS_A_PLAY)]))
    core: Any = Processor(core_settings(settings), Random(1))
    journal: Any = Journal(directory / JOURNAL_NAME, host_places(settings))
    launcher: Any = OperatorLauncher(
        operator_table(settings.operators), Scratch(directory / "runs"), os.environ, journal.uuid
    )
    all_over = asyncio.Event()
    core.handle_all = steps.timed("core", core.handle_all)
    journal.commit = steps.timed("journal", journal.commit)
    started, reaped = 0, ChildProcess._see_end

    def start(*args: Any) -> Any:
        nonlocal started
        started += 1
        steps.end("run")
        steps.begin("run")
        live = launch(*args)
        steps.begin("operator")
        return live

    def reap(child: ChildProcess) -> None:
        steps.end("operator")
        reaped(child)
        if started == RUNS_A_PLAY:
            all_over.set()

    launch = steps.timed("start", launcher.launch)
    launcher.launch = start
    ChildProcess._see_end = steps.timed("reap", reap)  # type: ignore[method-assign]
    try:
        loop = ProcessorLoop(
            core, journal, launcher, node, node,
            submit_limit_s=60.0, publish=lambda _: None, on_turn=lambda _: None,
            on_stall=lambda _: None,
        )  # fmt: skip
        working = asyncio.create_task(loop.run())
        loop.tell(Updated([Share(APPLICATION, 1)]))
        await all_over.wait()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
    finally:
        ChildProcess._see_end = reaped  # type: ignore[method-assign]
