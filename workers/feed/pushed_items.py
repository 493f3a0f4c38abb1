"""What was given to the quarantine: which of it has not ended, and what is known for a while after.

Pure.
"""

from __future__ import annotations

from collections import OrderedDict

# A network of 400 delegates votes 800 times in a round; votes may be held for two rounds.
OPEN_MAX = 8_192
# The mempool's stream begins anew at each head, with votes of three levels.
KNOWN_MAX = 16_384


class PushedItems:
    """Items by the id of their request, and the hashes of the last ones."""

    def __init__(self, open_max: int = OPEN_MAX) -> None:
        self._open_max = open_max
        self._open: OrderedDict[bytes, bool] = OrderedDict()  # whether it is a block
        self.blocks = 0  # of those that have not ended
        self._known: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def is_known(self, hash_: str) -> bool:
        """Whether what has this hash was pushed lately."""
        return hash_ in self._known

    def put(self, id: bytes, hash_: str, *, is_block: bool) -> None:
        """Wait for an item's end; at the bound the oldest is not waited for any more."""
        self._known[hash_] = None
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        self._open[id] = is_block
        self.blocks += is_block
        if len(self._open) > self._open_max:
            self.end(next(iter(self._open)))

    def end(self, id: bytes) -> bool:
        """A request has ended; whether it was one for a block that was waited for."""
        is_block = self._open.pop(id, False)
        self.blocks -= is_block
        return is_block
