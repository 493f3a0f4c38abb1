"""What was given to the quarantine: kept until it has ended, and known for a while after.

Pure.
"""

from __future__ import annotations

from collections import OrderedDict

from broker.quarantine.items import BlockOffer, VoteOffer

# A network of 400 delegates votes 800 times in a round; votes may be held for two rounds.
OPEN_MAX = 8_192
# As much as the quarantine itself holds of blocks.
OPEN_BYTES_MAX = 64 * 1024 * 1024
# The mempool's stream begins anew at each head, with votes of three levels.
KNOWN_MAX = 16_384

Offer = BlockOffer | VoteOffer


class PushedItems:
    """Items by the id of their request, and the hashes of the last ones."""

    def __init__(self, open_max: int = OPEN_MAX, open_bytes_max: int = OPEN_BYTES_MAX) -> None:
        self._open_max = open_max
        self._open_bytes_max = open_bytes_max
        self._open: OrderedDict[bytes, Offer] = OrderedDict()
        self._bytes = 0
        self.blocks = 0  # of those that have not ended
        self._known: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def is_known(self, hash_: str) -> bool:
        """Whether what has this hash was pushed lately."""
        return hash_ in self._known

    def put(self, id: bytes, hash_: str, offer: Offer) -> int:
        """Keep an item; how many older ones had to be forgotten for it."""
        self._known[hash_] = None
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        self._open[id] = offer
        self._count(offer, 1)
        forgotten = 0
        while len(self._open) > self._open_max or (
            self._bytes > self._open_bytes_max and len(self._open) > 1
        ):
            _, old = self._open.popitem(last=False)
            self._count(old, -1)
            forgotten += 1
        return forgotten

    def end(self, id: bytes) -> Offer | None:
        """The item of a request that has ended; None when it was forgotten before."""
        offer = self._open.pop(id, None)
        if offer is not None:
            self._count(offer, -1)
        return offer

    def _count(self, offer: Offer, sign: int) -> None:
        self._bytes += sign * _size(offer)
        self.blocks += sign * isinstance(offer, BlockOffer)


def _size(offer: Offer) -> int:
    if isinstance(offer, VoteOffer):
        return len(offer.raw)
    return len(offer.header) + sum(len(each) for passed in offer.operations for each in passed)
