"""What the hardened processor does when something fails: again, later, or never.

The scenarios have the numbers of the issue, T1 to T53.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.offchain.processor_script import (
    CHAIN,
    A,
    B,
    Happening,
    Script,
    answered,
    asks,
    cancelled_run,
    committed,
    failed,
    new_block,
    no_place,
    not_answered,
    notified,
    output,
    owned,
    runs,
    script,
    slow,
    stream_opened,
    submits,
    submitted,
    told,
    watches,
    wished,
)
from workers.offchain.actions import Task
from workers.offchain.commands import Ask, Command, Run, Submit
from workers.offchain.ends import PERMANENT_ENDS, RunEnd, SubmitEnd
from workers.offchain.hardened.retry_gate import RetryGate
from workers.offchain.hardened.task_list import DEAD_LETTERS_CHARACTERS_MAX, DEAD_LETTERS_MAX
from workers.offchain.standing import trouble, troubles
from workers.offchain.stimuli import Resumed, Share, Wish


def running(*tasks: str | Task, **settings: object) -> Script:
    """A processor that runs these tasks, which its only application has listed."""
    s = script(**settings)
    s >> owned(A) << watches() << asks(A)
    s >> answered(A, *tasks)
    for task in tasks:
        s << runs(task if isinstance(task, str) else task.input)
    return s


def submitting(*tasks: str | Task, **settings: object) -> Script:
    """A processor that submits the first of these tasks, and has computed all."""
    s = running(*tasks, **settings)
    inputs = [task if isinstance(task, str) else task.input for task in tasks]
    s >> output(inputs[0]) << submits(f"{inputs[0]}!")
    for input in inputs[1:]:
        s >> output(input)
    return s


def with_id(id: str, input: str) -> Task:
    return Task("echo", input, id)


# -- the gate -------------------------------------------------------------------------------------


def test_a_gate_doubles_its_pause_up_to_a_limit_and_keeps_half_of_it() -> None:
    gate, now = RetryGate(5.0, 300.0), 100.0
    chance = Random(1)
    for limit_s in (5, 10, 20, 40, 80, 160, 300, 300):
        gate.failed(now, chance)
        assert limit_s / 2 <= gate.until - now <= limit_s
        until = gate.until
        gate.failed(now, chance)
        assert gate.until == until, "what fails meanwhile had begun before"
        now = gate.until
    gate.succeeded()
    gate.failed(now, chance)
    assert gate.until - now <= 5


@pytest.mark.parametrize("seed", range(20))
def test_t36_what_always_fails_runs_five_times_in_a_minute(seed: int) -> None:
    """With a block every 100 ms, whatever the dice say."""
    s = script(chance=Random(seed))
    s >> owned(A)

    def reply(command: Command) -> Happening | None:
        match command:
            case Ask():
                return answered(A, "poison")
            case Run():
                return failed("poison")
        return None

    played = s.play(reply)
    for _ in range(600):
        s >> new_block()
        played += s.play(reply)
        s.wait(0.1)
        played += s.play(reply)
    assert 3 <= sum(isinstance(command, Run) for command in played) <= 5


def test_after_a_success_pauses_begin_anew() -> None:
    s = running("a", "b")
    s >> output("b")
    for pause_s in (5, 10):
        s >> failed("a")
        s.wait(pause_s) << asks(A)
        s >> answered(A, "a", "b") << runs("a")
    s >> output("a") << submits("a!")
    s >> committed(A) << submits("b!")
    s.wait(0.2) << asks(A)
    s >> answered(A, "b")
    s >> submitted(A, SubmitEnd.TRANSIENT)
    s.wait(5) << asks(A)
    s >> answered(A, "b") << submits("b!")


def test_t36_a_sibling_that_succeeds_does_not_open_the_gate() -> None:
    s = running(with_id("1", "bad"), with_id("2", "good"))
    s >> failed("bad")
    s >> output("good") << submits("good!")
    s >> committed(A) << asks(A)
    s >> answered(A, with_id("1", "bad"))
    s.wait(4.9)
    s.wait(0.1) << asks(A)


# -- runs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [RunEnd.TRANSIENT, RunEnd.TIMEOUT, RunEnd.RESOURCES])
def test_t31_t33_what_may_succeed_next_time_is_tried_again(end: RunEnd) -> None:
    s = running("task")
    s >> failed("task", end, "signal 9", stderr="boo")
    [retry] = s.told("task_retry")
    assert (retry.code, retry.text, retry.attempt) == (end, "signal 9", 1)
    assert retry.retry_at_unix_us == s.unix_us + 5_000_000
    [record] = s.journal.tasks[A].values()
    assert (record.why, record.stderr) == (f"{end}: signal 9", "boo")
    s.wait(5) << asks(A)
    s >> answered(A, "task") << runs("task", attempt=2)


@pytest.mark.parametrize("end", sorted(PERMANENT_ENDS))
def test_t31_t32_what_would_end_the_same_way_is_dead_at_once(end: RunEnd) -> None:
    s = running("task")
    s >> failed("task", end, "because")
    [dead] = s.told("task_dead")
    assert (dead.code, dead.text) == (end, "because")
    alarms = [n for n in s.notes if n.level == "error"]
    assert len(alarms) == 1
    for _ in range(10):
        s.wait(60) << asks(A)
        s >> answered(A, "task")
    assert alarms == [n for n in s.notes if n.level == "error"], "one alarm"


def test_an_operator_that_the_application_may_not_use_is_not_run() -> None:
    s = script()
    s >> owned(Share(A, 1, operators=frozenset({"cat"}))) << watches() << asks(A)
    s >> answered(A, Task("rm", "-rf"))
    assert [e.code for e in s.told("task_dead")] == [RunEnd.NOT_ALLOWED]
    s >> owned(Share(A, 1, operators=None)) << asks(A)  # its entry has changed
    s >> answered(A, Task("rm", "-rf")) << runs("-rf")


def test_what_could_not_be_started_is_no_attempt_of_the_task() -> None:
    s = running("task", max_attempts=1)
    for pause_s in (5, 10):
        s >> failed("task", RunEnd.NOT_STARTED, "no more processes")
        s.wait(pause_s) << asks(A)
        s >> answered(A, "task") << runs("task", attempt=1)


def test_a_run_that_was_cancelled_is_run_again() -> None:
    s = running("task", max_attempts=1)
    s >> cancelled_run("task") << runs("task", attempt=1)


def test_a_place_that_the_host_refuses_is_asked_for_later() -> None:
    s = running("a", with_id("1", "b"), concurrency=2)
    s >> no_place("b")
    assert s.states(A) == [("a", "running"), ("b", "waiting")]
    s.wait(0.25) << runs("b", attempt=1)
    s >> no_place("b")
    s.wait(0.49)
    s >> output("a") << runs("b") << submits("a!")  # a place of ours became free


def test_t34_a_slow_run_is_told_and_goes_on() -> None:
    s = running("task")
    s >> slow("task", 301.0)
    [told] = s.told("task_slow")
    assert told.text == "runs for 301 s"
    assert [n.level for n in s.notes] == ["warning"]
    s >> output("task") << submits("task!")


def test_t37_after_enough_attempts_a_task_is_dead_and_blocks_its_group() -> None:
    s = running("bad", with_id("1", "other"), "behind", max_attempts=2)
    s >> output("behind")
    s >> failed("bad")
    s.wait(5) << asks(A)
    s >> answered(A, "bad", "behind", with_id("1", "other")) << runs("bad")
    s >> failed("bad", text="again")
    assert [e.text for e in s.told("task_dead")] == ["again"]
    s >> output("other") << submits("other!")
    s >> committed(A) << asks(A)
    s >> answered(A, "bad", "behind", "new")
    assert s.states(A) == [("bad", "dead"), ("behind", "computed"), ("new", "waiting")]
    s >> wished(A, "bad", Wish.RETRY) << asks(A)
    s >> answered(A, "bad", "behind", "new") << runs("bad", attempt=1) << runs("new")
    s >> output("bad") << submits("bad!")
    s >> committed(A) << submits("behind!")


def test_t37_with_the_same_id_a_dead_task_blocks_too() -> None:
    s = running(with_id("x", "bad"), with_id("y", "other"), with_id("x", "behind"))
    s >> failed("bad", RunEnd.PERMANENT)
    s >> output("behind")
    s >> output("other") << submits("other!")


def test_what_was_dropped_is_never_tried_while_it_is_listed() -> None:
    s = running("bad", "behind")
    s >> failed("bad", RunEnd.PERMANENT)
    s >> output("behind")
    s >> wished(A, "bad", Wish.DROP) << asks(A)
    s >> answered(A, "bad", "behind")
    for _ in range(5):
        s.wait(60) << asks(A)
        s >> answered(A, "bad", "behind")
    s >> new_block() << asks(A)
    s >> answered(A, "behind") << submits("behind!")  # the application has given it up
    assert s.states(A) == [("behind", "submitting")]


def test_a_dead_letter_outlives_that_the_application_forgets_it() -> None:
    s = running("bad")
    s >> failed("bad", RunEnd.PERMANENT)
    s >> new_block() << asks(A)
    s >> answered(A)
    [letter] = s.journal.tasks[A].values()
    assert (letter.state, letter.asked) == ("dead", False)
    s >> new_block() << asks(A)
    s >> answered(A, "bad") << runs("bad", serial=2)  # it wants it anew
    s >> output("bad") << submits("bad!")
    s >> wished(A, "bad", Wish.RETRY)
    assert s.states(A) == [("bad", "submitting")], "nobody would take its outcome"


def test_dead_letters_are_bounded() -> None:
    s = script()
    s >> owned(A) << watches() << asks(A)
    for i in range(DEAD_LETTERS_MAX + 5):
        s >> answered(A, f"bad {i}") << runs(f"bad {i}")
        s >> failed(f"bad {i}", RunEnd.PERMANENT)
        s >> new_block() << asks(A)
    s >> answered(A)
    assert len(s.states(A)) == DEAD_LETTERS_MAX
    assert s.states(A)[0] == ("bad 5", "dead"), "the oldest go"


def test_dead_letters_are_bounded_in_size() -> None:
    s = script()
    s >> owned(A) << watches() << asks(A)
    long = "x" * (DEAD_LETTERS_CHARACTERS_MAX // 3)
    for i in range(5):
        s >> answered(A, f"{i}{long}") << runs(f"{i}{long}")
        s >> failed(f"{i}{long}", RunEnd.INPUT_TOO_LARGE)
        s >> new_block() << asks(A)
    s >> answered(A)
    assert [input[0] for input, _ in s.states(A)] == ["3", "4"]


def test_a_wish_for_a_task_that_runs_is_not_followed() -> None:
    s = running("task")
    s >> wished(A, "task", Wish.DROP)
    assert [n.text.split()[0] for n in s.notes] == ["wish_not_followed"]
    s >> output("task") << submits("task!")


def test_a_wish_opens_the_gate_of_a_task_that_waits() -> None:
    s = running("task")
    s >> failed("task")
    s >> wished(A, "task", Wish.RETRY) << asks(A)
    s >> answered(A, "task") << runs("task", attempt=1)


# -- submissions ----------------------------------------------------------------------------------


def test_t10_who_is_not_leader_waits_for_its_round() -> None:
    s = submitting("task", retry_delay_s=60)
    s >> submitted(A, SubmitEnd.WAIT_UNTIL, until_unix_us=s.unix_us + 3_000_000)
    s.wait(2.99)
    s.wait(0.02) << asks(A)
    s >> answered(A, "task") << submits("task!")
    assert len(s.told("task_started")) == 1


@pytest.mark.parametrize("reason", ["NewBlock", "NewRound"])
def test_t10_a_block_or_a_round_wakes_it_earlier(reason: str) -> None:
    s = submitting("task")
    s >> submitted(A, SubmitEnd.WAIT_UNTIL, until_unix_us=s.unix_us + 3_000_000)
    s >> notified(reason) << asks(A)
    s >> answered(A, "task") << submits("task!")


def test_t10_other_news_say_nothing_of_a_round() -> None:
    s = submitting("task")
    s >> submitted(A, SubmitEnd.WAIT_UNTIL, until_unix_us=s.unix_us + 3_000_000)
    s >> notified("NewIncomingBundle")
    s.wait(2.9)


def test_t10_a_round_in_the_past_or_far_away_is_not_believed() -> None:
    s = submitting("task")
    s >> submitted(A, SubmitEnd.WAIT_UNTIL, until_unix_us=0) << asks(A)
    s >> answered(A, "task") << submits("task!")
    s >> submitted(A, SubmitEnd.WAIT_UNTIL, until_unix_us=2**63)
    asked = 0
    for _ in range(61):
        for command in s.wait(60).seen():
            asked += 1
            assert isinstance(command, Ask)
        s >> answered(A, "task")
        if s.wanted:
            break
    s << submits("task!")
    assert asked == 60, "after an hour"


def test_t11_after_a_conflict_it_asks_at_once_and_uses_the_output_again() -> None:
    s = submitting("task", "next")
    s >> submitted(A, SubmitEnd.CONFLICT) << asks(A)
    s >> answered(A, "task", "next") << submits("task!")
    s >> committed(A) << submits("next!")
    assert len(s.told("task_started")) == 2


def test_t11_a_conflict_may_mean_that_the_task_is_over() -> None:
    s = submitting("task", "next")
    s >> submitted(A, SubmitEnd.CONFLICT) << asks(A)
    s >> answered(A, "next") << submits("next!")


def test_t11_where_conflicts_go_on_it_pauses() -> None:
    s = submitting("task")
    for _ in range(5):
        s >> submitted(A, SubmitEnd.CONFLICT) << asks(A)
        s >> answered(A, "task") << submits("task!")
    s >> submitted(A, SubmitEnd.CONFLICT)
    s.wait(1) << asks(A)
    s >> answered(A, "task") << submits("task!")


def test_t38_an_outcome_without_effect_backs_off_and_dies() -> None:
    s = submitting("task", max_attempts=3)
    s >> submitted(A, SubmitEnd.NO_EFFECT, text="false")
    s.wait(5) << asks(A)
    s >> answered(A, "task") << submits("task!")
    s >> submitted(A, SubmitEnd.NO_EFFECT, text="false")
    s.wait(10) << asks(A)
    s >> answered(A, "task") << submits("task!")
    s >> submitted(A, SubmitEnd.NO_EFFECT, text="false")
    assert [(e.code, e.text) for e in s.told("task_dead")] == [("no_effect", "false")]
    assert len(s.told("task_started")) == 1, "the output stays what it was"
    s.wait(59)


def test_t38_a_rejected_outcome_is_computed_again() -> None:
    s = submitting("task", max_attempts=2)
    s >> submitted(A, SubmitEnd.REJECTED, text="too old")
    s.wait(5) << asks(A)
    s >> answered(A, "task") << runs("task", attempt=2)
    s >> output("task") << submits("task!")
    s >> submitted(A, SubmitEnd.REJECTED, text="too old")
    assert [(e.code, e.text) for e in s.told("task_dead")] == [("rejected", "too old")]


@pytest.mark.parametrize("end", [SubmitEnd.NO_EFFECT, SubmitEnd.REJECTED])
def test_t38_it_is_no_hot_loop(end: SubmitEnd) -> None:
    s = script(chance=Random(1))
    s >> owned(A)

    def reply(command: Command) -> Happening | None:
        match command:
            case Ask():
                return answered(A, "task")
            case Run():
                return output("task")
            case Submit():
                return submitted(A, end)
        return None

    played = s.play(reply)
    for _ in range(50):
        s >> new_block()
        played += s.play(reply)
        s.wait(0.1)
        played += s.play(reply)
    assert sum(isinstance(command, Run | Submit) for command in played) <= 4


def test_t39_what_may_have_been_committed_is_asked_for_first() -> None:
    s = submitting("task", "next")
    s >> submitted(A, SubmitEnd.AMBIGUOUS, text="connection reset") << asks(A)
    s >> answered(A, "next") << submits("next!")
    [outcome] = s.told("task_outcome")
    assert (outcome.code, outcome.serial) == ("ambiguous", 1)


def test_t39_what_was_not_committed_is_submitted_again_after_a_pause() -> None:
    s = submitting("task")
    s >> submitted(A, SubmitEnd.AMBIGUOUS, text="connection reset") << asks(A)
    s >> answered(A, "task")  # not yet: the node may still be at it
    s.wait(5) << asks(A)
    s >> answered(A, "task") << submits("task!")
    assert len(s.told("task_started")) == 1


def test_t39_the_node_has_its_time_however_short_the_pauses_are() -> None:
    s = submitting("task", retry_delay_s=0.1)
    s >> submitted(A, SubmitEnd.AMBIGUOUS, text="connection reset") << asks(A)
    s >> answered(A, "task")
    s.wait(4.9)
    s.wait(0.1) << asks(A)
    s >> answered(A, "task") << submits("task!")


def test_t39_an_equal_task_that_stands_elsewhere_is_another() -> None:
    s = submitting("tick", "tock")
    s >> submitted(A, SubmitEnd.AMBIGUOUS) << asks(A)
    s >> answered(A, "tock", "tick") << submits("tock!")
    s.wait(5) << asks(A)
    s >> answered(A, "tock", "tick")
    s >> committed(A) << asks(A)
    s >> answered(A, "tick") << runs("tick", serial=3)


def test_a_node_that_is_down_kills_no_task() -> None:
    s = submitting("task", max_attempts=1)
    for pause_s in (5, 10, 20):
        s >> submitted(A, SubmitEnd.TRANSIENT, text="connection refused")
        s.wait(pause_s) << asks(A)
        s >> answered(A, "task") << submits("task!")


def test_an_outcome_that_the_node_does_not_take_is_dead() -> None:
    s = submitting("task")
    s >> submitted(A, SubmitEnd.OUTCOME_TOO_LARGE)
    assert [e.code for e in s.told("task_dead")] == [SubmitEnd.OUTCOME_TOO_LARGE]


def test_a_wrong_configuration_stops_the_application_with_an_alarm() -> None:
    s = submitting("task", "next")
    s >> submitted(A, SubmitEnd.CONFIGURATION, text="read-only")
    assert [n.text.split()[0] for n in s.notes if n.level == "error"] == ["application_stopped"]
    for _ in range(29):
        s >> new_block()
        s.wait(10)
    s.wait(10) << asks(A)
    s >> answered(A, "task", "next") << submits("task!")
    s >> submitted(A, SubmitEnd.CONFIGURATION, text="read-only")
    s >> owned(A) << asks(A)  # an update ends the pause
    s >> answered(A, "task", "next") << submits("task!")
    s >> submitted(A, SubmitEnd.CONFIGURATION, text="read-only")
    s >> told(Resumed(A)) << asks(A)  # and so does a word
    s >> told(Resumed(A))
    s >> answered(A, "task", "next") << submits("task!")


def test_why_an_application_does_not_go_on_is_told_while_it_does_not() -> None:
    s = submitting("task", with_id("1", "other"))
    s >> submitted(A, SubmitEnd.CONFIGURATION, text="read-only")
    [standing] = s.core.standings(s.now)
    until = "22:18:20 UTC"  # 300 s after the script's start
    assert standing.trouble.startswith("configuration: read-only. ")
    assert until in standing.trouble
    assert [n.text.partition("text=")[2] for n in s.notes] == [standing.trouble]
    assert [t.why for t in s.journal.tasks[A].values()] == ["configuration: read-only", ""]
    assert trouble([standing]).startswith("1 of 1; aaaaaaaaaaaa: configuration: read-only. ")

    s >> told(Resumed(A)) << asks(A)
    s >> not_answered(A, "away")
    assert trouble(s.core.standings(s.now)) == "1 of 1; aaaaaaaaaaaa: away"
    s.wait(1) << asks(A)
    s >> answered(A, "task", with_id("1", "other")) << submits("other!")
    assert trouble(s.core.standings(s.now)) == ""


def test_an_answer_on_its_way_does_not_hide_why_an_application_is_stopped() -> None:
    s = submitting("task")
    s.wait(1)
    s >> new_block() << asks(A)
    s >> submitted(A, SubmitEnd.CONFIGURATION, text="read-only")
    s >> answered(A, "task")
    [standing] = s.core.standings(s.now)
    assert standing.trouble.startswith("configuration: read-only. ")
    assert troubles([standing]) == {A.key: standing.trouble}


def test_a_wrong_configuration_stops_only_its_own_application() -> None:
    s = submitting("task")
    s >> owned(A, B) << asks(B)
    s >> submitted(A, SubmitEnd.CONFIGURATION)
    s >> answered(B, "other") << runs("other")
    s >> output("other") << submits("other!")


# -- questions ------------------------------------------------------------------------------------


def test_t12_questions_back_off_to_a_minute() -> None:
    s = script()
    s >> owned(A, B) << watches() << asks(A) << asks(B)
    s >> answered(B, "task") << runs("task")
    for pause_s in (1, 2, 4, 8, 16, 32):
        s >> not_answered(A, "GraphQL: no such field")
        s.wait(pause_s - 0.01)
        s.seen()
        s.wait(0.01)
        assert A in s.asks
        s.seen()
    assert "text=GraphQL: no such field" in s.notes[0].text


def test_t12_a_failed_question_changes_nothing_else() -> None:
    s = running("task")
    s >> new_block()
    s.wait(0.2) << asks(A, cursor=None)
    s >> not_answered(A)
    assert s.states(A) == [("task", "running")]
    s >> new_block()
    s.wait(0.9)
    s.wait(0.1) << asks(A, cursor=None)


def test_t41_when_the_stream_opens_again_everything_is_asked_for() -> None:
    s = script()
    s >> owned(A, B) << watches() << asks(A) << asks(B)
    s >> answered(A)
    s >> not_answered(B)
    s >> stream_opened(CHAIN) << asks(A) << asks(B)


def test_t43_an_application_that_hangs_stops_nobody_else() -> None:
    s = script()
    s >> owned(A, B) << watches() << asks(A, limit_s=30.0) << asks(B)
    s >> answered(B, "task") << runs("task")
    s >> output("task") << submits("task!")
    s >> committed(B) << asks(B)


# -- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_s", [-3600, 3600])
def test_t51_a_gate_does_not_go_by_the_wall_clock(by_s: float) -> None:
    s = running("task")
    s >> failed("task")
    s.set_wall_clock(by_s)
    s >> new_block() << asks(A)
    s >> answered(A, "task")
    s.wait(4.9)
    s.wait(0.1) << asks(A)
    s >> answered(A, "task") << runs("task")


def test_t51_a_callback_goes_by_the_wall_clock() -> None:
    s = script()
    s >> owned(A) << watches() << asks(A)
    at = s.unix_us + 20_000_000
    s >> answered(A, callback=at)
    s.set_wall_clock(-30)
    s.wait(49)
    s.wait(1) << asks(A, now_unix_us=at)
    s >> answered(A, callback=at + 3_600_000_000)
    s.set_wall_clock(3600)
    s.sleep(0.2) >> notified("NewRound") << asks(A, now_unix_us=at + 3_600_200_000)
