"""How long to wait before trying again: twice as long each time, up to a limit."""

from __future__ import annotations


class Backoff:
    """1, 2, 4, 8, 16, 16, … ms when built for 1 to 16 ms; any success starts over."""

    __slots__ = ("_first_s", "_longest_s", "_next_s", "until")

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = self._next_s = first_s
        self._longest_s = longest_s
        self.until = 0.0  # nothing is tried before

    def failed(self, now: float) -> None:
        """Wait; what fails while one waits was tried before, and says nothing new."""
        if now >= self.until:
            self.until = now + self._next_s
            self._next_s = min(self._longest_s, self._next_s * 2)

    def succeeded(self) -> None:
        self._next_s = self._first_s
        self.until = 0.0
