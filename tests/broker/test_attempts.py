"""A task that was given to more than one worker, or to one more than once: whose word counts.

Also what a worker that lies, or answers for what it does not have, can do to it: nothing.
"""

from __future__ import annotations

import pytest
from pool_script import PlayedWorker, PoolScript, sign

from broker.known_requests import fingerprint
from broker.messages import (
    AwaitWorkers,
    Cancel,
    Cancelled,
    CreditBack,
    Freed,
    Held,
    OrphanResult,
    OrphanResults,
    Outcome,
    Request,
    Result,
    Results,
    Shutdown,
    WorkerEnded,
)

CONFLICT = ("watermark_conflict", "level 5 round 0")


def ended(pool: PoolScript, pid: int) -> None:
    """The supervisor tells of the end of a process."""
    pool.core.client_message("s", WorkerEnded(pid, "killed by signal 9"), pool.now, pool.unix)
    pool.turn()


def given_to_a_second(pool: PoolScript, request: Request) -> tuple[PlayedWorker, PlayedWorker]:
    """The first worker falls silent with the request, and a second has it as attempt 2."""
    first = pool.worker("w0", pid=1)
    pool.push("baker", request)
    second = pool.worker("w1", pid=2)
    pool.wait(2.0, beating=[second])
    assert second.inbox[0][1].attempt == 2
    return first, second


# -- more than one attempt ------------------------------------------------------------------------


def test_a_late_result_of_an_attempt_that_was_taken_back_ends_nothing() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    request = sign("a")
    pool.push("baker", request)
    w.hello_again([])  # it never had attempt 1, it says
    [(_, first), (_, second)] = w.inbox
    assert (first.attempt, second.attempt) == (1, 2)
    w.report(first, outcome=Outcome.FAILED, body=("signer_failed", "no device"))
    assert pool.outcome(request) == []
    w.report(second)
    assert pool.outcome(request) == ["signed"]


def test_a_refusal_waits_for_every_older_attempt() -> None:
    pool = PoolScript()
    request = sign("a")
    w0, w1 = given_to_a_second(pool, request)
    w2 = pool.worker("w2", pid=3)
    pool.wait(2.0, beating=[w2])
    assert w2.inbox[0][1].attempt == 3
    w2.answer(outcome=Outcome.REFUSED, body=CONFLICT)
    ended(pool, 1)
    assert pool.outcome(request) == [], "the second one may still answer with the signature"
    w1.answer()
    assert pool.outcome(request) == ["signed"]
    assert w0.takes() == ["a"], "its word came never"


def test_after_a_death_a_request_can_be_neither_cancelled_nor_said_to_have_touched_nothing() -> (
    None
):
    pool = PoolScript()
    pool.worker("w0", pid=1)
    request, untouched = sign("a", b"1", ttl_ms=5000), sign("a", b"2", ttl_ms=5000)
    pool.push("baker", request, untouched)
    ended(pool, 1)  # it may have taken the mark before it died
    pool.core.client_message("baker", Cancel("baker", delegate="a"), pool.now, pool.unix)
    pool.turn()
    [answer] = [x for x in pool.replies if isinstance(x, Cancelled)]
    assert (answer.count, answer.active) == (1, 1)
    assert pool.outcome(untouched) == ["cancelled"]
    pool.wait(6.0)
    assert pool.outcome(request) == ["failed"]
    assert pool.events[-1].code == "outcome_unknown"


def test_a_second_attempt_that_came_too_late_does_not_speak_for_the_first() -> None:
    pool = PoolScript()
    request = sign("a")
    _, second = given_to_a_second(pool, request)
    second.answer(outcome=Outcome.EXPIRED, body=("", "its deadline passed"))
    assert pool.outcome(request) == ["failed"]
    assert pool.events[-1].code == "outcome_unknown"


def test_a_refusal_whose_older_attempt_stays_silent_stands_at_the_deadline() -> None:
    pool = PoolScript()
    request = sign("a", ttl_ms=5000)
    _, second = given_to_a_second(pool, request)
    second.answer(outcome=Outcome.REFUSED, body=CONFLICT)
    pool.wait(2.0, beating=[second])
    assert pool.outcome(request) == []
    pool.wait(2.0, beating=[second])
    assert pool.outcome(request) == ["refused"]


def test_while_the_pool_drains_what_a_lost_worker_had_is_not_given_to_another() -> None:
    pool = PoolScript()
    pool.worker("w0", pid=1)
    request = sign("a")
    pool.push("baker", request)
    w1 = pool.worker("w1", pid=2)
    pool.core.client_message("admin", Shutdown(), pool.now, pool.unix)
    pool.turn()
    ended(pool, 1)
    assert w1.takes() == []
    assert pool.outcome(request) == ["failed"]
    assert pool.events[-1].code == "outcome_unknown"
    assert pool.last.stop


def test_what_a_worker_may_still_hold_from_before_the_restart_is_not_cancelled() -> None:
    pool = PoolScript(epoch="new", started=False)
    request = sign("a")
    pool.push("baker", request)
    pool.core.client_message("baker", Cancel("baker"), pool.now, pool.unix)
    pool.turn()
    [answer] = [x for x in pool.replies if isinstance(x, Cancelled)]
    assert (answer.count, answer.active) == (0, 1)
    w = pool.worker("w0", epoch="old", held=[Held("baker", request.id, "a")])
    pool.wait(0.4)
    orphan = OrphanResult("baker", request.id, "a", fingerprint(request), "sign", 0, b"signature")
    pool.core.worker_message(w.peer, OrphanResults(1, [orphan]), pool.now)
    pool.turn()
    assert pool.outcome(request) == ["signed"]


def test_what_a_worker_may_still_hold_from_before_the_restart_does_not_expire() -> None:
    pool = PoolScript(epoch="new", started=False)
    pool.core.client_message("s", AwaitWorkers([1]), pool.now, pool.unix)
    request = sign("a", ttl_ms=500)
    pool.push("baker", request)
    pool.wait(1.0)
    assert pool.outcome(request) == []
    w = pool.worker("w0", pid=1, epoch="old", held=[Held("baker", request.id, "a")])
    orphan = OrphanResult("baker", request.id, "a", fingerprint(request), "sign", 0, b"signature")
    pool.core.worker_message(w.peer, OrphanResults(1, [orphan]), pool.now)
    pool.turn()
    assert pool.outcome(request) == ["signed"]


# -- workers that lie -----------------------------------------------------------------------------


def test_a_result_counts_only_from_the_worker_that_has_the_task() -> None:
    pool = PoolScript()
    w0 = pool.worker("w0")
    request = sign("a")
    pool.push("baker", request)
    liar = pool.worker("w1")
    [(_, item)] = w0.inbox
    liar.report(item, body=b"forged")
    assert pool.outcome(request) == []
    w0.answer()
    assert [e.body for e in pool.events] == [b"signed"]


@pytest.mark.parametrize("number", [0, -1, 10**6, 2**63, 2**64 - 1])
def test_what_nobody_has_been_given_can_be_neither_ended_nor_freed(number: int) -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    request = sign("a")
    pool.push("baker", request)
    credit = w.hello.credit_us - 30
    results = [Result(number, 1, 0, b"made up"), Result(number, number, 77, ("", ""))]
    for message in (Results(number, results), Freed([number]), CreditBack([number])):
        pool.core.worker_message(w.peer, message, pool.now)
        pool.turn()
    assert pool.events == []
    assert pool.core.status(pool.now)["workers"][0]["credit_us"] == credit
    w.answer()
    assert pool.outcome(request) == ["signed"]


def test_credit_is_given_back_once() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    pool.push("baker", sign("a"))
    [(_, item)] = w.inbox
    for _ in range(3):
        pool.core.worker_message(w.peer, CreditBack([item.task]), pool.now)
    w.answer()
    assert pool.core.status(pool.now)["workers"][0]["credit_us"] == w.hello.credit_us


def test_a_key_is_not_freed_while_its_task_is_active() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    pool.push("baker", sign("a", b"1"), sign("a", b"2"))
    [(_, item)] = w.inbox
    pool.core.worker_message(w.peer, Freed([item.task]), pool.now)
    pool.turn()
    assert w.takes() == ["a"], "the second waits"


@pytest.mark.parametrize("outcome", [Outcome.READY, Outcome.REFUSED, 77])
def test_a_result_that_contradicts_itself_is_a_failure(outcome: Outcome) -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    request = sign("a")
    pool.push("baker", request)
    [(_, item)] = w.inbox
    body = ("code", "text") if outcome == Outcome.READY else b"signed"
    w.report(item, outcome=outcome, body=body)
    assert pool.outcome(request) == ["failed"]


def test_an_orphan_of_another_request_under_the_same_id_ends_nothing() -> None:
    pool = PoolScript(epoch="new", started=False)
    request = sign("a", b"these bytes")
    w = pool.worker("w0", epoch="old", held=[Held("baker", request.id, "a")])
    pool.wait(0.4)
    pool.push("baker", request)
    assert w.takes() == [], "it seems to be held"
    other = fingerprint(sign("a", b"other bytes"))
    orphan = OrphanResult("baker", request.id, "a", other, "sign", 0, b"signature of the others")
    pool.core.worker_message(w.peer, OrphanResults(1, [orphan]), pool.now)
    pool.turn()
    assert pool.outcome(request) == []
    assert w.takes() == ["a"]
    w.answer()
    assert [e.body for e in pool.events] == [b"signed"]
