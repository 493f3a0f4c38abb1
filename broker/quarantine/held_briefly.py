"""Blocks that came too early, and items about whose rights the node does not answer yet."""

from __future__ import annotations

from math import inf

from broker.quarantine.areas import AgedMap
from broker.quarantine.bounds import Bounds
from broker.quarantine.items import Item

# A block is looked at so long after its timestamp, as a clock's reading is rounded.
TOLERANCE_MS = 5
# A step of the wall clock is noticed this soon.
CLOCK_LOOK_S = 1.0
RIGHTS_AGAIN_S = 1.0


class HeldForTime:
    """Early blocks, one of each baker, level and round. The wall clock is read at each look."""

    __slots__ = ("_items",)

    def __init__(self, bounds: Bounds) -> None:
        self._items: AgedMap[int, Item] = AgedMap(bounds.held_for_time)

    def put(self, item: Item) -> bool:
        """Whether there was room, and none of the same place is held."""
        if self._items.full or any(_place(i) == _place(item) for i in self._items.by_age()):
            return False
        self._items.put(item.number, item)
        return True

    def remove(self, item: Item) -> None:
        self._items.pop(item.number, None)

    def ready(self, unix_ms: int) -> list[Item]:
        """Those whose time has come by the wall clock."""
        return [i for i in self._items.by_age() if i.again_unix_ms + TOLERANCE_MS <= unix_ms]

    def deadline(self, now: float, unix_now: float) -> float:
        if not self._items:
            return inf
        first = min(item.again_unix_ms for item in self._items.by_age()) + TOLERANCE_MS
        return now + min(CLOCK_LOOK_S, max(0.001, first / 1000 - unix_now))

    def oldest(self) -> Item | None:
        return self._items.oldest()

    def values(self) -> list[Item]:
        return self._items.values()

    def __len__(self) -> int:
        return len(self._items)


class HeldForRights:
    """Unverified items, asked again each second. At the bound no further one is held."""

    __slots__ = ("_items", "_per_peer")

    def __init__(self, bounds: Bounds) -> None:
        self._items: AgedMap[int, Item] = AgedMap(bounds.held_for_rights)
        self._per_peer = bounds.held_for_rights_per_peer

    def put(self, item: Item, now: float) -> bool:
        """Whether there was room for one more of that peer."""
        if self._items.full or item.peer.held_for_rights >= self._per_peer:
            return False
        item.again_at = now + RIGHTS_AGAIN_S
        item.peer.held_for_rights += 1
        self._items.put(item.number, item)
        return True

    def remove(self, item: Item) -> None:
        item.peer.held_for_rights -= 1
        self._items.pop(item.number, None)

    def ready(self, now: float) -> list[Item]:
        """Those that may be asked again."""
        found: list[Item] = []
        for item in self._items.by_age():  # all wait equally long, so the oldest is first
            if item.again_at > now:
                break
            found.append(item)
        return found

    def deadline(self) -> float:
        oldest = self._items.oldest()
        return inf if oldest is None else oldest.again_at

    def values(self) -> list[Item]:
        return self._items.values()

    def __len__(self) -> int:
        return len(self._items)


def _place(item: Item) -> tuple[int, int, str]:
    facts = item.facts
    return (0, item.number, "") if facts is None else (facts.level, facts.round, facts.delegate)
