"""What waits for a worker: votes, headers, blocks on their predecessors, evidence to be made.

The lanes take turns, so that a flood in one delays the others by one slice each. In a lane it is
first come, first served; what was asked in vain comes first again, and travels alone, so that
what breaks a worker takes nobody along.
"""

from __future__ import annotations

from broker.quarantine.areas import BoundedQueue
from broker.quarantine.bounds import Bounds
from broker.quarantine.flights import EvidenceJob
from broker.quarantine.items import Item
from broker.verification import Check

# What may come back into the lanes of votes and headers beside the ingress: from workers and from
# the areas that wait for time and rights.
_PER_SLICE_MAX = 256
Waiting = Item | EvidenceJob


class Lane:
    """The queue for one check."""

    __slots__ = ("check", "queue")

    def __init__(self, check: Check, max_: int) -> None:
        self.check = check
        self.queue: BoundedQueue[Waiting] = BoundedQueue(max_)

    def take(self, count: int) -> tuple[Waiting, ...]:
        """The items of the next slice: up to so many, or one that was asked in vain."""
        queue = self.queue
        first = queue.popleft()
        if first.tries or count == 1:
            return (first,)
        items = [first]
        while len(items) < count:
            waiting = queue.first()
            if waiting is None or waiting.tries:
                break
            items.append(queue.popleft())
        return tuple(items)

    def __len__(self) -> int:
        return len(self.queue)


class Lanes:
    """The four lanes, and whose turn it is."""

    __slots__ = ("_turn", "all", "blocks", "evidence", "headers", "votes")

    def __init__(self, bounds: Bounds) -> None:
        back = bounds.slices_in_flight * _PER_SLICE_MAX + bounds.held_for_rights
        self.evidence = Lane(Check.EVIDENCE, bounds.evidence)
        # As many as can be released at once, and as many again that need not wait.
        self.blocks = Lane(Check.BLOCK, 2 * bounds.held_blocks + bounds.slices_in_flight)
        self.headers = Lane(Check.HEADER, bounds.ingress_blocks + back + bounds.held_for_time)
        self.votes = Lane(Check.VOTE, bounds.ingress_votes + back)
        self.all = (self.evidence, self.blocks, self.headers, self.votes)
        self._turn = 0

    def next(self, closed: tuple[Lane, ...]) -> Lane | None:
        """The lane whose turn it is, of those that have something and are not closed."""
        for _ in self.all:
            lane = self.all[self._turn]
            self._turn = (self._turn + 1) % len(self.all)
            if lane.queue and lane not in closed:
                return lane
        return None

    @property
    def waiting(self) -> bool:
        return any(lane.queue for lane in self.all)
