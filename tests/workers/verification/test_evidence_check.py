"""Which two objects become evidence, and that the sandbox's own detector agrees."""

from __future__ import annotations

from typing import Any

import pytest
import real_objects
from made_votes import CHAIN, Delegate

from broker.verification import Judgement
from signers.formats.consensus_operation import ATTESTATIONS_AGGREGATE, PREATTESTATIONS_AGGREGATE
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.operation import Content, Operation, decode_operation, encode
from signers.formats.signable import Kind, read_signable
from signers.formats.vote import read_signed_vote
from workers.sandbox.double_signing import DoubleSigning, Position
from workers.verification.evidence_check import make_evidence
from workers.verification.verdicts import Reason

BRANCH = b"B" * 32

CASES: list[tuple[str, dict[str, Any], dict[str, Any], bool, bool]] = [
    # what, one vote, the other, an offence on Tezos, on Mavryk
    ("payload", {}, {"payload_hash": b"q" * 32}, True, True),
    ("branch", {}, {"branch": b"c" * 32}, True, True),
    ("slot", {}, {"slot": 5}, False, True),
    ("dal", {}, {"dal": 6}, False, False),
    ("round", {}, {"round": 1, "payload_hash": b"q" * 32}, False, False),
    ("level", {}, {"level": 1001, "payload_hash": b"q" * 32}, False, False),
    ("kind", {}, {"kind": Kind.PREATTESTATION, "payload_hash": b"q" * 32}, False, False),
    ("same", {}, {}, False, False),
]


@pytest.mark.parametrize("network", [TEZOS, MAVRYK], ids=lambda n: n.name)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_what_is_an_offence(network: Any, case: Any) -> None:
    _, one, other, on_tezos, on_mavryk = case
    delegate = Delegate(network)
    pair = delegate.vote(**one), delegate.vote(**other)
    verdict = make_evidence(3, *pair, BRANCH, network.protocol)
    assert verdict.number == 3
    if not (on_tezos if network is TEZOS else on_mavryk):
        assert (verdict.judgement, verdict.reason) == (Judgement.INVALID, Reason.NO_OFFENCE)
        return
    assert verdict.judgement == Judgement.VALID
    assert make_evidence(3, *reversed(pair), BRANCH, network.protocol) == verdict
    fields = decode_operation(verdict.made, network).contents[0].fields
    inner = [fields[name]["branch"] + b"" for name in ("op1", "op2")]
    in_order = sorted(pair, key=blake2b_32)
    assert inner == [vote[:32] for vote in in_order]


@pytest.mark.parametrize("case", [case for case in CASES if case[4]], ids=lambda case: case[0])
def test_the_sandbox_counts_the_same_offences(case: Any) -> None:
    _, one, other, _, _ = case
    delegate, detector = Delegate(MAVRYK), DoubleSigning()
    for raw in (delegate.vote(**one), delegate.vote(**other)):
        vote = read_signed_vote(raw)
        signed = read_signable(vote.template(CHAIN).signable(vote.slot, vote.dal))
        position = Position(signed.kind, b"it", signed.level, signed.round)
        detector.observe(position, signed.digest)
    assert detector.conflicts_total == 1


def test_two_headers() -> None:
    header = real_objects.headers()[0][3]
    signed_again = header[:-1] + bytes([header[-1] ^ 1])
    verdict = make_evidence(0, header, signed_again, BRANCH, TEZOS.protocol)
    assert verdict.judgement == Judgement.VALID, "a header signed twice is an offence"
    assert make_evidence(0, signed_again, header, BRANCH, TEZOS.protocol) == verdict
    assert make_evidence(0, header, header, BRANCH, TEZOS.protocol).reason == Reason.NO_OFFENCE


@pytest.mark.parametrize("other", [b"", b"\xff" * 139, bytes(257)])
def test_what_cannot_be_read(other: bytes) -> None:
    vote, header = Delegate().vote(), real_objects.headers()[0][3]
    for one in (vote, header):
        for pair in ((one, other), (other, one)):
            assert make_evidence(0, *pair, BRANCH, TEZOS.protocol).reason == Reason.MALFORMED
    assert make_evidence(0, vote, vote, b"", TEZOS.protocol).reason == Reason.MALFORMED
    assert make_evidence(0, vote, header, BRANCH, TEZOS.protocol).judgement == Judgement.INVALID


def added_up(slots: list[int], payload: bytes, tag: int = 0x1F) -> bytes:
    """Several votes as one operation; nobody looks at its signature here."""
    said = {"level": 1000, "round": 0, "block_payload_hash": payload}
    is_early = tag == 0x1E
    committee = slots if is_early else [{"slot": s, "dal_attestation": None} for s in slots]
    kind = PREATTESTATIONS_AGGREGATE if is_early else ATTESTATIONS_AGGREGATE
    fields = {"consensus_content": said, "committee": committee}
    return encode(Operation(b"b" * 32, (Content(tag, kind, fields),), bytes(range(96))))


def test_votes_that_were_added_up_prove_what_their_slots_said() -> None:
    """Octez ``validate.ml``, ``check_double_consensus_operation_evidence``."""
    protocol, vote = TEZOS.protocol, Delegate().vote()
    one, same, other = (
        added_up([1, 3], b"q" * 32),
        added_up([3], b"p" * 32),
        added_up([3, 4], b"r" * 32),
    )
    early = added_up([3], b"q" * 32, 0x1E), added_up([3, 9], b"r" * 32, 0x1E)
    for pair in ((vote, one), (one, other), (same, other), early):
        verdict = make_evidence(0, *pair, BRANCH, protocol, 3)
        assert verdict.judgement == Judgement.VALID
        assert make_evidence(0, *reversed(pair), BRANCH, protocol, 3) == verdict
        content = decode_operation(verdict.made, TEZOS).contents[0]
        assert (content.tag, content.fields["slot"]) == (2, 3)
        inner = [content.fields[name]["signature"] for name in ("op1", "op2")]
        assert inner == [read_signature(raw) for raw in sorted(pair, key=blake2b_32)]
    assert make_evidence(0, vote, same, BRANCH, protocol, 3).reason == Reason.NO_OFFENCE
    assert make_evidence(0, early[0], one, BRANCH, protocol, 3).reason == Reason.NO_OFFENCE
    for slot in (-1, 1, 4, 7):
        assert make_evidence(0, one, other, BRANCH, protocol, slot).reason == Reason.MALFORMED
    assert make_evidence(0, one, other, BRANCH, MAVRYK.protocol, 3).reason == Reason.MALFORMED


def read_signature(raw: bytes) -> bytes | None:
    return decode_operation(raw, TEZOS).signature
