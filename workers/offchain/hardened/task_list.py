"""All open tasks of an application: groups in order, dead letters, and who may go on next."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from workers.offchain.actions import Task
from workers.offchain.hardened.open_task import OpenTask
from workers.offchain.hardened.ordered_group import OrderedGroup
from workers.offchain.hardened.retry_gate import RetryGate
from workers.offchain.records import TaskRecord, TaskState

# Of one answer; what is behind comes when these are done. The node's replies are no larger.
TASKS_MAX = 10_000
# Dead letters that the application no longer asks for, of one application: for people to look at.
DEAD_LETTERS_MAX = 100
# Of their inputs and error outputs: one answer of a node service may have 16 MiB of inputs.
DEAD_LETTERS_CHARACTERS_MAX = 8 * 1024 * 1024


class TaskList:
    """Groups stand in two lines, one to run their next task and one to submit their first outcome.

    Each line is first come, first served; a group that has had its turn goes to the end.
    """

    __slots__ = ("_to_run", "_turns", "by_serial", "groups", "letters", "next_serial", "to_submit")

    def __init__(self) -> None:
        self.groups: dict[str | None, OrderedGroup] = {}
        self.by_serial: dict[int, OpenTask] = {}  # everything, letters too
        self.letters: OrderedDict[int, OpenTask] = OrderedDict()  # dead and no longer asked for
        self.next_serial = 1
        self._to_run: dict[str, deque[tuple[int, OrderedGroup]]] = {}  # by operator
        self._turns = 0
        self.to_submit: deque[OrderedGroup] = deque()

    # -- tasks come and go ------------------------------------------------------------------------

    def group(self, id: str | None, make_gate: Callable[[], RetryGate]) -> OrderedGroup:
        group = self.groups.get(id)
        if group is None:
            group = self.groups[id] = OrderedGroup(id, make_gate())
        return group

    def admit(self, task: Task, now: float) -> OpenTask:
        """Give a task that was never seen a serial."""
        serial = self.next_serial
        self.next_serial += 1
        opened = OpenTask(TaskRecord(serial, task.id, task.operator, task.input), now)
        self.by_serial[serial] = opened
        return opened

    def restore(self, records: Iterable[TaskRecord], next_serial: int, now: float) -> None:
        """Take over what the journal has kept; groups are put in order by the caller."""
        self.next_serial = next_serial
        for record in sorted(records, key=lambda record: record.serial):
            task = OpenTask(record, now)
            task.kept = record
            self.by_serial[record.serial] = task
            self.next_serial = max(self.next_serial, record.serial + 1)

    def forget(self, task: OpenTask) -> None:
        """The task is over; it stands in no group any more."""
        del self.by_serial[task.serial]
        self.letters.pop(task.serial, None)

    def keep_as_letter(self, task: OpenTask) -> list[OpenTask]:
        """Keep a dead task that is no longer asked for. Returns: those without room, oldest first.

        The newest always has room.
        """
        self.letters[task.serial] = task
        letters = list(self.letters.values())
        room = DEAD_LETTERS_CHARACTERS_MAX - _characters(task)
        stays = 1
        while stays < min(len(letters), DEAD_LETTERS_MAX):
            room -= _characters(letters[-stays - 1])
            if room < 0:
                break
            stays += 1
        return letters[:-stays]

    def drop_empty_groups(self) -> None:
        """Groups without a task; only while no question is open, which might name them again."""
        for id in [id for id, group in self.groups.items() if not group.order]:
            del self.groups[id]

    @property
    def has_open(self) -> bool:
        """Whether anything is left to be done, by us or by the application's people."""
        return any(
            task.state is not TaskState.DROPPED
            for group in self.groups.values()
            for task in group.order
        )

    def listed(self) -> Iterator[OpenTask]:
        for group in self.groups.values():
            yield from group.order

    def numbers(self, now: float) -> tuple[int, int, int, float]:
        """How many tasks run, wait (for whatever), and are dead; the age of the oldest, s."""
        running = waiting = 0
        dead, oldest_s = len(self.letters), 0.0
        for task in self.listed():
            running += task.state is TaskState.RUNNING
            dead += task.state is TaskState.DEAD
            if not task.is_stuck:
                waiting += task.state is not TaskState.RUNNING
                oldest_s = max(oldest_s, now - task.seen_at)
        return running, waiting, dead, oldest_s

    # -- who is next ------------------------------------------------------------------------------

    def refresh(self, group: OrderedGroup, now: float) -> None:
        """Put a group in line where it has something to do."""
        task = None if group.in_line_to_run else group.next_to_run(now)
        if task is not None:
            self._turns += 1
            line = self._to_run.setdefault(task.record.operator, deque())
            line.append((self._turns, group))
            group.in_line_to_run = True
        if not group.in_line_to_submit and group.next_to_submit(now) is not None:
            self.to_submit.append(group)
            group.in_line_to_submit = True

    def take_to_run(self, has_place: Callable[[str], bool], now: float) -> OpenTask | None:
        """The task that has waited longest of those whose operator has a place."""
        while True:
            lines = [(line[0][0], o) for o, line in self._to_run.items() if has_place(o)]
            if not lines:
                return None
            _, operator = min(lines)
            line = self._to_run[operator]
            _, group = line.popleft()
            if not line:
                del self._to_run[operator]
            group.in_line_to_run = False
            task = group.next_to_run(now)
            if task is not None and task.record.operator == operator:
                return task
            self.refresh(group, now)

    def take_to_submit(self, now: float) -> OpenTask | None:
        """The outcome that has waited longest of those that are first in their group."""
        while self.to_submit:
            group = self.to_submit.popleft()
            group.in_line_to_submit = False
            task = group.next_to_submit(now)
            if task is not None:
                return task
        return None


def _characters(task: OpenTask) -> int:
    return len(task.record.input) + len(task.record.stderr)


def by_group(tasks: Sequence[Task]) -> dict[str | None, list[Task]]:
    """The tasks of each group, as they are listed; the group that is named first is first."""
    groups: dict[str | None, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.id, []).append(task)
    return groups
