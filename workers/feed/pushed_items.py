"""What was given to the quarantine: which of it has not ended, and what is known for a while after.

Pure.
"""

from __future__ import annotations

from collections import OrderedDict

# A network of 400 delegates votes 800 times in a round; votes may be held for two rounds.
OPEN_MAX = 8_192
# As much as the quarantine itself holds of blocks: until an item ends, its bytes are kept to be
# pushed again, since a quarantine that is away hears of it later.
OPEN_BYTES_MAX = 64 * 1024 * 1024
# The mempool's stream begins anew at each head, with votes of three levels.
KNOWN_MAX = 16_384


class PushedItems:
    """Items by the id under which they end, and the hashes of the last ones."""

    def __init__(self, open_max: int = OPEN_MAX, open_bytes_max: int = OPEN_BYTES_MAX) -> None:
        self._open_max = open_max
        self._open_bytes_max = open_bytes_max
        self._open: dict[bytes, tuple[bytes, bool]] = {}  # its request, whether it is a block
        self._requests: dict[bytes, list[int]] = {}  # items that have not ended, bytes of all
        self._bytes = 0
        self.blocks = 0  # of those that have not ended
        self._known: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def is_known(self, hash_: str) -> bool:
        """Whether what has this hash was pushed lately."""
        return hash_ in self._known

    def put(
        self, id: bytes, hash_: str, size: int, *, is_block: bool = False, request: bytes = b""
    ) -> bool:
        """Wait for an item's end; whether there was room for it, else it must not be pushed.

        Args:
            request: what it is pushed with; empty: by itself. All bytes of a request are kept
                until all of it has ended.
        """
        is_full = len(self._open) >= self._open_max or self._bytes + size > self._open_bytes_max
        if is_full and self._open:  # one always has room
            return False
        self._known[hash_] = None
        if len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        request = request or id
        kept = self._requests.setdefault(request, [0, 0])
        kept[0] += 1
        kept[1] += size
        self._open[id] = request, is_block
        self._bytes += size
        self.blocks += is_block
        return True

    def end(self, id: bytes) -> bool:
        """An item has ended; whether it was a block that was waited for."""
        request, is_block = self._open.pop(id, (b"", False))
        kept = self._requests.get(request)
        if kept is None:
            return False
        kept[0] -= 1
        if not kept[0]:
            self._bytes -= kept[1]
            del self._requests[request]
        self.blocks -= is_block
        return is_block
