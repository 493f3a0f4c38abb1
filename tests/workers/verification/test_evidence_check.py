"""Which two objects become evidence, and that the sandbox's own detector agrees."""

from __future__ import annotations

from typing import Any

import pytest
import real_objects
from made_votes import CHAIN, Delegate

from broker.verification import Judgement
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.operation import decode_operation
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
