"""Two conflicting objects of one delegate, made into the operation that denounces them.

Only what a protocol punishes becomes evidence: votes that differ in their signatures alone are no
offence, headers that do are. Both objects were found valid before, so rights and signatures are not
looked at again. Source: protocol ``validate.ml`` (``Anonymous``).
"""

from __future__ import annotations

from broker.verification import Judgement, Verdict
from signers.errors import MalformedBytes
from signers.formats.evidence import double_baking_evidence, double_vote_evidence
from signers.formats.hashes import HASH_BYTES
from signers.formats.networks import (
    ATTESTATIONS_AGGREGATE_TAG,
    PREATTESTATIONS_AGGREGATE_TAG,
    TEZOS,
    Protocol,
)
from signers.formats.operation import decode_operation
from signers.formats.signable import Kind
from signers.formats.vote import SignedVote, read_signed_vote
from workers.verification.header_check import read_header
from workers.verification.verdicts import Reason, invalid

_ADDED_UP = {
    PREATTESTATIONS_AGGREGATE_TAG: Kind.PREATTESTATION,
    ATTESTATIONS_AGGREGATE_TAG: Kind.ATTESTATION,
}


def make_evidence(
    number: int, one: bytes, other: bytes, branch: bytes, protocol: Protocol, slot: int = -1
) -> Verdict:
    """Return the evidence of two votes or of two headers, or why they are none.

    `slot` is the delegate's if one of the votes is of several that were added up; else -1.
    """
    if len(branch) != HASH_BYTES:
        return invalid(number, Reason.MALFORMED, "a branch is a block's hash of 32 bytes")
    try:
        made = _of_votes(one, other, branch, protocol, slot)
        made = made or _of_headers(one, other, branch, slot)
    except MalformedBytes as error:
        return invalid(number, Reason.MALFORMED, str(error))
    if made is None:
        return invalid(number, Reason.NO_OFFENCE, "these two do not conflict")
    return Verdict(number, Judgement.VALID, made=made)


def _of_votes(
    one: bytes, other: bytes, branch: bytes, protocol: Protocol, slot: int
) -> bytes | None:
    try:
        votes = _read_vote(one, slot), _read_vote(other, slot)
    except MalformedBytes:
        return None  # two headers, perhaps
    if not _conflict(*votes, slot_counts=not protocol.votes_in_lowest_slot):
        return None
    return double_vote_evidence(branch, one, other, protocol, slot if slot >= 0 else None)


def _read_vote(raw: bytes, slot: int) -> SignedVote:
    """A vote, or what several that were added up say in one slot. Raises MalformedBytes."""
    try:
        return read_signed_vote(raw)
    except MalformedBytes:
        if slot < 0:
            raise
    operation = decode_operation(raw, TEZOS)
    content = operation.contents[0]
    if content.tag not in _ADDED_UP:
        raise MalformedBytes(f"a {content.name} is no vote")
    said = content.fields["consensus_content"]
    place = slot, said["level"], said["round"]
    return SignedVote(
        _ADDED_UP[content.tag], operation.branch, *place, said["block_payload_hash"], None, b""
    )


def _conflict(one: SignedVote, other: SignedVote, *, slot_counts: bool) -> bool:
    if (one.kind, one.level, one.round) != (other.kind, other.level, other.round):
        return False
    if one.slot != other.slot:
        return slot_counts
    return (one.branch, one.payload_hash) != (other.branch, other.payload_hash)


def _of_headers(one: bytes, other: bytes, branch: bytes, slot: int) -> bytes | None:
    try:
        headers = read_header(one), read_header(other)
    except MalformedBytes:
        _read_vote(one, slot)  # says what is wrong with what is neither
        _read_vote(other, slot)
        return None
    places = {(header.level, header.round) for header in headers}
    if one == other or len(places) != 1:
        return None
    return double_baking_evidence(branch, one, other)
