"""Preattestations and attestations: which of them count, in a block and in the mempool.

In a block all attestations are for the predecessor, exactly; all preattestations are for the
block's own payload, in the round that its fitness says was locked. The mempool takes votes for
the level of the head, the one before and the one after, and looks neither at round nor at
payload: they may be for a proposal that this node has not seen. Source: protocol
``validate.ml`` (``Consensus``).

A real node writes the kind of vote into these errors as a second ``kind``, beside that of the
error; here the text alone tells it, for an object with two equal keys helps nobody.
"""

from __future__ import annotations

from typing import NamedTuple

from signers.formats import base58
from signers.formats.operation import Content
from signers.formats.signable import Kind
from workers.sandbox.committee import Committee, Rights
from workers.sandbox.names import text
from workers.sandbox.refusal import ErrorKind, Refusal, protocol_error


class Vote(NamedTuple):
    """What a preattestation or attestation says."""

    kind: Kind
    slot: int
    level: int
    round: int
    payload_hash: bytes

    @property
    def title(self) -> str:
        """The kind as errors name it."""
        return self.kind.name.capitalize()


class Target(NamedTuple):
    """What a vote in a block must be for."""

    level: int
    round: int
    payload_hash: bytes


def vote_of(content: Content) -> Vote:
    """Return the vote that a consensus operation casts."""
    fields = content.fields
    kind = Kind.PREATTESTATION if content.name == "preattestation" else Kind.ATTESTATION
    return Vote(
        kind, fields["slot"], fields["level"], fields["round"], fields["block_payload_hash"]
    )


def check_in_block(vote: Vote, target: Target, committee: Committee) -> int:
    """Check that a vote is for `target` and return its power. Raises Refusal."""
    _check_level(vote, target.level)
    if vote.round != target.round:
        old = vote.round < target.round
        when, bound = ("old", "expected_min") if old else ("future", "expected_max")
        raise Refusal(
            protocol_error(
                ErrorKind.BRANCH if old else ErrorKind.TEMPORARY,
                f"validate.consensus_operation_for_{when}_round",
                f"{vote.title} for {when} round ({bound}: {target.round}, provided: {vote.round}).",
                **{bound: target.round},
                provided=vote.round,
            )
        )
    if vote.payload_hash != target.payload_hash:
        expected, provided = (
            text(base58.PAYLOAD_HASH, hash) for hash in (target.payload_hash, vote.payload_hash)
        )
        raise Refusal(
            protocol_error(
                ErrorKind.BRANCH,
                "validate.wrong_payload_hash_for_consensus_operation",
                f"{vote.title} with wrong payload hash (expected: {expected}, "
                f"provided: {provided}).",
                expected=expected,
                provided=provided,
            )
        )
    power = committee.power(vote.slot)
    if power == 0:
        raise wrong_slot(vote)
    return power


def check_in_mempool(vote: Vote, head_level: int, rights: Rights) -> bytes:
    """Check that a vote may be waiting and return who cast it. Raises Refusal."""
    if vote.level < head_level - 1 or vote.level > head_level + 1:
        _check_level(vote, head_level)
    owner = rights.committee(vote.level).owner(vote.slot)
    if owner is None:
        raise wrong_slot(vote)
    return owner


def wrong_slot(vote: Vote) -> Refusal:
    """Return the refusal of a vote in a slot that is nobody's first."""
    return Refusal(
        protocol_error(
            ErrorKind.PERMANENT,
            "validate.wrong_slot_for_consensus_operation",
            f"Wrong slot used for a {vote.title}.",
        )
    )


def double_inclusion(vote: Vote, existing: bytes, new: bytes) -> Refusal:
    """Return the refusal of a second vote for one slot, level and round in one block."""
    existing_text, new_text = (text(base58.OPERATION_HASH, hash) for hash in (existing, new))
    return Refusal(
        protocol_error(
            ErrorKind.BRANCH,
            "validate.double_inclusion_of_consensus_operation",
            f"{vote.title} operation {new_text} conflicts with existing {existing_text}",
            conflict={"existing": existing_text, "new_operation": new_text},
        )
    )


def unexpected_in_block(kind: Kind) -> Refusal:
    """Return the refusal of a vote in a block that may hold none of its kind."""
    name = kind.name.lower()
    return Refusal(
        protocol_error(
            ErrorKind.PERMANENT,
            f"validate.unexpected_{name}_in_block",
            f"Unexpected {name} in block.",
        )
    )


def _check_level(vote: Vote, expected: int) -> None:
    if vote.level == expected:
        return
    old = vote.level < expected
    when = "old" if old else "future"
    raise Refusal(
        protocol_error(
            ErrorKind.OUTDATED if old else ErrorKind.TEMPORARY,
            f"validate.consensus_operation_for_{when}_level",
            f"{vote.title} for {when} level (expected: {expected}, provided: {vote.level}).",
            expected=expected,
            provided=vote.level,
        )
    )
