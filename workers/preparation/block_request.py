"""The payload of `forge_and_sign_block`: which block a client wants, on which predecessor.

One MessagePack map. Hashes are base58check texts as the node's RPC prints them; operations are
the full signed bytes (branch, contents, signature) as they are injected, so that anybody who
watches a node can build this without a codec. Unknown fields are refused: a misspelt option
must not be ignored when a block is at stake.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from signers.formats.operation import OPERATION_BYTES_MAX
from workers.preparation.preparation_errors import MalformedRequest

# Bounds of the protocol: four passes of 4 MiB, 32 KiB, 132 KiB and 512 KiB, 2,048 committee slots.
CONSENSUS_OPERATIONS_MAX = (
    2 * 2048
)  # attestations of the predecessor, preattestations of this level
PASS_OPERATIONS_MAX = 8192
INT32_MAX = 0x7FFF_FFFF

Hash = Annotated[str, Meta(min_length=51, max_length=53)]
Level = Annotated[int, Meta(ge=1, le=INT32_MAX)]
Round = Annotated[int, Meta(ge=0, le=INT32_MAX)]
OperationBytes = Annotated[bytes, Meta(min_length=33, max_length=OPERATION_BYTES_MAX)]
ConsensusOperations = Annotated[list[OperationBytes], Meta(max_length=CONSENSUS_OPERATIONS_MAX)]
PassOperations = Annotated[list[OperationBytes], Meta(max_length=PASS_OPERATIONS_MAX)]
ToggleVote = Literal["on", "off", "pass"]
Validation = Literal["local", "node"]


class ExtraOperation(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An operation that the baker wants in, whatever the mempool holds."""

    operation: OperationBytes
    priority: Annotated[int, Meta(ge=1, le=1_000_000)] = 1  # higher goes first; the mempool has 0


class Fresh(
    Struct,
    frozen=True,
    tag="fresh",
    tag_field="kind",
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    """A new payload: operations are selected now."""

    # Attestations of the predecessor; others are dropped.
    consensus_operations: ConsensusOperations = []
    extra_operations: Annotated[list[ExtraOperation], Meta(max_length=PASS_OPERATIONS_MAX)] = []
    mempool: bool = True  # whether the node's pending operations are candidates too


class Reproposal(
    Struct, frozen=True, tag="reproposal", tag_field="kind", forbid_unknown_fields=True
):
    """A payload that was proposed in an earlier round of this level, unchanged."""

    payload_hash: Hash  # "vh..."; checked against `payload`
    payload_round: Round  # the round in which this payload was first proposed
    # Passes 1, 2, 3 (votes, anonymous, manager operations), each in the proposal's order.
    payload: Annotated[list[PassOperations], Meta(min_length=3, max_length=3)]
    # Attestations of the predecessor, and the preattestation quorum for this payload if there is
    # one: its round becomes the block's locked round.
    consensus_operations: ConsensusOperations


class ForgeBlock(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A block at `level` and `round` on top of `predecessor`."""

    chain_id: Annotated[str, Meta(min_length=15, max_length=15)]  # "Net..."
    predecessor: Hash  # "B...", a block that the node knows
    level: Level  # the predecessor's plus one; said again so that a mistake shows
    round: Round
    content: Fresh | Reproposal
    liquidity_baking_vote: ToggleVote = "pass"
    adaptive_issuance_vote: ToggleVote = "pass"  # only "pass" on a network without this vote
    # Let the node apply the block before it is signed, and take its word for what is in it.
    force_apply: bool = False
    validation: Validation = "local"  # who checks the operations: this pool, or the node
    node: Annotated[str, Meta(min_length=1, max_length=64)] | None = None  # absent: the default
    # First four of the eight nonce bytes, by convention the software's version; the rest counts.
    proof_of_work_nonce_prefix: Annotated[bytes, Meta(min_length=4, max_length=4)] = (
        b"\x00\x00\x00\x05"
    )


_decoder = msgspec.msgpack.Decoder(ForgeBlock)
_encoder = msgspec.msgpack.Encoder()


def encode_forge_block(request: ForgeBlock) -> bytes:
    """The payload that asks for this block."""
    return _encoder.encode(request)


def decode_forge_block(payload: bytes) -> ForgeBlock:
    """Read a payload. Raises MalformedRequest, naming the field."""
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedRequest(f"payload of forge_and_sign_block: {error}") from None
