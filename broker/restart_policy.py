"""When a child that died is started again: at once, with growing pauses, then now and then.

Pure: ends and the time go in, the moment of the next start comes out.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

FIRST_PAUSE_S = 0.05
PAUSE_MAX_S = 5.0
HEALTHY_AFTER_S = 2.0  # who lived so long has not died of its start
DEATHS_MAX = 8  # so many in a row, each before HEALTHY_AFTER_S, are a crash loop
CRASH_LOOP_PAUSE_S = 15.0  # its cause (a moved store, a full disk) may go without our doing


def how_it_ended(status: int) -> str:
    """Name an exit status as `subprocess` gives it: "killed by SIGKILL", "exit status 3"."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


@dataclass(slots=True)
class RestartPolicy:
    """The budget of one child."""

    deaths: int = 0  # in a row
    _started: float = field(default=0.0)

    def started(self, now: float) -> None:
        self._started = now

    @property
    def crash_loops(self) -> bool:
        return self.deaths >= DEATHS_MAX

    def ended(self, now: float) -> float:
        """When to start it again."""
        if now - self._started >= HEALTHY_AFTER_S:
            self.deaths = 0
        self.deaths += 1
        if self.crash_loops:
            return now + CRASH_LOOP_PAUSE_S
        if self.deaths == 1:
            return now
        return now + min(PAUSE_MAX_S, FIRST_PAUSE_S * 2.0 ** (self.deaths - 1))
