"""What must hold in a task processor between two turns; tests check it after each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.offchain.hardened.open_task import OpenTask
from workers.offchain.hardened.ordered_group import AHEAD_MAX, OrderedGroup
from workers.offchain.hardened.task_list import DEAD_LETTERS_MAX, TASKS_MAX
from workers.offchain.hardened.watched_application import Phase, WatchedApplication
from workers.offchain.records import TaskState

if TYPE_CHECKING:
    from workers.offchain.hardened.processor import Processor


def validate(processor: Processor) -> None:
    """Raise AssertionError if the parts of a processor do not agree, or a bound is broken."""
    _places_add_up(processor)
    _questions_add_up(processor)
    _one_submission_for_each_chain(processor)
    for watched in processor.applications.values():
        _tasks_stand_in_one_place(watched, processor.settings.max_attempts)
        _runs_add_up(watched, processor)
        for group in watched.tasks.groups.values():
            _nothing_overtakes(group)


def _places_add_up(processor: Processor) -> None:
    places = processor.places
    assert places.total == len(processor.runs) <= places.total_max
    assert places.total == places.of_operator.total()
    for operator, count in places.of_operator.items():
        assert 0 < count <= processor.settings.per_operator.get(operator, places.total_max)


def _questions_add_up(processor: Processor) -> None:
    for number, watched in processor.asks.items():
        assert watched.asking.open == number
        assert watched.phase is Phase.WATCHED
    open_ = [w for w in processor.applications.values() if w.asking.open is not None]
    assert len(open_) == len(processor.asks)


def _one_submission_for_each_chain(processor: Processor) -> None:
    for watched in processor.applications.values():
        chain_id = watched.application.chain_id
        ours = processor.submitting.get(chain_id) is watched
        assert ours is (watched.submitting is not None), watched.application
    for application in processor.returning:
        assert processor.applications[application].phase is Phase.LEAVING


def _tasks_stand_in_one_place(watched: WatchedApplication, attempts_max: int) -> None:
    tasks = watched.tasks
    listed = [task for group in tasks.groups.values() for task in group.order]
    everything = [*listed, *tasks.letters.values()]
    assert len({id(task) for task in everything}) == len(everything), "a task stands twice"
    assert {task.serial for task in everything} == set(tasks.by_serial), "a task is lost"
    assert all(serial < tasks.next_serial for serial in tasks.by_serial)
    assert all(task.record.asked for task in listed)
    assert all(t.state is TaskState.DEAD and not t.record.asked for t in tasks.letters.values())
    assert len(tasks.letters) <= DEAD_LETTERS_MAX
    assert len(listed) <= 2 * TASKS_MAX, "groups that are skipped may add one answer"
    for task in everything:
        _state_agrees(task, watched)
        assert 0 <= task.record.attempts <= attempts_max


def _state_agrees(task: OpenTask, watched: WatchedApplication) -> None:
    running = task.run is not None
    assert running is (task.state is TaskState.RUNNING), task.record
    assert not running or watched.runs[task.run or 0] is task
    if watched.phase is not Phase.LEAVING:
        submitting = watched.submitting is task or task.is_uncertain
        assert submitting is (task.state is TaskState.SUBMITTING), task.record
    if task.state in (TaskState.COMPUTED, TaskState.SUBMITTING):
        assert task.record.output is not None, task.record
    if watched.submitting is task and watched.phase is not Phase.LEAVING:
        assert task.record.submitted_epoch == watched.epoch


def _runs_add_up(watched: WatchedApplication, processor: Processor) -> None:
    ours = {run for run, (owner, _) in processor.runs.items() if owner is watched}
    assert ours == set(watched.runs)
    assert len(ours) <= processor.settings.per_application


def _nothing_overtakes(group: OrderedGroup) -> None:
    places = [task.place for task in group.order]
    assert places == sorted(set(places)), "places follow the order"
    for position, task in enumerate(group.order):
        if position >= AHEAD_MAX:
            assert task.state in (TaskState.WAITING, TaskState.DEAD, TaskState.DROPPED) or (
                task.place - group.order[0].place < 2 * AHEAD_MAX
            )
        assert task.state is not TaskState.SUBMITTING or position == 0, "out of order"
    waiting = {id(task) for task in group.order if task.state is TaskState.WAITING}
    in_line = {id(task) for _, _, task in group.waiting if task.state is TaskState.WAITING}
    assert waiting == in_line, "a task waits in vain"
