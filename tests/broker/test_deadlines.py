"""The heap of deadlines: who is due, and that it forgets nobody and keeps nobody for ever."""

from __future__ import annotations

from math import inf

from pool_script import PoolScript, sign

from broker.deadlines import SLACK, Deadlines
from broker.delegate_queue import OpenRequest


def an_open_request(deadline: float) -> OpenRequest:
    request = OpenRequest("baker", sign("a"), b"", 0, 0.0, deadline)
    request.open = 1
    return request


def test_requests_are_due_in_the_order_of_their_deadlines() -> None:
    deadlines = Deadlines()
    late, early, same, future = map(an_open_request, (30.0, 10.0, 30.0, 30.1))
    for request in (late, early, same, future):
        deadlines.add(request, 4)
    assert deadlines.next() == 10.0
    assert list(deadlines.due(9.9)) == []
    assert list(deadlines.due(30.0)) == [early, late, same]
    assert deadlines.next() == 30.1
    assert list(deadlines.due(30.0)) == [], "each is given once"


def test_who_has_ended_is_not_due() -> None:
    deadlines = Deadlines()
    ended, open_ = an_open_request(1.0), an_open_request(2.0)
    deadlines.add(ended, 1)
    deadlines.add(open_, 2)
    ended.open = 0
    assert list(deadlines.due(5.0)) == [open_]
    assert deadlines.next() == inf


def test_who_is_looked_at_again_is_due_again() -> None:
    deadlines = Deadlines()
    active, other = an_open_request(1.0), an_open_request(2.0)
    deadlines.add(active, 1)
    deadlines.add(other, 2)
    assert list(deadlines.due(1.0)) == [active]
    deadlines.again(active, 2.0)
    assert list(deadlines.due(2.0)) == [other, active]
    assert deadlines.next() == inf


def test_nobody_is_due_when_there_is_nobody() -> None:
    assert Deadlines().next() == inf
    assert list(Deadlines().due(1e9)) == []


def test_the_heap_forgets_the_ended_and_no_open_one() -> None:
    deadlines = Deadlines()
    open_ = [an_open_request(1000.0 + i) for i in range(10)]
    for request in open_:
        deadlines.add(request, 10)
    for i in range(20 * SLACK):
        ended = an_open_request(1.0 + i)
        deadlines.add(ended, 11)
        ended.open = 0
        assert len(deadlines._heap) <= 2 * 11 + SLACK + 1
    last = an_open_request(999.0)
    deadlines.add(last, 11)
    assert list(deadlines.due(1e9)) == [last, *open_]


def test_a_request_that_makes_the_heap_forget_is_not_forgotten_itself() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    pool.push("baker", sign("busy", b"active"))
    for i in range(SLACK + 3):  # with the next one the heap is longer than it may be
        pool.push("baker", sign("a", b"%d" % i, ttl_ms=3_600_000))
        w.answer("a")
    request = sign("busy", b"pending", ttl_ms=500)
    pool.push("baker", request)
    pool.wait(0.6)
    assert pool.outcome(request) == ["expired"]
