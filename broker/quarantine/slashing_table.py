"""What each delegate has signed, to see when it signs something else for the same place.

One probe per item: the first signed object of a (kind, level, round, delegate) is kept, and one
that conflicts with it; further ones are only counted. Entered is only what rights and signature
hold for, else a forger could frame a delegate or take its place. Levels that memory has let go
are asked of the store.
"""

from __future__ import annotations

from broker.quarantine.areas import LevelTable
from broker.quarantine.bounds import Bounds
from broker.quarantine.records import BLOCK, Offence, SignedRecord

# How something signed relates to what its delegate signed before.
FIRST = 0
SAME = 1  # it says the same; its hash tells whether it is the same
SECOND = 2  # it conflicts with the first
EXCESS = 3  # it conflicts with both that are kept
DEEP = 4  # only the store can tell
TOO_OLD = 5  # below the detection depth


class SlashingTable:
    """The first-seen table, its conflicting seconds, and which offences were reported."""

    __slots__ = ("_depth", "_floor", "denounced", "firsts", "seconds")

    def __init__(self, bounds: Bounds) -> None:
        self.firsts: LevelTable[Offence, SignedRecord] = LevelTable(bounds.table)
        self.seconds: LevelTable[Offence, SignedRecord] = LevelTable(bounds.seconds)
        self.denounced: LevelTable[Offence, None] = LevelTable(bounds.denounced)
        self._depth = bounds.depth_levels
        self._floor = 0

    def enter(self, record: SignedRecord) -> int:
        """Probe the table, and enter what is the first or second of its place."""
        kind, level, delegate = record.kind, record.level, record.delegate
        # A level and round has one baker, whom the node does not name with its blocks.
        key = (kind, level, record.round, delegate if kind != BLOCK else "")
        first = self.firsts.get(key)
        if first is None:
            if level < self._floor:
                return TOO_OLD
            self.firsts.put(level, key, record)
            return DEEP if level <= self.firsts.cut else FIRST
        if first.statement == record.statement:
            return SAME
        if delegate and first.delegate and delegate != first.delegate:
            return FIRST  # the rights differ between two branches: nobody signed twice
        second = self.seconds.get(key)
        if second is None:
            self.seconds.put(level, key, record)
            return SECOND
        return SAME if second.statement == record.statement else EXCESS

    def kept(self, record: SignedRecord) -> SignedRecord | None:
        """The kept object that says the same."""
        key = _place(record)
        for kept in (self.firsts.get(key), self.seconds.get(key)):
            if kept is not None and kept.statement == record.statement:
                return kept
        return None

    def replace(self, record: SignedRecord) -> None:
        """Keep this one instead of the kept one that says the same under another signature."""
        key = _place(record)
        first = self.firsts.get(key)
        same = first is not None and first.statement == record.statement
        (self.firsts if same else self.seconds).put(record.level, key, record)

    def first_of(self, record: SignedRecord) -> SignedRecord | None:
        """The first object of a record's place."""
        return self.firsts.get(_place(record))

    def head(self, level: int) -> None:
        """The head moved: forget what is deeper below it than the depth."""
        self._floor = max(self._floor, level - self._depth)
        for table in (self.firsts, self.seconds, self.denounced):
            table.prune(self._floor)


def _place(record: SignedRecord) -> Offence:
    delegate = record.delegate if record.kind != BLOCK else ""
    return (record.kind, record.level, record.round, delegate)
