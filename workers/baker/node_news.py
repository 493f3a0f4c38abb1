"""What a node's streams and answers tell the baker, from JSON to stimuli.

Raises NodeAnswerMalformed for what cannot be read, except for single votes of the mempool: one
that cannot be read is passed over, for the others are as good as before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.block_header import Fitness
from signers.formats.networks import Network
from signers.formats.signable import Kind
from workers.baker.baker_state import FIRST_VOTED_LEVEL
from workers.baker.stimuli import Passes, Proposal, Rights, SlotVote
from workers.node.answers import PendingOperation, RawOperation
from workers.node.operation_json import operation_bytes
from workers.preparation.chain_view import unix_seconds
from workers.preparation.consensus_operations import votes
from workers.preparation.preparation_errors import NodeAnswerMalformed
from workers.preparation.submitted_operation import read_operation

_PAYLOAD_HASH_BYTES = 32
_PAYLOAD_ROUND_BYTES = 4


class MonitoredHeader(Struct):
    """A header: a line of `monitor/heads`, and inside of `monitor/validated_blocks`."""

    level: int
    predecessor: str
    timestamp: str
    fitness: list[str]
    protocol_data: str  # hex, with the signature
    hash: str = ""  # absent inside of a block, which has its own


class MonitoredBlock(Struct):
    """A line of `monitor/validated_blocks`."""

    hash: str
    header: MonitoredHeader
    operations: list[list[RawOperation]]


class Validator(Struct):
    """One delegate of a committee. Mavryk lists its slots; Tezos calls the same its rounds."""

    consensus_key: str
    slots: list[int] = []
    rounds: list[int] = []


class Committee(Struct):
    """An element of `helpers/validators`: on Tezos a level's committee, on Mavryk one delegate."""

    level: int
    delegates: list[Validator] = []
    consensus_key: str = ""
    slots: list[int] = []


class BakingRight(Struct):
    """An element of `helpers/baking_rights`."""

    level: int
    round: int
    consensus_key: str


def proposal_of_head(head: MonitoredHeader) -> Proposal:
    """A head as the baker sees it, without its operations."""
    return _proposal(head.hash, head, None)


def proposal_of_block(block: MonitoredBlock) -> Proposal:
    """A validated block as the baker sees it."""
    try:
        operations = tuple(tuple(map(_signed, one)) for one in block.operations)
    except (MalformedBytes, ValueError) as error:
        raise NodeAnswerMalformed(f"block {block.hash}: {error}") from None
    return _proposal(block.hash, block.header, operations)


def rights_of(
    level: int, committees: Iterable[Committee], baking_rights: Iterable[BakingRight]
) -> Rights:
    """The rights of a level, as either network tells them."""
    slots: dict[str, tuple[int, ...]] = {}
    for committee in committees:
        if committee.level != level:
            continue
        for each in committee.delegates:
            slots[each.consensus_key] = tuple(sorted(each.slots or each.rounds))
        if committee.consensus_key:
            slots[committee.consensus_key] = tuple(sorted(committee.slots))
    by_round = {each.round: each.consensus_key for each in baking_rights if each.level == level}
    bakers: list[str] = []
    while len(bakers) in by_round:
        bakers.append(by_round[len(bakers)])
    return Rights(level, slots, tuple(bakers))


def votes_of(operations: Iterable[PendingOperation], network: Network) -> tuple[SlotVote, ...]:
    """The votes among operations of the mempool, with the bytes that were injected."""
    signed = (operation_bytes(each, network) for each in operations)
    return votes_in((each for each in signed if each is not None), network)


def votes_in(operations: Iterable[bytes], network: Network) -> tuple[SlotVote, ...]:
    """The votes among signed operations."""
    submitted = []
    for signed in operations:
        try:
            submitted.append(read_operation(signed, network))
        except MalformedBytes:
            continue
    return tuple(
        SlotVote(
            Kind.ATTESTATION if vote.is_attestation else Kind.PREATTESTATION,
            vote.level,
            vote.round,
            vote.payload_hash,
            vote.slot,
            vote.operation.data,
        )
        for vote in votes(submitted)
        if vote.slot is not None
    )


def threshold_of(constants: Mapping[str, Any]) -> int:
    """The slots of a quorum; Tezos and Mavryk name the constant differently."""
    for name in ("consensus_threshold_size", "consensus_threshold"):
        if isinstance(constants.get(name), int):
            return int(constants[name])
    raise NodeAnswerMalformed("the constants hold no consensus threshold")


def _proposal(hash_text: str, shell: MonitoredHeader, operations: Passes | None) -> Proposal:
    try:
        fitness = Fitness(tuple(bytes.fromhex(element) for element in shell.fitness))
        contents = bytes.fromhex(shell.protocol_data)
        is_baked = shell.level >= FIRST_VOTED_LEVEL
        payload_hash = contents[:_PAYLOAD_HASH_BYTES]
        payload_round = contents[_PAYLOAD_HASH_BYTES:][:_PAYLOAD_ROUND_BYTES]
        if is_baked and len(payload_round) < _PAYLOAD_ROUND_BYTES:
            raise MalformedBytes("the protocol data ends early")
        return Proposal(
            hash=base58.decode(base58.BLOCK_HASH, hash_text),
            predecessor=base58.decode(base58.BLOCK_HASH, shell.predecessor),
            level=shell.level,
            round=fitness.round if is_baked else 0,
            timestamp=unix_seconds(shell.timestamp),
            payload_hash=payload_hash if is_baked else None,
            payload_round=int.from_bytes(payload_round) if is_baked else 0,
            locked_round=fitness.locked_round if is_baked else None,
            operations=operations,
        )
    except (MalformedBytes, ValueError) as error:
        raise NodeAnswerMalformed(f"block {hash_text}: {error}") from None


def _signed(operation: RawOperation) -> bytes:
    return base58.decode(base58.BLOCK_HASH, operation.branch) + bytes.fromhex(operation.data)
