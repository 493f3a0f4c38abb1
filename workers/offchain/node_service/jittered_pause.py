"""Pauses between attempts: longer with each failure, and never the same for two processes."""

from __future__ import annotations

from collections.abc import Callable


class JitteredPause:
    """Exponential with full jitter: at random up to a limit that doubles with each failure.

    `chance` gives numbers from 0 up to 1.
    """

    def __init__(self, first_s: float, longest_s: float, chance: Callable[[], float]) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._chance = chance
        self._limit_s = first_s

    def next_s(self) -> float:
        """How long to wait after one more failure: at least half of the first limit."""
        pause_s = max(self._first_s / 2, self._chance() * self._limit_s)
        self._limit_s = min(self._limit_s * 2, self._longest_s)
        return pause_s

    def reset(self) -> None:
        """It has gone well again."""
        self._limit_s = self._first_s
