"""The chain: what is injected goes in, a verdict and the events that follow come out.

No I/O, no clock: `now` (Unix seconds) comes with every injection. The chain never bakes; its
only own acts are to choose the fittest block as its head, and to forget what is too old.
"""

from __future__ import annotations

from typing import NamedTuple

from signers.errors import MalformedBytes
from signers.formats import base58, block_header
from signers.formats.block_header import BlockHeader
from signers.formats.hashes import blake2b_32
from signers.formats.signable import Kind
from workers.sandbox.block_tree import BLOCKS_PER_LEVEL_MAX, Block, BlockTree, Era
from workers.sandbox.block_validation import BlockValidation, Passes, baker_of_signed
from workers.sandbox.double_signing import LEVELS_KEPT, Conflict, DoubleSigning, Position
from workers.sandbox.genesis import Genesis, activation_block, genesis_block
from workers.sandbox.mempool import Classified, Mempool
from workers.sandbox.names import text
from workers.sandbox.operations import SignedOperation
from workers.sandbox.refusal import Refusal, failure
from workers.sandbox.rules import Rules
from workers.sandbox.statistics import Arriving, Statistics
from workers.sandbox.votes import vote_of

# A block this far ahead of the node's clock may come from a clock that is a little fast.
FUTURE_S_MAX = 1.0
_LIQUIDITY_BAKING_VOTE_MAX = 2
_TOGGLE_VOTES_MAX = 0x0A
# A block with more votes than this is refused anyway.
_VOTES_MAX = 2048


class BlockValidated(NamedTuple):
    """A block proved valid; it need not become the head."""

    block: Block


class HeadChanged(NamedTuple):
    """The chain has another head; blocks that were left, lowest first."""

    head: Block
    left: tuple[Block, ...]


class OperationClassified(NamedTuple):
    """An operation of the mempool has got a class."""

    classified: Classified


class DoubleSigned(NamedTuple):
    """A delegate signed two different things for one position."""

    conflict: Conflict


Event = BlockValidated | HeadChanged | OperationClassified | DoubleSigned


class Outcome(NamedTuple):
    """What an injection led to: the hash, why it was refused (None: it was not), and events."""

    hash: bytes
    refusal: Refusal | None
    events: tuple[Event, ...]


class Chain:
    """A chain from its genesis on."""

    def __init__(self, genesis: Genesis) -> None:
        self.rules = Rules(genesis)
        self.tree = BlockTree(
            genesis_block(genesis),
            activation_block(genesis),
            genesis.constants.max_operations_time_to_live,
        )
        self.mempool = Mempool(self.rules, self.tree)
        self.statistics = Statistics()
        self.double_signing = DoubleSigning()

    @property
    def head(self) -> Block:
        return self.tree.head

    # -- operations -----------------------------------------------------------------------------

    def inject_operation(self, signed: bytes, now: float) -> Outcome:
        """Take an operation (branch, contents, signature) into the mempool, or refuse it.

        One that is known already meets the verdict that it has.
        """
        hash = blake2b_32(signed)
        known = self.mempool.find(hash)
        if known is not None:
            return Outcome(hash, known.refusal, ())
        try:
            operation = self._read(signed)
        except Refusal as refusal:
            self.statistics.refused_operations[refusal.reason] += 1
            return Outcome(hash, refusal, ())
        events = self._observe_vote(operation, now)
        if self.tree.is_included(hash, self.head):
            return Outcome(hash, None, tuple(events))
        classified = self.mempool.add(operation)
        self.statistics.operations_seen += operation.validation_pass > 0
        verdict = classified[0].refusal
        if verdict is not None:
            self.statistics.refused_operations[verdict.reason] += 1
        events += map(OperationClassified, classified)
        return Outcome(hash, verdict, tuple(events))

    def _read(self, signed: bytes) -> SignedOperation:
        try:
            operation = self.rules.read(signed)
        except MalformedBytes:
            raise failure("Can't parse the operation") from None
        branch = operation.operation.branch
        if self.tree.get(branch) is None:
            branch_text = text(base58.BLOCK_HASH, branch)
            raise failure(f"Unknown branch ({branch_text}), cannot inject the operation.")
        return operation

    def _observe_vote(self, operation: SignedOperation, now: float) -> list[Event]:
        """Record a vote that its delegate has signed, whether or not it is of any use."""
        if operation.validation_pass > 0:
            return []
        vote = vote_of(operation.operation.contents[0])
        # Anybody can write a far level; only around the head is it worth drawing a committee.
        if not self.head.level - LEVELS_KEPT <= vote.level <= self.head.level + 1:
            return []
        owner = self.rules.rights.committee(vote.level).owner(vote.slot)
        if owner is None:
            return []
        if not self.rules.is_signed(operation, self.rules.consensus_keys[owner], vote.kind):
            return []
        self.statistics.vote_arrived(vote.level, Arriving(vote.kind, owner, vote.round), now)
        position = Position(vote.kind, owner, vote.level, vote.round)
        return self._observe(position, blake2b_32(operation.unsigned))

    # -- blocks ---------------------------------------------------------------------------------

    def inject_block(self, raw_header: bytes, passes: Passes, now: float) -> Outcome:
        """Take a signed header and its operations into the chain, or refuse them.

        `passes` are four lists of signed operations, each with its branch in front.
        """
        hash = blake2b_32(raw_header)
        if self.tree.get(hash) is not None:
            return Outcome(hash, None, ())
        events: list[Event] = []
        try:
            header = self._read_header(raw_header)
            events += self._observe_block(header, hash)
            events += self._observe_votes_in(passes, now)
            block = self._validate(header, raw_header, passes, now)
        except Refusal as refusal:
            self.statistics.refused_blocks[refusal.reason] += 1
            return Outcome(hash, refusal, tuple(events))
        events += self._add(block)
        return Outcome(hash, None, tuple(events))

    def _read_header(self, raw_header: bytes) -> BlockHeader:
        try:
            header = block_header.decode(raw_header)
        except MalformedBytes:
            raise failure("Cannot parse block header.") from None
        votes_max = (
            _TOGGLE_VOTES_MAX
            if self.rules.dialect.adaptive_issuance_vote
            else _LIQUIDITY_BAKING_VOTE_MAX
        )
        if header.signature is None or header.per_block_votes > votes_max:
            raise failure("Cannot parse block header.")
        return header

    def _validate(
        self, header: BlockHeader, raw_header: bytes, passes: Passes, now: float
    ) -> Block:
        if header.timestamp > now + FUTURE_S_MAX:
            raise failure("Block in the future.")
        predecessor = self.tree.get(header.predecessor)
        if predecessor is None or predecessor.context is None or predecessor.era is Era.GENESIS:
            name = text(base58.BLOCK_HASH, header.predecessor)
            raise failure(f"Unknown predecessor ({name}), cannot inject the block.")
        if len(self.tree.all_at_level(header.level)) >= BLOCKS_PER_LEVEL_MAX:
            raise failure(f"The sandbox keeps {BLOCKS_PER_LEVEL_MAX} blocks of one level.")
        validation = BlockValidation(self.rules, self.tree, predecessor, header, raw_header)
        return validation.run(passes, now)

    def _add(self, block: Block) -> list[Event]:
        self.tree.add(block)
        self.statistics.block_arrived(block)
        events: list[Event] = [BlockValidated(block)]
        if self.head.header.fitness < block.header.fitness:
            left, joined = self.tree.switch_to(block)
            self.mempool.head_changed(left, reorganised=bool(left))
            self.statistics.head_moved(left, joined)
            self.double_signing.forget_below(self.head.level - LEVELS_KEPT)
            events.append(HeadChanged(block, tuple(left)))
        return events

    def _observe_block(self, header: BlockHeader, hash: bytes) -> list[Event]:
        """Record a header that its baker has signed, whether or not it is of any use."""
        if not self.head.level - LEVELS_KEPT <= header.level <= self.head.level + 1:
            return []
        baker = baker_of_signed(self.rules, header)
        if baker is None:
            return []
        return self._observe(Position(Kind.BLOCK, baker, header.level, header.round), hash)

    def _observe_votes_in(self, passes: Passes, now: float) -> list[Event]:
        """Record the votes of a block that never were in the mempool, good block or bad."""
        events: list[Event] = []
        for signed in passes[0][:_VOTES_MAX] if passes else ():
            if self.mempool.find(blake2b_32(signed)) is not None:
                continue
            try:
                operation = self.rules.read(signed)
            except (MalformedBytes, Refusal):
                continue
            events += self._observe_vote(operation, now)
        return events

    def _observe(self, position: Position, signed: bytes) -> list[Event]:
        conflict = self.double_signing.observe(position, signed)
        return [] if conflict is None else [DoubleSigned(conflict)]
