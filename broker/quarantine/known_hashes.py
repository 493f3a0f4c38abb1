"""Hashes that need no second look: cleared ones, bad ones, and those that no worker survives."""

from __future__ import annotations

from broker.quarantine.areas import AgedMap, LevelTable
from broker.quarantine.bounds import Bounds

INVALID, LOST = "invalid", "unviable"


class KnownHashes:
    """What is remembered of items that have ended."""

    __slots__ = ("_isolated_s", "bad", "bad_votes", "isolated", "seen")

    def __init__(self, bounds: Bounds) -> None:
        # Cleared: seen means that nothing is left to be done, not that somebody sent it once.
        self.seen: LevelTable[bytes, None] = LevelTable(bounds.seen)
        # Blocks, and why. The children of an invalid one are invalid, and so on.
        self.bad: AgedMap[bytes, tuple[str, int]] = AgedMap(bounds.bad)
        # Votes, apart from blocks: a header that somebody calls a vote is none, and a good block.
        self.bad_votes: AgedMap[bytes, None] = AgedMap(bounds.bad)
        # Items under which workers ended or gave up, and until when they are not tried again.
        self.isolated: AgedMap[bytes, float] = AgedMap(bounds.isolated)
        self._isolated_s = bounds.isolated_s

    def mark_bad(self, hash_: bytes, why: str, level: int) -> None:
        """Remember a block as bad; what is invalid never becomes merely unviable."""
        known = self.bad.get(hash_)
        if known is None or known[0] == LOST:
            self.bad.put(hash_, (why, level))

    def forgive(self, hash_: bytes) -> bool:
        """The node has this block; whether it was remembered as bad.

        Then the judgement was wrong, and so may all others be, first of all those of what builds
        on it: they are forgotten.
        """
        if hash_ not in self.bad:
            return False
        self.bad = AgedMap(self.bad.max)
        return True

    def why_bad(self, hash_: bytes) -> str:
        """INVALID, LOST (on a branch that is not final), or empty."""
        known = self.bad.get(hash_)
        return known[0] if known is not None else ""

    def isolate(self, fingerprint: bytes, now: float) -> None:
        """Try this one no more for a while; not for ever, because it may not be its fault."""
        self.isolated.put(fingerprint, now + self._isolated_s)

    def is_isolated(self, fingerprint: bytes, now: float) -> bool:
        until = self.isolated.get(fingerprint)
        return until is not None and now < until

    def final(self, level: int) -> None:
        """Blocks up to here are settled: unviable ones below are too old to come again."""
        lost = [h for h, (why, at) in self.bad.items() if why == LOST and at < level]
        for hash_ in lost:
            self.bad.pop(hash_, None)
