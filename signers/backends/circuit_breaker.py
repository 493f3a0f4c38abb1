"""When to leave a signer alone, and when to try it again.

    closed ── failures in a row ──► open ── its time is over ──► half-open ──► closed
                                      ▲                              │ one probe at a time
                                      └───────── it failed ──────────┘ and twice as long

While it is open nothing is sent, so that whoever asks gets his answer at once and a signer that
comes back is not met by a crowd.

Pure: the time is an argument, in seconds of any clock that only goes forward.
"""

from dataclasses import dataclass
from enum import Enum

# One slow answer is no failure of the signer; three in a row are.
FAILURES_TO_OPEN = 3
OPEN_S = 0.5
# A baker's blocks come every few seconds: a signer that is back must not wait much longer.
OPEN_S_MAX = 15.0


class State(Enum):
    """What a breaker does with the next call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Failure:
    """The last of some failures in a row."""

    at: float
    why: str
    in_a_row: int


class CircuitBreaker:
    """One signer's breaker; each call is asked for first and answered for afterwards."""

    def __init__(
        self,
        *,
        failures_to_open: int = FAILURES_TO_OPEN,
        open_s: float = OPEN_S,
        open_s_max: float = OPEN_S_MAX,
    ) -> None:
        self._failures_to_open = failures_to_open
        self._open_s_first = self._open_s = open_s
        self._open_s_max = open_s_max
        self._era = 0  # answers of calls from before the last change of state count for nothing
        self._is_probing = False
        self.state = State.CLOSED
        self.last_failure: Failure | None = None
        self.open_until = 0.0

    def is_open(self, now: float) -> bool:
        """Whether a call would be refused now."""
        if self.state is State.OPEN:
            return now < self.open_until
        return self.state is State.HALF_OPEN and self._is_probing

    def ask(self, now: float) -> int | None:
        """Ask for a call: its token, or None when it must not be made."""
        if self.is_open(now):
            return None
        if self.state is State.OPEN:
            self._enter(State.HALF_OPEN)
        if self.state is State.HALF_OPEN:
            self._is_probing = True
        return self._era

    def succeeded(self, token: int) -> None:
        """The signer has answered: whatever it said, it is there."""
        if token != self._era:
            return
        self.last_failure = None
        self._open_s = self._open_s_first
        if self.state is not State.CLOSED:
            self._enter(State.CLOSED)

    def failed(self, token: int, now: float, why: str) -> None:
        """The signer has not answered, or with something that no signer says."""
        if token != self._era:
            return
        in_a_row = 1 if self.last_failure is None else self.last_failure.in_a_row + 1
        self.last_failure = Failure(now, why, in_a_row)
        if self.state is State.HALF_OPEN:
            self._open_s = min(2 * self._open_s, self._open_s_max)
        elif in_a_row < self._failures_to_open:
            return
        self.open_until = now + self._open_s
        self._enter(State.OPEN)

    def story(self) -> str:
        """Say in a few words what went wrong last; empty when nothing has."""
        failure = self.last_failure
        if failure is None:
            return ""
        times = f"{failure.in_a_row} times in a row, " if failure.in_a_row > 1 else ""
        return f"{times}last: {failure.why}" if times else failure.why

    def _enter(self, state: State) -> None:
        self.state = state
        self._era += 1
        self._is_probing = False
