"""Letting the node apply a block before it is signed: `preapply/block`, and what is made of it.

The node leaves out what it cannot apply and answers with a shell header. Its word is taken for
the operations, the context and the protocol number; everything that can be computed here must
agree with it.
"""

from __future__ import annotations

from dataclasses import replace

from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.block_header import BlockHeader, Fitness, to_json
from signers.formats.networks import Network
from signers.formats.operation import decode_operation
from signers.formats.operation import to_json as operation_to_json
from workers.node.answers import Json, PreappliedBlock, PreapplyRequest, RawOperation, Shell
from workers.preparation.block_forge import VALIDATION_PASSES, Proposal
from workers.preparation.chain_view import ChainView, unix_seconds
from workers.preparation.preparation_errors import InvalidRequest, NodeAnswerMalformed

# What a header is asked with before it is complete. The node checks no signature, and a fresh
# payload has no hash before it is known what is in it; that of a re-proposal is needed to check
# preattestations.
_NO_SIGNATURE = bytes(64)
_NO_PAYLOAD_YET = bytes(32)
_CONTENTS = (
    "payload_hash",
    "payload_round",
    "proof_of_work_nonce",
    "seed_nonce_hash",
    "liquidity_baking_toggle_vote",
)
_ISSUANCE_VOTE = "adaptive_issuance_vote"


def preapply_request(
    view: ChainView,
    header: BlockHeader,
    proposal: Proposal,
    network: Network,
    *,
    votes_on_issuance: bool,
) -> PreapplyRequest:
    """What the node is asked to apply: a draft of the header, and operations as JSON.

    Raises InvalidRequest when an operation cannot be shown to the node.
    """
    payload = header.payload_hash if proposal.payload_round < header.round else _NO_PAYLOAD_YET
    shown = to_json(replace(header, payload_hash=payload, signature=_NO_SIGNATURE))
    names = (*_CONTENTS, _ISSUANCE_VOTE) if votes_on_issuance else _CONTENTS
    contents = {name: shown[name] for name in names if name in shown}
    return PreapplyRequest(
        {"protocol": view.protocol, **contents, "signature": shown["signature"]},
        [
            [_operation(operation, view.protocol, network) for operation in one]
            for one in proposal.operations
        ],
    )


def applied_proposal(answer: PreappliedBlock, proposal: Proposal) -> Proposal:
    """What of a proposal the node could apply. Raises NodeAnswerMalformed."""
    if len(answer.operations) != VALIDATION_PASSES:
        raise NodeAnswerMalformed(f"preapply answered {len(answer.operations)} passes")
    operations = tuple(tuple(map(_bytes_of, one.applied)) for one in answer.operations)
    for applied, proposed in zip(operations, proposal.operations, strict=True):
        if not set(applied) <= set(proposed):
            raise NodeAnswerMalformed("preapply answered an operation that nobody proposed")
    return replace(proposal, operations=operations)


def accept_shell(header: BlockHeader, shell: Shell) -> BlockHeader:
    """The header with what only the node knows: protocol number and context.

    Raises NodeAnswerMalformed when the node computed anything else differently.
    """
    try:
        told = replace(
            header,
            level=shell.level,
            proto=shell.proto,
            predecessor=base58.decode(base58.BLOCK_HASH, shell.predecessor),
            timestamp=unix_seconds(shell.timestamp),
            validation_passes=shell.validation_pass,
            operations_hash=base58.decode(base58.OPERATIONS_HASH, shell.operations_hash),
            fitness=Fitness(tuple(bytes.fromhex(element) for element in shell.fitness)),
            context=base58.decode(base58.CONTEXT_HASH, shell.context),
        )
    except (MalformedBytes, ValueError) as error:
        raise NodeAnswerMalformed(f"shell header of preapply: {error}") from None
    ours = replace(header, proto=told.proto, context=told.context)
    if told != ours:
        raise NodeAnswerMalformed(f"preapply made another header: {told}, ours is {ours}")
    return told


def _operation(data: bytes, protocol: str, network: Network) -> Json:
    try:
        return {"protocol": protocol, **operation_to_json(decode_operation(data, network), network)}
    except MalformedBytes as error:
        raise InvalidRequest(f"an operation cannot be shown to the node: {error}") from None


def _bytes_of(operation: RawOperation) -> bytes:
    try:
        branch = base58.decode(base58.BLOCK_HASH, operation.branch)
        return branch + bytes.fromhex(operation.data)
    except (MalformedBytes, ValueError) as error:
        raise NodeAnswerMalformed(f"an applied operation: {error}") from None
