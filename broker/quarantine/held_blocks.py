"""Blocks whose predecessor is not cleared, by the predecessor they wait for.

When there is no room, the block that is furthest from being useful goes: of the peers that
occupy most one whose ancestor nobody has, with the highest level, and never one that another held
block builds on.
All walks are loops with an end: predecessors are what an attacker wrote, and may form cycles.
"""

from __future__ import annotations

from collections.abc import Callable

from broker.quarantine.areas import AgedMap, BoundedMap
from broker.quarantine.bounds import Bounds
from broker.quarantine.items import Item
from broker.verification import HeaderFacts


class HeldBlocks:
    """The area; made room in by `put`, emptied by `release` and `remove`."""

    __slots__ = ("_bytes_max", "_children", "_items", "_per_hash", "_per_peer", "bytes")

    def __init__(self, bounds: Bounds) -> None:
        # One more than the bound: a newcomer is entered before it is decided who has to go.
        self._items: AgedMap[int, Item] = AgedMap(bounds.held_blocks + 1)
        self._children: BoundedMap[bytes, tuple[Item, ...]] = BoundedMap(bounds.held_blocks + 1)
        self._per_hash: BoundedMap[bytes, tuple[Item, ...]] = BoundedMap(bounds.held_blocks + 1)
        self._per_peer = bounds.held_blocks_per_peer
        self._bytes_max = bounds.held_blocks_bytes
        self.bytes = 0

    def put(self, item: Item, on_its_way: Callable[[bytes], bool]) -> list[Item]:
        """Hold a block; gives those that had to go for it, maybe itself.

        Args:
            on_its_way: whether a block that is not held is being checked or stored.
        """
        facts = _facts(item)
        self._items.put(item.number, item)
        self._add(self._children, facts.predecessor, item)
        self._add(self._per_hash, item.hash, item)
        self.bytes += item.bytes
        item.peer.held_blocks += 1
        gone: list[Item] = []
        if item.peer.held_blocks > self._per_peer:
            of_peer = [other for other in self._items.values() if other.peer is item.peer]
            gone.append(self._furthest(of_peer, on_its_way))
            self.remove(gone[0])
        while len(self._items) > self._items.max - 1 or self.bytes > self._bytes_max:
            gone.append(self._furthest(self._of_heaviest_peers(), on_its_way))
            self.remove(gone[-1])
        return gone

    def remove(self, item: Item) -> None:
        """Hold a block no longer."""
        self._items.pop(item.number, None)
        self._take(self._children, _facts(item).predecessor, item)
        self._take(self._per_hash, item.hash, item)
        self.bytes -= item.bytes
        item.peer.held_blocks -= 1

    def release(self, hash_: bytes) -> tuple[Item, ...]:
        """The blocks that waited for this one; they are held no longer."""
        children = self._children.get(hash_) or ()
        for child in children:
            self.remove(child)
        return children

    def awaits(self, hash_: bytes) -> bool:
        """Whether a held block builds on this one."""
        return hash_ in self._children

    def waiting_for(self, hash_: bytes) -> tuple[Item, ...]:
        return self._children.get(hash_) or ()

    def descendants(self, hash_: bytes) -> list[Item]:
        """All held blocks that build on this one, directly or not, ancestors first."""
        found: list[Item] = []
        met: set[int] = set()
        ahead = [hash_]
        while ahead:
            for child in self._children.get(ahead.pop(0)) or ():
                if child.number not in met:
                    met.add(child.number)
                    found.append(child)
                    ahead.append(child.hash)
        return found

    def deepest_unknown(self, hash_: bytes) -> bytes:
        """The first ancestor, from this block down, that is not held; itself if it is not."""
        for _ in range(len(self._items)):
            held = self._per_hash.get(hash_)
            if held is None:
                break
            hash_ = _facts(held[0]).predecessor
        return hash_

    def waiting_by_root(self) -> dict[bytes, int]:
        """For each ancestor that is not held, how many held blocks wait for it."""
        waiting: dict[bytes, int] = {}
        for root in self._roots().values():
            waiting[root] = waiting.get(root, 0) + 1
        return waiting

    def _roots(self) -> dict[int, bytes]:
        """For each held block, by number, its first ancestor that is not held."""
        root_of: dict[bytes, bytes] = {}
        roots: dict[int, bytes] = {}
        for item in self._items.by_age():
            hash_ = item.hash
            path: list[bytes] = []
            while hash_ not in root_of:
                held = self._per_hash.get(hash_)
                if held is None or len(path) > len(self._items):
                    root_of[hash_] = hash_
                    break
                path.append(hash_)
                hash_ = _facts(held[0]).predecessor
            root = root_of[hash_]
            for passed in path:
                root_of[passed] = root
            roots[item.number] = root
        return roots

    def oldest(self) -> Item | None:
        return self._items.oldest()

    def values(self) -> list[Item]:
        return self._items.values()

    def __contains__(self, hash_: object) -> bool:
        return hash_ in self._per_hash

    def __len__(self) -> int:
        return len(self._items)

    def _of_heaviest_peers(self) -> list[Item]:
        items = self._items.values()
        most = max(item.peer.held_blocks for item in items)
        return [item for item in items if item.peer.held_blocks == most]

    def _furthest(self, candidates: list[Item], on_its_way: Callable[[bytes], bool]) -> Item:
        """Of these, else of all, the one to go: nothing held builds on it."""
        roots = self._roots()
        for items in (candidates, self._items.values()):
            leaves = [item for item in items if item.hash not in self._children]
            if leaves:
                return max(
                    leaves,
                    key=lambda leaf: (
                        not on_its_way(roots[leaf.number]),
                        _facts(leaf).level,
                        leaf.number,
                    ),
                )
        return self._items.values()[-1]  # a cycle of predecessors has no leaf

    @staticmethod
    def _add(index: BoundedMap[bytes, tuple[Item, ...]], hash_: bytes, item: Item) -> None:
        index.put(hash_, (*(index.get(hash_) or ()), item))

    @staticmethod
    def _take(index: BoundedMap[bytes, tuple[Item, ...]], hash_: bytes, item: Item) -> None:
        left = tuple(i for i in index.get(hash_) or () if i is not item)
        if left:
            index.put(hash_, left)
        else:
            index.pop(hash_, None)


def _facts(item: Item) -> HeaderFacts:
    assert isinstance(item.facts, HeaderFacts)
    return item.facts
