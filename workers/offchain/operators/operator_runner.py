"""Holds the runs of operators that go on, and tells of their ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial

from msgspec import Struct

from workers.offchain.commands import Run
from workers.offchain.ends import RunResult
from workers.offchain.operators.launcher import Launcher, LiveRun


class RunnerStatistics(Struct, frozen=True):
    """What the runner has done since its start."""

    running: int
    oldest_s: float  # how long the oldest of these goes on; 0 without any
    slow: int  # runs that took longer than their `slow_after_s`
    ends: dict[str, int]  # class = how many ended so


class OperatorRunner:
    """Runs operators; how many at once is not its decision."""

    def __init__(
        self,
        launcher: Launcher,
        on_end: Callable[[int, RunResult], None],
        on_slow: Callable[[int, float], None],
    ) -> None:
        """
        Args:
            on_end: is told each run that was started, once, with its result: never while `start`
                goes on, and not before nothing of the run is left.
            on_slow: is told a run that goes on for longer than it should, once, and for how long.
        """
        self._launcher, self._on_end, self._on_slow = launcher, on_end, on_slow
        self._loop = asyncio.get_running_loop()
        self._live: dict[int, LiveRun] = {}
        self._is_idle = asyncio.Event()
        self._slow = 0
        self._ends: Counter[str] = Counter()

    def start(self, order: Run, token: str) -> int | None:
        """Start a run; the number of its process, None when it could not be started.

        Args:
            token: by which everything that it starts is found again; written down before.
        """
        run = order.run
        launched = self._launcher.launch(
            order, token, partial(self._see_end, run), partial(self._see_slowness, run)
        )
        if isinstance(launched, RunResult):
            self._loop.call_soon(self._tell_end, run, launched)
            return None
        self._live[run] = launched
        return launched.pid

    def cancel(self, run: int, *, at_once: bool = False) -> None:
        """End a run, with its operator's grace or at once; one that has ended already is none."""
        if run in self._live:
            self._live[run].cancel(at_once=at_once)

    def end_at_once(self) -> None:
        """Kill all runs; each tells of its end."""
        for run in list(self._live):
            self.cancel(run, at_once=True)

    async def shutdown(self) -> None:
        """End all runs, tell of their ends, and leave nothing behind."""
        for run in list(self._live):
            self.cancel(run)
        while self._live:
            self._is_idle.clear()
            await self._is_idle.wait()
        self._launcher.close()

    def _see_end(self, run: int, result: RunResult) -> None:
        del self._live[run]
        if not self._live:
            self._is_idle.set()
        self._tell_end(run, result)

    def _tell_end(self, run: int, result: RunResult) -> None:
        self._ends[result.end] += 1
        self._on_end(run, result)

    def _see_slowness(self, run: int, seconds: float) -> None:
        self._slow += 1
        self._on_slow(run, seconds)

    def statistics(self) -> RunnerStatistics:
        started = [live.started_at for live in self._live.values()]
        oldest_s = self._loop.time() - min(started) if started else 0.0
        return RunnerStatistics(len(started), oldest_s, self._slow, dict(self._ends))
