"""The tasks of one group, in the order in which their outcomes are committed.

They are started from the front, several at once; what is computed waits until everything before it
is committed. A task that is stuck stops what is behind it: nothing overtakes in a group.

A query sees the chain at one moment. What an application says of a group while an outcome of the
group is on its way may be from before or after; it is not gone by, and the application is asked
again (Linera #5431: otherwise a task that was just committed would be taken for a new one).
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable, Sequence
from math import inf

from workers.offchain.actions import Task
from workers.offchain.hardened.open_task import OpenTask
from workers.offchain.hardened.retry_gate import RetryGate
from workers.offchain.records import TaskState

# Tasks of one group that may be computed while its first is not committed. Their outputs wait in
# memory, of up to 1 MiB each unless the operator table says otherwise.
AHEAD_MAX = 64


class OrderedGroup:
    """One group of an application: an id, or None for all tasks without."""

    __slots__ = (
        "ask_first",
        "gate",
        "id",
        "in_line_to_run",
        "in_line_to_submit",
        "order",
        "stale_up_to",
        "stuck_at",
        "submitting",
        "waiting",
    )

    def __init__(self, id: str | None, gate: RetryGate) -> None:
        self.id = id
        self.gate = gate
        self.order: deque[OpenTask] = deque()
        self.waiting: list[tuple[int, int, OpenTask]] = []  # a heap by place
        self.stuck_at: float = inf  # place of the first task that is stuck
        self.ask_first = False  # no run before the application has been asked again
        self.submitting: OpenTask | None = None
        self.stale_up_to = 0  # answers to questions up to this one are not gone by
        self.in_line_to_run = False
        self.in_line_to_submit = False

    @property
    def head(self) -> OpenTask | None:
        return self.order[0] if self.order else None

    def is_on_its_way(self, ask: int) -> bool:
        """Whether an answer to this question says nothing certain about the group."""
        return self.submitting is not None or ask <= self.stale_up_to

    # -- what is asked for ------------------------------------------------------------------------

    def agree(
        self, wanted: Sequence[Task], make: Callable[[Task], OpenTask]
    ) -> tuple[list[OpenTask], list[OpenTask]]:
        """Take over what the application lists, and its order.

        Of equal tasks the first known is the first listed. When fewer are listed than known, the
        first are gone: queues are served from the front. An uncertain task that no longer
        stands first is gone too, and an equal one further behind is another.

        Returns: the tasks that are gone, and those that are new.
        """
        known: dict[tuple[str, str], deque[OpenTask]] = {}
        gone = []
        for task in self.order:
            first = (wanted[0].operator, wanted[0].input) if wanted else None
            if task.is_uncertain and task.identity != first:
                gone.append(task)
            else:
                known.setdefault(task.identity, deque()).append(task)
        listed = Counter((task.operator, task.input) for task in wanted)
        for identity, tasks in known.items():
            gone += [tasks.popleft() for _ in range(len(tasks) - listed[identity])]
        self.order.clear()
        new = []
        for each in wanted:
            equal = known.get((each.operator, each.input))
            if equal:
                task = equal.popleft()
            else:
                task = make(each)
                new.append(task)
            self.order.append(task)
        self.arrange()
        return gone, new

    def arrange(self) -> None:
        """Number the places, after the order or what is stuck has changed."""
        self.waiting.clear()
        self.stuck_at = inf
        for place, task in enumerate(self.order):
            task.place = place
            if task.is_stuck:
                self.stuck_at = min(self.stuck_at, place)
            elif task.state is TaskState.WAITING:
                self.waiting.append((place, task.serial, task))

    def waits(self, task: OpenTask) -> None:
        """A task of ours has to be run (again)."""
        heapq.heappush(self.waiting, (task.place, task.serial, task))

    def committed(self) -> None:
        """The first task is over."""
        self.order.popleft()
        self.gate.succeeded()

    # -- what may be done -------------------------------------------------------------------------

    def next_to_run(self, now: float) -> OpenTask | None:
        """The first task that may be started now."""
        if self.ask_first or now < self.gate.until:
            return None
        while self.waiting and self.waiting[0][2].state is not TaskState.WAITING:
            heapq.heappop(self.waiting)
        if not self.waiting:
            return None
        place, _, task = self.waiting[0]
        return task if place < min(self.stuck_at, self.order[0].place + AHEAD_MAX) else None

    def next_to_submit(self, now: float) -> OpenTask | None:
        """The first task, if its outcome may be submitted now."""
        head = self.head
        if head is None or head.state is not TaskState.COMPUTED or head.ask_first:
            return None
        return None if now < head.not_before else head

    def opens_at(self) -> float:
        """When the application is to be asked because something of the group may go on then."""
        head = self.head
        if head is None or head.is_stuck:
            return inf
        moment = self.gate.until if self.ask_first and self.waiting else inf
        return min(moment, head.not_before) if head.ask_first else moment

    def listed_again(self, asked_at: float) -> None:
        """The application has been asked at this moment, and what it lists is known now."""
        if asked_at >= self.gate.until:
            self.ask_first = False
        for task in self.order:
            if task.ask_first and asked_at >= task.not_before:
                task.ask_first = task.awaits_round = False
                task.sure()
