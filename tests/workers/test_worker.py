"""The worker as transcripts: what it is given, in which order it works, how everything ends."""

from __future__ import annotations

import msgspec
import pytest

from broker import wire
from broker.messages import (
    DERIVE_NONCE,
    FORGE_AND_SIGN_PREATTESTATIONS,
    PROTOCOL_VERSION,
    PROVE_POSSESSION,
    READY_EVENT,
    TELL_PUBLIC_KEY,
    BlockReady,
    CreditBack,
    Drain,
    Freed,
    Heartbeat,
    Held,
    HelloWanted,
    KeysKnown,
    Leaving,
    OrphanResults,
    Outcome,
    PreparedAhead,
    Results,
    VoteBatch,
    WorkerHello,
)
from signers.formats import base58
from signers.formats.block_header import block_hash, decode
from signers.formats.networks import MAVRYK
from signers.formats.operation import decode_operation
from signers.formats.signable import SIGNABLE_BYTES_MAX, Kind
from signers.formats.vote import read_signed_vote
from signers.policy.decision import Policy
from signers.policy.rule import Rule
from tests.workers.worker_script import (
    CHAIN,
    KEYS,
    OPERATIONS,
    OTHER_PREDECESSOR,
    PAYLOAD_HASH,
    PREDECESSOR,
    STRANGER,
    A,
    B,
    C,
    WorkerScript,
    a_draft,
    a_header,
    a_vote,
    assignment,
    block,
    sign,
    votes,
)
from workers.pipeline import Ended
from workers.preparation.block_request import ForgeBlock, Fresh, encode_forge_block
from workers.signing_job import SigningJob
from workers.worker import (
    AHEAD_BLOCKS_MAX,
    HEARTBEAT_S,
    HELLO_AGAIN_S,
    IDLE_HEARTBEAT_S,
    ORPHAN_ACKS_S,
    ORPHAN_S_MAX,
    SIGNER_LIMIT_S,
    STORE_PROBE_S,
)

VOTED = "attestation_ready"


# -- judge, commit, sign, release -----------------------------------------------------------------


def test_nothing_is_released_before_its_mark_is_on_disk() -> None:
    worker = WorkerScript()
    worker.gets(votes(A, B))
    assert worker.ends() == {}
    assert worker.judges() == [A, B]
    assert worker.ends() == {}
    worker.signs()
    worker.wait(5.0)
    assert worker.ends() == {}, "signed, but a crash now would forget it"
    worker.commits()
    assert worker.ends() == {A: VOTED, B: VOTED}


def test_what_is_signed_after_the_commit_is_released_when_it_is_signed() -> None:
    worker = WorkerScript()
    worker.gets(votes(A, B, C))
    worker.judges()
    worker.signs(A)
    worker.commits()
    assert worker.ends() == {A: VOTED}
    worker.signs(C)
    assert worker.ends() == {C: VOTED}
    worker.signs(B)
    assert worker.ends() == {B: VOTED}


def test_a_vote_comes_back_as_the_operation_that_its_key_has_signed() -> None:
    worker = WorkerScript()
    worker.gets(votes(A, B, level=7, round=1))
    worker.judges()
    worker.signs()
    worker.commits()
    for slot, delegate in enumerate((A, B)):
        vote = read_signed_vote(worker.bodies[delegate])
        assert (vote.kind, vote.slot, vote.level, vote.round) == (Kind.ATTESTATION, slot, 7, 1)
        assert (vote.branch, vote.payload_hash) == (PREDECESSOR, PAYLOAD_HASH)
        signed = vote.template(CHAIN).signable(slot)
        assert KEYS[delegate].public_key.verify(signed, vote.signature)


def test_a_preattestation_is_signed_as_one() -> None:
    worker = WorkerScript()
    worker.gets(votes(A, kind=FORGE_AND_SIGN_PREATTESTATIONS))
    worker.judges()
    worker.signs()
    worker.commits()
    assert worker.ends() == {A: "preattestation_ready"}
    assert read_signed_vote(worker.bodies[A]).kind is Kind.PREATTESTATION


def test_an_attestation_with_dal_content_carries_it() -> None:
    worker = WorkerScript()
    worker.gets(votes(A, dal="5"))
    worker.judges()
    worker.signs()
    worker.commits()
    [content] = decode_operation(worker.bodies[A], MAVRYK).contents
    assert content.fields["dal_attestation"] == 5


def test_bytes_to_sign_come_back_as_a_signature() -> None:
    worker = WorkerScript()
    unsigned = a_vote()
    worker.gets(sign(A, unsigned))
    worker.judges()
    worker.signs()
    worker.commits()
    assert worker.ends() == {A: "signed"}
    assert KEYS[A].public_key.verify(unsigned, worker.bodies[A])


WITHOUT_MARK = {
    PROVE_POSSESSION: Kind.PROOF_OF_POSSESSION,
    DERIVE_NONCE: Kind.DETERMINISTIC_NONCE,
    TELL_PUBLIC_KEY: None,
}


@pytest.mark.parametrize(
    ("asked", "named"),
    [(PROVE_POSSESSION, "a proof of possession"), (DERIVE_NONCE, "a deterministic nonce")],
)
def test_what_a_key_does_without_a_mark_needs_the_policys_word(asked: str, named: str) -> None:
    worker = WorkerScript()
    worker.gets(assignment(asked, b"", A))
    assert not worker.unanswered
    assert worker.ends() == {A: "refused: policy"}
    assert named in worker.bodies[A][1]


@pytest.mark.parametrize("asked", WITHOUT_MARK)
def test_what_a_key_does_without_a_mark_asks_no_store(asked: str) -> None:
    kind = WITHOUT_MARK[asked]
    allowed = frozenset(() if kind is None else (kind,))
    worker = WorkerScript(policy=Policy(Rule("this alone", allowed)))
    worker.gets(assignment(asked, b"1", A), assignment(asked, b"", B), assignment(asked, b"", C))
    first, second, third = worker.unanswered
    assert not worker.in_store
    worker.core.answered(first, b"answer")
    worker.core.not_answered(second, "unsupported_curve", "no BLS key", Outcome.REFUSED)
    worker.hears(None)
    worker.core.answers_slowly(third)
    worker.core.not_answered(third, "signer_timeout", "it hangs")
    worker.turn()
    assert worker.ends() == {
        A: READY_EVENT[asked],
        B: "refused: unsupported_curve",
        C: "failed: signer_timeout",
    }
    assert worker.bodies[A] == b"answer"
    assert worker.hears(CreditBack) == [CreditBack([third.number])]


def test_what_is_no_question_of_a_key_is_malformed() -> None:
    worker = WorkerScript()
    worker.gets(assignment(TELL_PUBLIC_KEY, bytes(SIGNABLE_BYTES_MAX + 1), A))
    assert worker.ends() == {A: "refused: malformed"}


def test_a_vote_against_the_mark_is_refused_and_the_others_are_signed() -> None:
    worker = WorkerScript()
    worker.gets(votes(A))
    worker.judges()
    worker.signs()
    worker.commits()
    worker.ends()
    worker.gets(votes(A, B, payload=8))
    assert worker.judges() == [B]
    assert worker.ends() == {A: "refused: watermark_conflict"}
    worker.signs()
    worker.commits()
    assert worker.ends() == {B: VOTED}
    assert "level 5 round 0" in worker.bodies[A][1]


def test_the_same_vote_again_has_the_same_signature() -> None:
    worker = WorkerScript()
    bodies = []
    for _ in range(2):
        worker.gets(votes(A))
        worker.judges()
        worker.signs()
        worker.commits()
        assert worker.ends() == {A: VOTED}
        bodies.append(worker.bodies[A])
    assert bodies[0] == bodies[1]


# -- what cannot be signed ------------------------------------------------------------------------


def test_a_delegate_whose_key_is_not_there_is_refused_and_touches_no_store() -> None:
    worker = WorkerScript()
    worker.gets(votes(A, STRANGER))
    assert worker.ends() == {STRANGER: "refused: unknown_delegate"}
    assert "keys import" in worker.bodies[STRANGER][1]
    assert worker.judges() == [A]
    for request in (sign(STRANGER, a_vote()), block(STRANGER)):
        worker.gets(request)
        assert worker.ends() == {STRANGER: "refused: unknown_delegate"}
    assert not worker.in_store
    assert not worker.wanted_drafts


VOTES = "forge_and_sign_attestations"
B_TEXT, V_TEXT = (
    base58.encode(prefix, bytes(32)) for prefix in (base58.BLOCK_HASH, base58.PAYLOAD_HASH)
)
NET_TEXT = base58.encode(base58.CHAIN_ID, CHAIN)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (VOTES, b""),
        (VOTES, b"\x81\xff"),
        (VOTES, b"\x81\xa8chain_id\xa2\xff\xfe"),
        (VOTES, wire.encode(VoteBatch("Net", B_TEXT, 5, 0, V_TEXT))),
        (VOTES, wire.encode(VoteBatch(NET_TEXT, V_TEXT, 5, 0, V_TEXT))),
        (VOTES, wire.encode(VoteBatch(NET_TEXT, B_TEXT, 5, 0, B_TEXT))),
        (VOTES, wire.encode(VoteBatch(NET_TEXT, B_TEXT, -1, 0, V_TEXT))),
        ("sign", b""),
        ("sign", b"\x11" + bytes(200)),
        ("sign", a_vote()[:-1]),
        ("sign", b"\xff" + a_vote()[1:]),
        ("forge_and_sign_block", b""),
        ("forge_and_sign_block", b"\x81\xff"),
        (
            "forge_and_sign_block",
            encode_forge_block(ForgeBlock("Net" + "x" * 12, B_TEXT, 5, 0, Fresh())),
        ),
    ],
)
def test_what_cannot_be_parsed_is_refused_and_touches_no_store(kind: str, payload: bytes) -> None:
    worker = WorkerScript()
    worker.gets(assignment(kind, payload, A))
    assert worker.ends() == {A: "refused: malformed"}
    assert not worker.in_store
    assert not worker.wanted_drafts
    worker.gets(votes(A))
    assert worker.judges() == [A], "the worker goes on"


def test_dal_content_that_a_preattestation_cannot_have_is_refused() -> None:
    worker = WorkerScript()
    worker.gets(votes(A, kind=FORGE_AND_SIGN_PREATTESTATIONS, dal="1"))
    assert worker.ends() == {A: "refused: malformed"}


def test_a_kind_that_a_newer_broker_knows_is_refused() -> None:
    worker = WorkerScript()
    worker.gets(assignment("run_operator", b"", A))
    assert worker.ends() == {A: "refused: unknown_kind"}


def test_a_block_of_bytes_against_the_mark_is_refused_and_nobody_elses_is_looked_for() -> None:
    worker = WorkerScript()
    for content, end in ((1, "signed"), (2, "refused: watermark_conflict")):
        worker.gets(sign(A, b"\x11" + CHAIN + a_header(content=content)))
        worker.judges()
        worker.signs()
        worker.commits()
        assert worker.ends() == {A: end}
    assert not worker.wanted_drafts


# -- deadlines ------------------------------------------------------------------------------------


def test_a_deadline_that_passed_while_it_waited_has_touched_no_mark() -> None:
    worker = WorkerScript()
    for level in (1, 2):  # the store is busy with two batches
        worker.gets(votes(A, level=level))
    worker.gets(votes(B, C, ttl_ms=1000))
    worker.gets(votes(C, level=6, ttl_ms=5000))
    worker.now += 1.0
    worker.judges()
    worker.commits()
    assert worker.ends() == {B: "expired", C: "expired"}
    worker.judges()
    assert worker.judges() == [C]
    assert not worker.in_store


def test_an_assignment_without_time_left_expires() -> None:
    worker = WorkerScript()
    worker.gets(votes(A, ttl_ms=0))
    assert worker.ends() == {A: "expired"}
    assert not worker.in_store


# -- the store ------------------------------------------------------------------------------------


def test_a_batch_that_could_not_be_judged_fails_as_a_whole() -> None:
    worker = WorkerScript()
    worker.gets(votes(A, B))
    worker.store_fails("disk_full")
    assert worker.ends() == {A: "failed: disk_full", B: "failed: disk_full"}
    assert worker.unsigned == []


@pytest.mark.parametrize("signed_before", [True, False])
def test_no_signature_of_a_failed_commit_leaves(signed_before: bool) -> None:
    worker = WorkerScript()
    worker.gets(votes(A, level=4))
    worker.judges()
    worker.signs()
    worker.commits()
    worker.ends()
    worker.gets(votes(A, B, level=4, payload=8))
    worker.judges()
    assert worker.ends() == {A: "refused: watermark_conflict"}
    if signed_before:
        worker.signs()
    worker.store_fails("disk_full")
    assert worker.ends() == {B: "failed: disk_full"}, "a refusal stands"
    if not signed_before:
        worker.signs()
    assert worker.ends() == {}


def test_while_the_store_is_down_everything_fails_at_once_and_is_probed() -> None:
    worker = WorkerScript()
    worker.core.store_unavailable("no space left", worker.now)
    worker.gets(votes(A, B))
    assert worker.ends() == dict.fromkeys((A, B), "failed: store_unavailable")
    assert not worker.in_store
    assert worker.probes == 0, "it has just failed"
    worker.wait(3 * STORE_PROBE_S)
    assert worker.probes == 3
    worker.core.store_unavailable("still no space left", worker.now)
    worker.turn()
    assert worker.notes == ["store_unavailable no space left"], "said once"
    assert {b.note for b in worker.hears(Heartbeat)} == {"no space left"}


def test_a_store_that_recovers_is_used_again() -> None:
    worker = WorkerScript()
    worker.core.store_unavailable("no space left", worker.now)
    worker.core.store_available()
    worker.core.store_available()
    worker.gets(votes(A))
    assert worker.judges() == [A]
    assert worker.notes == ["store_unavailable no space left", "store_recovered"]
    worker.wait(2 * STORE_PROBE_S)
    assert worker.probes == 0


def test_heartbeats_say_what_the_store_is_waited_for() -> None:
    worker = WorkerScript()
    worker.now += IDLE_HEARTBEAT_S
    worker.turn(store_wait_ms=2500, stalled_by=4712)
    assert worker.hears(Heartbeat) == [Heartbeat(7, 2500, 4712, "")]


def test_heartbeats_say_what_is_in_trouble_and_what_signing_needs_goes_before() -> None:
    worker = WorkerScript()
    worker.core.applications_down = "no journal"
    worker.wait(IDLE_HEARTBEAT_S)
    worker.core.signers_down = "tcp://h:1: open"
    worker.wait(IDLE_HEARTBEAT_S)
    worker.core.store_unavailable("no space left", worker.now)
    worker.wait(IDLE_HEARTBEAT_S)
    said = [b.note for b in worker.hears(Heartbeat)]
    assert said == ["no journal", "tcp://h:1: open", "no space left"]


# -- signers --------------------------------------------------------------------------------------


def test_a_signer_that_fails_ends_its_request_and_no_other() -> None:
    worker = WorkerScript()
    worker.gets(votes(A, B))
    worker.judges()
    failed = next(job for job in worker.unsigned if job.delegate == A)
    worker.unsigned.remove(failed)
    worker.core.signer_failed(failed, "signer_failed", "no such device")
    worker.signs()
    worker.commits()
    assert worker.ends() == {A: "failed: signer_failed", B: VOTED}
    worker.gets(votes(A))
    assert worker.judges() == [A], "the same bytes can be asked for again"


# -- signers elsewhere ----------------------------------------------------------------------------


NOOP = b"\x03" + bytes(32) + b"\x11\x00\x00\x00\x00"  # a failing no-op: bytes without a mark


def asked_elsewhere(worker: WorkerScript, *others: str) -> SigningJob:
    """The vote of A, up to the moment when its signer elsewhere is asked."""
    worker.gets(votes(A, *others))
    worker.judges()
    worker.signs()
    assert not worker.asked_elsewhere, "the mark is not on disk"
    worker.commits()
    return worker.asks()


def test_a_signer_elsewhere_is_asked_after_the_commit_and_its_signature_is_kept_first() -> None:
    worker = WorkerScript(elsewhere=A)
    job = asked_elsewhere(worker)
    worker.answers(job)
    assert worker.ends() == {}, "it is not kept yet"
    worker.keeps()
    assert worker.ends() == {A: VOTED}


def test_what_is_released_is_the_signature_that_the_store_has_kept() -> None:
    worker = WorkerScript(elsewhere=A)
    worker.answers(asked_elsewhere(worker), bytes(64))
    first = bytes([1]) * 64
    [(job, _)] = worker.unkept.popleft().signatures
    worker.core.kept([(job, first)])
    worker.turn()
    assert worker.bodies[A].endswith(first)


def test_a_repeat_that_the_store_remembers_is_asked_of_nobody() -> None:
    worker = WorkerScript(elsewhere=A)
    worker.gets(votes(A))
    kept = bytes([7]) * 64
    worker.in_store[0].jobs[0].signature = kept  # what the store's thread does
    worker.judges()
    worker.commits()
    assert worker.ends() == {A: VOTED}
    assert worker.bodies[A].endswith(kept)
    assert not worker.asked_elsewhere


def test_what_has_no_mark_is_not_kept() -> None:
    worker = WorkerScript(elsewhere=A)
    worker.gets(sign(A, NOOP))
    worker.judges()
    worker.commits()
    worker.answers(worker.asks())
    assert not worker.unkept
    assert worker.ends() == {A: "signed"}


def test_an_authentication_elsewhere_is_not_kept_either() -> None:
    policy = Policy(Rule("auth", frozenset({Kind.AUTHENTICATION})))
    worker = WorkerScript(elsewhere=A, policy=policy)
    request = sign(A, b"\x04\x01" + b"\x00" + bytes(20) + a_vote())
    request.client = "gateway"
    worker.gets(request)
    worker.judges()
    worker.commits()
    worker.answers(worker.asks())
    assert not worker.unkept
    assert worker.ends() == {A: "signed"}


def test_a_signature_that_cannot_be_kept_is_not_released() -> None:
    worker = WorkerScript(elsewhere=A)
    worker.answers(asked_elsewhere(worker))
    [(job, _)] = worker.unkept.popleft().signatures
    worker.core.signer_failed(job, "disk_full", "no space left")
    worker.turn()
    assert worker.ends() == {A: "failed: disk_full"}


def test_a_slow_signer_gives_its_credit_back_and_holds_up_nobody() -> None:
    worker = WorkerScript(elsewhere=A)
    job = asked_elsewhere(worker, B)
    assert worker.hears(CreditBack) == [CreditBack([job.number])]
    assert worker.ends() == {B: VOTED}
    worker.wait(SIGNER_LIMIT_S - 0.1)
    worker.answers(job)
    worker.wait(10)
    assert worker.ends() == {}, "the signer was in time; it is the store that takes its time"
    worker.keeps()
    assert worker.ends() == {A: VOTED}
    assert worker.hears(Freed) == []


def test_a_signer_past_its_limit_ends_the_request_and_keeps_the_key_until_it_is_kept() -> None:
    worker = WorkerScript(elsewhere=A)
    job = asked_elsewhere(worker)
    worker.wait(SIGNER_LIMIT_S)
    assert worker.ends() == {A: "failed: signer_timeout, occupied"}
    worker.wait(60)
    worker.answers(job)
    assert worker.hears(Freed) == [], "a repeat would not find it yet"
    worker.keeps()
    assert worker.hears(Freed) == [Freed([job.number])]
    assert worker.ends() == {}, "one end"


def test_what_a_person_must_agree_to_has_a_limit_of_its_own() -> None:
    worker = WorkerScript(elsewhere=A, person_limit_s=121.0)
    worker.gets(sign(A, NOOP))
    worker.judges()
    worker.commits()
    worker.wait(120.0)
    worker.asks()
    assert worker.ends() == {}
    worker.wait(1.0)
    assert worker.ends() == {A: "failed: signer_timeout, occupied"}
    assert "has not answered in 121.0 s" in worker.bodies[A][1]
    asked_elsewhere(worker)
    worker.wait(SIGNER_LIMIT_S)
    assert worker.ends() == {A: "failed: signer_timeout, occupied"}, "nobody waits so with a vote"


def test_a_slow_signer_that_fails_past_its_limit_frees_the_key() -> None:
    worker = WorkerScript(elsewhere=A)
    job = asked_elsewhere(worker)
    worker.wait(SIGNER_LIMIT_S)
    worker.ends()
    worker.core.signer_failed(job, "signer_failed", "unplugged")
    worker.turn()
    assert worker.hears(Freed) == [Freed([job.number])]
    assert worker.ends() == {}


def test_a_hello_names_the_key_that_a_late_signer_still_has() -> None:
    worker = WorkerScript(elsewhere=A)
    job = asked_elsewhere(worker)
    worker.wait(SIGNER_LIMIT_S)
    worker.ends()
    worker.acked(worker.numbers[-1])
    worker.told(HelloWanted("e1"))
    [hello] = worker.hears(WorkerHello)
    assert hello.held == [Held("baker", job.request.id, A)]
    worker.welcome("e1")
    worker.core.signer_failed(job, "signer_failed", "unplugged")
    worker.turn()
    assert worker.hears(Freed) == [Freed([job.number])]
    worker.told(HelloWanted("e1"))
    [hello] = worker.hears(WorkerHello)
    assert hello.held == []


def test_a_restarted_broker_is_told_when_a_late_signer_gives_its_key_back() -> None:
    worker = WorkerScript(elsewhere=A)
    job = asked_elsewhere(worker)
    worker.wait(SIGNER_LIMIT_S)
    worker.ends()
    worker.welcome("e2")
    [orphans] = worker.hears(OrphanResults)
    assert [orphan.occupied for orphan in orphans.results] == [True]
    worker.core.signer_failed(job, "signer_failed", "unplugged")
    worker.turn()
    [orphans] = worker.hears(OrphanResults)
    [orphan] = orphans.results
    assert (orphan.occupied, orphan.body[0]) == (False, "signer_timeout")
    assert worker.hears(Freed) == [], "the number means nothing to it"


def test_a_signer_elsewhere_is_not_asked_when_the_commit_fails() -> None:
    worker = WorkerScript(elsewhere=A)
    worker.gets(votes(A))
    worker.judges()
    worker.store_fails("disk_full")
    assert worker.ends() == {A: "failed: disk_full"}
    assert not worker.asked_elsewhere


# -- blocks elsewhere -----------------------------------------------------------------------------


def block_asked_elsewhere(worker: WorkerScript) -> SigningJob:
    """The block of A, up to the moment when its signer elsewhere is asked."""
    worker.gets(sign(A, b"\x11" + CHAIN + a_header()))
    worker.judges()
    worker.commits()
    worker.hears(None)
    return worker.asks()


def test_that_surely_nobody_has_signed_is_noted_before_anybody_hears_of_the_end() -> None:
    worker = WorkerScript(elsewhere=A)
    job = block_asked_elsewhere(worker)
    worker.fails(job, may_have_signed=False)
    [asked] = worker.unsigned_elsewhere
    assert asked.ended == [Ended(job, Outcome.FAILED, ("signer_failed", "why"))]
    worker.wait(SIGNER_LIMIT_S + 1)
    assert worker.ends() == {}, "the signer was in time; it is the store that takes its time"
    worker.withdraws()
    assert worker.ends() == {A: "failed: signer_failed"}
    assert worker.hears(Freed) == []


def test_a_rule_of_the_signer_that_says_no_is_a_refusal_once_it_is_noted() -> None:
    worker = WorkerScript(elsewhere=A)
    worker.fails(block_asked_elsewhere(worker), may_have_signed=False, outcome=Outcome.REFUSED)
    worker.withdraws()
    assert worker.ends() == {A: "refused: signer_failed"}


def test_where_there_may_be_a_signature_nothing_is_withdrawn() -> None:
    worker = WorkerScript(elsewhere=A)
    worker.fails(block_asked_elsewhere(worker), may_have_signed=True)
    assert not worker.unsigned_elsewhere
    assert worker.ends() == {A: "failed: signer_failed"}


def test_a_signature_that_cannot_be_kept_is_no_reason_to_sign_again() -> None:
    worker = WorkerScript(elsewhere=A)
    worker.answers(block_asked_elsewhere(worker))
    [(job, _)] = worker.unkept.popleft().signatures
    worker.core.signer_failed(job, "disk_full", "no space left")
    worker.turn()
    assert not worker.unsigned_elsewhere
    assert worker.ends() == {A: "failed: disk_full"}


def test_what_was_not_expected_is_not_withdrawn() -> None:
    worker = WorkerScript(elsewhere=A)
    worker.fails(asked_elsewhere(worker), may_have_signed=False)
    assert not worker.unsigned_elsewhere
    assert worker.ends() == {A: "failed: signer_failed"}


def test_a_late_no_frees_the_key_when_it_is_noted() -> None:
    worker = WorkerScript(elsewhere=A)
    job = block_asked_elsewhere(worker)
    worker.wait(SIGNER_LIMIT_S)
    assert worker.ends() == {A: "failed: signer_timeout, occupied"}
    worker.hears(None)
    worker.fails(job, may_have_signed=False)
    assert worker.hears(Freed) == [], "a repeat would be refused"
    worker.withdraws()
    assert worker.hears(Freed) == [Freed([job.number])]
    assert worker.ends() == {}, "one end"


def test_a_worker_that_drains_waits_until_it_is_noted() -> None:
    worker = WorkerScript(elsewhere=A)
    job = block_asked_elsewhere(worker)
    worker.core.drain("SIGTERM")
    worker.fails(job, may_have_signed=False)
    worker.wait(100)
    assert not worker.stopped
    worker.withdraws()
    worker.acked(worker.numbers[-1])
    assert worker.stopped


def test_a_good_signature_after_the_end_is_kept_and_released_to_nobody() -> None:
    worker = WorkerScript(elsewhere=A)
    job = asked_elsewhere(worker)
    worker.fails(job, may_have_signed=True)
    assert worker.ends() == {A: "failed: signer_failed"}
    worker.answers(job)
    assert len(worker.unkept) == 1
    worker.keeps()
    assert worker.ends() == {}
    assert worker.hears(Freed) == []


# -- blocks ---------------------------------------------------------------------------------------


def make_the_block(worker: WorkerScript, **content: object) -> None:
    """From the preparer's answer to the block's end."""
    worker.prepared(**content)  # type: ignore[arg-type]
    worker.judges()
    worker.signs()
    worker.commits()


def test_a_block_is_looked_for_prepared_judged_signed_and_released_with_what_is_injected() -> None:
    worker = WorkerScript()
    request = block(A, level=5, round=2)
    worker.gets(request)
    [asked] = worker.wanted_drafts
    assert (asked.chain_id, asked.predecessor) == (CHAIN, PREDECESSOR)
    assert (asked.level, asked.round, asked.refusal) == (5, 2, None)
    assert not worker.preparations, "first the store is asked for an earlier attempt's block"
    worker.now += 10
    assert worker.finds_draft() is None
    [job] = worker.preparations
    assert (job.request, job.delegate, job.ttl_ms) == (request.payload, A, 50_000)
    assert worker.hears(CreditBack) == [CreditBack([request.items[0].task])]
    worker.prepared(round=2, nonce=b"n" * 32)
    worker.judges()
    worker.signs()
    assert worker.ends() == {}
    worker.commits()
    assert worker.ends() == {A: "block_ready"}
    ready = msgspec.msgpack.decode(worker.bodies[A], type=BlockReady)
    header = decode(ready.header)
    unsigned = a_header(round=2)
    assert ready.header[: len(unsigned)] == unsigned
    assert header.signature is not None
    assert KEYS[A].public_key.verify(b"\x11" + CHAIN + unsigned, header.signature)
    assert base58.decode(base58.BLOCK_HASH, ready.hash) == block_hash(header)
    assert ready.operations == OPERATIONS
    assert ready.seed_nonce == b"n" * 32
    kept = worker.store.drafts[A, 5, 2]
    assert (kept.header, kept.operations, kept.seed_nonce) == (unsigned, OPERATIONS, b"n" * 32)


def test_a_repeat_gives_the_identical_block_and_prepares_nothing() -> None:
    worker = WorkerScript()
    worker.gets(block(A))
    worker.finds_draft()
    make_the_block(worker)
    first = worker.bodies[A]
    worker.ends()
    worker.gets(block(A))
    assert worker.finds_draft() is not None
    assert not worker.preparations
    worker.judges()
    worker.signs()
    worker.commits()
    assert worker.ends() == {A: "block_ready"}
    assert worker.bodies[A] == first


def test_two_blocks_in_preparation_are_not_mixed_up() -> None:
    worker = WorkerScript()
    for delegate in (A, B):
        worker.gets(block(delegate))
        worker.finds_draft()
    worker.preparations.rotate()
    worker.prepared(content=2)
    worker.prepared(content=1)
    for _ in range(2):
        worker.judges()
        worker.signs()
        worker.commits()
    for delegate, content in ((A, 1), (B, 2)):
        ready = msgspec.msgpack.decode(worker.bodies[delegate], type=BlockReady)
        assert ready.header.startswith(a_header(content=content))


def test_an_earlier_block_on_another_predecessor_is_no_answer() -> None:
    worker = WorkerScript()
    worker.store.drafts[A, 5, 0] = a_draft(predecessor=OTHER_PREDECESSOR)
    worker.gets(block(A))
    assert worker.finds_draft() is not None
    assert len(worker.preparations) == 1


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("malformed", "refused: malformed"),
        ("invalid_request", "refused: invalid_request"),
        ("node_unavailable", "failed: node_unavailable"),
        ("deadline", "failed: deadline"),
    ],
)
def test_a_block_that_cannot_be_prepared_is_refused_or_failed_by_who_must_act(
    code: str, end: str
) -> None:
    worker = WorkerScript()
    worker.gets(block(A))
    worker.finds_draft()
    worker.not_prepared(code)
    assert worker.ends() == {A: end}
    assert not worker.in_store


def test_without_a_node_a_block_fails() -> None:
    worker = WorkerScript()
    worker.gets(block(A))
    worker.finds_draft()
    worker.core.cannot_prepare(worker.preparations.popleft())
    worker.turn()
    assert worker.ends() == {A: "failed: no_node"}


def test_a_block_whose_deadline_passed_while_the_store_looked_is_not_prepared() -> None:
    worker = WorkerScript()
    worker.gets(block(A, ttl_ms=1000))
    worker.now += 1.0
    worker.finds_draft()
    assert worker.ends() == {A: "expired"}
    assert not worker.preparations


def test_a_block_whose_deadline_passed_in_preparation_touches_no_mark() -> None:
    worker = WorkerScript()
    worker.gets(block(A, ttl_ms=1000))
    worker.finds_draft()
    worker.now += 1.0
    worker.prepared()
    assert worker.ends() == {A: "expired"}
    assert not worker.in_store


def test_a_prepared_block_that_nobody_waits_for_is_dropped() -> None:
    worker = WorkerScript()
    worker.gets(block(A))
    worker.finds_draft()
    [job] = worker.preparations
    worker.prepared()
    worker.preparations.append(job)
    worker.prepared(content=2)
    assert len(worker.in_store) == 1
    assert len(worker.in_store[0].jobs) == 1


# An earlier attempt, perhaps of a worker that is no more, took the mark while this one prepared.


def prepared_too_late(worker: WorkerScript, **theirs: object) -> None:
    """A request whose block is prepared while another attempt's takes the mark."""
    worker.gets(block(A))
    worker.finds_draft()
    other = WorkerScript()
    other.store = worker.store
    other.gets(block(A, **{k: v for k, v in theirs.items() if k != "content"}))  # type: ignore[arg-type]
    other.finds_draft()
    make_the_block(other, **theirs)
    worker.prepared(content=2)
    assert worker.judges() == []
    worker.commits()
    assert worker.ends() == {}


def test_after_a_conflict_the_others_block_is_the_answer() -> None:
    worker = WorkerScript()
    prepared_too_late(worker, content=1)
    [asked] = worker.wanted_drafts
    assert (asked.chain_id, asked.predecessor) == (CHAIN, PREDECESSOR)
    assert (asked.level, asked.round) == (5, 0)
    worker.finds_draft()
    worker.judges()
    worker.signs()
    worker.commits()
    assert worker.ends() == {A: "block_ready"}
    ready = msgspec.msgpack.decode(worker.bodies[A], type=BlockReady)
    assert ready.header.startswith(a_header(content=1))


def test_a_kept_block_that_is_refused_itself_is_no_answer_and_not_tried_again() -> None:
    worker = WorkerScript()
    prepared_too_late(worker)
    worker.store.drafts[A, 5, 0] = a_draft(content=3)  # kept, and refused as the own one was
    worker.finds_draft()
    assert worker.judges() == []
    worker.commits()
    worker.finds_draft()
    assert worker.ends() == {A: "refused: watermark_conflict"}
    assert not worker.in_store


def test_after_a_conflict_with_a_block_on_another_predecessor_it_is_refused() -> None:
    worker = WorkerScript()
    prepared_too_late(worker, content=1, predecessor=OTHER_PREDECESSOR)
    worker.finds_draft()
    assert worker.ends() == {A: "refused: watermark_conflict"}
    assert "level 5 round 0" in worker.bodies[A][1]
    assert not worker.preparations


def test_after_a_conflict_with_bytes_that_are_not_kept_it_is_refused() -> None:
    worker = WorkerScript()
    prepared_too_late(worker)
    worker.store.drafts.clear()
    worker.finds_draft()
    assert worker.ends() == {A: "refused: watermark_conflict"}


# -- blocks prepared beside the queue -------------------------------------------------------------


def test_a_block_prepared_ahead_waits_until_it_is_assigned() -> None:
    worker = WorkerScript()
    request = block(A)
    worker.prepares(request)
    [job] = worker.preparations
    assert (job.request, job.delegate, job.ttl_ms) == (request.payload, A, request.ttl_ms)
    assert worker.hears(CreditBack) == []
    worker.prepared()
    assert worker.hears(PreparedAhead) == [PreparedAhead(request.items[0].task)]
    assert not worker.in_store
    worker.gets(request)
    worker.finds_draft()
    assert not worker.preparations
    worker.judges()
    worker.signs()
    worker.commits()
    assert worker.ends() == {A: "block_ready"}
    worker.gets(request)
    worker.store.drafts.clear()
    worker.finds_draft()
    assert len(worker.preparations) == 1, "it is used once"


@pytest.mark.parametrize(
    ("code", "outcome"),
    [("node_unavailable", Outcome.FAILED), ("invalid_request", Outcome.REFUSED)],
)
def test_a_block_that_cannot_be_prepared_ahead_is_told_so(code: str, outcome: Outcome) -> None:
    worker = WorkerScript()
    request = block(A)
    worker.prepares(request)
    worker.not_prepared(code)
    assert worker.hears(PreparedAhead) == [
        PreparedAhead(request.items[0].task, int(outcome), code, "why")
    ]
    assert worker.ends() == {}


def test_of_the_blocks_prepared_ahead_the_oldest_are_dropped_at_the_bound() -> None:
    worker = WorkerScript()
    requests = [block(A, level=level) for level in range(1, AHEAD_BLOCKS_MAX + 2)]
    for request in requests:
        worker.prepares(request)
        worker.prepared()
    for request, is_kept in ((requests[-1], True), (requests[1], True), (requests[0], False)):
        worker.gets(request)
        worker.finds_draft()
        assert bool(worker.preparations) != is_kept


def test_a_block_prepared_for_a_broker_that_is_no_more_is_not_told_to_the_next() -> None:
    worker = WorkerScript()
    worker.prepares(block(A))
    worker.welcome("e2")
    worker.prepared()
    assert worker.hears(PreparedAhead) == []


# -- the broker is there, or not ------------------------------------------------------------------


def test_a_worker_says_hello_until_it_is_welcomed_and_then_lives() -> None:
    worker = WorkerScript(welcome=False)
    worker.turn()
    worker.wait(3 * HELLO_AGAIN_S)
    hellos = worker.hears(WorkerHello)
    assert len(hellos) == 4
    assert (hellos[0].epoch, hellos[0].held, hellos[0].version) == ("", [], PROTOCOL_VERSION)
    worker.welcome()
    worker.hears(None)
    worker.wait(4 * IDLE_HEARTBEAT_S)
    assert worker.hears(Heartbeat) == [Heartbeat(7)] * 4


def test_a_worker_that_holds_something_gives_signs_of_life_more_often() -> None:
    worker = WorkerScript()
    worker.gets(votes(A))
    worker.wait(IDLE_HEARTBEAT_S)
    worker.hears(None)
    worker.wait(4 * HEARTBEAT_S)
    assert len(worker.hears(Heartbeat)) == 4


def test_a_worker_that_may_not_sign_logs_why() -> None:
    worker = WorkerScript(welcome=False)
    worker.welcome(why_not="its store is another")
    assert worker.notes == ["not_signing why='its store is another'"]


def test_keys_are_told_after_each_welcome_and_when_they_change() -> None:
    worker = WorkerScript(welcome=False)
    worker.core.keys_known([A])
    worker.turn()
    assert worker.hears(KeysKnown) == []
    worker.welcome()
    assert [m for m in worker.hears(object) if not isinstance(m, WorkerHello)] == [KeysKnown([A])]
    worker.core.keys_known([A, B])
    worker.turn()
    assert worker.hears(KeysKnown) == [KeysKnown([A, B])]
    worker.told(HelloWanted("e1"))
    worker.welcome()
    assert worker.hears(KeysKnown) == [KeysKnown([A, B])]


def test_a_broker_that_does_not_know_the_worker_gets_a_hello_at_once_and_one_is_enough() -> None:
    worker = WorkerScript()
    for _ in range(3):
        worker.told(HelloWanted("e1"))
    assert len(worker.hears(WorkerHello)) == 1
    worker.wait(HELLO_AGAIN_S)
    assert len(worker.hears(WorkerHello)) == 1


def test_a_message_that_could_not_be_sent_leads_to_a_hello() -> None:
    worker = WorkerScript()
    worker.core.not_sent()
    worker.wait(IDLE_HEARTBEAT_S)
    assert worker.hears(WorkerHello)
    assert worker.hears(Heartbeat) == []


def one_of_each(worker: WorkerScript) -> tuple[bytes, bytes]:
    """A vote whose result is not acknowledged, and one without a result; their requests' ids."""
    ended, held = votes(A, level=4), votes(B)
    worker.gets(ended)
    worker.judges()
    worker.signs()
    worker.commits()
    worker.gets(held)
    return ended.id, held.id


def test_a_hello_names_what_is_held_and_what_is_not_acknowledged() -> None:
    worker = WorkerScript()
    ended, held = one_of_each(worker)
    worker.told(HelloWanted("e2"))
    [hello] = worker.hears(WorkerHello)
    assert hello.epoch == "e1"
    assert hello.held == [Held("baker", held, B), Held("baker", ended, A)]
    worker.acked(worker.numbers[-1])
    worker.wait(HELLO_AGAIN_S)
    [hello] = worker.hears(WorkerHello)
    assert hello.held == [Held("baker", held, B)]


def test_after_a_broken_connection_the_results_are_sent_again() -> None:
    worker = WorkerScript()
    one_of_each(worker)
    assert worker.ends() == {A: VOTED}
    worker.told(HelloWanted("e1"))
    worker.welcome("e1")
    assert worker.ends() == {A: VOTED}
    assert worker.numbers == [1, 2]
    worker.acked(2)
    worker.told(HelloWanted("e1"))
    worker.welcome("e1")
    assert worker.ends() == {}


def test_a_restarted_broker_is_told_what_ended_and_what_was_held_under_names_it_can_know() -> None:
    worker = WorkerScript()
    ended, _ = one_of_each(worker)
    worker.ends()
    worker.told(HelloWanted("e2"))
    worker.hears(None)
    worker.welcome("e2")
    [orphans] = worker.hears(OrphanResults)
    [orphan] = orphans.results
    assert (orphan.client, orphan.id, orphan.delegate) == ("baker", ended, A)
    assert (orphan.kind, orphan.outcome) == (VOTES, Outcome.READY)
    assert orphan.fingerprint == b"fingerprint of " + ended
    worker.judges()
    worker.signs()
    worker.commits()
    assert worker.ends() == {f"orphan {A}": VOTED, f"orphan {B}": VOTED}
    assert worker.hears(Results) == []
    worker.gets(votes(C))
    worker.judges()
    worker.signs()
    worker.commits()
    assert worker.ends() == {C: VOTED}


def test_orphans_too_are_kept_until_they_are_acknowledged() -> None:
    worker = WorkerScript()
    one_of_each(worker)
    worker.welcome("e2")
    worker.ends()
    worker.welcome("e3")
    assert worker.ends() == {f"orphan {A}": VOTED}
    worker.judges()
    worker.signs()
    worker.commits()
    assert worker.ends() == {f"orphan {B}": VOTED}
    worker.acked(worker.numbers[-2])
    worker.welcome("e4")
    assert worker.ends() == {f"orphan {B}": VOTED}
    worker.acked(worker.numbers[-1])
    worker.welcome("e5")
    assert worker.ends() == {}


def test_an_acknowledgement_covers_all_results_up_to_its_number_and_no_later_ones() -> None:
    worker = WorkerScript()
    for level in (1, 2, 3):
        worker.gets(votes(A, level=level))
        worker.judges()
        worker.signs()
        worker.commits()
        worker.ends()
    assert worker.numbers == [1, 2, 3]
    worker.acked(2)
    worker.welcome("e1")
    assert worker.ends() == {A: VOTED}
    assert read_signed_vote(worker.bodies[A]).level == 3


def test_a_restarted_broker_gets_no_credit_and_no_key_back_for_anothers_tasks() -> None:
    worker = WorkerScript(elsewhere=A)
    slow = asked_elsewhere(worker)
    worker.gets(block(C))
    worker.hears(None)
    worker.welcome("e2")
    worker.finds_draft()
    worker.wait(SIGNER_LIMIT_S)
    worker.answers(slow)
    worker.keeps()
    assert not {CreditBack, Freed} & {type(m) for m in worker.hears(object)}


def test_what_has_ended_is_held_no_more() -> None:
    worker = WorkerScript()
    prepared_too_late(worker)
    worker.finds_draft()
    worker.gets(sign(B, a_vote()), votes(C, STRANGER))
    for _ in range(2):
        worker.judges()
        worker.signs()
        worker.commits()
    assert len(worker.ends()) == 4
    worker.acked(worker.numbers[-1])
    worker.told(HelloWanted("e1"))
    [hello] = worker.hears(WorkerHello)
    assert hello.held == []


# -- draining -------------------------------------------------------------------------------------


def test_a_worker_that_drains_with_nothing_in_hand_stops_at_once() -> None:
    worker = WorkerScript()
    worker.core.drain("SIGTERM")
    worker.turn()
    assert worker.stopped
    assert worker.hears(Leaving) == [Leaving("SIGTERM"), Leaving("drained", done=True)]


def test_a_worker_that_drains_finishes_what_it_has_and_hears_that_it_was_logged() -> None:
    worker = WorkerScript()
    worker.gets(votes(A))
    worker.told(Drain())
    worker.told(Drain())
    assert worker.hears(Leaving) == [Leaving("the pool drains")]
    worker.judges()
    worker.wait(100)
    worker.signs()
    worker.commits()
    assert worker.ends() == {A: VOTED}
    worker.wait(100)
    assert not worker.stopped, "no broker has its result"
    worker.acked(worker.numbers[-1])
    assert worker.stopped
    assert worker.hears(Leaving) == [Leaving("drained", done=True)]


def test_a_worker_that_drains_waits_for_its_slow_signer() -> None:
    worker = WorkerScript(elsewhere=A)
    job = asked_elsewhere(worker)
    worker.core.drain("SIGTERM")
    worker.wait(SIGNER_LIMIT_S)
    worker.acked(worker.numbers[-1])
    worker.wait(100)
    assert not worker.stopped
    worker.answers(job)
    assert not worker.stopped
    worker.keeps()
    assert worker.stopped


def test_a_restarted_broker_hears_that_the_worker_drains() -> None:
    worker = WorkerScript()
    worker.gets(votes(A))
    worker.core.drain("SIGTERM")
    worker.turn()
    worker.hears(None)
    worker.welcome("e2")
    assert worker.hears(Leaving) == [Leaving("draining")]


def test_an_orphan_waits_a_moment_for_a_broker_that_takes_its_results() -> None:
    worker = WorkerScript()
    worker.gets(votes(A))
    worker.judges()
    worker.signs()
    worker.commits()
    worker.core.drain("the supervisor is gone", orphaned_at=worker.now)
    worker.wait(ORPHAN_ACKS_S - 0.01)
    assert not worker.stopped
    worker.wait(0.01)
    assert worker.stopped


@pytest.mark.parametrize("signer_is_slow", [True, False])
def test_an_orphan_waits_longer_for_store_and_signers_but_not_for_ever(
    signer_is_slow: bool,
) -> None:
    worker = WorkerScript(elsewhere=A)
    if signer_is_slow:
        asked_elsewhere(worker)
    else:
        worker.gets(votes(A))
    worker.core.drain("SIGTERM")
    worker.core.drain("the supervisor is gone", orphaned_at=worker.now)
    worker.wait(ORPHAN_S_MAX - 0.01)
    assert not worker.stopped
    worker.wait(0.01)
    assert worker.stopped


def test_a_worker_that_a_newer_one_of_its_name_replaced_waits_for_no_broker() -> None:
    worker = WorkerScript()
    worker.gets(votes(A))
    worker.told(Drain(superseded=True))
    worker.judges()
    worker.signs()
    worker.commits()
    worker.wait(ORPHAN_ACKS_S)
    assert worker.stopped
