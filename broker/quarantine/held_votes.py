"""Votes whose proposal is not cleared, by level and round.

A vote for another payload than that of the proposal that was cleared stays until its time is
over: a second proposal of that level and round may come. So does one that names a block as its
branch of which nobody has told.
"""

from __future__ import annotations

from broker.quarantine.areas import AgedMap, BoundedMap
from broker.quarantine.bounds import Bounds
from broker.quarantine.items import Item
from broker.verification import VoteFacts

At = tuple[int, int]  # level, round


class HeldVotes:
    """The area; when it is full the oldest level goes first."""

    __slots__ = ("_at", "_items")

    def __init__(self, bounds: Bounds) -> None:
        self._items: AgedMap[int, Item] = AgedMap(bounds.held_votes)
        self._at: BoundedMap[At, BoundedMap[int, Item]] = BoundedMap(bounds.held_votes)

    def put(self, item: Item) -> Item | None:
        """Hold a vote; gives the one that had to go for it, maybe itself."""
        facts = _facts(item)
        at = (facts.level, facts.round)
        gone: Item | None = None
        if self._items.full:
            lowest = min(self._at.list_keys())
            if at < lowest:
                return item
            group = self._at.get(lowest)
            gone = None if group is None else group.first()
            assert gone is not None, "a level without votes is not listed"
            self.remove(gone)
        self._items.put(item.number, item)
        group = self._at.get(at)
        if group is None:
            group = BoundedMap(self._items.max)
            self._at.put(at, group)
        group.put(item.number, item)
        return gone

    def remove(self, item: Item) -> None:
        """Hold a vote no longer."""
        self._items.pop(item.number, None)
        facts = _facts(item)
        at = (facts.level, facts.round)
        group = self._at.get(at)
        if group is not None:
            group.pop(item.number, None)
            if not group:
                self._at.pop(at, None)

    def of(self, level: int, round_: int) -> list[Item]:
        """The held votes of a level and round."""
        group = self._at.get((level, round_))
        return [] if group is None else group.values()

    def below(self, level: int) -> list[Item]:
        """The held votes of levels below."""
        groups = [self._at.get(at) for at in self._at.list_keys() if at[0] < level]
        return [item for group in groups if group is not None for item in group.values()]

    def oldest(self) -> Item | None:
        return self._items.oldest()

    def values(self) -> list[Item]:
        return self._items.values()

    def __len__(self) -> int:
        return len(self._items)


def _facts(item: Item) -> VoteFacts:
    assert isinstance(item.facts, VoteFacts)
    return item.facts
