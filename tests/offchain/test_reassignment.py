"""The hardened processor when applications come and go, processors die, and epochs change.

The scenarios have the numbers of the issue, T1 to T53.
"""

from __future__ import annotations

import pytest

from tests.offchain.processor_script import (
    CHAIN,
    ELSEWHERE,
    OTHER_CHAIN,
    A,
    B,
    C,
    PlayedJournal,
    Script,
    answered,
    asks,
    cancelled_run,
    committed,
    failed,
    is_done,
    kills,
    new_block,
    not_answered,
    output,
    owned,
    refused,
    releases,
    runs,
    script,
    stops_asking,
    submits,
    submitted,
    told,
    unwatches,
    watches,
)
from workers.offchain.actions import Task
from workers.offchain.ends import RunEnd, SubmitEnd
from workers.offchain.stimuli import Cancelled, EpochTaken, Share, SubmitEnded, Wish, Wished


def running(*inputs: str, **settings: object) -> Script:
    s = script(**settings)
    s >> owned(A) << watches() << asks(A)
    s >> answered(A, *inputs)
    for input in inputs:
        s << runs(input)
    return s


def owner_after(dead: Script, *shares: Share, chain: str = CHAIN, **settings: object) -> Script:
    """Another processor, after the first was killed; the journal is what is left of it."""
    s = script(journal=dead.journal, **settings)
    s.now, s.unix_us = dead.now, dead.unix_us
    s >> owned(*shares) << watches(chain)
    return s


# -- lists ----------------------------------------------------------------------------------------


def test_t24_only_what_is_new_is_asked() -> None:
    s = script()
    s >> owned(A, C) << watches() << asks(A) << asks(C)
    s >> answered(A, cursor="a's")
    s >> answered(C, callback=s.unix_us + 5_000_000)
    s >> owned(A, B) << releases(C) << asks(B)
    s >> answered(B)
    s.wait(10)
    s >> new_block() << asks(A, cursor="a's") << asks(B)


def test_t25_an_empty_list_leaves_it_alive() -> None:
    s = script()
    s >> owned(A) << watches() << asks(A)
    s >> answered(A, cursor="here")
    s >> owned() << releases(A) << unwatches()
    assert s.core.held() == []
    s.wait(600)
    s >> owned(A, epoch=2) << watches() << asks(A, cursor="here")  # the journal has kept it


def test_an_application_that_is_listed_twice_is_one() -> None:
    s = script()
    s >> owned(A, A) << watches() << asks(A)
    assert s.core.held() == [(A, 1)]


def test_a_chain_is_listened_to_as_long_as_something_of_it_is_ours() -> None:
    s = script()
    s >> owned(A, B, ELSEWHERE)
    s << watches() << watches(OTHER_CHAIN) << asks(A) << asks(B) << asks(ELSEWHERE)
    s >> owned(B) << stops_asking() << stops_asking() << releases(A)
    s << releases(ELSEWHERE) << unwatches(OTHER_CHAIN)


def test_what_is_ours_and_how_it_stands_can_be_read() -> None:
    s = running("a", "b", "c", per_application=3)
    s >> failed("b", RunEnd.PERMANENT)
    s.wait(0.2) >> new_block() << asks(A)
    s >> answered(A, "a", "b", "c", Task("echo", "d", "4")) << runs("d")
    s >> output("c")
    s.sleep(7)
    [standing] = s.core.standings(s.now)
    assert (standing.application, standing.epoch, standing.phase) == (A, 1, "watched")
    assert (standing.running, standing.waiting, standing.dead) == (2, 1, 1)
    assert standing.oldest_s == pytest.approx(7.2)


# -- taken away -----------------------------------------------------------------------------------


def test_t22_an_application_that_is_taken_away_submits_nothing_more() -> None:
    s = running("a", "b")
    a, b = kills(s, "a"), kills(s, "b")
    s >> owned() << a << b
    s >> output("a")  # it was faster than the signal
    assert s.core.held() == [(A, 1)], "something runs"
    s >> cancelled_run("b") << releases(A) << unwatches()
    assert s.states(A) == [("a", "computed"), ("b", "waiting")]
    assert s.core.held() == []
    s.wait(600)


def test_t22_operators_may_come_to_their_end() -> None:
    s = running("a", "b", unassign="finish")
    s >> owned()
    s >> output("a")
    s >> failed("b") << releases(A) << unwatches()
    assert s.states(A) == [("a", "computed"), ("b", "waiting")]


def test_t22_a_submission_on_its_way_is_waited_for() -> None:
    s = running("a", "b")
    s >> output("a") << submits("a!")
    b = kills(s, "b")
    s >> owned() << b
    s >> cancelled_run("b")
    s.wait(60)
    assert s.core.held() == [(A, 1)]
    s >> committed(A) << releases(A) << unwatches()
    assert s.states(A) == [("b", "waiting")]
    assert len(s.told("task_outcome")) == 1


def test_an_answer_to_an_application_that_was_taken_away_is_not_heard() -> None:
    s = script()
    s >> owned(A) << watches() << asks(A)
    late = answered(A, "task")(s)
    s >> owned() << stops_asking() << releases(A) << unwatches()
    s >> told(late)


def test_t23_when_it_comes_back_the_old_run_is_ended_first() -> None:
    s = running("task")
    kill = kills(s, "task")
    s >> owned() << kill
    s >> owned(A, epoch=3)
    assert s.core.held() == [(A, 1)]
    s >> output("task") << releases(A) << asks(A)
    assert s.core.held() == [(A, 3)]
    s >> answered(A, "task") << submits("task!", epoch=3)  # what was computed is not lost
    s >> committed(A) << asks(A)
    assert len(s.told("task_outcome")) == 1


def test_t23_a_new_epoch_alone_takes_it_away_and_gives_it_back() -> None:
    s = running("task", unassign="finish")
    kill = kills(s, "task")
    s >> owned(A, epoch=2) << kill
    s >> cancelled_run("task") << releases(A) << asks(A)
    s >> answered(A, "task") << runs("task", attempt=1)


def test_t23_what_comes_back_and_goes_again_is_not_begun() -> None:
    s = running("task")
    kill = kills(s, "task")
    s >> owned() << kill
    s >> owned(A, epoch=2)
    s >> owned()
    s >> cancelled_run("task") << releases(A) << unwatches()
    assert s.core.held() == []


# -- epochs ---------------------------------------------------------------------------------------


def test_an_epoch_that_is_refused_is_let_go() -> None:
    journal = PlayedJournal()
    journal.epochs[A] = 5
    s = script(journal=journal)
    s >> owned(A, epoch=4) << watches() << releases(A, epoch=4) << unwatches()
    assert s.core.held() == []
    s >> owned(A, epoch=6) << watches() << asks(A)


def test_t48_who_has_lost_its_epoch_does_nothing_more() -> None:
    s = running("a", "b")
    s >> output("a") << submits("a!")
    b = kills(s, "b")
    s >> refused(A) << b
    s >> submitted(A, SubmitEnd.FENCED)
    before = s.states(A)
    s >> cancelled_run("b") << releases(A) << unwatches()
    assert s.states(A) == before, "the journal is the new owner's"


def test_t48_a_fenced_submission_is_the_end_too() -> None:
    s = running("a", "b")
    s >> output("a") << submits("a!")
    b = kills(s, "b")
    before = s.states(A)
    s >> submitted(A, SubmitEnd.FENCED) << b
    s >> cancelled_run("b") << releases(A) << unwatches()
    assert s.states(A) == before, "the journal is the new owner's"


def test_a_refusal_of_an_old_epoch_is_no_refusal_of_ours() -> None:
    s = running("task")
    kill = kills(s, "task")
    s >> owned(A, epoch=2) << kill
    s >> cancelled_run("task") << releases(A) << asks(A)
    s >> refused(A, epoch=1)
    s >> told(EpochTaken(A, 1, "old", None, [], 9))
    s >> answered(A, "task") << runs("task")


def test_answers_that_match_nothing_are_not_heard() -> None:
    s = running("task")
    s >> told(SubmitEnded(A, 1, None))
    s >> told(SubmitEnded(B, 1, None))
    s >> told(Wished(B, 1, Wish.RETRY))
    s >> output("task") << submits("task!")
    s >> told(SubmitEnded(A, 2, None))
    s >> committed(A) << asks(A)


# -- after a death --------------------------------------------------------------------------------


def test_t19_a_new_processor_goes_on_with_the_cursor_of_the_old_one() -> None:
    s = script()
    s >> owned(A) << watches() << asks(A)
    s >> answered(A, cursor="page 7", callback=s.unix_us + 9_000_000)
    s = owner_after(s, Share(A, 2))
    s << asks(A, cursor="page 7")
    s >> not_answered(A)
    s.wait(1) << asks(A)


def test_t40_what_was_computed_is_not_computed_again() -> None:
    s = running("a", "b")
    s >> output("b")
    s = owner_after(s, Share(A, 2)) << asks(A)
    s >> answered(A, "a", "b") << runs("a", attempt=2, serial=1)
    s >> output("a") << submits("a!")
    s >> committed(A) << submits("b!", serial=2)


def test_t40_a_task_that_was_begun_while_its_processors_died_is_given_up() -> None:
    s = running("task", max_attempts=3)
    for attempt in (2, 3):
        s = owner_after(s, Share(A, attempt), max_attempts=3) << asks(A)
        s >> answered(A, "task") << runs("task", attempt=attempt)
    s = owner_after(s, Share(A, 9), max_attempts=3) << asks(A)
    s >> answered(A, "task")
    assert [e.event for e in s.events] == ["task_dead"]


def test_t48_before_a_lost_owner_is_surely_done_nothing_is_submitted() -> None:
    s = running("a", "b")
    s >> output("b")
    s >> output("a") << submits("a!")
    s = owner_after(s, Share(A, 2, wait_s=120)) << asks(A)
    s >> answered(A, "a", "b")
    s.wait(60) << asks(A)
    s >> answered(A, "a", "b")
    s.wait(59.9)
    s.wait(0.1) << asks(A)
    s >> answered(A, "b") << submits("b!", serial=2)  # it had arrived
    assert [e.code for e in s.told("task_outcome")] == ["ambiguous"]


def test_t48_what_a_lost_owner_did_not_get_through_is_submitted_after_asking() -> None:
    s = running("a")
    s >> output("a") << submits("a!")
    s = owner_after(s, Share(A, 2, wait_s=120)) << asks(A)
    s >> answered(A, "a")
    s.wait(60) << asks(A)
    s >> answered(A, "a")
    s.wait(59.9)
    s.wait(0.1) << asks(A)
    s >> answered(A, "a") << submits("a!", epoch=2)


def test_t48_nobody_waits_for_an_owner_whose_process_has_ended() -> None:
    s = owner_after(running("task"), Share(A, 2, wait_s=120, before=1)) << asks(A)
    s >> answered(A, "task") << runs("task")
    s >> output("task") << submits("task!", epoch=2)


def test_t48_a_wait_that_is_said_again_may_only_be_shorter() -> None:
    s = owner_after(script(), Share(A, 2, wait_s=100)) << asks(A)
    s >> answered(A, "task") << runs("task")
    s >> output("task")
    s >> owned(Share(A, 2, wait_s=500))
    s >> owned(Share(A, 2, wait_s=10))
    s.wait(9.9)
    s.wait(0.1) << asks(A)
    s >> answered(A, "task") << submits("task!", epoch=2)


def test_t48_new_work_waits_for_the_lost_owner_too() -> None:
    s = owner_after(script(), Share(A, 2, wait_s=10)) << asks(A)
    s >> answered(A, "task") << runs("task")
    s >> output("task")
    s.wait(9.9)
    s.wait(0.1) << asks(A)
    s >> answered(A, "task") << submits("task!")


def test_t40_without_a_wait_an_open_submission_is_still_looked_after() -> None:
    """The owner is dead, but the node may still be at what it had sent."""
    s = running("a")
    s >> output("a") << submits("a!")
    s = owner_after(s, Share(A, 2)) << asks(A)
    s >> answered(A, "a")
    s.wait(5) << asks(A)
    s >> answered(A, "a") << submits("a!")


def test_a_gate_stays_closed_for_the_next_owner() -> None:
    s = running("task")
    s >> failed("task")
    s.wait(5) << asks(A)
    s >> answered(A, "task") << runs("task")
    s >> failed("task")
    s = owner_after(s, Share(A, 2)) << asks(A)
    s >> answered(A, "task")
    s.wait(9.9)
    s.wait(0.2) << asks(A)
    s >> answered(A, "task") << runs("task", attempt=3)
    s >> failed("task")
    s.wait(19.9)
    s.wait(0.2) << asks(A)


def test_a_gate_remembers_what_was_submitted_in_vain() -> None:
    s = running("task")
    s >> output("task") << submits("task!")
    s >> submitted(A, SubmitEnd.NO_EFFECT)
    s.wait(5) << asks(A)
    s >> answered(A, "task") << submits("task!")
    s >> submitted(A, SubmitEnd.NO_EFFECT)
    s = owner_after(s, Share(A, 2)) << asks(A)
    s >> answered(A, "task")
    s.wait(9.9)
    s.wait(0.2) << asks(A)
    s >> answered(A, "task") << submits("task!")
    s >> submitted(A, SubmitEnd.NO_EFFECT)
    s.wait(19.9)
    s.wait(0.2) << asks(A)


def test_no_gate_is_closed_for_longer_when_the_wall_clock_was_set() -> None:
    s = running("task", retry_max_s=60)
    s >> failed("task")
    s.set_wall_clock(-3600)
    s = owner_after(s, Share(A, 2), retry_max_s=60) << asks(A)
    s >> answered(A, "task")
    s.wait(59.9)
    s.wait(0.2) << asks(A)
    s >> answered(A, "task") << runs("task", attempt=2)


def test_what_was_not_tried_is_tried_by_the_next_owner_that_can() -> None:
    s = script(operators=frozenset({"echo"}))
    tasks = [Task("new", "a"), Task("echo", "b", "1"), Task("echo", "c", "2")]
    s >> owned(Share(A, 1, operators=frozenset({"new", "echo"}))) << watches() << asks(A)
    s >> answered(A, *tasks) << runs("b") << runs("c")
    assert [(e.code, e.attempt) for e in s.told("task_dead")] == [(RunEnd.UNKNOWN_OPERATOR, 0)]
    s >> failed("b", RunEnd.CANNOT_START)
    s >> failed("c", RunEnd.PERMANENT)

    s = owner_after(s, Share(A, 2), operators=frozenset({"new", "echo"})) << asks(A)
    s >> answered(A, *tasks) << runs("a", attempt=1)
    assert s.states(A) == [("a", "running"), ("b", "dead"), ("c", "dead")]
    assert [e.event for e in s.events] == ["task_started"]


@pytest.mark.parametrize(
    ("known", "allowed", "end"),
    [
        (frozenset({"other"}), None, RunEnd.UNKNOWN_OPERATOR),
        (frozenset({"echo"}), frozenset({"other"}), RunEnd.NOT_ALLOWED),
    ],
)
def test_what_is_still_not_to_be_tried_stays_dead_without_another_word(
    known: frozenset[str], allowed: frozenset[str] | None, end: RunEnd
) -> None:
    s = script(operators=known)
    s >> owned(Share(A, 1, operators=allowed)) << watches() << asks(A)
    s >> answered(A, "task")
    assert [e.code for e in s.told("task_dead")] == [end]
    for epoch in (2, 3):
        s = owner_after(s, Share(A, epoch, operators=allowed), operators=known) << asks(A)
        s >> answered(A, "task")
        assert s.states(A) == [("task", "dead")]
        assert (s.events, s.notes) == ([], [])


def test_letters_and_dropped_tasks_stay_what_they_are() -> None:
    s = running("letter")
    s >> failed("letter", RunEnd.PERMANENT)
    s >> new_block() << asks(A)
    s >> answered(A, "dropped") << runs("dropped")
    s >> failed("dropped", RunEnd.PERMANENT)
    s >> told(Wished(A, 2, Wish.DROP)) << asks(A)
    s = owner_after(s, Share(A, 2))
    s << asks(A)
    s >> answered(A, "dropped", "behind")
    assert s.states(A) == [("letter", "dead"), ("dropped", "dropped"), ("behind", "waiting")]
    assert s.core.standings(s.now)[0].dead == 1


def test_a_serial_is_never_given_again() -> None:
    s = running("a")
    s >> output("a") << submits("a!")
    s >> committed(A) << asks(A)
    s = owner_after(s, Share(A, 2)) << asks(A)
    s >> answered(A, "a") << runs("a", serial=2)


# -- the end --------------------------------------------------------------------------------------


def test_t26_an_idle_processor_is_done_at_once() -> None:
    s = script()
    s >> owned(A) << watches() << asks(A)
    s >> answered(A)
    s >> told(Cancelled()) << releases(A) << unwatches() << is_done()
    s.wait(600)


def test_t26_a_processor_without_applications_is_done_at_once() -> None:
    s = script()
    s >> told(Cancelled()) << is_done()
    s >> told(Cancelled())


def test_t26_a_hanging_question_is_not_waited_for() -> None:
    s = script()
    s >> owned(A) << watches() << asks(A)
    s >> told(Cancelled()) << stops_asking() << releases(A) << unwatches() << is_done()


def test_t26_operators_are_ended_and_nothing_is_submitted() -> None:
    s = running("a", "b")
    a, b = kills(s, "a"), kills(s, "b")
    s >> told(Cancelled()) << a << b
    s >> output("a")
    s >> owned(A, B)
    s >> cancelled_run("b") << releases(A) << unwatches() << is_done()
    assert s.states(A) == [("a", "computed"), ("b", "waiting")]


def test_t26_operators_may_come_to_their_end_there_too() -> None:
    s = running("a", unassign="finish")
    s >> told(Cancelled())
    s >> output("a") << releases(A) << unwatches() << is_done()
    assert s.states(A) == [("a", "computed")]


def test_t26_a_submission_on_its_way_is_finished() -> None:
    s = running("a")
    s >> output("a") << submits("a!")
    s >> told(Cancelled())
    s >> committed(A) << releases(A) << unwatches() << is_done()
    assert s.states(A) == []


def test_t39_the_next_owner_hears_of_an_end_that_is_not_known() -> None:
    s = running("tick")
    s >> output("tick") << submits("tick!")
    s >> submitted(A, SubmitEnd.AMBIGUOUS) << asks(A)
    s >> owned(A, epoch=2) << stops_asking() << releases(A) << asks(A)
    s >> answered(A, "tick")  # the node may still be at it
    s.wait(5) << asks(A)
    s >> answered(A, "tick") << submits("tick!", epoch=2)
