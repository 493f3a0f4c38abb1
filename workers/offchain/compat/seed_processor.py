"""The task processor as the source system has it, with all its weaknesses: the compat mode.

Source: Linera, `linera-service/src/task_processor.rs`, as of #5655 for tasks without ids, and as of
#6743 for tasks with ids (see `seed_batch`). One object is the processor of one chain.

The source is a loop that waits for one of five things, picks one at random of those that are there,
and handles it to the end, which includes asking one application after the other and waiting for
each answer. So here too: while a question is open, notifications, timers, results, updates and
even the cancellation stand in line. Only what the source does in tasks of their own goes on
meanwhile: operators, and submissions.

What follows from that, and is kept on purpose:

* every query error costs a minute, and an application that hangs stops its chain;
* a retry time is a wake-up and no gate: a block makes a failing operator run again at once;
* an outcome without effect counts as success, and the application is asked again at once;
* every callback adds a timer, none is ever taken away;
* an application that was unassigned still has its outcomes submitted, and one that comes back
  meanwhile has its tasks run twice at once, the end of the first freeing the second's mark.

There is no journal: epochs are not compared, nothing outlives the process, nothing is ever dead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from math import inf
from typing import NamedTuple, assert_never

from workers.offchain.actions import ProcessorActions, Task, TaskOutcome, group_tasks
from workers.offchain.application import Application
from workers.offchain.chance import Chance
from workers.offchain.commands import Ask, Command, Done, Note, Released, Run, Submit, WatchChain
from workers.offchain.compat.deadline_heap import DeadlineHeap
from workers.offchain.compat.seed_batch import SeedBatch
from workers.offchain.ends import RunEnd, RunResult, SubmitEnd, SubmitResult
from workers.offchain.processor_settings import ProcessorSettings
from workers.offchain.standing import Standing
from workers.offchain.stimuli import (
    Answered,
    Cancelled,
    EpochRefused,
    EpochTaken,
    NotAnswered,
    Notified,
    PlaceRefused,
    Resumed,
    RunEnded,
    RunIsSlow,
    Share,
    Stimulus,
    StreamOpened,
    SubmitEnded,
    Updated,
    Wished,
)

QUERY_RETRY_US = 60_000_000  # after a query that failed, from when it was sent
NEW_BLOCK = "NewBlock"
NOT_LISTENING = "the notifications of its chain have not begun, and before that nothing is asked"
# The response was there and no operation was scheduled: the source does not look why.
COUNTS_AS_SUCCESS = {SubmitEnd.COMMITTED, SubmitEnd.NO_EFFECT, SubmitEnd.REJECTED}


class Branch(Enum):
    """What the loop waits for."""

    NOTIFICATION = auto()
    TIMER = auto()
    RESULT = auto()
    UPDATE = auto()
    CANCELLATION = auto()


class Question(NamedTuple):
    ask: int
    application: Application
    sent_unix_us: int


class SeedProcessor:
    """The applications of one chain."""

    def __init__(self, chain_id: str, settings: ProcessorSettings, chance: Chance) -> None:
        self.chain_id = chain_id
        self.deadlines = DeadlineHeap()
        self._retry_us = int(settings.retry_delay_s * 1e6)
        self._chance = chance
        self._shares: Sequence[Share] | None = None  # before the first list
        self._cursors: dict[Application, str] = {}
        self._not_answered: dict[Application, str] = {}  # and why, the last time
        self._in_flight: set[Application] = set()  # a batch without ids
        self._groups_in_flight: set[tuple[Application, str | None]] = set()
        # What stands in line.
        self._notifications: deque[str] = deque()
        self._results: deque[tuple[SeedBatch, int | None]] = deque()
        self._updates: deque[Updated] = deque()
        self._is_cancelled = self._is_done = False
        # Where the loop is.
        self._listens = False  # the stream has opened once
        self._to_ask: deque[Application] = deque()
        self._question: Question | None = None
        self._sleeps_until = inf  # monotonic; as computed when the loop began to wait
        # What goes on beside it.
        self._runs: dict[int, tuple[SeedBatch, int]] = {}  # and the position in the batch
        self._submits: dict[int, SeedBatch] = {}
        self._batches: list[SeedBatch] = []
        self._last_ask = self._last_run = self._last_submit = 0
        # Of this turn.
        self._commands: list[Command] = []
        self._now, self._unix_us = 0.0, 0

    # -- the contract -----------------------------------------------------------------------------

    def handle(self, stimulus: Stimulus, now: float, unix_us: int) -> list[Command]:
        """Take what has happened. Returns what is to be done, in this order."""
        self._now, self._unix_us = now, unix_us
        self._take(stimulus)
        self._loop()
        return self._end()

    def tick(self, now: float, unix_us: int) -> list[Command]:
        """Do what is due; to be called at `deadline`, and harmless at any time."""
        self._now, self._unix_us = now, unix_us
        self._loop()
        return self._end()

    def deadline(self) -> float:
        """When `tick` has something to do if nothing happens before."""
        return self._sleeps_until if self._is_waiting else inf

    def held(self) -> list[tuple[Application, int]]:
        return [(share.application, share.epoch) for share in self._assigned]

    def standings(self, now: float) -> list[Standing]:
        del now  # the source does not know how old anything is
        counted = []
        for share in self._assigned:
            batches = [b for b in self._batches if b.application == share.application]
            running = sum(b.results.count(None) for b in batches)
            open_ = sum(len(b.tasks) - b.next for b in batches)
            phase, trouble = "watched", self._not_answered.get(share.application, "")
            if not self._listens:
                phase, trouble = "taking", NOT_LISTENING
            counted.append(
                Standing(share.application, share.epoch, phase, running, open_ - running, 0, 0.0,
                         trouble)
            )  # fmt: skip
        return counted

    @property
    def _assigned(self) -> Sequence[Share]:
        return self._shares or ()

    @property
    def _applications(self) -> list[Application]:
        return [share.application for share in self._assigned]

    @property
    def _is_waiting(self) -> bool:
        """The loop is where it waits, and not in the middle of something."""
        return self._listens and self._question is None and not self._to_ask and not self._is_done

    def _end(self) -> list[Command]:
        commands, self._commands = self._commands, []
        return commands

    def _note(self, level: str, text: str) -> None:
        self._commands.append(Note(level, text))

    # -- what happens -----------------------------------------------------------------------------

    def _take(self, stimulus: Stimulus) -> None:
        match stimulus:
            case Updated() if self._shares is None:
                self._shares = stimulus.shares
                self._commands.append(WatchChain(self.chain_id))
            case Updated():
                self._updates.append(stimulus)
            case StreamOpened():
                if not self._listens:  # there is no second time: the source does not reconnect
                    self._listens = True
                    self._to_ask.extend(self._applications)
                    self._sleep()
            case Notified() if not self._is_done:
                self._notifications.append(stimulus.reason)
            case Cancelled():
                self._is_cancelled = True
            case Answered() | NotAnswered():
                self._answered(stimulus)
            case RunEnded():
                self._run_ended(stimulus.run, stimulus.result)
            case PlaceRefused():
                not_started = RunResult(RunEnd.NOT_STARTED, text="no place on this host")
                self._run_ended(stimulus.run, not_started)
            case RunIsSlow():
                self._slow(stimulus)
            case SubmitEnded():
                self._submit_ended(stimulus.serial, stimulus.result)
            case Notified() | EpochTaken() | EpochRefused() | Wished() | Resumed():
                pass  # nobody listens any more; there is no journal; nothing is ever stopped
            case _:
                assert_never(stimulus)

    # -- the loop ---------------------------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            if self._to_ask and self._question is None:
                self._ask(self._to_ask.popleft())
                if not self._to_ask and self._question is None:
                    self._sleep()
                continue
            if not self._is_waiting:
                return
            ready = self._ready()
            if not ready:
                return
            self._serve(self._chance.choice(ready))
            if self._is_waiting:
                self._sleep()

    def _sleep(self) -> None:
        """Begin to wait: for the earliest deadline, as the wall clock stands now."""
        at = self.deadlines.next_at()
        self._sleeps_until = inf if at is None else self._now + max(0, at - self._unix_us) / 1e6

    def _ready(self) -> list[Branch]:
        waiting = {
            Branch.NOTIFICATION: bool(self._notifications),
            Branch.TIMER: self._now >= self._sleeps_until,
            Branch.RESULT: bool(self._results),
            Branch.UPDATE: bool(self._updates),
            Branch.CANCELLATION: self._is_cancelled,
        }
        return [branch for branch, is_ready in waiting.items() if is_ready]

    def _serve(self, branch: Branch) -> None:
        match branch:
            case Branch.NOTIFICATION:
                if self._notifications.popleft() == NEW_BLOCK:
                    self._to_ask.extend(self._applications)
            case Branch.TIMER:
                self._to_ask.extend(self.deadlines.take(self._unix_us))
            case Branch.RESULT:
                self._result(*self._results.popleft())
            case Branch.UPDATE:
                self._update(self._updates.popleft())
            case Branch.CANCELLATION:
                self._is_done = True
                self._commands.append(Done())

    def _result(self, batch: SeedBatch, retry_at: int | None) -> None:
        application = batch.application
        if batch.behind_barrier:
            self._in_flight.discard(application)
        else:
            self._groups_in_flight.discard((application, batch.group))
        if application not in self._applications:
            return
        if retry_at is None:
            self._to_ask.append(application)
        else:
            self.deadlines.push(retry_at, application)

    def _update(self, update: Updated) -> None:
        before = set(self._applications)
        for share in self._assigned:
            if all(share.application != new.application for new in update.shares):
                self._commands.append(Released(share.application, share.epoch))
        self._shares = update.shares
        after = set(self._applications)
        self._cursors = {a: c for a, c in self._cursors.items() if a in after}
        self._not_answered = {a: t for a, t in self._not_answered.items() if a in after}
        self._in_flight &= after
        self._groups_in_flight = {key for key in self._groups_in_flight if key[0] in after}
        self._to_ask.extend(a for a in self._applications if a not in before)

    # -- questions --------------------------------------------------------------------------------

    def _ask(self, application: Application) -> None:
        if application not in self._applications or application in self._in_flight:
            return
        self._last_ask += 1
        self._question = Question(self._last_ask, application, self._unix_us)
        cursor = self._cursors.get(application)
        self._commands.append(Ask(self._last_ask, application, cursor, self._unix_us, None))

    def _answered(self, stimulus: Answered | NotAnswered) -> None:
        question = self._question
        if question is None or question.ask != stimulus.ask:
            return
        self._question = None
        self._not_answered.pop(question.application, None)
        if isinstance(stimulus, Answered):
            self._follow(question.application, stimulus.actions)
        else:
            self._not_answered[question.application] = stimulus.text
            self._note(
                "error", f"not_answered application={question.application} text={stimulus.text}"
            )
            self.deadlines.push(question.sent_unix_us + QUERY_RETRY_US, question.application)
        if not self._to_ask:
            self._sleep()

    def _follow(self, application: Application, actions: ProcessorActions) -> None:
        if actions.request_callback is not None:
            self.deadlines.push(actions.request_callback, application)
        if actions.set_cursor is not None:
            self._cursors[application] = actions.set_cursor
        tasks = actions.execute_tasks
        if any(task.id is not None for task in tasks):
            for group in group_tasks(tasks):
                if (application, group.id) not in self._groups_in_flight:
                    self._groups_in_flight.add((application, group.id))
                    self._start(application, group.tasks, group.id, behind_barrier=False)
        elif tasks and (application, None) not in self._groups_in_flight:
            self._in_flight.add(application)
            self._start(application, tasks, None, behind_barrier=True)

    # -- beside the loop --------------------------------------------------------------------------

    def _start(
        self,
        application: Application,
        tasks: Sequence[Task],
        group: str | None,
        *,
        behind_barrier: bool,
    ) -> None:
        epoch = next(s.epoch for s in self._assigned if s.application == application)
        batch = SeedBatch(
            application,
            epoch,
            tasks,
            group,
            first_serial=self._last_run + 1,
            behind_barrier=behind_barrier,
        )
        self._batches.append(batch)
        for position, task in enumerate(tasks):
            self._last_run += 1
            self._runs[self._last_run] = batch, position
            self._commands.append(
                Run(self._last_run, application, self._last_run, 1, group, task.operator,
                    task.input)
            )  # fmt: skip

    def _run_ended(self, run: int, result: RunResult) -> None:
        if run not in self._runs:
            return
        batch, position = self._runs.pop(run)
        batch.results[position] = result
        if not batch.ended and batch not in self._submits.values():
            self._go_on(batch)

    def _slow(self, stimulus: RunIsSlow) -> None:
        if stimulus.run in self._runs:
            batch, _ = self._runs[stimulus.run]
            self._note(
                "warning",
                f"task_slow application={batch.application} group={batch.group}"
                f" text=runs for {stimulus.seconds:.0f} s",
            )

    def _go_on(self, batch: SeedBatch) -> None:
        """Submit the next outcome of a batch, or report that the batch is over."""
        if batch.is_over:
            self._report(batch, None)
            return
        result = batch.next_result()
        if result is None:
            return
        if result.end is not RunEnd.OUTPUT:
            self._note("error", f"task_failed {batch.named} text={result.text}")
            self._report(batch, self._unix_us + self._retry_us)
            return
        task = batch.tasks[batch.next]
        outcome = TaskOutcome(task.operator, result.output)
        if task.id is not None:
            outcome = TaskOutcome(task.operator, result.output, task.id)
        self._last_submit += 1
        self._submits[self._last_submit] = batch
        self._commands.append(Submit(batch.application, batch.epoch, self._last_submit, outcome))

    def _submit_ended(self, serial: int, result: SubmitResult) -> None:
        batch = self._submits.pop(serial, None)
        if batch is None:
            return
        if result.end in COUNTS_AS_SUCCESS:
            batch.next += 1
            self._go_on(batch)
            return
        self._note(
            "error",
            f"not_submitted {batch.named} end={result.end} text={result.text}",
        )
        match result.end:
            case SubmitEnd.WAIT_UNTIL:
                retry_at = result.until_unix_us
            case SubmitEnd.CONFLICT:
                retry_at = self._unix_us
            case _:
                retry_at = self._unix_us + self._retry_us
        self._report(batch, retry_at)

    def _report(self, batch: SeedBatch, retry_at: int | None) -> None:
        batch.ended = True
        self._batches.remove(batch)
        self._results.append((batch, retry_at))
