"""What waits for a worker: votes, headers, blocks on their predecessors, evidence to be made.

The lanes take turns, so that a flood in one delays the others by one slice each. In a lane it is
first come, first served; what was asked in vain comes first again, in a slice of its own.
"""

from __future__ import annotations

from broker.quarantine.areas import BoundedQueue
from broker.quarantine.bounds import ITEMS_PER_SLICE_MAX, Bounds
from broker.quarantine.flights import EvidenceJob, Waiting
from broker.quarantine.items import Item
from broker.verification import Check


class Lane:
    """The queue for one check."""

    __slots__ = ("check", "queue")

    def __init__(self, check: Check, max_: int) -> None:
        self.check = check
        self.queue: BoundedQueue[Waiting] = BoundedQueue(max_)

    def take(self, count: int) -> list[Waiting]:
        """The items of the next slice: up to so many, or one that was asked in vain."""
        queue = self.queue
        first = queue.popleft()
        items = [first]
        if first.tries:
            return items
        while len(items) < count:
            waiting = queue.first()
            if waiting is None or waiting.tries:
                break
            items.append(queue.popleft())
        return items


class Lanes:
    """The four lanes, and whose turn it is."""

    __slots__ = ("_turn", "all", "blocks", "bytes", "evidence", "headers", "votes")

    def __init__(self, bounds: Bounds) -> None:
        # What may come back, beside what comes in: from workers, and from waiting for rights.
        back = bounds.slices_in_flight * ITEMS_PER_SLICE_MAX + bounds.held_for_rights
        self.evidence = Lane(Check.EVIDENCE, bounds.evidence)
        # As many as can be released at once, and as many again that need not wait.
        self.blocks = Lane(Check.BLOCK, 2 * bounds.held_blocks + bounds.slices_in_flight)
        self.headers = Lane(Check.HEADER, bounds.ingress_blocks + back + bounds.held_for_time)
        self.votes = Lane(Check.VOTE, bounds.ingress_votes + back)
        self.all = (self.evidence, self.blocks, self.headers, self.votes)
        self._turn = 0
        self.bytes = 0  # of the blocks that wait

    def put(self, item: Item) -> bool:
        """Let an item wait for its next check; whether there was room."""
        lane = self._lane_of(item)
        return lane.queue.put(item) and self._entered(item)

    def put_first(self, item: Item) -> bool:
        """The same for one that was asked about before: it is next."""
        lane = self._lane_of(item)
        return lane.queue.put_first(item) and self._entered(item)

    def _lane_of(self, item: Item) -> Lane:
        if item.operations is None:
            return self.votes
        return self.headers if item.facts is None else self.blocks

    def _entered(self, item: Item) -> bool:
        """Count what an item that was taken in occupies."""
        if item.operations is None:
            item.peer.votes_queued += 1
        else:
            item.peer.blocks_queued += 1
            self.bytes += item.bytes
        return True

    def take(self, lane: Lane, count: int) -> list[Waiting]:
        """The items of a lane's next slice."""
        taken = lane.take(count)
        for waiting in taken:
            if isinstance(waiting, EvidenceJob):
                continue
            if waiting.operations is None:
                waiting.peer.votes_queued -= 1
            else:
                waiting.peer.blocks_queued -= 1
                self.bytes -= waiting.bytes
        return taken

    def next(self, closed: tuple[Lane, ...]) -> Lane | None:
        """The lane whose turn it is, of those that have something and are not closed."""
        for _ in self.all:
            lane = self.all[self._turn]
            self._turn = (self._turn + 1) % len(self.all)
            if lane.queue.count() and lane not in closed:
                return lane
        return None

    @property
    def items(self) -> int:
        """How many items wait; evidence is none."""
        return self.votes.queue.count() + self.headers.queue.count() + self.blocks.queue.count()

    @property
    def waiting(self) -> bool:
        return bool(self.items or self.evidence.queue.count())
