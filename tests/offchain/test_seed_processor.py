"""The compat mode does what the source does, weaknesses included.

The scenarios have the numbers of the issue, T1 to T53, and the weaknesses W1 to W29.
"""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from tests.offchain.processor_script import (
    CHAIN,
    A,
    B,
    C,
    Script,
    answered,
    asks,
    committed,
    failed,
    is_done,
    new_block,
    not_answered,
    notified,
    output,
    owned,
    releases,
    runs,
    script,
    slow,
    stream_opened,
    submits,
    submitted,
    told,
    watches,
)
from workers.offchain.actions import TIMESTAMP_MAX, Task
from workers.offchain.commands import Ask, Run, Submit
from workers.offchain.compat.deadline_heap import DeadlineHeap
from workers.offchain.compat.seed_processor import SeedProcessor
from workers.offchain.ends import RunEnd, SubmitEnd
from workers.offchain.standing import trouble
from workers.offchain.stimuli import Cancelled

seed_script = partial(script, partial(SeedProcessor, CHAIN))


def listening(*applications: object, **settings: object) -> Script:
    """A processor that has asked its applications for the first time; they want nothing."""
    s = seed_script(**settings)
    s >> owned(*applications) << watches()
    s >> stream_opened()
    for application in applications:
        s << asks(application, cursor=None, limit_s=None)
        s >> answered(application)
    return s


def running(*tasks: str | Task, **settings: object) -> Script:
    s = seed_script(**settings)
    s >> owned(A) << watches()
    s >> stream_opened() << asks(A)
    s >> answered(A, *tasks)
    for task in tasks:
        s << runs(task if isinstance(task, str) else task.input)
    return s


def with_id(id: str, input: str) -> Task:
    return Task("echo", input, id)


# -- the deadline heap ----------------------------------------------------------------------------


def test_t52_an_entry_without_application_only_wakes_up() -> None:
    heap = DeadlineHeap()
    heap.push(5, None)
    heap.push(5, A)
    assert heap.next_at() == 5
    assert heap.take(5) == [A]
    assert heap.next_at() is None
    assert heap.take(5) == []


def test_t52_the_first_entry_is_taken_whatever_the_clock_says() -> None:
    heap = DeadlineHeap()
    for at, application in ((100, A), (100, B), (50, C)):
        heap.push(at, application)
    assert heap.take(0) == [C]
    assert heap.take(0) == [A], "early, but only one"
    assert len(heap) == 1


def test_t52_at_one_moment_applications_go_by_their_ids() -> None:
    heap = DeadlineHeap()
    for application in (C, A, None, B):
        heap.push(7, application)
    heap.push(8, A)
    assert heap.take(7) == [A, B, C]
    assert heap.take(9) == [A]


def test_t52_an_application_stands_there_as_often_as_it_was_entered() -> None:
    heap = DeadlineHeap()
    for _ in range(3):
        heap.push(7, A)
    assert heap.take(7) == [A, A, A]


# -- asking ---------------------------------------------------------------------------------------


def test_t1_every_application_is_asked_at_the_start() -> None:
    s = running("first", "second")
    s >> output("first")
    s >> output("second") << submits("first!")
    s >> committed(A) << submits("second!")
    s >> committed(A) << asks(A)


def test_t3_it_listens_before_it_asks() -> None:
    s = seed_script()
    s >> owned(A) << watches()
    s >> new_block()
    s >> stream_opened() << asks(A)
    s >> answered(A) << asks(A)  # the block was not lost
    s >> answered(A)
    s >> stream_opened()  # there is no second time


def test_t4_only_a_new_block_makes_it_ask() -> None:
    s = listening(A, B)
    for reason in ("NewRound", "NewIncomingBundle", "BlockExecuted", "NewEvents", "Unheard"):
        s >> notified(reason)
    s >> new_block() << asks(A)
    s >> answered(A) << asks(B)


def test_every_block_is_a_round_of_questions() -> None:
    s = listening(A)
    s >> new_block() << asks(A)
    s >> new_block()
    s >> new_block()
    s >> answered(A) << asks(A)
    s >> answered(A) << asks(A)
    s >> answered(A)


def test_an_application_that_is_listed_twice_is_asked_twice() -> None:
    s = listening(A, A)
    s >> new_block() << asks(A)
    s >> answered(A) << asks(A)


def test_t12_after_a_failed_query_it_waits_for_a_minute_from_its_start() -> None:
    s = listening(A, B)
    s >> new_block() << asks(A, cursor=None)
    s.sleep(10) >> not_answered(A) << asks(B)  # the others are not affected
    s >> answered(B)
    assert "text=500" in s.notes[-1].text
    s.wait(49.9)
    s.wait(0.1) << asks(A, cursor=None)
    s >> not_answered(A)
    s >> new_block() << asks(A)  # a block comes before


def test_t13_t14_every_callback_adds_a_timer() -> None:
    s = listening(A)
    for _ in range(5):
        s.sleep(1) >> new_block() << asks(A)
        s >> answered(A, callback=s.unix_us + 10_000_000)
    for pause_s in (6, 1, 1, 1, 1):
        s.wait(pause_s) << asks(A)
        s >> answered(A, callback=s.unix_us + 10_000_000)
    assert len(s.core.deadlines) == 5, "none is ever taken away (W11)"


def test_two_timers_of_one_moment_are_two_questions() -> None:
    s = listening(A)
    at = s.unix_us + 1_000_000
    for _ in range(2):
        s >> new_block() << asks(A)
        s >> answered(A, callback=at)
    s.wait(1) << asks(A)
    s >> answered(A) << asks(A)
    s >> answered(A)


def test_t15_a_callback_in_the_past_is_a_tight_loop() -> None:
    s = listening(A)
    s >> new_block() << asks(A)
    for _ in range(100):  # the cut-off: time stands still
        s >> answered(A, callback=0) << asks(A)


def test_t16_a_callback_at_the_end_of_time_never_comes() -> None:
    s = listening(A)
    s >> new_block() << asks(A)
    s >> answered(A, callback=TIMESTAMP_MAX)
    s.wait(10 * 365 * 86400)


def test_t17_a_cursor_stays_until_the_application_sets_another() -> None:
    s = listening(A)
    s >> new_block() << asks(A, cursor=None)
    for given, asked in (("a", "a"), (None, "a"), ("", ""), (None, "")):
        s >> answered(A, cursor=given)
        s >> new_block() << asks(A, cursor=asked)


def test_t18_a_cursor_counts_before_its_batch() -> None:
    s = seed_script()
    s >> owned(A) << watches()
    s >> stream_opened() << asks(A)
    s >> answered(A, "task", cursor="next") << runs("task")
    s >> failed("task")
    s.wait(5) << asks(A, cursor="next")


def test_t43_an_application_that_hangs_stops_its_chain() -> None:
    s = seed_script()
    s >> owned(A, B) << watches()
    s >> stream_opened() << asks(A)
    s >> new_block()
    s >> owned(B)
    s >> told(Cancelled())
    s.wait(3600)
    s >> answered(A) << asks(B)


def test_a_timer_that_wakes_it_early_is_served_nevertheless() -> None:
    """T51: the wall clock was set back during the sleep."""
    s = listening(A)
    s >> new_block() << asks(A)
    s >> answered(A, callback=s.unix_us + 10_000_000)
    s.set_wall_clock(-3600)
    s.wait(10) << asks(A)


# -- batches --------------------------------------------------------------------------------------


def test_t5_a_batch_is_submitted_in_order_when_all_have_ended() -> None:
    s = running("slow", "fast")
    s >> output("fast")
    s >> output("slow") << submits("slow!")
    s >> committed(A) << submits("fast!")
    s >> committed(A) << asks(A)


def test_w15_w17_all_tasks_start_at_once_and_the_slowest_delays_all() -> None:
    s = running(*(f"{i}" for i in range(500)), concurrency=1)
    for i in range(499):
        s >> output(f"{i}")
    s >> output("499") << submits("0!")
    for i in range(1, 500):
        s >> committed(A) << submits(f"{i}!")
    s >> committed(A) << asks(A)


def test_t7_a_failure_stops_what_is_behind_it_and_throws_it_away() -> None:
    s = running("a", "b", "c")
    s >> failed("b")
    s >> output("a")
    s >> output("c") << submits("a!")
    s >> committed(A)
    named = f"application={A} serial=2 operator=echo"
    assert [n.text for n in s.notes] == [f"task_failed {named} text=exit status 1"]
    s.wait(4.9)
    s.wait(0.1) << asks(A)
    s >> answered(A, "b", "c") << runs("b") << runs("c")


@pytest.mark.parametrize("end", sorted(set(RunEnd) - {RunEnd.OUTPUT}))
def test_t31_t32_every_other_end_is_tried_again_for_ever(end: RunEnd) -> None:
    s = running("task")
    for _ in range(20):
        s >> failed("task", end)
        s.wait(5) << asks(A)
        s >> answered(A, "task") << runs("task")


def test_t36_a_retry_time_is_no_gate() -> None:
    s = running("poison")
    for _ in range(100):
        s >> failed("poison")
        s.sleep(0.01) >> new_block() << asks(A)
        s >> answered(A, "poison") << runs("poison")


def test_t20_blocks_during_a_batch_are_not_remembered() -> None:
    s = running("task")
    for _ in range(50):
        s >> new_block()
    s >> output("task") << submits("task!")
    s >> committed(A) << asks(A)  # T21
    s >> answered(A)


def test_t10_who_is_not_leader_waits_for_its_round() -> None:
    s = running("task", retry_delay_s=60)
    s >> output("task") << submits("task!")
    s >> submitted(A, SubmitEnd.WAIT_UNTIL, until_unix_us=s.unix_us + 3_000_000)
    s.wait(2.99)
    s.wait(0.01) << asks(A)
    s >> answered(A, "task") << runs("task")


def test_t11_after_a_conflict_it_asks_at_once_and_runs_again() -> None:
    s = running("task")
    s >> output("task") << submits("task!")
    s >> submitted(A, SubmitEnd.CONFLICT) << asks(A)
    s >> answered(A, "task") << runs("task")


@pytest.mark.parametrize(
    "end",
    [
        SubmitEnd.TRANSIENT,
        SubmitEnd.AMBIGUOUS,
        SubmitEnd.CONFIGURATION,
        SubmitEnd.OUTCOME_TOO_LARGE,
    ],
)
def test_a_submission_that_failed_is_tried_again_after_the_delay(end: SubmitEnd) -> None:
    s = running("a", "b")
    s >> output("b")
    s >> output("a") << submits("a!")
    s >> submitted(A, end)
    s.wait(4.9)
    s.wait(0.1) << asks(A)


@pytest.mark.parametrize("end", [SubmitEnd.NO_EFFECT, SubmitEnd.REJECTED])
def test_t38_an_outcome_without_effect_is_a_hot_loop(end: SubmitEnd) -> None:
    s = running("task")
    for _ in range(100):  # the cut-off: time stands still
        s >> output("task") << submits("task!")
        s >> submitted(A, end) << asks(A)
        s >> answered(A, "task") << runs("task")


def test_applications_submit_beside_each_other() -> None:
    s = listening(A, B)
    s >> new_block() << asks(A)
    s >> answered(A, "a") << runs("a") << asks(B)
    s >> answered(B, "b") << runs("b")
    s >> output("a") << submits("a!")
    s >> output("b") << submits("b!")


def test_it_goes_on_beside_the_loop_while_a_question_hangs() -> None:
    s = listening(A, B)
    s >> new_block() << asks(A)
    s >> answered(A, "a") << runs("a") << asks(B)
    s >> output("a") << submits("a!")
    s >> committed(A)  # the report stands in line
    s >> answered(B) << asks(A)


def test_t34_a_slow_run_is_noted() -> None:
    s = running("task")
    s >> slow("task")
    assert [n.text.split()[0] for n in s.notes] == ["task_slow"]
    s >> output("task") << submits("task!")


# -- with ids, as newer versions of the source ----------------------------------------------------


def test_t6_t9_groups_go_beside_each_other_and_in_order() -> None:
    s = running(with_id("x", "x1"), with_id("x", "x2"), with_id("y", "y1"))
    s >> output("x2")
    s >> output("y1") << submits("y1!")
    s >> failed("x1")
    s >> committed(A) << asks(A)
    s >> answered(A, with_id("x", "x1"), with_id("x", "x2")) << runs("x1") << runs("x2")


def test_t8_groups_have_their_own_retry_times() -> None:
    s = running(with_id("1", "bad"), with_id("2", "good"))
    s >> failed("bad")
    s.sleep(1) >> output("good") << submits("good!")
    s >> committed(A) << asks(A)
    s >> answered(A, with_id("1", "bad")) << runs("bad")  # W9: a sibling's success is no gate


def test_a_group_in_flight_is_skipped_and_the_others_start() -> None:
    s = running(with_id("1", "a"))
    s >> new_block() << asks(A)
    s >> answered(A, with_id("1", "a"), with_id("2", "b"), "c") << runs("c") << runs("b")
    s >> new_block() << asks(A)
    s >> answered(A, "c")  # without ids, but it is the group that runs


def test_w18_what_is_behind_a_failure_runs_on_and_is_thrown_away() -> None:
    s = running(with_id("x", "x1"), with_id("x", "x2"))
    s >> failed("x1")
    s >> new_block() << asks(A)
    s >> answered(A, with_id("x", "x1"), with_id("x", "x2")) << runs("x1") << runs("x2")
    s >> output("x2")  # of the first batch
    s >> output("x1") << submits("x1!")
    s >> committed(A)
    s >> output("x2") << submits("x2!")


# -- updates --------------------------------------------------------------------------------------


def test_t24_only_what_is_new_is_asked() -> None:
    s = listening(A, C)
    s >> new_block() << asks(A)
    s >> answered(A, cursor="a's") << asks(C)
    s >> answered(C, callback=s.unix_us + 5_000_000)
    s >> owned(A, B) << releases(C) << asks(B)
    s >> answered(B)
    s.wait(10)  # C's deadline fires for nothing
    s >> new_block() << asks(A, cursor="a's")
    s >> answered(A) << asks(B)
    assert s.core.held() == [(A, 1), (B, 1)]


def test_t19_t25_it_begins_without_a_cursor() -> None:
    s = listening(A)
    s >> new_block() << asks(A)
    s >> answered(A, cursor="here")
    s >> owned() << releases(A)
    s >> new_block()
    s >> owned(A) << asks(A, cursor=None)


def test_t22_w2_the_outcomes_of_an_unassigned_application_are_submitted() -> None:
    s = running("a", "b")
    s >> owned() << releases(A)
    s >> output("a")
    s >> output("b") << submits("a!")
    s >> committed(A) << submits("b!")
    s >> committed(A)
    s.wait(3600)


def test_t22_the_failure_of_an_unassigned_application_is_not_retried() -> None:
    s = running("a")
    s >> owned() << releases(A)
    s >> failed("a")
    s.wait(1)
    s >> owned(A, epoch=2) << asks(A)  # it comes back before the retry would have been
    s >> answered(A)
    s.wait(3600)


def test_t23_w1_what_comes_back_is_done_twice() -> None:
    s = running("a", "b")
    s >> owned() << releases(A)
    s >> owned(A, epoch=2) << asks(A)
    s >> answered(A, "a", "b") << runs("a") << runs("b")
    for input in ("a", "b"):
        s >> output(input, f"old {input}")
        if input == "b":
            s << submits("old a")
    s >> output("a", "new a")
    s >> output("b", "new b") << submits("new a")
    s >> committed(A) << submits("old b")
    s >> committed(A) << submits("new b")
    s >> committed(A) << asks(A)  # the old batch has freed the new one's mark
    s >> answered(A, "b") << runs("b")  # a third one


def test_w1_groups_that_come_back_are_done_twice_too() -> None:
    s = running(with_id("1", "a"))
    s >> owned() << releases(A)
    s >> owned(A, epoch=2) << asks(A)
    s >> answered(A, with_id("1", "a")) << runs("a")
    s >> output("a", "old") << submits("old")
    s >> output("a", "new") << submits("new")


# -- the end --------------------------------------------------------------------------------------


def test_t26_it_ends_at_once_when_it_waits() -> None:
    s = listening(A)
    s >> told(Cancelled()) << is_done()
    s >> new_block()
    s.wait(3600)


def test_t26_what_runs_is_not_ended_and_may_submit() -> None:
    s = running("a")
    s >> told(Cancelled()) << is_done()
    s >> output("a") << submits("a!")
    s >> committed(A)


def test_of_several_things_to_do_it_takes_any() -> None:
    """The source has no order among them; here the seed decides."""
    ends = set()
    for seed in range(20):
        s = seed_script(chance=Random(seed))
        s >> owned(A) << watches()
        s >> stream_opened() << asks(A)
        s >> new_block()
        s >> told(Cancelled())
        s >> answered(A)
        ends.add(type(s.seen()[0]).__name__)
    assert ends == {"Ask", "Done"}


def test_how_it_stands_can_be_read() -> None:
    s = running("a", "b")
    s >> output("a")
    [standing] = s.core.standings(s.now)
    assert (standing.phase, standing.running, standing.waiting) == ("watched", 1, 1)
    assert s.count(Run) + s.count(Submit) + s.count(Ask) == 0


def test_why_it_does_not_go_on_can_be_read() -> None:
    s = seed_script()
    s >> owned(A) << watches()
    assert "have not begun" in trouble(s.core.standings(s.now))
    s >> stream_opened() << asks(A)
    s >> not_answered(A, "away")
    assert trouble(s.core.standings(s.now)) == "1 of 1; aaaaaaaaaaaa: away"
    s.wait(60) << asks(A)
    s >> answered(A)
    assert trouble(s.core.standings(s.now)) == ""
