"""When something that failed may be tried again: later each time, and not together with others."""

from __future__ import annotations

from workers.offchain.chance import Chance

DOUBLINGS_MAX = 32  # by then every limit is reached; keeps the power of two small


class RetryGate:
    """Closed after a failure until a random moment of the second half of 5, 10, 20, … s.

    The first half is kept free, so that no run of luck makes a loop: what always fails is tried at
    most five times in a minute. Nothing that happens on the chain opens the gate before.
    """

    __slots__ = ("_first_s", "_longest_s", "failures", "until")

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self.failures = 0  # in a row
        self.until = 0.0  # monotonic; nothing is tried before

    def failed(self, now: float, chance: Chance) -> None:
        """Close; what fails while the gate is closed had begun before, and says nothing new."""
        if now < self.until:
            return
        limit_s = min(self._longest_s, self._first_s * 2 ** min(self.failures, DOUBLINGS_MAX))
        self.failures += 1
        self.until = now + limit_s * chance.uniform(0.5, 1.0)

    def succeeded(self) -> None:
        """Start over with the next failure; a gate that another failure has closed stays closed."""
        self.failures = 0

    def open(self) -> None:
        self.failures = 0
        self.until = 0.0
