"""Votes of tz4 keys: signed in their own form, with the companion's signature added for DAL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker.messages import CreditBack, Freed
from signers.curves import bls
from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.companion_weight import companion_weight, zarith_bits
from signers.formats.hashes import blake2b_20, blake2b_32
from signers.formats.networks import TEZOS, BlsScheme
from signers.formats.signable import Kind
from signers.formats.vote import VoteTemplate, read_signed_vote
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey, SecretKey
from signers.policy.decision import Policy
from signers.policy.rule import Rule
from tests.workers.worker_script import (
    CHAIN,
    COMPANION,
    KEYS,
    MV4,
    PAYLOAD_HASH,
    POLICY,
    PREDECESSOR,
    STRANGER,
    TZ4,
    A,
    WorkerScript,
    a_header,
    a_vote,
    block,
    sign,
    votes,
)
from workers.bls_vote import BlsVote
from workers.worker import SIGNER_LIMIT_S

VECTORS = Path(__file__).parents[1] / "signers" / "vectors"
SIGNED = json.loads((VECTORS / "signatures.json").read_text())
BLS_ROWS = [
    row for row in json.loads((VECTORS / "keys.json").read_text())["keys"] if row["curve"] == "BLS"
]
POSSESSION = BlsScheme.POSSESSION
DAL = 5
READY = "attestation_ready"
TEMPLATE = VoteTemplate(Kind.ATTESTATION, CHAIN, PREDECESSOR, 5, 0, PAYLOAD_HASH)


def signed_vote(worker: WorkerScript) -> Any:
    vote = read_signed_vote(worker.bodies[TZ4])
    assert worker.bodies[TZ4] == vote.template(CHAIN).operation(vote.slot, vote.signature, vote.dal)
    return vote


def under(dal: int | None) -> PublicKey:
    """The key that a vote of TZ4 verifies under."""
    own, beside = KEYS[TZ4].public_key, KEYS[COMPANION].public_key
    if dal is None:
        return own
    vote = TEMPLATE.bls_signable()[5:]
    weight = companion_weight(blake2b_20(own.raw), blake2b_20(beside.raw), vote, dal)
    weighed = bls.weigh_public_key(beside.raw, weight)
    return PublicKey(Curve.BLS, bls.add_public_keys((own.raw, weighed)))


# -- the sum of two signatures --------------------------------------------------------------------


def test_a_vote_with_dal_is_the_sum_of_the_vectors() -> None:
    vector = SIGNED["companion"]
    keys = [SecretKey.read(row["secret"], POSSESSION) for row in BLS_ROWS[:2]]
    own, companion = (key.public_key.hash(TEZOS) for key in keys)
    message = bytes.fromhex(SIGNED["messages"][vector["message"]])
    wire = bytes.fromhex(SIGNED["messages"][vector["wire"]])
    weight = companion_weight(
        *(blake2b_20(key.public_key.raw) for key in keys), message[5:], vector["dal"]
    )
    assert weight == int(vector["weight"], 16)

    unsigned = read_signed_vote(wire[5:] + bytes(64))
    template = unsigned.template(wire[1:5])
    assert template.bls_signable() == message
    vote = BlsVote(template, own, unsigned.slot, vector["dal"], companion)
    for key, key_hash in zip(keys, (own, companion), strict=True):
        assert not vote.is_whole()
        vote.released(key_hash, key.sign(message, blake2b_32(message)))
    operation = vote.operation()
    assert read_signed_vote(operation).signature.hex() == vector["signature_hex"]
    hash_ = base58.encode(base58.OPERATION_HASH, blake2b_32(operation))
    assert hash_ == vector["operation_hash"]


@pytest.mark.parametrize(
    ("number", "bits"),
    [
        (0, ""),
        (1, "0100000000000000"),
        (2048, "0008000000000000"),
        (2**64 - 1, "ff" * 8),
        (2**64, "00" * 8 + "01" + "00" * 7),
    ],
)
def test_bits_fill_whole_words(number: int, bits: str) -> None:
    assert zarith_bits(number).hex() == bits


def test_what_is_no_vote_is_refused_at_once() -> None:
    with pytest.raises(MalformedBytes):
        BlsVote(TEMPLATE, TZ4, 70_000)
    preattestation = VoteTemplate(Kind.PREATTESTATION, CHAIN, PREDECESSOR, 5, 0, PAYLOAD_HASH)
    with pytest.raises(MalformedBytes):
        BlsVote(preattestation, TZ4, 0, DAL, COMPANION)


# -- through a worker -----------------------------------------------------------------------------


def test_a_vote_is_signed_without_its_slot_and_travels_with_it() -> None:
    worker = WorkerScript()
    worker.gets(votes(TZ4))
    assert worker.judges() == [TZ4]
    worker.signs()
    assert worker.ends() == {}, "its mark is not on disk"
    worker.commits()
    assert worker.ends() == {TZ4: READY}
    vote = signed_vote(worker)
    assert (vote.slot, vote.dal) == (0, None)
    assert under(None).verify(TEMPLATE.bls_signable(), vote.signature, POSSESSION)


def test_tz4_votes_and_others_go_in_one_batch() -> None:
    worker = WorkerScript()
    worker.gets(votes(A, TZ4))
    assert worker.judges() == [A, TZ4]
    worker.signs()
    worker.commits()
    assert worker.ends() == {A: READY, TZ4: READY}


def test_dal_content_is_signed_by_the_companion_too() -> None:
    worker = WorkerScript()
    worker.gets(votes(TZ4, dal=str(DAL), companion=COMPANION))
    assert worker.judges() == [TZ4, COMPANION]
    worker.signs(TZ4)
    worker.commits()
    assert worker.ends() == {}, "the companion has not signed"
    worker.signs(COMPANION)
    assert worker.ends() == {TZ4: READY}
    vote = signed_vote(worker)
    assert vote.dal == DAL
    assert under(DAL).verify(TEMPLATE.bls_signable(), vote.signature, POSSESSION)
    assert not under(DAL + 1).verify(TEMPLATE.bls_signable(), vote.signature, POSSESSION)
    assert worker.notes == []


def test_the_companion_may_be_the_first() -> None:
    worker = WorkerScript()
    worker.gets(votes(TZ4, dal=str(DAL), companion=COMPANION))
    worker.judges()
    worker.signs(COMPANION)
    worker.commits()
    assert worker.ends() == {}
    worker.signs(TZ4)
    assert worker.ends() == {TZ4: READY}
    assert signed_vote(worker).dal == DAL


@pytest.mark.parametrize("companion", [None, A, TZ4, MV4, "tz4stranger"])
def test_without_a_usable_companion_a_plain_attestation_is_signed(companion: str | None) -> None:
    worker = WorkerScript()
    worker.gets(votes(TZ4, dal=str(DAL), companion=companion))
    assert worker.judges() == [TZ4]
    worker.signs()
    worker.commits()
    assert worker.ends() == {TZ4: READY}
    vote = signed_vote(worker)
    assert vote.dal is None
    assert under(None).verify(TEMPLATE.bls_signable(), vote.signature, POSSESSION)
    [note] = worker.notes
    assert note.startswith(f"dal_dropped key={TZ4} why=")


def test_a_companion_whose_mark_says_no_takes_the_dal_content_with_it() -> None:
    worker = WorkerScript()
    worker.gets(sign(COMPANION, a_vote(level=6)))
    worker.judges()
    worker.signs()
    worker.commits()
    worker.ends()
    worker.gets(votes(TZ4, dal=str(DAL), companion=COMPANION, level=5))
    assert worker.judges() == [TZ4]
    worker.signs()
    worker.commits()
    assert worker.ends() == {TZ4: READY}
    assert signed_vote(worker).dal is None
    assert "watermark_below" in worker.notes[0]


def test_a_vote_whose_mark_says_no_is_refused_whatever_the_companion_does() -> None:
    worker = WorkerScript()
    for _ in range(2):
        worker.gets(votes(TZ4, dal=str(DAL), companion=COMPANION, payload=9))
        worker.judges()
        worker.signs()
        worker.commits()
        assert worker.ends() == {TZ4: READY}, "a repeat is signed again"
    worker.gets(votes(TZ4, dal=str(DAL), companion=COMPANION, payload=8))
    assert worker.judges() == []
    worker.commits()
    assert worker.ends() == {TZ4: "refused: watermark_conflict"}


def test_a_companion_that_hangs_is_not_waited_for_for_ever() -> None:
    worker = WorkerScript()
    worker.gets(votes(TZ4, dal=str(DAL), companion=COMPANION))
    worker.judges()
    worker.hears(None)
    slow = worker.signs_slowly(COMPANION)
    worker.signs()
    worker.commits()
    assert worker.ends() == {}
    worker.wait(SIGNER_LIMIT_S + 1)
    assert worker.ends() == {TZ4: READY}
    assert signed_vote(worker).dal is None
    assert "signer_timeout" in worker.notes[0]
    worker.signs_late(slow)
    assert worker.ends() == {}
    assert worker.hears(CreditBack) == []


def test_a_late_companion_frees_no_key_at_the_broker() -> None:
    worker = WorkerScript()
    worker.gets(votes(TZ4, dal=str(DAL), companion=COMPANION))
    worker.judges()
    slow = worker.signs_slowly(COMPANION)
    worker.wait(SIGNER_LIMIT_S + 1)
    worker.hears(None)
    worker.signs_late(slow)
    assert worker.hears(Freed) == []


def test_a_companion_that_fails_costs_its_own_part_alone() -> None:
    worker = WorkerScript()
    worker.gets(votes(TZ4, dal=str(DAL), companion=COMPANION))
    worker.judges()
    slow = worker.signs_slowly(COMPANION)
    worker.signs()
    worker.commits()
    worker.core.signer_failed(slow, "wrong_password", "no password opens it")
    worker.turn()
    assert worker.ends() == {TZ4: READY}
    assert signed_vote(worker).dal is None
    assert "wrong_password" in worker.notes[0]


def test_a_companion_elsewhere_is_asked_after_the_commit_and_kept_before_it_is_added() -> None:
    worker = WorkerScript(elsewhere=COMPANION)
    worker.gets(votes(TZ4, dal=str(DAL), companion=COMPANION))
    worker.judges()
    worker.signs()
    worker.commits()
    job = worker.asks()
    assert job.delegate == COMPANION
    worker.answers(job)
    assert worker.ends() == {}
    worker.keeps()
    assert worker.ends() == {TZ4: READY}
    assert under(DAL).verify(TEMPLATE.bls_signable(), signed_vote(worker).signature, POSSESSION)
    assert worker.hears(CreditBack) == [], "the broker knows of one task"


def test_a_commit_that_fails_ends_the_vote_once() -> None:
    worker = WorkerScript()
    worker.gets(votes(TZ4, dal=str(DAL), companion=COMPANION))
    worker.judges()
    worker.signs()
    worker.store_fails()
    assert worker.ends() == {TZ4: "failed: disk_full"}


def test_a_tz4_key_that_is_not_here_is_unknown() -> None:
    worker = WorkerScript()
    worker.gets(votes("tz4stranger", STRANGER))
    assert set(worker.ends().values()) == {"refused: unknown_delegate"}


def test_a_slot_out_of_range_is_refused() -> None:
    worker = WorkerScript()
    request = votes(TZ4)
    request.items[0].slot = 70_000
    worker.gets(request)
    assert worker.ends() == {TZ4: "refused: malformed"}


# -- on Mavryk ------------------------------------------------------------------------------------


def test_an_mv4_key_neither_bakes_nor_votes() -> None:
    refused = {MV4: "refused: no_consensus_key"}
    worker = WorkerScript()
    unsigned_block = b"\x11" + CHAIN + a_header()
    for request in (votes(MV4), block(MV4), sign(MV4, a_vote()), sign(MV4, unsigned_block)):
        worker.gets(request)
        assert worker.ends() == refused
    assert not worker.in_store


def test_an_mv4_key_signs_operations() -> None:
    failing_noop = b"\x03" + bytes(32) + b"\x11" + (1).to_bytes(4) + b"x"
    worker = WorkerScript()
    worker.gets(sign(MV4, failing_noop))
    worker.judges()
    worker.signs()
    worker.commits()
    assert worker.ends() == {MV4: "signed"}
    signature = worker.bodies[MV4]
    assert KEYS[MV4].public_key.verify(failing_noop, signature, BlsScheme.AUGMENTED)


def test_a_companion_that_the_policy_forbids_takes_the_dal_content_with_it() -> None:
    forbidden = Rule("nothing", frozenset())
    worker = WorkerScript(policy=Policy(POLICY.default, [(forbidden, [COMPANION])]))
    worker.gets(votes(TZ4, dal=str(DAL), companion=COMPANION))
    assert worker.judges() == [TZ4]
    worker.signs()
    worker.commits()
    assert worker.ends() == {TZ4: READY}
    assert signed_vote(worker).dal is None
    assert "the policy does not let" in worker.notes[0]
