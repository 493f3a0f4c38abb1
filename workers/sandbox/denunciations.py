"""Evidence that a delegate signed twice: whether it proves the offence, and is not too old.

An offence is recorded, so that it is denounced once; nobody is slashed for it, since stake never
changes on this chain. The text of an error alone tells the kind of offence, as of votes. Source:
protocol ``validate.ml`` (``check_double_attesting_evidence``, ``check_double_baking_evidence``),
``validate_errors.ml``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from signers.formats import block_header
from signers.formats.anonymous_operation import DOUBLE_BAKING_EVIDENCE
from signers.formats.block_header import BlockHeader
from signers.formats.consensus_operation import (
    ATTESTATION,
    ATTESTATION_WITH_DAL,
    PREATTESTATION,
)
from signers.formats.content_kind import ContentKind
from signers.formats.hashes import blake2b_32
from signers.formats.networks import (
    ATTESTATION_TAG,
    ATTESTATION_WITH_DAL_TAG,
    BLOCK_WATERMARK,
    PREATTESTATION_TAG,
)
from signers.formats.operation import Content, Operation, encode
from signers.formats.signable import Kind
from workers.sandbox.ledger import Ledger, Offence
from workers.sandbox.levels import level_info
from workers.sandbox.operations import SignedOperation
from workers.sandbox.refusal import ErrorKind, Refusal, protocol_error
from workers.sandbox.rules import Rules
from workers.sandbox.votes import vote_of

_VOTES: Mapping[int, ContentKind] = {
    PREATTESTATION_TAG: PREATTESTATION,
    ATTESTATION_TAG: ATTESTATION,
    ATTESTATION_WITH_DAL_TAG: ATTESTATION_WITH_DAL,
}
_WORDS = {Kind.BLOCK: "baking", Kind.PREATTESTATION: "preattesting", Kind.ATTESTATION: "attesting"}


class _Object(NamedTuple):
    """One of the two: where it was signed, and what must differ in the other."""

    kind: Kind
    level: int
    round: int
    hash: bytes
    statement: object
    slot: int | None  # None: a block
    signed: BlockHeader | SignedOperation


def check_evidence(content: Content, at_level: int, ledger: Ledger, rules: Rules) -> Offence:
    """Check evidence for a block at `at_level`; return the offence that it proves.

    Raises Refusal.
    """
    names = ("bh1", "bh2") if content.name == DOUBLE_BAKING_EVIDENCE.name else ("op1", "op2")
    pair = [_read(content.fields[name]) for name in names]
    _check_conflict(pair, content.fields.get("slot"))
    kind, level, round, *_ = pair[0]
    # Before anybody's rights: a committee is drawn for a level only if that may matter.
    _check_age(kind, level, at_level, rules)
    first, second = (_signer(each, rules) for each in pair)
    word = _WORDS[kind]
    if first != second:
        delegates = [rules.names.address(each) for each in (first, second)]
        raise _permanent(
            "inconsistent",
            f"Inconsistent double-{word} evidence (distinct delegates: {' and '.join(delegates)})",
            delegate1=delegates[0], delegate2=delegates[1],
        )  # fmt: skip
    offence = Offence(kind, level, round, first)
    if ledger.is_denounced(offence):
        delegate = rules.names.address(first)
        words = f"Delegate {delegate} has already been denounced for a double {word}."
        id = "validate.operation.already_denounced"
        fields = {"denunciation_kind": f"double_{word}", "delegate": delegate}
        raise Refusal(protocol_error(ErrorKind.BRANCH, id, words, **fields))
    if not all(_is_signed(each, first, rules) for each in pair):
        wrong = "The operation signature is invalid"
        raise Refusal(protocol_error(ErrorKind.PERMANENT, "operation.invalid_signature", wrong))
    return offence


def first_denounced_level(at_level: int, rules: Rules) -> int:
    """Return the lowest level whose offences a block at `at_level` may denounce."""
    constants = rules.constants
    cycle = level_info(constants, at_level).cycle
    return max(0, cycle - 1) * constants.blocks_per_cycle + 1


def _check_conflict(pair: Sequence[_Object], named_slot: int | None) -> None:
    """Two that differ in what counts, of one place, in the order of their hashes."""
    first, second = pair
    is_pair = (
        first[:3] == second[:3]
        and first.hash < second.hash
        and first.statement != second.statement
        and (named_slot is None or first.slot == second.slot == named_slot)
    )
    if not is_pair:
        raise _malformed(first.kind)


def _check_age(kind: Kind, level: int, at_level: int, rules: Rules) -> None:
    """An offence is denounced in its own cycle or in the next one."""
    word = _WORDS[kind]
    if level > at_level:
        raise Refusal(
            protocol_error(
                ErrorKind.TEMPORARY,
                "validate.operation.block.too_early_denunciation",
                f"A double-{word} denunciation is for a future level (current level: {at_level}, "
                f"given level: {level})",
                level=level, current=at_level,
            )
        )  # fmt: skip
    if level < first_denounced_level(at_level, rules):
        last = level_info(rules.constants, level).cycle + 1
        words = f"A double-{word} denunciation is outdated (last acceptable cycle: {last})."
        raise _permanent("outdated", words, level=level, last=last)


def _read(signed: BlockHeader | Mapping[str, Any]) -> _Object:
    """Take apart a header or an inlined vote of evidence."""
    if isinstance(signed, BlockHeader):
        if not signed.fitness.is_tenderbake:
            raise _malformed(Kind.BLOCK)
        hash = block_header.block_hash(signed)
        return _Object(Kind.BLOCK, signed.level, signed.round, hash, hash, None, signed)
    tag, fields = signed["operations"]
    if tag not in _VOTES:
        id = "operations.validation.aggregate_denunciation_not_implemented"
        words = "Denunciation of aggregate operations is not yet implemented"
        raise Refusal(protocol_error(ErrorKind.PERMANENT, id, words))
    content = Content(tag, _VOTES[tag], fields)
    operation = Operation(signed["branch"], (content,), signed["signature"])
    raw = encode(operation)
    whole = SignedOperation(blake2b_32(raw), raw, operation)
    vote = vote_of(content)
    statement = (operation.branch, vote.payload_hash, vote.slot)
    return _Object(vote.kind, vote.level, vote.round, whole.hash, statement, vote.slot, whole)


def _signer(signed: _Object, rules: Rules) -> bytes:
    """Return whose right it was. Raises Refusal when it was nobody's."""
    committee = rules.rights.committee(signed.level)
    if signed.slot is None:
        return committee.baker(signed.round)
    owner = committee.owner(signed.slot)
    if owner is None:
        raise _malformed(signed.kind)
    return owner


def _is_signed(signed: _Object, by: bytes, rules: Rules) -> bool:
    key = rules.consensus_keys[by]
    if isinstance(signed.signed, SignedOperation):
        return rules.is_signed(signed.signed, key, signed.kind)
    header = signed.signed
    message = bytes([BLOCK_WATERMARK]) + rules.chain_id + block_header.unsigned(header)
    return rules.is_signature(header.signature or b"", message, key)


def _malformed(kind: Kind) -> Refusal:
    word = _WORDS[kind]
    return _permanent("invalid", f"Malformed double-{word} evidence")


def _permanent(which: str, words: str, **fields: Any) -> Refusal:
    id = f"validate.operation.block.{which}_denunciation"
    return Refusal(protocol_error(ErrorKind.PERMANENT, id, words, **fields))
