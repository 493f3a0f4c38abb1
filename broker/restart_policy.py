"""When a child that died is started again, and when a broker that says nothing is given up.

A child starts again at once, then with growing pauses, then now and then. Pure: ends, questions,
answers and the time go in.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, field

FIRST_PAUSE_S = 0.05
PAUSE_MAX_S = 5.0
HEALTHY_AFTER_S = 2.0  # who lived so long has not died of its start
DEATHS_MAX = 8  # so many in a row, each before HEALTHY_AFTER_S, are a crash loop
CRASH_LOOP_PAUSE_S = 15.0  # its cause (a moved store, a full disk) may go without our doing
# A broker that leaves questions unanswered for so long is stopped or hangs. Before its first answer
# it may be reading a long event log from a slow disk.
SILENCE_S_MAX = 5.0
FIRST_SILENCE_S_MAX = 60.0


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


@dataclass(slots=True)
class Silence:
    """For how long a process has not answered.

    Counted in the pauses between questions and not by the clock, so that a pool that was stopped
    as a whole (Ctrl-Z) goes on as it was.
    """

    _pid: int = 0
    _has_answered: bool = False
    _silent_s: float = 0.0

    def asked(self, pid: int, pause_s: float) -> bool:
        """A question goes out, `pause_s` after the last one; whether to ask no longer."""
        if pid != self._pid:
            self._pid, self._has_answered, self._silent_s = pid, False, 0.0
        limit = SILENCE_S_MAX if self._has_answered else FIRST_SILENCE_S_MAX
        self._silent_s += pause_s
        return self._silent_s > limit

    def answered(self, pid: int) -> bool:
        """A process has answered; whether it is the first time that this one did."""
        is_first = pid != self._pid or not self._has_answered
        self._pid, self._has_answered, self._silent_s = pid, True, 0.0
        return is_first
