"""Which requests are known: open ones, and how those ended that ended lately.

A client that heard nothing pushes again under the same id. While its request is open nothing else
happens, after the end its event is published again. What is forgotten here is a new request,
which ends as a duplicate if its item was cleared.
"""

from __future__ import annotations

from broker.messages import Event
from broker.quarantine.areas import AgedMap, BoundedMap
from broker.quarantine.items import Item

Key = tuple[str, bytes]  # client, request id


class Requests:
    """Open requests by id and by the hash of their item, and lately ended ones."""

    __slots__ = ("blocks", "ended", "open", "votes")

    def __init__(self, open_max: int, ended_max: int) -> None:
        self.open: BoundedMap[Key, Item] = BoundedMap(open_max)
        self.votes: BoundedMap[bytes, Item] = BoundedMap(open_max)
        # Several when peers have sent one header with different operations.
        self.blocks: BoundedMap[bytes, tuple[Item, ...]] = BoundedMap(open_max)
        self.ended: AgedMap[Key, tuple[bytes, Event]] = AgedMap(ended_max)

    def knows(self, key: Key) -> bool:
        """Whether a request is open, or has ended lately."""
        return self.open.has(key) or self.ended.has(key)

    def add(self, item: Item) -> None:
        """A request is open."""
        self.open.put((item.client, item.id), item)
        if item.operations is None:
            self.votes.put(item.hash, item)
        else:
            self.blocks.put(item.hash, (*self.blocks.get(item.hash, ()), item))

    def close(self, item: Item, event: Event) -> None:
        """A request has ended with this event."""
        key = (item.client, item.id)
        self.open.pop(key, None)
        self.ended.put(key, (item.fingerprint, event))
        hash_ = item.hash
        if item.operations is None:
            self.votes.pop(hash_, None)
            return
        left = tuple(other for other in self.blocks.get(hash_, ()) if other is not item)
        if left:
            self.blocks.put(hash_, left)
        else:
            self.blocks.pop(hash_, None)

    def has_block(self, hash_: bytes) -> bool:
        """Whether a block with this hash is on its way."""
        return hash_ in self.blocks
