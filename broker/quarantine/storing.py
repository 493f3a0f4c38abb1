"""What is given to the store: in batches, in order, and whose ends depend on each."""

from __future__ import annotations

from broker.quarantine.areas import BoundedMap
from broker.quarantine.flights import EvidenceJob
from broker.quarantine.items import Item
from broker.quarantine.records import Batch, ClearedBlock, ClearedVote, EvidenceRecord, HeldRecord

# More batches than a store can be behind; at the bound no items are checked.
BATCHES_MAX = 64


class Depending:
    """A batch and those who wait for it, in the order of its lists."""

    __slots__ = ("batch", "blocks", "bytes", "final", "jobs", "votes")

    def __init__(self, number: int) -> None:
        self.batch = Batch(number, [], [], [], [], [])
        self.blocks: list[Item | None] = []  # None: the node told of it
        self.votes: list[Item] = []
        self.jobs: list[EvidenceJob] = []
        self.bytes = 0  # of the held items in it
        self.final = b""  # hash of the block that the node says is final


class Storing:
    """The batch being filled and those that are not acknowledged yet."""

    __slots__ = ("_bytes_max", "_items_max", "_sent", "asked_for", "bytes", "filling", "items")

    def __init__(self, items_max: int, bytes_max: int, first: int) -> None:
        self._items_max = items_max
        self._bytes_max = bytes_max
        self._sent: BoundedMap[int, Depending] = BoundedMap(BATCHES_MAX)
        self.filling = Depending(first)
        self.items = 0  # blocks and votes in all batches
        self.bytes = 0  # of held items in all batches
        self.asked_for = 0  # of them those that somebody has pushed

    @property
    def room(self) -> int:
        """How many more items may be given to the store."""
        full = self._sent.count() >= BATCHES_MAX - 1 or self.bytes >= self._bytes_max
        return 0 if full else max(0, self._items_max - self.items)

    def held(self, record: HeldRecord, size: int) -> None:
        """An item is held; its bytes stay in memory until they are stored, even if it goes."""
        self.filling.batch.held.append(record)
        self.filling.bytes += size
        self.bytes += size

    def block(self, item: Item | None, block: ClearedBlock) -> None:
        """A block holds."""
        self.filling.batch.blocks.append(block)
        self.filling.blocks.append(item)
        self.items += 1
        self.asked_for += item is not None

    def vote(self, item: Item, vote: ClearedVote) -> None:
        """A vote holds."""
        self.filling.batch.votes.append(vote)
        self.filling.votes.append(item)
        self.items += 1
        self.asked_for += 1

    def evidence(self, job: EvidenceJob, record: EvidenceRecord) -> None:
        """Evidence was made."""
        self.filling.batch.evidence.append(record)
        self.filling.jobs.append(job)

    def send(self, next_number: int) -> Batch | None:
        """The batch of this turn, if there is anything in it."""
        filling = self.filling
        if filling.batch.empty and not filling.final:
            return None
        if not self._sent.put(filling.batch.number, filling):
            return None  # what is in it waits for a later turn
        self.filling = Depending(next_number)
        return filling.batch

    def stored(self, number: int) -> Depending | None:
        """The store has a batch."""
        depending = self._sent.pop(number, None)
        if depending is not None:
            self.items -= len(depending.votes) + len(depending.blocks)
            self.bytes -= depending.bytes
            told = depending.blocks.count(None)
            self.asked_for -= len(depending.votes) + len(depending.blocks) - told
        return depending
