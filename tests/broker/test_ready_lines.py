"""Whose turn it is among the delegates that one worker serves."""

from __future__ import annotations

from collections import Counter

import pytest
from pool_script import block, sign, votes

from broker.delegate_queue import DelegateQueue, OpenRequest, Task
from broker.messages import Urgency
from broker.ready_lines import COST_US, LESS_URGENT_SHARE, ReadyLines

PLENTY_US = 1e9
DEADLINE_S = 100.0
HALF_S = DEADLINE_S / 2
MAKE = {Urgency.BLOCK: block, Urgency.VOTE: votes, Urgency.SIGN: sign}


class LinesScript:
    """Lines in which delegates stand with one task each."""

    def __init__(self) -> None:
        self.lines = ReadyLines()
        self.numbers = 0
        self.now = 0.0

    def stands(self, urgency: Urgency, delegate: str = "") -> DelegateQueue:
        """A delegate joins the line of its task's urgency."""
        self.numbers += 1
        queue = DelegateQueue(delegate or f"{urgency.name.lower()}{self.numbers}")
        message = MAKE[urgency](queue.delegate)
        request = OpenRequest("baker", message, b"", urgency, 0.0, DEADLINE_S)
        task = Task(self.numbers, request, queue, 0, None)
        queue.append(task)
        queue.ready = True
        self.lines.append(queue, task)
        return queue

    def take(self, count: int = 1000, credit_us: float = PLENTY_US) -> list[str]:
        return [t.queue.delegate for t in self.lines.take(self.now, count, credit_us)]

    def takes_one_by_one(self, count: int) -> list[Urgency]:
        """The urgencies of the next tasks, each taken by a worker whose credit pays for one."""
        return [
            Urgency(t.request.urgency)
            for _ in range(count)
            for t in self.lines.take(self.now, 1, 1)
        ]


# -- order ----------------------------------------------------------------------------------------


def test_the_most_urgent_goes_first_and_equals_in_the_order_of_their_coming() -> None:
    script = LinesScript()
    for urgency in (Urgency.SIGN, Urgency.VOTE, Urgency.BLOCK, Urgency.VOTE, Urgency.SIGN):
        script.stands(urgency)
    script.now = HALF_S  # past it nothing is shared
    assert script.take() == ["block3", "vote2", "vote4", "sign1", "sign5"]
    assert len(script.lines) == 0
    assert script.take() == []


def test_a_queue_that_was_taken_stands_in_no_line() -> None:
    script = LinesScript()
    queue, other = script.stands(Urgency.VOTE), script.stands(Urgency.VOTE)
    assert len(script.lines) == 2
    script.take(1)
    assert (queue.ready, other.ready) == (False, True)
    assert len(script.lines) == 1


def test_whose_tasks_ended_meanwhile_is_passed_over() -> None:
    script = LinesScript()
    for urgency in (Urgency.VOTE, Urgency.SIGN):
        cancelled, busy, good = (script.stands(urgency) for _ in range(3))
        for queue in (cancelled, busy):
            task = queue.head
            assert task is not None
            queue.remove(task)
        busy.active = task
        assert script.take() == [good.delegate]
        assert not cancelled.ready
        assert not busy.ready
    assert len(script.lines) == 0


def test_whose_tasks_ended_in_the_middle_of_a_line_is_passed_over_too() -> None:
    script = LinesScript()
    first, cancelled, busy, last = (script.stands(Urgency.VOTE) for _ in range(4))
    for queue in (cancelled, busy):
        task = queue.head
        assert task is not None
        queue.remove(task)
    busy.active = task
    busy.append(task)
    assert script.take() == [first.delegate, last.delegate]
    assert [queue.ready for queue in (cancelled, busy)] == [False, False]


def test_a_head_whose_tasks_ended_holds_up_neither_its_line_nor_the_others() -> None:
    script = LinesScript()
    gone, vote, signature = (script.stands(u) for u in (Urgency.VOTE, Urgency.VOTE, Urgency.SIGN))
    task = gone.head
    assert task is not None
    gone.remove(task)
    busy = script.stands(Urgency.BLOCK)
    busy.active = busy.head
    assert script.take() == [vote.delegate, signature.delegate]


def test_of_each_queue_the_first_task_is_taken_and_the_rest_stay() -> None:
    script = LinesScript()
    queue = script.stands(Urgency.VOTE)
    first = queue.head
    assert first is not None
    second = Task(99, first.request, queue, 0, None)
    queue.append(second)
    assert script.lines.take(0.0, 10, PLENTY_US) == [first]
    assert list(queue) == [second]
    assert len(script.lines) == 0, "its turn comes when the first has ended"


def test_queues_that_go_elsewhere_are_handed_out_and_leave_their_lines() -> None:
    script = LinesScript()
    queues = [script.stands(u) for u in (Urgency.SIGN, Urgency.BLOCK, Urgency.VOTE)]
    assert set(map(id, script.lines.clear())) == set(map(id, queues))
    assert len(script.lines) == 0
    assert script.take() == []


# -- bounds ---------------------------------------------------------------------------------------


def test_no_more_is_taken_than_was_asked_for() -> None:
    script = LinesScript()
    for _ in range(5):
        script.stands(Urgency.VOTE)
    assert script.take(3) == ["vote1", "vote2", "vote3"]
    for _ in range(5):
        script.stands(Urgency.SIGN)
    assert len(script.take(2)) == 2
    script.now = HALF_S
    assert len(script.take(2)) == 2
    assert len(script.lines) == 3


def test_no_more_is_taken_when_one_line_is_left_alone() -> None:
    script = LinesScript()
    script.stands(Urgency.VOTE)
    for _ in range(5):
        script.stands(Urgency.SIGN)
    assert script.take(3) == ["vote1", "sign2", "sign3"]


def test_the_last_task_may_overdraw_the_credit_and_then_nothing_is_taken() -> None:
    script = LinesScript()
    for _ in range(5):
        script.stands(Urgency.VOTE)
    assert len(script.take(credit_us=2 * COST_US[Urgency.VOTE] + 1)) == 3
    assert script.take(credit_us=0) == []
    assert script.take(credit_us=-10) == []


def test_a_block_costs_what_it_costs() -> None:
    script = LinesScript()
    for _ in range(5):
        script.stands(Urgency.BLOCK)
    assert len(script.take(credit_us=2 * COST_US[Urgency.BLOCK])) == 2


# -- nothing starves ------------------------------------------------------------------------------


def flood(script: LinesScript, *urgencies: Urgency, each: int) -> None:
    for _ in range(each):
        for urgency in urgencies:
            script.stands(urgency)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_share_of_the_credit_goes_to_the_less_urgent(at_once: bool) -> None:
    script = LinesScript()
    flood(script, Urgency.VOTE, Urgency.SIGN, each=1000)
    if at_once:
        taken = Counter(t.request.urgency for t in script.lines.take(0.0, 850, PLENTY_US))
    else:
        taken = Counter(script.takes_one_by_one(850))
    assert taken[Urgency.SIGN] == round(taken[Urgency.VOTE] * LESS_URGENT_SHARE)


def test_a_flood_of_everything_starves_nothing() -> None:
    script = LinesScript()
    flood(script, Urgency.BLOCK, Urgency.VOTE, Urgency.SIGN, each=500)
    taken = Counter(script.takes_one_by_one(300))
    assert abs(taken[Urgency.VOTE] - taken[Urgency.SIGN]) <= 1
    cost = {urgency: taken[urgency] * COST_US[urgency] for urgency in taken}
    shared = cost[Urgency.VOTE] + cost[Urgency.SIGN]
    assert 0.9 * LESS_URGENT_SHARE <= shared / cost[Urgency.BLOCK] <= 1.1 * LESS_URGENT_SHARE


def test_an_urgent_first_past_half_of_its_time_shares_with_nobody() -> None:
    script = LinesScript()
    flood(script, Urgency.VOTE, Urgency.SIGN, each=200)
    script.now = HALF_S
    assert set(script.takes_one_by_one(200)) == {Urgency.VOTE}
    assert set(script.takes_one_by_one(200)) == {Urgency.SIGN}


def test_a_signature_past_half_of_its_time_is_no_more_urgent_for_it() -> None:
    script = LinesScript()
    flood(script, Urgency.SIGN, each=10)
    script.now = HALF_S
    vote = script.stands(Urgency.VOTE)
    assert script.take(1) == [vote.delegate]


def test_nothing_is_saved_while_nobody_else_stands_in_line() -> None:
    script = LinesScript()
    flood(script, Urgency.VOTE, each=500)
    script.takes_one_by_one(400)
    script.stands(Urgency.SIGN)
    assert set(script.takes_one_by_one(round(1 / LESS_URGENT_SHARE))) == {Urgency.VOTE}
    assert script.takes_one_by_one(1) == [Urgency.SIGN]
