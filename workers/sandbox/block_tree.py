"""The blocks that the node knows: the chain of its head, and side branches still in question.

Blocks older than the history are forgotten (genesis and the activation block stay), and with
them the right of operations to be known as included. Older states go earlier: a question about
the balances of an old block then finds nothing, as on a node that prunes its contexts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import chain
from typing import Any

from signers.formats.block_header import BlockHeader
from workers.sandbox.context import Context

# States of so many levels are kept: a minute of 1-second blocks for whoever asks about a recent
# block, while a re-org under Tenderbake never goes deeper than two levels.
CONTEXTS_KEPT_LEVELS = 64
# Blocks kept beyond the lifetime of operations, so that live blocks never reach the edge.
HISTORY_MARGIN_LEVELS = 64
# Each round of a level gives at most one honest block; a baker who signs more than these is
# refused before he fills the memory.
BLOCKS_PER_LEVEL_MAX = 128


class Era(Enum):
    """What kind of block it is: only baked blocks have rounds, bakers and operations."""

    GENESIS = "genesis"
    ACTIVATION = "activation"
    BAKED = "baked"


@dataclass(frozen=True, slots=True)
class IncludedOperation:
    """An operation in a block: its hash, and its signed bytes, branch first."""

    hash: bytes
    signed: bytes


@dataclass(slots=True)
class Block:
    """A validated block. `context` is the state after it, None once it is pruned.

    `receipts` has the shape of `operations`; `kinds` counts them by the kind of their first
    content. `baker` made the block, `proposer` its payload;
    both are tagged public key hashes, empty before there were bakers. `arrived` in Unix seconds.
    """

    era: Era
    hash: bytes
    header: BlockHeader
    raw_header: bytes
    protocol_data: bytes
    operations: Sequence[Sequence[IncludedOperation]]
    receipts: Sequence[Sequence[Any]]
    context: Context | None
    resulting_context_hash: bytes
    arrived: float
    kinds: Mapping[str, int] = field(default_factory=dict)
    baker: bytes = b""
    proposer: bytes = b""
    reward: int = 0
    bonus: int = 0
    fees: int = 0
    milligas: int = 0
    attesting_power: int | None = None
    preattesting_power: int | None = None

    @property
    def level(self) -> int:
        return self.header.level

    @property
    def round(self) -> int:
        return 0 if self.era is Era.GENESIS else self.header.round

    def __repr__(self) -> str:
        return f"Block({self.hash.hex()[:12]}, level={self.level}, round={self.round})"


@dataclass(slots=True)
class BlockTree:
    """Blocks by hash, and the chain that ends in the head."""

    genesis: Block
    activation: Block
    lifetime_levels: int
    head: Block = field(init=False)
    _blocks: dict[bytes, Block] = field(init=False)
    _by_level: dict[int, list[Block]] = field(init=False)
    _main: dict[int, Block] = field(init=False)
    # One block nearly always: a list each would double what an operation takes.
    _including: dict[bytes, Block | tuple[Block, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self.head = self.activation
        self._blocks = {block.hash: block for block in (self.genesis, self.activation)}
        self._main = {0: self.genesis, 1: self.activation}
        self._by_level = {}
        self._including = {}

    @property
    def caboose(self) -> int:
        """The lowest level, after the activation, whose blocks are still known."""
        return max(1, self.head.level - self.lifetime_levels - HISTORY_MARGIN_LEVELS)

    def get(self, hash: bytes) -> Block | None:
        """Return a block that is known."""
        return self._blocks.get(hash)

    def at_level(self, level: int) -> Block | None:
        """Return the block of this level in the chain of the head."""
        return self._main.get(level)

    def all_at_level(self, level: int) -> Sequence[Block]:
        """Return every known block of a level, side branches included."""
        return self._by_level.get(level, ())

    def predecessor(self, block: Block) -> Block | None:
        """Return the block below; None below genesis and where the history ends."""
        if block.era is Era.GENESIS:
            return None
        return self._blocks.get(block.header.predecessor)

    def ancestors(self, block: Block) -> Iterator[Block]:
        """Return the block itself and all below it, down to where the history ends."""
        current: Block | None = block
        while current is not None:
            yield current
            current = self.predecessor(current)

    def is_on(self, ancestor: Block, block: Block) -> bool:
        """Whether `ancestor` is `block` or lies below it."""
        for current in self.ancestors(block):
            if self._main.get(current.level) is current:
                return (
                    self._main.get(ancestor.level) is ancestor and ancestor.level <= current.level
                )
            if current is ancestor:
                return True
        return False

    def is_live(self, branch: bytes, block: Block) -> bool:
        """Whether an operation on top of `block` may name `branch`."""
        named = self._blocks.get(branch)
        return (
            named is not None
            and named.level >= block.level - self.lifetime_levels
            and self.is_on(named, block)
        )

    def live_blocks(self, block: Block) -> list[Block]:
        """Return the blocks that an operation on top of `block` may name, newest first."""
        live = []
        for ancestor in self.ancestors(block):
            if ancestor.level < block.level - self.lifetime_levels:
                break
            live.append(ancestor)
        return live

    def is_included(self, operation: bytes, block: Block) -> bool:
        """Whether `block` or a live block below it has this operation."""
        return any(
            including.level >= block.level - self.lifetime_levels and self.is_on(including, block)
            for including in self._blocks_with(operation)
        )

    def add(self, block: Block) -> None:
        """Remember a validated block; its predecessor must be known."""
        self._blocks[block.hash] = block
        self._by_level.setdefault(block.level, []).append(block)
        for operation in chain.from_iterable(block.operations):
            others = self._blocks_with(operation.hash)
            self._including[operation.hash] = (*others, block) if others else block

    def switch_to(self, head: Block) -> tuple[list[Block], list[Block]]:
        """Make a known block the head; return the blocks left and joined, lowest first."""
        joined = []
        for block in self.ancestors(head):
            if self._main.get(block.level) is block:
                break
            joined.append(block)
        joined.reverse()
        left = [self._main.pop(level) for level in range(joined[0].level, self.head.level + 1)]
        self._main.update((block.level, block) for block in joined)
        self.head = head
        self._forget()
        return left, joined

    def _forget(self) -> None:
        for level in [level for level in self._by_level if level < self.caboose]:
            self._main.pop(level, None)
            for block in self._by_level.pop(level):
                self._forget_block(block)
        for block in self._by_level.get(self.head.level - CONTEXTS_KEPT_LEVELS, ()):
            block.context = None

    def _forget_block(self, block: Block) -> None:
        del self._blocks[block.hash]
        for operation in chain.from_iterable(block.operations):
            others = [each for each in self._blocks_with(operation.hash) if each is not block]
            if others:
                self._including[operation.hash] = tuple(others)
            else:
                self._including.pop(operation.hash, None)

    def _blocks_with(self, operation: bytes) -> tuple[Block, ...]:
        including = self._including.get(operation, ())
        return (including,) if isinstance(including, Block) else including
