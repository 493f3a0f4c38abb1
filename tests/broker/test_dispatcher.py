"""The dispatcher as transcripts: what is pushed, who gets it, how it ends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pool_script import PlayedWorker, PoolScript, an_id, block, sign, votes

from broker.known_requests import fingerprint
from broker.messages import (
    SIGN,
    AwaitWorkers,
    Cancel,
    Cancelled,
    CreditBack,
    Drain,
    EncryptedKeys,
    Freed,
    Heartbeat,
    Held,
    HelloWanted,
    Item,
    KeysKnown,
    KeysShared,
    Leaving,
    OrphanResult,
    OrphanResults,
    Outcome,
    PrepareAhead,
    PreparedAhead,
    Request,
    ResultsAck,
    Shutdown,
    WorkerEnded,
)
from broker.topics import LoggedClient, LogRecord

# -- queues and order (the forge worker's own text, sentence by sentence) --------------------------


def test_a_batch_of_votes_becomes_one_task_and_one_event_for_each_delegate() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    batch = votes("a", "b", "c")
    assert [ack.status for ack in pool.push("baker", batch)] == ["accepted"]
    assert w.takes() == ["a", "b", "c"]
    w.answer_all()
    assert pool.outcome(batch) == ["attestation_ready"] * 3


def test_requests_of_several_delegates_are_active_at_once() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    for delegate in "abcde":
        pool.push("baker", sign(delegate))
    assert w.takes() == ["a", "b", "c", "d", "e"]
    assert len(pool.core.queues) == 5


def test_a_request_for_a_busy_delegate_waits_for_the_end_of_the_first() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    first, second, third = sign("a", b"1"), sign("a", b"2"), sign("a", b"3")
    pool.push("baker", first, second, third)
    assert w.takes() == ["a"]
    w.answer()
    assert pool.outcome(first) == ["signed"]
    assert pool.outcome(second) == []
    assert w.takes() == ["a"]
    w.answer()
    w.answer()
    assert [e.id for e in pool.events] == [first.id, second.id, third.id]


def test_the_queue_of_a_delegate_is_made_on_the_first_push_and_reused() -> None:
    pool = PoolScript()
    pool.worker("w0")
    assert "a" not in pool.core.queues
    for i in range(200):
        pool.push("baker", sign("abcde"[i % 5], str(i).encode()))
    assert sorted(pool.core.queues) == ["a", "b", "c", "d", "e"]


def test_a_slow_delegate_delays_no_other_even_on_the_same_worker() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    pool.push("baker", sign("slow"), sign("quick", b"1"), sign("quick", b"2"))
    w.answer("quick")
    w.answer("quick")
    assert w.takes() == ["slow"]


def test_the_same_key_stays_with_its_owner_while_others_join() -> None:
    pool = PoolScript()
    for name in ("w0", "w1", "w2"):
        pool.worker(name)
    before = {}
    for i in range(300):
        pool.push("baker", sign(f"k{i}"))
    for w in pool.workers.values():
        before.update(dict.fromkeys(w.takes(), w.name))
        w.answer_all()
    pool.worker("w3")
    moved_elsewhere = 0
    for i in range(300):
        pool.push("baker", sign(f"k{i}", b"again"))
    for w in pool.workers.values():
        moved_elsewhere += sum(before[d] != w.name for d in w.takes() if w.name != "w3")
    assert len(before) == 300
    assert moved_elsewhere == 0


# -- acknowledgements -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (Request(an_id(), "bake_a_cake", b"", "a"), "unknown_kind"),
        (Request(an_id(), "sign", b""), "malformed"),
        (Request(an_id(), "forge_and_sign_attestations", b"", "a"), "malformed"),
        (votes("a", "a"), "malformed"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_at_once(request_: Request, code: str) -> None:
    pool = PoolScript()
    pool.worker("w0")
    [ack] = pool.push("baker", request_)
    assert (ack.status, ack.code) == ("refused", code)
    assert ack.text
    assert not pool.core.requests.open


def test_a_delegate_that_no_worker_knows_is_refused() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    pool.core.worker_message(w.peer, KeysKnown(["a"]), pool.now)
    assert pool.push("baker", sign("a"))[0].status == "accepted"
    [ack] = pool.push("baker", votes("a", "stranger"))
    assert (ack.status, ack.code) == ("refused", "unknown_delegate")
    assert "stranger" in ack.text


def test_workers_hear_who_opens_the_keys_and_the_status_adds_up_what_they_opened() -> None:
    pool = PoolScript()
    workers = [pool.worker(name) for name in ("w0", "w1")]
    for w in workers:
        pool.core.worker_message(w.peer, KeysKnown(["a", "b", "c"]), pool.now)
    pool.turn()
    assert [w.heard[-1] for w in workers] == [KeysShared(["w0", "w1"])] * 2
    assert pool.core.status(pool.now)["encrypted_keys"] == {"total": 0, "opened": 0, "failed": 0}
    for w, told in zip(
        workers, (EncryptedKeys(2, 1, 1, ["b: no"]), EncryptedKeys(1, 0, 0)), strict=True
    ):
        pool.core.worker_message(w.peer, Heartbeat(1, encrypted=told), pool.now)
    status: Any = pool.core.status(pool.now)
    assert status["encrypted_keys"] == {"total": 3, "opened": 1, "failed": 1}
    assert status["workers"][0]["encrypted_keys"] == {
        "total": 2, "opened": 1, "failed": 1, "problems": ["b: no"],
    }  # fmt: skip


def test_a_worker_on_a_new_connection_hears_again_which_keys_it_opens() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    for _ in range(2):
        pool.core.worker_message(w.peer, KeysKnown(["a"]), pool.now)
        pool.turn()
        assert w.heard[-1] == KeysShared(["w0"])
        w.hello_again([])


def test_where_no_worker_has_any_key_nothing_waits_for_one() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    pool.core.worker_message(w.peer, KeysKnown([]), pool.now)
    [ack] = pool.push("baker", sign("a"))
    assert (ack.status, ack.code) == ("refused", "unknown_delegate")


def test_the_same_request_again_changes_nothing_while_it_is_open() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    request = sign("a")
    pool.push("baker", request)
    again = msgspec.structs.replace(request, ttl_ms=1234)  # who asks again has less time left
    assert pool.push("baker", again)[0].status == "duplicate"
    assert w.takes() == ["a"]
    w.answer()
    assert pool.outcome(request) == ["signed"]


def test_the_same_request_after_its_end_has_its_event_published_again() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    batch = votes("a", "b")
    pool.push("baker", batch)
    records = []
    while w.inbox:
        w.answer()
        records.append(pool.last.record)
    assert pool.push("baker", batch)[0].status == "duplicate"
    assert [key for key, _ in pool.last.reread] == [("baker", batch.id)]
    pool.core.events_read(("baker", batch.id), [r for r in records if r], pool.now)
    pool.turn()
    assert pool.outcome(batch, "b") == ["attestation_ready"] * 2
    assert w.takes() == []


def test_an_id_that_is_used_for_something_else_is_refused() -> None:
    pool = PoolScript()
    pool.worker("w0")
    request = sign("a", b"these bytes")
    pool.push("baker", request)
    [ack] = pool.push("baker", msgspec.structs.replace(request, payload=b"other bytes"))
    assert ack.code == "id_reused"
    [ack] = pool.push("another baker", msgspec.structs.replace(request, payload=b"other"))
    assert ack.status == "accepted", "ids are scoped to their client"


def test_a_full_broker_says_busy_and_when_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.dispatcher.OPEN_TASKS_MAX", 2)
    pool = PoolScript()
    w = pool.worker("w0")
    pool.push("baker", sign("a"), sign("b"))
    [ack] = pool.push("baker", sign("c"))
    assert (ack.code, ack.retry_ms > 0) == ("busy", True)
    w.answer()
    assert pool.push("baker", sign("c"))[0].status == "accepted"


def test_with_as_many_queues_as_there_may_be_those_that_have_one_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.dispatcher.QUEUES_MAX", 2)
    pool = PoolScript()
    w = pool.worker("w0")
    assert pool.push("baker", votes("a", "b"))[0].status == "accepted"
    w.answer_all()
    assert pool.push("baker", votes("a", "c"))[0].code == "busy"
    assert pool.push("baker", sign("c"))[0].code == "busy"
    again, one = votes("a", "b"), sign("a")
    assert [ack.status for ack in pool.push("baker", again, one)] == ["accepted"] * 2
    assert sorted(pool.core.queues) == ["a", "b"]


def test_before_workers_tell_their_keys_no_flood_takes_all_queues(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.dispatcher.UNPROVEN_QUEUES_MAX", 2)
    pool = PoolScript()
    assert pool.push("flood", sign("x"), sign("y"), sign("z"))[2].code == "busy"
    w = pool.worker("w0")
    assert pool.push("flood", sign("z"))[0].code == "busy"
    pool.core.worker_message(w.peer, KeysKnown(["a"]), pool.now)
    assert pool.push("flood", sign("z"))[0].code == "unknown_delegate"
    assert pool.push("baker", sign("a"))[0].status == "accepted"


# -- urgency and credit ---------------------------------------------------------------------------


def test_blocks_go_before_votes_and_votes_before_signatures() -> None:
    pool = PoolScript()
    w = pool.worker("w0", credit_us=1)
    pool.push("baker", sign("first"))  # takes the credit
    pool.push("baker", sign("s"), votes("v"), block("b"))
    assert w.takes() == ["first"]
    order = [w.answer().delegate for _ in range(4)]
    assert order == ["first", "b", "v", "s"]


def test_a_flood_of_urgent_work_does_not_starve_the_rest() -> None:
    pool = PoolScript()
    w = pool.worker("w0", credit_us=1)
    pool.push("baker", votes("v0"))
    pool.push("baker", sign("patient"))
    for i in range(1, 100):
        pool.push("baker", votes(f"v{i}"))
    answered = 0
    while "patient" not in w.takes():
        w.answer()
        answered += 1
    assert answered <= 40


def test_urgent_work_past_half_of_its_time_yields_to_nobody() -> None:
    pool = PoolScript()
    w = pool.worker("w0", credit_us=1)
    pool.push("baker", votes("v0", ttl_ms=100_000))
    pool.push("baker", sign("patient"))
    for i in range(1, 60):
        pool.push("baker", votes(f"v{i}", ttl_ms=10_000))
    pool.wait(6)
    for _ in range(60):
        assert w.answer().delegate != "patient"
    assert w.takes() == ["patient"]


def test_a_worker_gets_no_more_than_its_credit_until_it_gives_some_back() -> None:
    pool = PoolScript()
    w = pool.worker("w0", credit_us=60)
    pool.push("baker", *[sign(f"k{i}") for i in range(10)])
    assert len(w.takes()) == 2
    [(_, item), _] = w.inbox
    pool.core.worker_message(w.peer, CreditBack([item.task]), pool.now)
    pool.turn()
    assert len(w.takes()) == 3
    assert pool.core.queues[item.delegate].active is not None, "its key stays taken"


# -- deadlines ------------------------------------------------------------------------------------


def test_a_pending_request_expires_and_an_active_one_does_not() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    active, pending = sign("a", b"1", ttl_ms=500), sign("a", b"2", ttl_ms=500)
    pool.push("baker", active, pending)
    pool.wait(1.0)
    assert pool.outcome(pending) == ["expired"]
    assert pool.outcome(active) == []
    w.answer(outcome=Outcome.EXPIRED, body=("", "too late"))
    assert pool.outcome(active) == ["expired"]
    assert w.takes() == []


def test_a_step_of_the_wall_clock_moves_no_deadline_and_is_told() -> None:
    pool = PoolScript()
    pool.worker("w0", credit_us=0)
    request = sign("a", deadline_unix_ms=int((pool.unix + 5) * 1000))
    pool.push("baker", request)
    pool.unix += 3600
    pool.turn()
    assert any("clock_stepped seconds=+3600" in note for note in pool.last.notes)
    pool.wait(4)
    assert pool.outcome(request) == []
    pool.wait(2)
    assert pool.outcome(request) == ["expired"]


# -- cancellation and shutdown --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "cancelled"),
    [
        (lambda r: Cancel("baker", id=r["a2"].id), {"a2"}),
        (lambda r: Cancel("baker", delegate="a"), {"a2", "a3"}),
        (lambda r: Cancel("baker"), {"a2", "a3", "b2"}),
        (lambda r: Cancel(None), {"a2", "a3", "b2", "other"}),
    ],
)
def test_cancellation_in_three_widths_spares_what_is_active(wanted, cancelled) -> None:  # type: ignore[no-untyped-def]
    pool = PoolScript()
    w = pool.worker("w0")
    r = {name: sign(name[0], name.encode()) for name in ("a1", "a2", "a3", "b1", "b2")}
    r["other"] = sign("a", b"of another client")
    pool.push("baker", *[r[n] for n in ("a1", "a2", "a3", "b1", "b2")])
    pool.push("other", r["other"])
    pool.core.client_message("baker", wanted(r), pool.now, pool.unix)
    pool.turn()
    [answer] = [x for x in pool.replies if isinstance(x, Cancelled)]
    assert answer.count == len(cancelled)
    assert {n for n in r if pool.outcome(r[n]) == ["cancelled"]} == cancelled
    assert sorted(w.takes()) == ["a", "b"]
    while w.inbox:
        w.answer()
    assert {n for n in r if pool.outcome(r[n]) == ["signed"]} == set(r) - cancelled


def test_shutdown_cancels_pending_waits_for_active_and_takes_nothing_new() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    active, pending = sign("a", b"1"), sign("a", b"2")
    pool.push("baker", active, pending)
    pool.core.client_message("admin", Shutdown(), pool.now, pool.unix)
    assert not pool.turn().stop
    assert pool.outcome(pending) == ["cancelled"]
    assert pool.push("baker", sign("b"))[0].code == "shutting_down"
    pool.wait(30)
    assert not pool.last.stop
    w.answer()
    assert pool.outcome(active) == ["signed"]
    assert pool.last.stop


# -- workers that come, go, fall silent -----------------------------------------------------------


def test_work_waits_until_a_worker_signs() -> None:
    pool = PoolScript()
    request = sign("a")
    pool.push("baker", request)
    w = pool.worker("w0")
    assert w.takes() == ["a"]


def test_a_worker_with_another_store_signs_nothing_and_is_told_why() -> None:
    pool = PoolScript()
    pool.worker("w0", store="ours")
    stranger = pool.worker("w1", store="theirs")
    pool.push("baker", *[sign(f"k{i}") for i in range(50)])
    assert stranger.takes() == []
    welcome = pool.welcomed(stranger)
    assert not welcome.signs
    assert "theirs" in welcome.why_not


def test_after_the_end_of_a_worker_its_tasks_go_first_to_the_new_owner() -> None:
    pool = PoolScript()
    w0 = pool.worker("w0", pid=77)
    first, second = sign("a", b"1"), sign("a", b"2")
    pool.push("baker", first, second)
    w1 = pool.worker("w1")
    pool.core.client_message("s", WorkerEnded(77, "killed by signal 9"), pool.now, pool.unix)
    pool.turn()
    [(assignment, item)] = w1.inbox
    assert (assignment.id, item.attempt) == (first.id, 2)
    w1.answer()
    w1.answer()
    assert [e.id for e in pool.events] == [first.id, second.id]
    assert w0.takes() == ["a"]


def test_the_end_of_a_process_is_not_taken_for_that_of_another_with_its_number() -> None:
    pool = PoolScript()
    w1 = pool.worker("w1", pid=77)  # in another container, or since then
    request = sign("a")
    pool.push("baker", request)
    ended = WorkerEnded(77, "killed by signal 9", "w0")
    pool.core.client_message("s", ended, pool.now, pool.unix)
    pool.turn()
    assert w1.takes() == ["a"]
    w1.answer()
    assert pool.outcome(request) == ["signed"]


def test_a_key_moves_when_the_lease_is_over_and_a_late_success_still_counts() -> None:
    pool = PoolScript()
    w0 = pool.worker("w0")
    request = sign("a")
    pool.push("baker", request)
    w1 = pool.worker("w1")
    pool.wait(2.0, beating=[w1])
    assert w1.takes() == ["a"]
    w0.answer()  # the old attempt was only slow
    assert pool.outcome(request) == ["signed"]
    assert HelloWanted in {type(m) for m in w0.heard}
    w1.answer()
    assert pool.outcome(request) == ["signed"], "one end"
    assert pool.core.late_results == 1


def test_a_refusal_of_a_later_attempt_waits_for_the_older_one() -> None:
    pool = PoolScript()
    w0 = pool.worker("w0")
    request, following = sign("a", b"1"), sign("a", b"2")
    pool.push("baker", request, following)
    w1 = pool.worker("w1")
    pool.wait(2.0, beating=[w1])
    w1.answer(outcome=Outcome.REFUSED, body=("watermark_conflict", "level 5 round 0"))
    assert pool.outcome(request) == []
    assert w1.takes() == [], "the key stays taken"
    w0.answer()
    assert pool.outcome(request) == ["signed"]
    assert w1.takes() == ["a"]


def test_a_refusal_takes_effect_when_the_older_attempt_has_ended() -> None:
    pool = PoolScript()
    pool.worker("w0", pid=5)
    request = sign("a")
    pool.push("baker", request)
    w1 = pool.worker("w1", pid=6)
    pool.wait(2.0, beating=[w1])
    w1.answer(outcome=Outcome.REFUSED, body=("watermark_conflict", "level 5 round 0"))
    pool.core.client_message("s", WorkerEnded(5, "killed by signal 9"), pool.now, pool.unix)
    pool.turn()
    assert pool.outcome(request) == ["refused"]
    assert pool.events[-1].code == "watermark_conflict"


def test_a_request_under_which_three_workers_died_is_poison() -> None:
    pool = PoolScript()
    request, after = sign("a", b"poison"), sign("a", b"fine")
    pool.push("baker", request, after)
    for pid in (1, 2, 3):
        w = pool.worker(f"w{pid}", pid=pid)
        assert w.inbox[0][0].id == request.id
        pool.core.client_message("s", WorkerEnded(pid, "killed"), pool.now, pool.unix)
        pool.turn()
    assert pool.outcome(request) == ["failed"]
    assert pool.events[-1].code == "poison"
    w = pool.worker("w4", pid=4)
    w.answer()
    assert pool.outcome(after) == ["signed"]


def test_a_message_that_could_not_be_delivered_is_given_to_another() -> None:
    pool = PoolScript()
    w0 = pool.worker("w0")
    pool.push("baker", sign("a"))
    assignment = w0.heard[-1]
    w1 = pool.worker("w1")
    pool.core.undeliverable(w0.peer, assignment, pool.now)
    pool.turn()
    assert w1.takes() == ["a"]


def test_after_a_broken_connection_what_the_worker_does_not_hold_is_sent_again() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    kept, lost = sign("a"), sign("b")
    pool.push("baker", kept, lost)
    w.hello_again([Held("baker", kept.id, "a")])
    assert w.takes() == ["a", "b", "b"]
    assert w.inbox[-1][1].attempt == 2
    w.answer("a")
    item = w.inbox.pop()[1]
    w.report(item)
    assert pool.outcome(kept) == ["signed"]
    assert pool.outcome(lost) == ["signed"]


def test_a_leaving_worker_keeps_what_it_has_and_gets_nothing_new() -> None:
    pool = PoolScript()
    w0 = pool.worker("w0")
    request = sign("a", b"1")
    pool.push("baker", request, sign("a", b"2"))
    w1 = pool.worker("w1")
    pool.core.worker_message(w0.peer, Leaving("SIGTERM"), pool.now)
    pool.turn()
    assert w1.takes() == []
    w0.answer()
    assert w1.takes() == ["a"]
    pool.core.worker_message(w0.peer, Leaving("drained", done=True), pool.now)
    pool.turn()
    assert [w.name for w in pool.core.members] == ["w1"]


def test_a_newer_worker_of_the_same_name_replaces_the_older() -> None:
    pool = PoolScript()
    old = pool.worker("w0", incarnation=1)
    request = sign("a")
    pool.push("baker", request)
    new = pool.worker("w0", incarnation=2)
    assert new.takes() == ["a"]
    assert new.inbox[0][1].attempt == 2
    late = pool.worker("w0", incarnation=1)
    assert late.heard == [Drain(superseded=True)], "it ends, and nobody else is disturbed"
    old.answer()
    assert pool.outcome(request) == ["signed"], "first success wins, whoever it is"
    new.answer()
    assert pool.outcome(request) == ["signed"]


def test_a_signer_past_its_limit_ends_the_request_and_keeps_the_key() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    slow, following = sign("a", b"1"), sign("a", b"2")
    pool.push("baker", slow, following)
    item = w.answer(outcome=Outcome.FAILED, body=("signer_timeout", "no answer"), occupied=True)
    assert pool.outcome(slow) == ["failed"]
    assert w.takes() == []
    pool.core.worker_message(w.peer, Freed([item.task]), pool.now)
    pool.turn()
    assert w.takes() == ["a"]


def test_a_key_whose_late_signer_is_named_in_a_hello_stays_taken() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    slow, following = sign("a", b"1"), sign("a", b"2")
    pool.push("baker", slow, following)
    item = w.answer(outcome=Outcome.FAILED, body=("signer_timeout", "no answer"), occupied=True)
    w.hello_again([Held("baker", slow.id, "a")])
    assert w.takes() == []
    pool.core.worker_message(w.peer, Freed([item.task]), pool.now)
    pool.turn()
    assert w.takes() == ["a"]


def test_after_a_restart_a_key_with_a_late_signer_is_free_when_that_has_answered() -> None:
    pool = PoolScript(epoch="e2", started=False)
    slow, following = sign("a", b"1"), sign("a", b"2")
    w = pool.worker("w0", held=[Held("baker", slow.id, "a")], epoch="e1")
    pool.push("baker", following)
    pool.wait(0.4)

    def reports(*, occupied: bool) -> None:
        late = OrphanResult(
            "baker", slow.id, "a", fingerprint(slow), SIGN, int(Outcome.FAILED),
            ("signer_timeout", "no answer"), occupied,
        )  # fmt: skip
        pool.core.worker_message(w.peer, OrphanResults(1, [late]), pool.now)
        pool.turn()
        for key, _ in pool.last.reread:
            records = [LogRecord(0, 1, [LoggedClient("baker", 1, pool.events, [1], [])])]
            pool.core.events_read(key, records, pool.now)
            pool.turn()

    reports(occupied=True)
    assert pool.outcome(slow) == ["failed"]
    assert w.takes() == [], "the signer may still be at it"
    reports(occupied=False)
    assert pool.outcome(slow) == ["failed"], "one end"
    assert w.takes() == ["a"]


def test_results_are_acknowledged_in_the_turn_that_logs_them() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    pool.push("baker", sign("a"))
    w.answer()
    assert pool.last.record is not None
    assert (w.peer, ResultsAck(1)) in pool.last.to_workers


# -- blocks prepared beside the queue --------------------------------------------------------------


def to_prepare(worker: PlayedWorker) -> Item:
    [assignment] = worker.heard[-1].assignments
    assert isinstance(worker.heard[-1], PrepareAhead)
    return assignment.items[0]


def test_a_block_in_preparation_holds_up_no_vote_of_its_delegate() -> None:
    pool = PoolScript(prepares_ahead=True)
    w = pool.worker("w0")
    slow, vote = block("a"), votes("a")
    pool.push("baker", slow, vote)
    [prepare] = [m for m in w.heard if isinstance(m, PrepareAhead)]
    item = prepare.assignments[0].items[0]
    assert [a.kind for a, _ in w.inbox] == ["forge_and_sign_attestations"]
    pool.core.worker_message(w.peer, PreparedAhead(item.task), pool.now)
    pool.turn()
    assert len(w.inbox) == 1, "one task of a key is active"
    w.answer()
    assert [a.kind for a, _ in w.inbox] == ["forge_and_sign_block"]
    w.answer()
    assert pool.outcome(slow) == ["block_ready"]


def test_a_block_that_cannot_be_prepared_fails_and_one_in_preparation_can_be_cancelled() -> None:
    pool = PoolScript(prepares_ahead=True)
    w = pool.worker("w0")
    hopeless, unwanted = block("a"), block("b", ttl_ms=5000)
    pool.push("baker", hopeless)
    failed = PreparedAhead(
        to_prepare(w).task, Outcome.FAILED, "node_unavailable", "connection refused"
    )
    pool.core.worker_message(w.peer, failed, pool.now)
    pool.push("baker", unwanted)
    late = PreparedAhead(to_prepare(w).task)
    pool.core.client_message("baker", Cancel("baker"), pool.now, pool.unix)
    pool.core.worker_message(w.peer, late, pool.now)
    pool.turn()
    assert pool.outcome(hopeless) == ["failed"]
    assert pool.outcome(unwanted) == ["cancelled"]
    assert w.takes() == []


def test_the_blocks_of_a_worker_that_ended_are_prepared_in_the_queue() -> None:
    pool = PoolScript(prepares_ahead=True)
    pool.worker("w0", pid=7)
    request = block("a")
    pool.push("baker", request)
    w1 = pool.worker("w1")
    pool.core.client_message("s", WorkerEnded(7, "killed"), pool.now, pool.unix)
    pool.turn()
    assert w1.takes() == ["a"]
    w1.answer()
    assert pool.outcome(request) == ["block_ready"]


# -- the broker's own restart ---------------------------------------------------------------------


def test_a_restarted_broker_waits_for_the_workers_that_the_supervisor_named() -> None:
    pool = PoolScript(started=False)
    pool.core.client_message("s", AwaitWorkers([1, 2]), pool.now, pool.unix)
    w1 = pool.worker("w1", pid=1)
    pool.push("baker", *[sign(f"k{i}") for i in range(20)])
    pool.wait(1.0)
    assert w1.takes() == []
    w2 = pool.worker("w2", pid=2)
    assert len(w1.takes()) + len(w2.takes()) == 20


def test_a_restarted_broker_without_supervisor_waits_a_moment() -> None:
    pool = PoolScript(started=False)
    w = pool.worker("w0")
    pool.push("baker", sign("a"))
    assert w.takes() == []
    pool.wait(0.4)
    assert w.takes() == ["a"]


def test_what_workers_held_before_the_restart_is_active_and_ends_once() -> None:
    pool = PoolScript(epoch="new", started=False)
    request, following = sign("a", b"1"), sign("a", b"2")
    w = pool.worker("w0", epoch="old", held=[Held("baker", request.id, "a")])
    pool.wait(0.4)
    pool.push("baker", request, following)
    assert w.takes() == [], "it is held: nothing is dispatched for this key"
    orphan = OrphanResult("baker", request.id, "a", fingerprint(request), "sign", 0, b"signature")
    pool.core.worker_message(w.peer, OrphanResults(1, [orphan]), pool.now)
    pool.turn()
    assert pool.outcome(request) == ["signed"]
    assert w.takes() == ["a"]
    w.answer()
    assert pool.outcome(following) == ["signed"]


def test_a_restarted_broker_that_drains_waits_for_what_is_held_since_before() -> None:
    pool = PoolScript(epoch="new", started=False)
    request = sign("a")
    w = pool.worker("w0", epoch="old", held=[Held("baker", request.id, "a")])
    pool.wait(0.4)
    pool.core.client_message("admin", Shutdown(), pool.now, pool.unix)
    assert not pool.turn().stop
    orphan = OrphanResult("baker", request.id, "a", fingerprint(request), "sign", 0, b"signature")
    pool.core.worker_message(w.peer, OrphanResults(1, [orphan]), pool.now)
    assert pool.turn().stop
    assert pool.outcome(request) == ["signed"]


def test_a_held_block_that_another_has_prepared_meanwhile_ends_with_who_holds_it() -> None:
    pool = PoolScript(epoch="new", started=False, prepares_ahead=True)
    request = block("a")
    preparer = pool.worker("w0")
    pool.push("baker", request)
    item = to_prepare(preparer)
    pool.core.worker_message(preparer.peer, PreparedAhead(item.task), pool.now)
    w = pool.worker("w1", epoch="old", held=[Held("baker", request.id, "a")])
    pool.wait(0.4)
    late = ("signer_timeout", "no answer")
    orphan = OrphanResult(
        "baker", request.id, "a", fingerprint(request), request.kind, int(Outcome.FAILED), late
    )
    pool.core.worker_message(w.peer, OrphanResults(1, [orphan]), pool.now)
    pool.turn()
    assert pool.outcome(request) == ["failed"]
    assert not pool.core.requests.open


def test_what_was_given_to_a_worker_that_was_never_welcomed_is_given_again() -> None:
    """The connection broke under the welcome and the first tasks; it holds what was before."""
    pool = PoolScript(epoch="new")
    held = Held("baker", bytes(16), "z")
    w = pool.worker("w0", epoch="old", held=[held])
    request = sign("a")
    pool.push("baker", request)
    assert w.takes() == ["a"]
    w.inbox.clear()
    w.hello_again([held], epoch="old")
    assert w.takes() == ["a"]
    w.answer("a")
    assert pool.outcome(request) == ["signed"]


def test_an_end_that_nobody_has_asked_for_yet_is_kept_for_who_will() -> None:
    pool = PoolScript(epoch="new")
    w = pool.worker("w0", epoch="old")
    request = sign("a")
    orphan = OrphanResult("baker", request.id, "a", fingerprint(request), "sign", 0, b"sig")
    pool.core.worker_message(w.peer, OrphanResults(1, [orphan]), pool.now)
    pool.turn()
    assert pool.outcome(request) == ["signed"]
    assert pool.push("baker", request)[0].status == "duplicate"
    assert pool.last.reread
    assert w.takes() == []


def test_a_batch_that_had_partly_ended_before_the_restart_goes_on_with_the_rest() -> None:
    old = PoolScript()
    w = old.worker("w0")
    batch = votes("a", "b", "c")
    old.push("baker", batch)
    w.answer("a")
    logged = old.last.record
    assert logged is not None
    pool = PoolScript(epoch="new")
    pool.core.requests.note_logged(("baker", batch.id), fingerprint(batch), 1)
    w = pool.worker("w0")
    assert pool.push("baker", batch)[0].status == "duplicate"
    pool.core.events_read(("baker", batch.id), [logged], pool.now)
    pool.turn()
    assert pool.outcome(batch, "a") == ["attestation_ready"]
    assert w.takes() == ["b", "c"]
    w.answer_all()
    assert sorted(e.delegate for e in pool.events) == ["a", "b", "c"]
