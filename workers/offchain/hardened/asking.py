"""When an application is asked what it wants next: one earliest moment, for whatever reason."""

from __future__ import annotations

from math import inf

from workers.offchain.chance import Chance
from workers.offchain.hardened.retry_gate import RetryGate

# No question follows the one before sooner, unless we know of something new: else a callback in
# the past would be a loop, and each of our own blocks a question.
SPACING_S = 0.2
SAFETY_S = 60.0  # a notification may be lost; spread over the last tenth
FAILED_S, FAILED_S_MAX = 1.0, 60.0  # after no usable answer
PAUSE_S = 300.0  # when only a person can mend it; an update ends the pause


class Asking:
    """The open question of an application, and when the next one is due."""

    __slots__ = (
        "_failed",
        "_gates_at",
        "_safety_at",
        "_sent_at",
        "_wanted_at",
        "callback_unix_us",
        "is_answered",
        "open",
        "paused_until",
    )

    def __init__(self) -> None:
        self.open: int | None = None  # the number of the question
        self.is_answered = False  # the last one that has ended was
        self.callback_unix_us: int | None = None  # the application's wish
        self.paused_until = 0.0
        self._failed = RetryGate(FAILED_S, FAILED_S_MAX)
        self._sent_at = -inf
        self._wanted_at = inf
        self._gates_at = inf  # when a group or an outcome may be tried again
        self._safety_at = inf

    def due_at(self, now: float, unix_us: int) -> float:
        """When to ask next, on the monotonic clock, by what both clocks say now."""
        if self.open is not None:
            return inf
        wanted = min(self._wanted_at, self._gates_at, self._safety_at)
        if self.callback_unix_us is not None:
            in_s = max(0, self.callback_unix_us - unix_us) / 1e6
            wanted = min(wanted, max(now + in_s, self._sent_at + SPACING_S))
        return max(wanted, self._failed.until, self.paused_until)

    # -- reasons to ask ---------------------------------------------------------------------------

    def at_once(self, now: float) -> None:
        self._wanted_at = min(self._wanted_at, now)

    def soon(self, now: float, *, busy: bool) -> None:
        """Something has changed: ask at once, but one who is busy not at each change."""
        self._wanted_at = min(self._wanted_at, max(now, self._sent_at + SPACING_S) if busy else now)

    def when_gate_opens(self, at: float) -> None:
        self._gates_at = min(self._gates_at, at)

    def begin_anew(self, now: float) -> None:
        """The node is there (again), or somebody has mended something: forget what failed."""
        self._failed.open()
        self.paused_until = 0.0
        self.at_once(now)

    def pause(self, now: float) -> None:
        self.paused_until = now + PAUSE_S
        self.is_answered = False
        self.at_once(now)

    # -- question and answer ----------------------------------------------------------------------

    def sent(self, ask: int, now: float, gates_at: float) -> None:
        """A question has left; it covers every reason so far but the gates that open later."""
        self.open = ask
        self._sent_at = now
        self._wanted_at = self._safety_at = inf
        self._gates_at = gates_at

    def answered(self, now: float, chance: Chance) -> float:
        """Returns: when the question had left."""
        self._ended(now, chance)
        self.is_answered = True
        self._failed.succeeded()
        return self._sent_at

    def failed(self, now: float, chance: Chance) -> None:
        """No usable answer: ask again after a back-off, whatever happens meanwhile."""
        self._ended(now, chance)
        self.is_answered = False
        self._failed.failed(now, chance)
        self.at_once(now)

    def _ended(self, now: float, chance: Chance) -> None:
        self.open = None
        self._safety_at = now + SAFETY_S * chance.uniform(0.9, 1.0)

    def stopped(self) -> None:
        self.open = None
