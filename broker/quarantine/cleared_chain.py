"""The blocks that hold, near the head: what others may build on and votes may be for, or name.

It is also the set of what was cleared lately: whoever comes to wait for a block after its release
finds it here and does not wait. Bounded by a window below the head that moves with the head alone:
a chain on which nothing becomes final fills no memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from broker.quarantine.areas import AgedMap, LevelTable
from broker.quarantine.bounds import Bounds
from broker.quarantine.records import ClearedBlock
from broker.verification import ANCESTORS_MAX, Ancestor, Position, VoteFacts
from broker.wire import PORTION_BYTES_MAX, portions

FINAL_BELOW_HEAD = 2  # in Tenderbake a block is final when another one stands on its child
# Operations of ancestors that go along with one check. The block itself brings at most the 6 MiB of
# a payload, and 64 headers of 4 KiB; so there is room left in a message of 8 MiB. A single ancestor
# fits always: the protocol allows it 0.7 MiB without votes.
ANCESTORS_BYTES_MAX = PORTION_BYTES_MAX
_FRAME_BYTES = 5  # of the encoding, around each operation


class ClearedChain:
    """Cleared blocks by hash, and which of them is the head."""

    __slots__ = (
        "_blocks", "_branch", "_branch_from", "_levels", "_levels_ahead", "_settled", "_sizes",
        "_sizes_max", "_targets", "_ttl", "bytes", "final_level", "head",
    )  # fmt: skip

    def __init__(self, bounds: Bounds) -> None:
        self.head: ClearedBlock | None = None
        self.final_level = -1
        self.bytes = 0  # of operations
        self._levels = bounds.cleared_levels
        self._levels_ahead = bounds.levels_ahead
        self._blocks: AgedMap[bytes, ClearedBlock] = AgedMap(bounds.cleared_blocks)
        # Payload hash and block hash of the proposals of a level and round.
        self._targets: AgedMap[tuple[int, int], tuple[tuple[bytes, bytes], ...]] = AgedMap(
            bounds.cleared_blocks
        )
        self._sizes: AgedMap[bytes, int] = AgedMap(bounds.cleared_blocks)
        self._sizes_max = bounds.cleared_bytes
        self._branch: frozenset[bytes] = frozenset()  # the head's, within the window
        self._branch_from = 0  # level of the lowest block in it
        # Levels of the final blocks that operations may name: as far back as the protocol says.
        self._settled: LevelTable[bytes, int] = LevelTable(bounds.live_blocks)
        self._ttl = bounds.live_blocks

    def add(self, block: ClearedBlock) -> bool:
        """A block was cleared and is stored; whether it is the new head."""
        facts = block.facts
        if facts.hash in self._blocks:
            return False
        if self._blocks.full:
            self._drop_oldest()
        self._blocks.put(facts.hash, block)
        at = (facts.level, facts.round)
        self._targets.put(at, (*(self._targets.get(at) or ()), (facts.payload_hash, facts.hash)))
        self._keep_operations(block)
        if self.head is not None and facts.fitness <= self.head.facts.fitness:
            return False
        self.head = block
        self._move()
        return True

    def node_has(self, hash_: bytes) -> bool:
        """The node tells of a block; whether it is known. One that was sent is now the node's."""
        block = self._blocks.get(hash_)
        if block is not None and not block.of_node:
            told = ClearedBlock(block.facts, block.header, block.operations, block.senders)
            self._blocks.put(hash_, told)
        return block is not None

    def settle(self, hash_: bytes) -> bool:
        """The node says that this block is final; whether that is news."""
        block = self._blocks.get(hash_)
        if block is None or block.facts.level <= self.final_level:
            return False
        self.final_level = block.facts.level
        return True

    def told_below(self, level: int, hashes: Sequence[bytes], ttl: int) -> None:
        """The node tells which live blocks are under one of its own, newest first.

        Args:
            level: of that block, which is final or far below the head.
            ttl: how many levels below the head an operation's branch may be.
        """
        self._ttl = ttl or self._ttl
        for place, hash_ in enumerate(hashes, 1):
            self._settled.put(level - place, hash_, level - place)

    @property
    def head_level(self) -> int:
        """Level of the head; -1 before anybody has told."""
        return -1 if self.head is None else self.head.facts.level

    @property
    def live_blocks(self) -> int:
        """How many final blocks a vote may name as its branch."""
        return len(self._settled)

    def get(self, hash_: bytes) -> ClearedBlock | None:
        return self._blocks.get(hash_)

    def takes(self, vote: VoteFacts) -> bool:
        """Whether a vote's proposal is here, and stands on the live block that the vote names."""
        for payload, hash_ in self._targets.get((vote.level, vote.round)) or ():
            if payload == vote.payload_hash and self._stands_on(hash_, vote.level, vote.branch):
                return True
        return False

    def _stands_on(self, hash_: bytes, level: int, branch: bytes) -> bool:
        """Whether a block of this level is `branch` or, for all we know, one of its descendants."""
        settled = self._settled.get
        named_at = settled(branch)
        if named_at is not None and named_at <= level and hash_ in self._branch:
            return True  # what nearly every vote names
        while hash_ != branch:
            final_at = settled(hash_)
            if final_at is not None:
                return named_at is not None and named_at <= final_at
            block = self._blocks.get(hash_)
            if block is None:
                return False
            hash_ = block.facts.predecessor
        return True

    def has_lost(self, hash_: bytes) -> bool:
        """Whether a block is for certain on another branch than the final one."""
        if hash_ in self._branch:
            return False
        block = self._blocks.get(hash_)
        while block is not None and block.facts.level > self.final_level:
            block = self._blocks.get(block.facts.predecessor)
        if block is None or block.facts.level < self._branch_from:
            return False  # not known, or older than what is known of the final branch
        return block.facts.hash not in self._branch

    def ancestors(self, hash_: bytes, wanted: tuple[bytes, ...]) -> list[Ancestor]:
        """A block and those below it, down to a final one that the node has; operations of those
        wanted, without votes.

        A node that has not been given what was cleared is told how it went on from what it has.
        """
        found: list[Ancestor] = []
        block = self._blocks.get(hash_)
        while block is not None and len(found) < ANCESTORS_MAX:
            is_wanted = block.facts.hash in wanted
            found.append(Ancestor(block.header, _without_votes(block) if is_wanted else None))
            if block.facts.level <= self.final_level and block.of_node:
                break
            block = self._blocks.get(block.facts.predecessor)
        return found

    def portion(self, wanted: Iterable[bytes]) -> tuple[bytes, ...]:
        """Of the blocks whose operations are wanted those that go along at once: at least one.

        None if nobody here knows the operations of any.
        """
        blocks = [self._blocks.get(hash_) for hash_ in wanted]
        known = [block for block in blocks if block is not None and block.operations is not None]
        first = next(portions(known, _bytes_without_votes, ANCESTORS_BYTES_MAX), [])
        return tuple(block.facts.hash for block in first)

    def position(self, unix_ms: int) -> Position | None:
        """Where the chain stands; None before anybody has told."""
        if self.head is None:
            return None
        head, final = self.head.facts, self._blocks.get(self.final_hash())
        return Position(
            unix_ms,
            max(0, self.final_level),
            head.level,
            head.round,
            head.timestamp_s,
            final.facts.hash
            if final is not None and final.facts.level == self.final_level
            else b"",
            self._levels_ahead,
        )

    def final_hash(self) -> bytes:
        """The highest final block of the head's branch, or the lowest block known of it."""
        block = last = self.head
        while block is not None:
            last = block
            if block.facts.level <= self.final_level and block.of_node:
                break
            block = self._blocks.get(block.facts.predecessor)
        return b"" if last is None else last.facts.hash

    def __contains__(self, hash_: object) -> bool:
        return hash_ in self._blocks

    def __len__(self) -> int:
        return len(self._blocks)

    def _move(self) -> None:
        """There is a new head: find its branch, what is final on it, and what is too old."""
        assert self.head is not None
        head_level = self.head.facts.level
        branch: list[ClearedBlock] = []
        block: ClearedBlock | None = self.head
        while block is not None and len(branch) <= self._levels:
            branch.append(block)
            block = self._blocks.get(block.facts.predecessor)
        self._branch = frozenset(block.facts.hash for block in branch)
        self._branch_from = branch[-1].facts.level
        if len(branch) > FINAL_BELOW_HEAD:
            self.final_level = max(self.final_level, branch[FINAL_BELOW_HEAD].facts.level)
        for each in branch:
            level = each.facts.level
            if level <= self.final_level:
                if each.facts.hash in self._settled:
                    break  # and so are those below
                self._settled.put(level, each.facts.hash, level)
        self._settled.prune(head_level - self._ttl)
        floor = head_level - self._levels
        for old in self._blocks.values():
            if old.facts.level < floor:
                self._drop(old)

    def _drop_oldest(self) -> None:
        """The oldest beside the head's branch; if there is none, the oldest."""
        for block in self._blocks.by_age():
            if block.facts.hash not in self._branch:
                break
        else:
            oldest = self._blocks.oldest()
            assert oldest is not None
            block = oldest
        self._drop(block)

    def _drop(self, block: ClearedBlock) -> None:
        facts = block.facts
        self._blocks.pop(facts.hash, None)
        self.bytes -= self._sizes.pop(facts.hash, 0)
        at = (facts.level, facts.round)
        left = tuple(t for t in self._targets.get(at) or () if t[1] != facts.hash)
        if left:
            self._targets.put(at, left)
        else:
            self._targets.pop(at, None)

    def _keep_operations(self, block: ClearedBlock) -> None:
        """Count a block's operations; the oldest blocks' go when there are too many bytes."""
        if block.operations is None:
            return
        size = sum(len(operation) for passed in block.operations for operation in passed)
        self._sizes.put(block.facts.hash, size)
        self.bytes += size
        for old in self._blocks.values() if self.bytes > self._sizes_max else ():
            if self.bytes <= self._sizes_max:
                break
            size_of_old = self._sizes.pop(old.facts.hash, None)
            if size_of_old is not None:
                self.bytes -= size_of_old
                bare = ClearedBlock(old.facts, old.header, None, old.senders, old.client, old.id)
                self._blocks.put(old.facts.hash, bare)


def _without_votes(block: ClearedBlock) -> list[list[bytes]] | None:
    """The operations that change anything: nothing follows from a vote but the block itself."""
    return None if block.operations is None else [[], *block.operations[1:]]


def _bytes_without_votes(block: ClearedBlock) -> int:
    passes = _without_votes(block) or ()
    return sum(_FRAME_BYTES + len(operation) for passed in passes for operation in passed)
