"""The hardened processor's daily work: when it asks, what it runs, in which order it submits.

The scenarios have the numbers of the issue, T1 to T53.
"""

from __future__ import annotations

from tests.offchain.processor_script import (
    CHAIN,
    ELSEWHERE,
    OTHER_CHAIN,
    A,
    B,
    Script,
    answered,
    asks,
    committed,
    failed,
    new_block,
    not_answered,
    notified,
    output,
    owned,
    runs,
    script,
    stream_opened,
    submits,
    watches,
)
from workers.offchain.actions import TIMESTAMP_MAX, Task
from workers.offchain.commands import Ask, Run


def one(**settings: object) -> Script:
    """A processor that has just asked its only application for the first time."""
    s = script(**settings)
    s >> owned(A) << watches() << asks(A, cursor=None)
    return s


def with_id(id: str, input: str) -> Task:
    return Task("echo", input, id)


def test_t1_pending_work_is_done_without_any_notification() -> None:
    s = one()
    s >> answered(A, "first", "second") << runs("first") << runs("second")
    s >> output("first") << submits("first!")
    s >> output("second")
    s >> committed(A) << submits("second!")
    s >> committed(A) << asks(A)
    s >> answered(A)
    assert s.states(A) == []
    assert [e.event for e in s.events] == ["task_started"] * 2 + ["task_outcome"] * 2


def test_t2_an_outcome_is_the_output_of_the_operator_and_submitted_once() -> None:
    s = one()
    (
        s
        >> answered(A, Task("cat", "a\x1b\0\u2028\"'\\\n\U0001f600"))
        << runs("a\x1b\0\u2028\"'\\\n\U0001f600", operator="cat", serial=1, attempt=1, group=None)
    )
    (
        s
        >> output("a\x1b\0\u2028\"'\\\n\U0001f600", "b\xa0\n")
        << submits("b\xa0\n", epoch=1, serial=1)
    )
    s >> committed(A) << asks(A)
    [outcome] = s.told("task_outcome")
    assert (outcome.certificate, outcome.output_bytes, outcome.attempt) == ("ce" * 32, 4, 1)


def test_t3_a_block_before_the_first_answer_is_asked_for_again() -> None:
    s = one()
    s >> stream_opened()
    s >> new_block()
    s >> answered(A) << asks(A)
    s >> answered(A, "new") << runs("new")


def test_t4_only_a_new_block_makes_it_ask() -> None:
    s = script()
    s >> owned(A, B, ELSEWHERE)
    s << watches() << watches(OTHER_CHAIN) << asks(A) << asks(B) << asks(ELSEWHERE)
    for application in (A, B, ELSEWHERE):
        s >> answered(application)
    for reason in ("NewRound", "NewIncomingBundle", "BlockExecuted", "NewEvents", "Unheard"):
        s >> notified(reason)
    s >> new_block(CHAIN) << asks(A) << asks(B)


def test_t6_groups_do_not_wait_for_each_other() -> None:
    s = one()
    s >> answered(A, with_id("1", "slow"), with_id("2", "fast")) << runs("slow") << runs("fast")
    s >> output("fast") << submits("fast!")
    s >> committed(A)
    s.wait(0.2) << asks(A)  # soon, but a busy application is not asked at each step
    s >> answered(A, with_id("1", "slow"))
    s >> output("slow") << submits("slow!")


def test_t7_a_failure_stops_what_is_behind_it() -> None:
    s = one()
    s >> answered(A, "a", "b", "c") << runs("a") << runs("b") << runs("c")
    s >> output("c")
    s >> failed("b")
    s >> output("a") << submits("a!")
    s >> committed(A) << asks(A)
    s >> answered(A, "b", "c")
    s.wait(4.99)
    s.wait(0.02) << asks(A)
    s >> answered(A, "b", "c") << runs("b", attempt=2)
    s >> output("b") << submits("b!")
    s >> committed(A) << submits("c!")


def test_t8_a_failure_stops_only_its_own_group() -> None:
    s = one()
    s >> answered(A, with_id("1", "bad"), with_id("2", "good")) << runs("bad") << runs("good")
    s >> failed("bad")
    s >> output("good") << submits("good!")
    s >> committed(A) << asks(A)
    s >> answered(A, with_id("1", "bad"))
    s.wait(5) << asks(A)
    s >> answered(A, with_id("1", "bad")) << runs("bad", attempt=2)


def test_t9_tasks_of_one_id_keep_their_order() -> None:
    s = one()
    s >> answered(A, with_id("x", "x1"), with_id("y", "y1"), with_id("x", "x2"))
    s << runs("x1") << runs("y1") << runs("x2")
    s >> output("x2")
    s >> output("y1") << submits("y1!")
    s >> failed("x1")
    s >> committed(A) << asks(A)
    s >> answered(A, with_id("x", "x1"), with_id("x", "x2"))
    s.wait(5) << asks(A)


def test_t13_it_asks_when_the_application_wants_to_be_called_back() -> None:
    s = one()
    at = s.unix_us + 7_000_000
    s >> answered(A, callback=at)
    s.wait(6.99)
    s.wait(0.02) << asks(A, now_unix_us=at)
    s >> answered(A)
    s.wait(50)


def test_t14_an_application_has_one_timer() -> None:
    s = one()
    s >> answered(A, callback=s.unix_us + 10_000_000)
    for _ in range(100):
        s.wait(0.1) >> new_block() << asks(A)
        s >> answered(A, callback=s.unix_us + 10_000_000)
    s.wait(9.9)
    s.wait(0.2) << asks(A)


def test_t15_a_callback_in_the_past_is_no_loop() -> None:
    s = one()
    asked = 0
    for _ in range(500):
        if A in s.asks:
            s >> answered(A, callback=0)
        asked += s.wait(0.01).count(Ask)
    assert 24 <= asked <= 25, "five times in a second"


def test_t16_a_callback_at_the_end_of_time_never_comes() -> None:
    s = one()
    s >> answered(A, callback=TIMESTAMP_MAX)
    s.wait(59)
    assert s.core.deadline() <= s.now + 60, "the safety poll"
    assert (s.journal.callbacks[A] or 0) < 2**63, "a larger number does not fit into the journal"


def test_t17_a_cursor_stays_until_the_application_sets_another() -> None:
    s = one()
    for given, asked in (("a", "a"), (None, "a"), ("", ""), (None, "")):
        s >> answered(A, cursor=given)
        s >> new_block() << asks(A, cursor=asked)
    assert s.journal.cursors[A] == ""


def test_t18_after_batch_a_cursor_waits_for_the_batch() -> None:
    s = one(cursor_commit="after_batch")
    s >> answered(A, "task", cursor="later") << runs("task")
    s >> failed("task")
    s.wait(5) << asks(A, cursor=None)
    s >> answered(A, "task", cursor="later") << runs("task")
    s >> output("task") << submits("task!")
    s >> committed(A) << asks(A, cursor="later")


def test_t18_at_a_poll_a_cursor_counts_at_once() -> None:
    s = one()
    s >> answered(A, "task", cursor="next") << runs("task")
    s >> failed("task")
    s.wait(5) << asks(A, cursor="next")


def test_a_cursor_does_not_pass_over_a_group_that_was_skipped() -> None:
    s = one()
    s >> answered(A, with_id("1", "a"), with_id("2", "b")) << runs("a") << runs("b")
    s >> output("a") << submits("a!")
    s.wait(0.2) >> new_block() << asks(A)
    s >> answered(A, with_id("1", "a"), with_id("1", "new"), with_id("2", "b"), cursor="next")
    s >> committed(A)
    s.wait(0.2) << asks(A, cursor=None)
    s >> answered(A, with_id("1", "new"), with_id("2", "b"), cursor="next") << runs("new")
    s >> new_block()
    s.wait(0.2) << asks(A, cursor="next")


def test_t20_blocks_during_a_batch_start_nothing_twice() -> None:
    s = one()
    s >> answered(A, "task") << runs("task")
    asked = 0
    for _ in range(50):
        s >> new_block()
        s.wait(0.01)
        for command in s.seen():
            assert isinstance(command, Ask)
            asked += 1
            s >> answered(A, "task")
    assert asked <= 3, "a busy application is asked five times in a second"
    s >> output("task")
    assert s.count(Run) == 0


def test_t21_the_end_of_a_batch_makes_it_ask() -> None:
    s = one()
    s >> answered(A, "task") << runs("task")
    s >> output("task") << submits("task!")
    s >> committed(A) << asks(A)


def test_what_was_asked_before_a_commit_does_not_bring_a_task_back() -> None:
    s = one()
    s >> answered(A, "task") << runs("task")
    s >> new_block()
    s.wait(0.2) << asks(A)
    s >> output("task") << submits("task!")
    s >> committed(A)
    s >> answered(A, "task") << asks(A)  # from before the commit
    s >> answered(A)
    assert s.states(A) == []


def test_equal_tasks_are_as_many_as_are_listed() -> None:
    s = one()
    s >> answered(A, "tick", "tick") << runs("tick", serial=1) << runs("tick", serial=2)
    s >> output("tick") << submits("tick!", serial=1)
    s >> committed(A)
    s.wait(0.2) << asks(A)
    s >> answered(A, "tick", "tick", "tick") << runs("tick", serial=3) << runs("tick", serial=4)


def test_a_task_that_is_no_longer_listed_is_ended() -> None:
    s = one()
    s >> answered(A, with_id("1", "a"), with_id("2", "b")) << runs("a") << runs("b")
    run = s.run("a")
    s.wait(0.2) >> new_block() << asks(A)
    s >> answered(A, with_id("2", "b"))
    [kill] = s.seen()
    assert kill.run == run
    assert s.states(A) == [("b", "running")]
    s >> output("a")  # it was faster than the signal: nobody wants it
    s >> output("b") << submits("b!")


def test_it_asks_once_in_a_minute_when_nothing_happens() -> None:
    s = one()
    s >> answered(A)
    s.wait(60) << asks(A)
    s >> answered(A)
    s.wait(60) << asks(A)


def test_nothing_is_started_for_an_application_that_does_not_answer() -> None:
    s = one(per_application=1)
    s >> answered(A, "a", "b") << runs("a")
    s >> new_block()
    s.wait(0.2) << asks(A)
    s >> not_answered(A)
    s >> output("a")
    s.wait(1) << asks(A)
    s >> answered(A, "a", "b") << runs("b") << submits("a!")
