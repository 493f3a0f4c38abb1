"""Consistent hashing: which worker owns a key, and only what must move moves.

Each worker stands at many points of a circle of 2^64 (its virtual nodes); a key belongs to the
first point at or after its own hash. A worker that joins takes keys from all others evenly, and
the keys of one that leaves are spread over the rest; no other key changes hands.
(Karger et al., "Consistent hashing and random trees", 1997.)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import blake2b
from struct import unpack

# A worker's share of the circle spreads by 1/sqrt(nodes), and 20,000 keys over 16 workers spread by
# 2.8 % themselves: with 4,096 nodes the worst of 16 stays within ±10 %, with 1,000 it does not.
VIRTUAL_NODES = 4096
_POINT_BYTES = 8
_POINTS_PER_DIGEST = 8


def _point(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=_POINT_BYTES).digest())


@lru_cache(maxsize=64)  # a ring is rebuilt whenever a worker comes or goes
def _points_of(worker: str) -> tuple[int, ...]:
    points: list[int] = []
    for i in range(VIRTUAL_NODES // _POINTS_PER_DIGEST):
        digest = blake2b(f"{worker}#{i}".encode(), digest_size=64).digest()
        points += unpack(">8Q", digest)
    return tuple(sorted(points))  # a ring is merged from sorted runs, which is cheap


class Ring:
    """The owners of all keys for one set of workers; a value, replaced when the set changes."""

    __slots__ = ("_owner_at", "_points", "workers")

    def __init__(self, workers: Iterable[str]) -> None:
        self.workers = frozenset(workers)
        # Sorted, so that two workers on one point would fall the same way everywhere.
        self._owner_at = {p: w for w in sorted(self.workers) for p in _points_of(w)}
        self._points = sorted(self._owner_at)

    def owner(self, key: str) -> str | None:
        """The worker that owns `key`; None when the ring is empty."""
        return next(self.owners(key), None)

    def owners(self, key: str) -> Iterator[str]:
        """The owner of `key`, then who owns it when those before cannot: each worker once."""
        start = bisect_left(self._points, _point(key))
        seen: set[str] = set()
        for i in range(start, start + len(self._points)):
            worker = self._owner_at[self._points[i % len(self._points)]]
            if worker not in seen:
                seen.add(worker)
                yield worker

    def __repr__(self) -> str:
        return f"Ring({sorted(self.workers)})"
