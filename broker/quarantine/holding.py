"""The four areas in which items wait, and the votes that are being let go."""

from __future__ import annotations

from broker.quarantine.areas import BoundedQueue
from broker.quarantine.bounds import Bounds
from broker.quarantine.held_blocks import HeldBlocks
from broker.quarantine.held_briefly import HeldForRights, HeldForTime
from broker.quarantine.held_votes import HeldVotes
from broker.quarantine.items import FOR_PARENT, FOR_RIGHTS, FOR_TARGET, FOR_TIME, RELEASED, Item

# What an item waits for, as told in the code of `held` and `expired`.
REASONS = {
    FOR_PARENT: "parent",
    FOR_TARGET: "target",
    FOR_TIME: "time",
    FOR_RIGHTS: "rights",
    RELEASED: "released",
}


class Holding:
    """All areas; what is in none of them is not held."""

    __slots__ = ("blocks", "for_rights", "for_time", "released", "votes")

    def __init__(self, bounds: Bounds) -> None:
        self.blocks = HeldBlocks(bounds)
        self.votes = HeldVotes(bounds)
        self.for_time = HeldForTime(bounds)
        self.for_rights = HeldForRights(bounds)
        self.released: BoundedQueue[Item] = BoundedQueue(bounds.held_votes)

    def remove(self, item: Item) -> None:
        """Take an item out of its area; what becomes of it is for the caller to say."""
        place = item.place
        if place == FOR_PARENT:
            self.blocks.remove(item)
        elif place == FOR_TARGET:
            self.votes.remove(item)
        elif place == FOR_TIME:
            self.for_time.remove(item)
        elif place == FOR_RIGHTS:
            self.for_rights.remove(item)
        else:
            self.released.remove(item)

    def next_expired(self, now: float) -> Item | None:
        """An item that has been held too long, still in its area."""
        for oldest in (self.votes.oldest(), self.blocks.oldest(), self.for_time.oldest()):
            if oldest is not None and oldest.expires <= now:
                return oldest
        return None

    def below(self, head_level: int, final_level: int) -> list[Item]:
        """What a new head makes too old: votes two levels below it, blocks that would be final."""
        blocks = [
            block for block in self.blocks.values()
            if block.facts is not None and block.facts.level <= final_level
        ]  # fmt: skip
        return [*blocks, *self.votes.below(head_level - 1)]

    def deadline(self, now: float, unix_now: float) -> float:
        """When to look again, by the monotonic clock."""
        at = min(self.for_rights.deadline(), self.for_time.deadline(now, unix_now))
        for oldest in (self.votes.oldest(), self.blocks.oldest(), self.for_time.oldest()):
            if oldest is not None and oldest.expires < at:
                at = oldest.expires
        return at

    def counts(self) -> dict[int, int]:
        """How many items are in each area, by place."""
        return {
            FOR_PARENT: len(self.blocks),
            FOR_TARGET: len(self.votes),
            FOR_TIME: len(self.for_time),
            FOR_RIGHTS: len(self.for_rights),
            RELEASED: len(self.released),
        }
