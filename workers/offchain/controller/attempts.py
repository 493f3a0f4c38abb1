"""Something that is tried until it succeeds: when next, and whether its failure is news."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from workers.offchain.node_service.jittered_pause import JitteredPause

# After a question or an operation that has failed.
RETRY_FIRST_S = 1.0
RETRY_LONGEST_S = 60.0


class Attempts:
    """The attempts at one thing."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._pause = JitteredPause(RETRY_FIRST_S, RETRY_LONGEST_S, chance)
        self._reason = ""
        self.due_at = -inf

    def failed(self, now: float, reason: str) -> bool:
        """Wait before the next attempt; return whether it is another reason than the last time."""
        self.due_at = now + self._pause.next_s()
        is_news = reason != self._reason
        self._reason = reason
        return is_news

    def succeeded(self) -> None:
        """The next attempt may come at once."""
        self._pause.reset()
        self._reason = ""
        self.due_at = -inf
