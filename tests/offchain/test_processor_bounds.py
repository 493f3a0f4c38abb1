"""How much the hardened processor does at once, for whom first, and what that costs.

The scenarios have the numbers of the issue, T1 to T53.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from types import FrameType
from typing import Any

import pytest

from tests.offchain.processor_script import (
    CHAIN,
    ELSEWHERE,
    A,
    B,
    Happening,
    Script,
    answered,
    asks,
    committed,
    output,
    owned,
    runs,
    script,
    submits,
    watches,
)
from workers.offchain.actions import ProcessorActions, Task
from workers.offchain.application import Application
from workers.offchain.commands import Ask, Command, Run, Submit
from workers.offchain.ends import RunEnd, RunResult, SubmitEnd, SubmitResult
from workers.offchain.hardened.ordered_group import AHEAD_MAX
from workers.offchain.hardened.processor import Processor
from workers.offchain.hardened.task_list import TASKS_MAX
from workers.offchain.hardened.watched_application import UNSUBMITTED_MAX
from workers.offchain.processor_settings import ProcessorSettings
from workers.offchain.stimuli import (
    Answered,
    EpochTaken,
    RunEnded,
    Share,
    SubmitEnded,
    Updated,
)


class ManyTasks:
    """An application that has many tasks, and operators that end in no order at all."""

    def __init__(self, s: Script, tasks: list[Task]) -> None:
        self.s = s
        s.validates_every = 25
        self.pending = {task.input: task for task in tasks}
        self.running: list[str] = []
        self.submitted: list[str] = []
        self.most = 0
        self._chance = Random(4)

    def reply(self, command: Command) -> Happening | None:
        match command:
            case Ask(application=application):
                return answered(application, *self.pending.values())
            case Run(input=input):
                self.running.append(input)
                self.most = max(self.most, len(self.running))
            case Submit(outcome=outcome):
                self.submitted.append(outcome.output)
                del self.pending[outcome.output.removesuffix("!")]
                return committed(A)
        return None

    def work(self) -> None:
        """Let everything be done."""
        self.s.play(self.reply)
        while self.pending:
            assert self.running, "nothing is done any more"
            self._chance.shuffle(self.running)
            self.s >> output(self.running.pop())
            self.s.play(self.reply)
            self.s.wait(0.01)
            self.s.play(self.reply)


def test_t42_500_tasks_of_one_group_keep_their_order_and_the_caps() -> None:
    s = script(concurrency=8, per_application=6)
    s >> owned(A)
    tasks = [Task("echo", f"{i}") for i in range(500)]
    many = ManyTasks(s, tasks)
    many.work()
    assert many.submitted == [f"{i}!" for i in range(500)]
    assert many.most == 6
    assert len(s.told("task_started")) == len(s.told("task_outcome")) == 500


def test_t42_500_tasks_of_500_groups_are_all_done_once() -> None:
    s = script(concurrency=8, per_application=8)
    s >> owned(A)
    many = ManyTasks(s, [Task("echo", f"{i}", f"{i}") for i in range(500)])
    many.work()
    assert sorted(many.submitted) == sorted(f"{i}!" for i in range(500))
    assert len(many.submitted) == 500
    assert many.most == 8


def test_an_operator_has_a_bound_of_its_own() -> None:
    s = script(per_operator={"heavy": 1})
    s >> owned(A)
    s.seen()
    s >> answered(A, Task("heavy", "a", "1"), Task("heavy", "b", "2"), Task("light", "c", "3"))
    s << runs("a") << runs("c")
    s >> output("c") << submits("c!")
    s >> output("a") << runs("b")


def test_places_go_to_applications_in_turn() -> None:
    s = script(concurrency=3, per_application=3)
    s >> owned(A, B)
    s.seen()
    s >> answered(A, "a1", "a2", "a3", "a4") << runs("a1") << runs("a2") << runs("a3")
    s >> answered(B, "b1", "b2")
    s >> output("a2") << runs("b1")
    s >> output("a3") << runs("a4")
    s >> output("b1") << runs("b2") << submits("b1!")


def test_places_go_to_groups_in_turn() -> None:
    s = script(per_application=2)
    s >> owned(A)
    s.seen()
    s >> answered(A, Task("echo", "x1", "x"), Task("echo", "x2", "x"), Task("echo", "y1", "y"))
    s << runs("x1") << runs("y1")
    s >> output("y1") << runs("x2") << submits("y1!")


def test_a_chain_has_one_submission_at_a_time_for_each_in_turn() -> None:
    s = script()
    s >> owned(A, B, ELSEWHERE)
    s.seen()
    s >> answered(A, Task("echo", "a1", "1"), Task("echo", "a2", "2")) << runs("a1") << runs("a2")
    s >> answered(B, "b") << runs("b")
    s >> answered(ELSEWHERE, "e") << runs("e")
    s >> output("a1") << submits("a1!")
    s >> output("a2")
    s >> output("b")
    s >> output("e") << submits("e!")  # on another chain
    s >> committed(A) << submits("b!")
    s >> committed(B) << asks(B) << submits("a2!")


def test_a_group_is_computed_only_so_far_ahead() -> None:
    s = script(concurrency=AHEAD_MAX * 2, per_application=AHEAD_MAX * 2)
    s >> owned(A)
    s.seen()
    s >> answered(A, *(f"{i}" for i in range(AHEAD_MAX * 2)))
    assert s.count(Run) == AHEAD_MAX
    for i in range(1, AHEAD_MAX):
        s >> output(f"{i}")
    s >> output("0") << submits("0!")
    s >> committed(A) << runs(f"{AHEAD_MAX}") << submits("1!")


def test_no_more_is_computed_while_enough_waits_to_be_submitted() -> None:
    s = script(concurrency=1, per_application=1)
    tasks = [Task("echo", f"{i}", f"{i}") for i in range(UNSUBMITTED_MAX + 10)]
    s >> owned(A) << watches() << asks(A)
    s >> answered(A, *tasks) << runs("0")
    s >> output("0") << runs("1") << submits("0!")  # and nothing is heard of it
    for i in range(1, UNSUBMITTED_MAX - 1):
        s >> output(f"{i}") << runs(f"{i + 1}")
    s >> output(f"{UNSUBMITTED_MAX - 1}")
    s >> committed(A) << runs(f"{UNSUBMITTED_MAX}") << submits("1!")


def test_of_a_list_without_end_the_first_tasks_are_taken() -> None:
    s = script()
    s >> owned(A)
    s.seen()
    s >> answered(A, *(f"{i}" for i in range(TASKS_MAX + 1)), cursor="beyond")
    assert len(s.states(A)) == TASKS_MAX
    assert s.count(Run) == ProcessorSettings().per_application
    assert A not in s.journal.cursors, "it would leave tasks behind"


@pytest.mark.parametrize("ids", [False, True])
def test_the_cost_of_a_stimulus_does_not_grow_with_the_number_of_tasks(ids: bool) -> None:
    """Of what the end of a run and of a submission cost; an answer names every task anyhow."""
    few, many = lines_run(200, ids=ids), lines_run(2000, ids=ids)
    assert many < few * 1.5, "a heap of ten times as many is a little deeper"


def lines_run(tasks: int, *, ids: bool) -> int:
    """How many lines Python runs through while 50 of so many tasks are done."""
    core = Processor(ProcessorSettings(), Random(1))
    core.handle(Updated([Share(A, 1)]), 0.0, 0)
    [ask] = core.handle(EpochTaken(A, 1, None, None, [], 1), 0.0, 0)
    listed = [Task("echo", f"{i}", f"{i}" if ids else None) for i in range(tasks)]
    commands = core.handle(Answered(ask.ask, ProcessorActions(listed)), 0.0, 0)

    def work() -> None:
        nonlocal commands
        for _ in range(50):
            run = next(c for c in commands if isinstance(c, Run))
            ended = core.handle(RunEnded(run.run, RunResult(RunEnd.OUTPUT)), 0.0, 0)
            submit = next(c for c in ended if isinstance(c, Submit))
            committed_ = SubmitEnded(A, submit.serial, SubmitResult(SubmitEnd.COMMITTED))
            commands = [*commands, *ended, *core.handle(committed_, 0.0, 0)]
            commands = [c for c in commands if isinstance(c, Run) and c.run > run.run]

    return lines_of(work)


def test_what_comes_together_costs_one_look_at_all_applications() -> None:
    """4,096 applications are asked in one turn, and their answers come in few."""
    few, many = lines_asked(50), lines_asked(500)
    assert many < few * 15, "it grows with the applications, not with their square"


def lines_asked(applications: int) -> int:
    """How many lines Python runs through from the list of so many to all of their answers."""
    core = Processor(ProcessorSettings(), Random(1))
    ours = [Application(CHAIN, f"{i:064x}") for i in range(applications)]

    def work() -> None:
        core.handle(Updated([Share(each, 1) for each in ours]), 0.0, 0)
        taken = [EpochTaken(each, 1, None, None, [], 1) for each in ours]
        asks = [c.ask for c in core.handle_all(taken, 0.0, 0) if isinstance(c, Ask)]
        core.handle_all([Answered(ask, ProcessorActions([])) for ask in asks], 0.0, 0)
        assert len(asks) == applications

    return lines_of(work)


def lines_of(work: Callable[[], None]) -> int:
    """How many lines Python runs through."""
    lines = 0

    def count(frame: FrameType, event: str, _: object) -> Callable[..., Any]:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        work()
    finally:
        sys.settrace(before)
    return lines
