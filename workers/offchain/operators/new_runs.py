"""Runs that have just begun, with one timer for all of them.

Most runs of short operators are over before anybody need attend to them. A timer of its own for
each, set and cancelled, would take the event loop longer than to hear of the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# Until then a run is not listened to: its pipes hold 64 KiB of what it says. It is also the least
# that a time limit can be.
ATTEND_AFTER_S = 0.005


class NewRuns:
    """Calls back for each run that is not over at once."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, tuple[float, Callable[[], None]]] = {}  # the oldest is first
        self._timer: asyncio.TimerHandle | None = None

    def add(self, pid: int, attend: Callable[[], None]) -> None:
        """A run has begun, and is to be attended to if it goes on."""
        at = self._loop.time() + ATTEND_AFTER_S
        self._waiting[pid] = at, attend
        if self._timer is None:
            self._timer = self._loop.call_at(at, self._look)

    def forget(self, pid: int) -> None:
        """It is over."""
        self._waiting.pop(pid, None)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._waiting:
            pid, (at, attend) = next(iter(self._waiting.items()))
            if at > now:
                self._timer = self._loop.call_at(at, self._look)
                return
            del self._waiting[pid]
            attend()
