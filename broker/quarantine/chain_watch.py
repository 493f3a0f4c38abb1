"""When to ask the node where the chain stands: at the start, then each second of traffic.

After a silence nothing is judged before the node has answered: by an old head the newest votes
would be far ahead of the chain.
"""

from __future__ import annotations

from math import inf

from broker.quarantine.backoff import Backoff

ASK_EVERY_S = 1.0
# A position that nobody confirmed for so long is not gone by while a better one is on its way.
OLD_S = 3.0


class ChainWatch:
    """What was asked about the chain, and when it was last told."""

    __slots__ = ("_again", "_asked", "_awaited", "_known_at", "_next_at", "node_head",
                 "round_ms", "traffic")  # fmt: skip

    def __init__(self, now: float, round_ms: int) -> None:
        self.node_head = b""  # hash of the highest block that the node told of
        self.round_ms = round_ms  # how long round 0 lasts
        self.traffic = True  # since the last question
        self._asked = 0  # number of the slice
        self._awaited = False  # an answer, or the store's word for what was in it
        self._next_at = now
        self._known_at = -inf
        self._again = Backoff(0.25, 4.0)

    def vote_life_s(self, rounds: int) -> float:
        """How long a vote is of interest."""
        return rounds * self.round_ms / 1000

    def due(self, now: float, open_items: bool) -> bool:
        """Whether to ask now."""
        return now >= self.deadline(open_items)

    def deadline(self, open_items: bool) -> float:
        """When to ask next."""
        if self._asked or not (self.traffic or open_items):
            return inf
        return max(self._next_at, self._again.until)

    def asked(self, number: int, now: float) -> None:
        self._asked = number
        self._awaited = True
        self.traffic = False
        self._next_at = now + ASK_EVERY_S

    def is_answer(self, number: int) -> bool:
        """Whether a slice was the question about the chain; it is no longer open then."""
        if number != self._asked:
            return False
        self._asked = 0
        return True

    def known(self, now: float) -> None:
        """What the node told is stored."""
        self._awaited = False
        self._known_at = now
        self._again.succeeded()

    def failed(self, now: float) -> None:
        """The node did not tell: what is known must do."""
        self._awaited = False
        self._known_at = now
        self._again.failed(now)

    def blind(self, now: float) -> bool:
        """Whether what is known is old, and better knowledge is on its way."""
        return self._awaited and now - self._known_at > OLD_S
