"""Which request ids are known: open ones, and how those ended that ended lately.

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
    """Open and lately ended requests."""

    __slots__ = ("ended", "open")

    def __init__(self, open_max: int, ended_max: int) -> None:
        self.open: BoundedMap[Key, Item] = BoundedMap(open_max)
        self.ended: AgedMap[Key, tuple[bytes, Event]] = AgedMap(ended_max)

    def close(self, item: Item, event: Event) -> None:
        """A request has ended with this event."""
        key = (item.client, item.id)
        self.open.pop(key)
        self.ended.put(key, (item.fingerprint, event))
