"""Containers that cannot outgrow their bound. The quarantine has no others.

What does not fit is for the caller to decide: `put` of a `BoundedMap` and a `BoundedQueue` says
no, an `AgedMap` gives back its oldest, a `LevelTable` lets its lowest level go. What cannot make
them grow (`get`, `has`, `pop`, `count`) is the built-in container's own method, which a vote
passes without a call in Python.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BoundedMap(Generic[K, V]):
    """A map that takes no new key when it is full."""

    __slots__ = ("_entries", "count", "get", "has", "max", "pop")

    def __init__(self, max_: int) -> None:
        self.max = max_
        entries: dict[K, V] = {}
        self._entries = entries
        self.get = entries.get
        self.has = entries.__contains__
        self.count = entries.__len__
        self.pop = entries.pop

    def put(self, key: K, value: V) -> bool:
        """Whether there was room, or the key there already."""
        entries = self._entries
        if len(entries) >= self.max and key not in entries:
            return False
        entries[key] = value
        return True

    @property
    def full(self) -> bool:
        return len(self._entries) >= self.max

    def first(self) -> V | None:
        return next(iter(self._entries.values()), None)

    def values(self) -> list[V]:
        """A copy: what is done with a value may change the map."""
        return list(self._entries.values())

    def list_keys(self) -> list[K]:
        """A copy, likewise."""
        return list(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)


class AgedMap(Generic[K, V]):
    """A map in order of age: at the bound the oldest entry goes."""

    __slots__ = ("_entries", "count", "get", "has", "max", "pop")

    def __init__(self, max_: int) -> None:
        self.max = max_
        entries: OrderedDict[K, V] = OrderedDict()
        self._entries = entries
        self.get = entries.get
        self.has = entries.__contains__
        self.count = entries.__len__
        self.pop = entries.pop

    def put(self, key: K, value: V) -> V | None:
        """The value that had to go for it, if any. A known key keeps its age."""
        self._entries[key] = value
        if len(self._entries) > self.max:
            return self._entries.popitem(last=False)[1]
        return None

    def oldest(self) -> V | None:
        return next(iter(self._entries.values()), None)

    def renew(self, key: K) -> None:
        """It is the youngest again."""
        self._entries.move_to_end(key)

    @property
    def full(self) -> bool:
        return len(self._entries) >= self.max

    def by_age(self) -> Iterator[V]:
        """Oldest first; the map must not change meanwhile."""
        return iter(self._entries.values())

    def values(self) -> list[V]:
        """A copy, oldest first."""
        return list(self._entries.values())

    def items(self) -> list[tuple[K, V]]:
        """A copy, oldest first."""
        return list(self._entries.items())

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)


class BoundedQueue(Generic[V]):
    """First come, first served, up to a bound."""

    __slots__ = ("_waiting", "count", "max", "popleft")

    def __init__(self, max_: int) -> None:
        self.max = max_
        self._waiting: deque[V] = deque()
        self.popleft = self._waiting.popleft
        self.count = self._waiting.__len__

    def put(self, value: V) -> bool:
        """Whether there was room."""
        if len(self._waiting) >= self.max:
            return False
        self._waiting.append(value)
        return True

    def put_first(self, value: V) -> bool:
        """Whether there was room; it is served next."""
        if len(self._waiting) >= self.max:
            return False
        self._waiting.appendleft(value)
        return True

    def first(self) -> V | None:
        return self._waiting[0] if self._waiting else None

    def take(self, count: int) -> list[V]:
        """Up to so many, oldest first."""
        waiting = self._waiting
        return [waiting.popleft() for _ in range(min(count, len(waiting)))]

    def remove(self, value: V) -> None:
        self._waiting.remove(value)

    def values(self) -> list[V]:
        """A copy."""
        return list(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)


class LevelTable(Generic[K, V]):
    """A map whose entries belong to levels of the chain: at the bound the lowest go first.

    Of the lowest level an eighth of the bound goes at once, oldest first: when a level lasts for
    ever, its latest rounds are still known.
    """

    __slots__ = ("_entries", "_keys", "count", "cut", "floor", "get", "has", "max")

    def __init__(self, max_: int) -> None:
        self.max = max_
        self.floor = 0  # nothing is kept for a lower level
        self.cut = -1  # up to this level entries may have gone for want of room
        entries: dict[K, V] = {}
        self._entries = entries
        self._keys: dict[int, list[K]] = {}
        self.get = entries.get
        self.has = entries.__contains__
        self.count = entries.__len__

    def put(self, level: int, key: K, value: V) -> bool:
        """Whether it is kept; a key must always come with the same level."""
        entries = self._entries
        if key in entries:
            entries[key] = value
            return True
        if level < self.floor or (len(entries) >= self.max and not self._make_room(level)):
            return False
        entries[key] = value
        keys = self._keys.get(level)
        if keys is None:
            self._keys[level] = [key]
        else:
            keys.append(key)
        return True

    def prune(self, floor: int) -> None:
        """Forget the levels below `floor`, and take no more of them."""
        if floor <= self.floor:
            return
        self.floor = floor
        for level in [level for level in self._keys if level < floor]:
            for key in self._keys.pop(level):
                del self._entries[key]

    def _make_room(self, level: int) -> bool:
        lowest = min(self._keys)
        if level < lowest:
            self.cut = max(self.cut, level)
            return False
        self.cut = max(self.cut, lowest)
        keys = self._keys[lowest]
        going = keys[: self.max // 8 + 1]
        del keys[: len(going)]
        if not keys:
            del self._keys[lowest]
        for key in going:
            del self._entries[key]
        return True

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)


class Tally:
    """Counts by name; names beyond the bound are counted together as `other`."""

    __slots__ = ("_counts", "max")

    def __init__(self, max_: int) -> None:
        self.max = max_
        self._counts: dict[str, int] = {}

    def add(self, name: str, count: int = 1) -> None:
        if name not in self._counts and len(self._counts) >= self.max:
            name = "other"
        self._counts[name] = self._counts.get(name, 0) + count

    def of(self, name: str) -> int:
        return self._counts.get(name, 0)

    def all(self) -> Mapping[str, int]:
        return dict(self._counts)
