"""Evidence that a delegate signed two conflicting things, as the operation that denounces it.

The two stand in the order of their hashes, so that everybody who has them makes the same evidence.
Nobody signs it: it carries 64 zero bytes in place of a signature.

What proves a double vote differs: until Rio (and on Mavryk) attestations and preattestations have a
kind each, since Seoul one kind serves both and names the slot in which both votes are: one that a
vote is in, or the committee of votes added up.

Source: protocol ``operation_repr.ml``, ``validate.ml`` (``check_double_attesting_evidence``,
``check_double_baking_evidence``).
"""

from collections.abc import Mapping
from typing import Any

from signers.errors import MalformedBytes
from signers.formats import anonymous_operation as anonymous
from signers.formats import block_header, operation
from signers.formats import consensus_operation as consensus
from signers.formats.block_header import BlockHeader
from signers.formats.hashes import blake2b_32
from signers.formats.networks import (
    ATTESTATIONS_AGGREGATE_TAG,
    PREATTESTATION_TAG,
    PREATTESTATIONS_AGGREGATE_TAG,
    TEZOS,
    Protocol,
)
from signers.formats.operation import Content, Operation

_DOUBLE_VOTE_TAG = 0x02  # since Seoul; before, of attestations
_DOUBLE_BAKING_TAG = 0x03
_DOUBLE_PREATTESTATION_TAG = 0x07
_NOBODY_SIGNS = bytes(64)
_ADDED_UP = frozenset({PREATTESTATIONS_AGGREGATE_TAG, ATTESTATIONS_AGGREGATE_TAG})
_PREATTESTATIONS = frozenset({PREATTESTATION_TAG, PREATTESTATIONS_AGGREGATE_TAG})


def double_vote_evidence(
    branch: bytes, one: bytes, other: bytes, protocol: Protocol, slot: int | None = None
) -> bytes:
    """Write the evidence of two signed votes of one delegate, level, round and kind.

    `branch` is the hash of a live block, `slot` the delegate's if a vote is one of several that
    were added up. Whether they are an offence is not looked at. Raises MalformedBytes for what are
    no two votes of one kind, or not of one slot where it must be.
    """
    first, second = sorted((one, other), key=blake2b_32)
    votes = [operation.decode_operation(signed, TEZOS) for signed in (first, second)]
    is_preattestation = {vote.contents[0].tag in _PREATTESTATIONS for vote in votes}
    if not all(_is_vote(vote, protocol) for vote in votes) or len(is_preattestation) != 1:
        raise MalformedBytes("these are no two votes of one kind")
    fields: dict[str, Any] = {"op1": _inlined(votes[0]), "op2": _inlined(votes[1])}
    if protocol.votes_in_lowest_slot:
        if slot is None:
            slot = votes[0].contents[0].fields.get("slot")
        if slot is None or not all(slot in _slots(vote) for vote in votes):
            raise MalformedBytes("the votes are of two slots, which is no offence here")
        kind = consensus.DOUBLE_CONSENSUS_OPERATION_EVIDENCE
        return _evidence(branch, _DOUBLE_VOTE_TAG, kind, {"slot": slot, **fields})
    if is_preattestation.pop():
        kind = consensus.DOUBLE_PREATTESTATION_EVIDENCE
        return _evidence(branch, _DOUBLE_PREATTESTATION_TAG, kind, fields)
    return _evidence(branch, _DOUBLE_VOTE_TAG, consensus.DOUBLE_ATTESTATION_EVIDENCE, fields)


def double_baking_evidence(branch: bytes, one: bytes, other: bytes) -> bytes:
    """Write the evidence of two signed headers of one level and round.

    `branch` is the hash of a live block. Whether they are an offence is not looked at. Raises
    MalformedBytes.
    """
    first, second = sorted((one, other), key=blake2b_32)
    headers = {"bh1": _signed_header(first), "bh2": _signed_header(second)}
    return _evidence(branch, _DOUBLE_BAKING_TAG, anonymous.DOUBLE_BAKING_EVIDENCE, headers)


def _evidence(branch: bytes, tag: int, kind: Any, fields: dict[str, Any]) -> bytes:
    return operation.encode(Operation(branch, (Content(tag, kind, fields),), _NOBODY_SIGNS))


def _is_vote(vote: Operation, protocol: Protocol) -> bool:
    added_up = protocol.votes_in_lowest_slot and vote.contents[0].tag in _ADDED_UP
    return added_up or operation.is_vote(vote)


def _slots(vote: Operation) -> set[int]:
    """Whose slots a vote is for: its own, or those of all that were added up."""
    fields = vote.contents[0].fields
    if "committee" not in fields:
        return {fields["slot"]}
    return {each["slot"] if isinstance(each, Mapping) else each for each in fields["committee"]}


def _inlined(vote: Operation) -> dict[str, Any]:
    """A vote as it stands inside of evidence: its signature plain to the end, of any length."""
    content = vote.contents[0]
    return {
        "branch": vote.branch,
        "operations": (content.tag, content.fields),
        "signature": vote.signature,
    }


def _signed_header(raw: bytes) -> BlockHeader:
    header = block_header.decode(raw)
    if header.signature is None:
        raise MalformedBytes("a header in evidence of double baking is signed")
    return header
