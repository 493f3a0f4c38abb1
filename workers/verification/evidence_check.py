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
from signers.formats.networks import Protocol
from signers.formats.vote import SignedVote, read_signed_vote
from workers.verification.header_check import read_header
from workers.verification.verdicts import Reason, invalid


def make_evidence(
    number: int, one: bytes, other: bytes, branch: bytes, protocol: Protocol
) -> Verdict:
    """Return the evidence of two votes or of two headers, or why they are none."""
    if len(branch) != HASH_BYTES:
        return invalid(number, Reason.MALFORMED, "a branch is a block's hash of 32 bytes")
    try:
        made = _of_votes(one, other, branch, protocol) or _of_headers(one, other, branch)
    except MalformedBytes as error:
        return invalid(number, Reason.MALFORMED, str(error))
    if made is None:
        return invalid(number, Reason.NO_OFFENCE, "these two do not conflict")
    return Verdict(number, Judgement.VALID, made=made)


def _of_votes(one: bytes, other: bytes, branch: bytes, protocol: Protocol) -> bytes | None:
    try:
        votes = read_signed_vote(one), read_signed_vote(other)
    except MalformedBytes:
        return None  # two headers, perhaps
    if not _conflict(*votes, slot_counts=not protocol.votes_in_lowest_slot):
        return None
    return double_vote_evidence(branch, one, other, protocol)


def _conflict(one: SignedVote, other: SignedVote, *, slot_counts: bool) -> bool:
    if (one.kind, one.level, one.round) != (other.kind, other.level, other.round):
        return False
    if one.slot != other.slot:
        return slot_counts
    return (one.branch, one.payload_hash) != (other.branch, other.payload_hash)


def _of_headers(one: bytes, other: bytes, branch: bytes) -> bytes | None:
    try:
        headers = read_header(one), read_header(other)
    except MalformedBytes:
        read_signed_vote(one)  # says what is wrong with what is neither
        read_signed_vote(other)
        return None
    places = {(header.level, header.round) for header in headers}
    if one == other or len(places) != 1:
        return None
    return double_baking_evidence(branch, one, other)
