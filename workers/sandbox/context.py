"""The state of the chain after a block: an immutable map with a hash over all of it.

Keys are spread over buckets by their last byte. A new state shares the buckets that did not change,
so a block costs what it touches, states of many blocks fit in memory beside each other, and a
re-org is a matter of taking another one. The context hash is the hash of the buckets' hashes,
a bucket's hash that of its entries' hashes in key order.

This is not the irmin tree of a real node: the same balances give another context hash there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from signers.formats.hashes import blake2b_32

_BUCKETS = 256


class Entry(Protocol):
    """Something kept in the state; equal entries have equal bytes."""

    def encode(self) -> bytes:
        """Return the bytes that the context hash covers."""


_Bucket = dict[bytes, tuple[Entry, bytes]]


class Context:
    """An immutable map from keys to entries, with its hash."""

    __slots__ = ("_bucket_hashes", "_buckets", "hash")

    def __init__(
        self, buckets: tuple[_Bucket, ...] | None = None, hashes: tuple[bytes, ...] | None = None
    ) -> None:
        self._buckets = buckets or ({},) * _BUCKETS
        self._bucket_hashes = hashes or (blake2b_32(b""),) * _BUCKETS
        self.hash = blake2b_32(b"".join(self._bucket_hashes))

    def __repr__(self) -> str:
        return f"Context({self.hash.hex()[:12]})"

    def get(self, key: bytes) -> Entry | None:
        """Return the entry of a key."""
        found = self._buckets[_bucket_of(key)].get(key)
        return found[0] if found else None

    def keys(self, prefix: bytes) -> Iterator[bytes]:
        """Return all keys that begin so, in no particular order; this looks at every key."""
        return (key for bucket in self._buckets for key in bucket if key.startswith(prefix))

    def updated(self, changes: Mapping[bytes, Entry | None]) -> Context:
        """Return the state after these changes; None takes a key away."""
        buckets = list(self._buckets)
        hashes = list(self._bucket_hashes)
        touched: dict[int, _Bucket] = {}
        for key, entry in changes.items():
            index = _bucket_of(key)
            bucket = touched.get(index)
            if bucket is None:
                bucket = touched[index] = dict(buckets[index])
            if entry is None:
                bucket.pop(key, None)
            else:
                bucket[key] = (entry, blake2b_32(key + entry.encode()))
        for index, bucket in touched.items():
            buckets[index] = bucket
            hashes[index] = blake2b_32(b"".join(bucket[key][1] for key in sorted(bucket)))
        return Context(tuple(buckets), tuple(hashes))


def _bucket_of(key: bytes) -> int:
    # The last byte of a public key hash, a level or a name: spread evenly where it matters.
    return key[-1]
