"""One application in the hands of one owner: what it is asked, what it asks for, how far that is.

An object is one epoch of an application; when the application comes back after it was taken away,
another object begins. Its life: taking (the journal is asked whether the epoch is ours), watched,
leaving (nothing new; what runs is ended or waited for), and gone.

What ends well is forgotten. What fails is tried again by the rules of its class::

    run: transient, timeout, resources    later, `max_attempts` times, then dead
         permanent, unknown operator, …   dead at once: the same again would end the same way
         not started, cancelled           says nothing of the task
    submission: conflict                  ask at once; the same output
         wait_until                       then, or with the next round or block; the same output
         ambiguous                        ask at once, submit later if it is still listed
         transient                        later, as often as it takes; the same output
         no_effect                        later, `max_attempts` times in a row, then dead
         rejected                         likewise, and the operator runs again
         outcome_too_large                dead at once
         configuration                    the application pauses, somebody must act
         fenced                           the application is not ours any more

Every "later" is a gate of the task's group, and when it opens the application is asked first.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from math import inf

from workers.offchain.actions import ProcessorActions, TaskOutcome
from workers.offchain.application import Application
from workers.offchain.chance import Chance
from workers.offchain.commands import (
    Ask,
    KeepCallback,
    KeepCursor,
    Kill,
    Released,
    Run,
    StopAsking,
    Submit,
    TakeEpoch,
)
from workers.offchain.ends import PERMANENT_ENDS, RunEnd, RunResult, SubmitEnd, SubmitResult
from workers.offchain.hardened.asking import Asking
from workers.offchain.hardened.open_task import OpenTask
from workers.offchain.hardened.ordered_group import OrderedGroup
from workers.offchain.hardened.processor_turn import ProcessorTurn
from workers.offchain.hardened.retry_gate import RetryGate
from workers.offchain.hardened.task_list import TASKS_MAX, TaskList, by_group
from workers.offchain.hardened.task_news import (
    OPERATOR_LETTERS_MAX,
    TEXT_MAX,
    named,
    news,
    time_of_day,
    why,
)
from workers.offchain.processor_settings import ProcessorSettings
from workers.offchain.records import TaskState
from workers.offchain.stimuli import EpochTaken, Share, Wish

# Somebody else's block at our height is past with the next one; where this goes on, many propose.
CONFLICTS_AT_ONCE = 5
CONFLICT_S = (0.1, 1.0)  # a random pause after more of them in a row
# A node that has lost who sent it an outcome may still be at it; by then it has committed or not.
AMBIGUOUS_S = 5.0
WAIT_S_MAX = 3600.0  # a round does not last for an hour; the node's clock may be wrong
# The journal has no larger numbers; in 292,000 years this is too early by as many again.
CALLBACK_MAX_US = 2**63 - 1

# Groups whose first outcome waits to be submitted: with more, no operator is begun. Blocks may come
# slower than outputs, of up to 1 MiB each unless the operator table says otherwise.
UNSUBMITTED_MAX = 64

# What is not tried at all; whether it is still so is known without a try.
_NOT_TRIED = (RunEnd.UNKNOWN_OPERATOR, RunEnd.NOT_ALLOWED)


class Phase(StrEnum):
    TAKING = "taking"
    WATCHED = "watched"
    LEAVING = "leaving"


class WatchedApplication:
    def __init__(
        self, share: Share, settings: ProcessorSettings, chance: Chance, turn: ProcessorTurn
    ) -> None:
        self.application: Application = share.application
        self.epoch = share.epoch
        self.phase = Phase.TAKING
        self.asking = Asking()
        self.tasks = TaskList()
        self.runs: dict[int, OpenTask | None] = {}  # None: not wanted any more
        self.trouble = ""  # why nothing of it goes on, for people; empty: it does
        self.submitting: OpenTask | None = None  # on its way
        self._computed: dict[int, OpenTask] = {}  # by serial: what has an output
        self._operators = share.operators
        self._settings = settings
        self._chance = chance
        self._cursor: str | None = None
        self._cursor_after: str | None = None  # counts when nothing is open any more
        self._fenced = self._killed = False
        # Until then an outcome of a lost owner may arrive; after it, the application is asked.
        self._submit_not_before = turn.now + share.wait_s
        self._may_submit = False
        turn.write(TakeEpoch(self.application, self.epoch, share.before))

    # -- the epoch --------------------------------------------------------------------------------

    def taken(self, kept: EpochTaken, turn: ProcessorTurn) -> None:
        """Go on where the journal says that the last owner was."""
        self.phase = Phase.WATCHED
        if kept.last_has_ended:
            self._submit_not_before = turn.now
        self._cursor = kept.cursor
        self.asking.callback_unix_us = kept.callback_unix_us
        self.tasks.restore(kept.tasks, kept.next_serial, turn.now)
        for task in list(self.tasks.by_serial.values()):
            self._take_over(task, turn)
        for group in self.tasks.groups.values():
            group.ask_first = True
            group.arrange()
        self.asking.when_gate_opens(self._submit_not_before)
        self.asking.at_once(turn.now)

    def _take_over(self, task: OpenTask, turn: ProcessorTurn) -> None:
        record = task.record
        if record.state is TaskState.DEAD and not record.asked:
            self.tasks.letters[task.serial] = task
            return
        group = self._group_of(task)
        if record.state is TaskState.SUBMITTING:  # then it was the first
            group.order.appendleft(task)
        else:
            group.order.append(task)
        # By the wall clock, which may have been set since; no gate of ours is closed for longer.
        gate_s = max(0, record.not_before_unix_us - turn.unix_us) / 1e6
        gate_s = min(gate_s, self._settings.retry_max_s)
        group.gate.until = max(group.gate.until, turn.now + gate_s if gate_s else 0.0)
        task.not_before = group.gate.until
        if task is group.head:
            group.gate.failures = record.fruitless + record.attempts - (record.output is not None)
        match record.state:
            case TaskState.RUNNING:  # it ended with its processor
                task.change(state=TaskState.WAITING)
            case TaskState.SUBMITTING:
                task.ask_first = True
                task.not_before = max(turn.now + AMBIGUOUS_S, self._submit_not_before)
            case TaskState.COMPUTED:
                task.ask_first = True
            case TaskState.DEAD if self._may_be_tried_by_now(task):
                task.change(state=TaskState.WAITING, attempts=0)
        self._keep(task, turn)

    def updated(self, share: Share, turn: ProcessorTurn) -> None:
        """The application stays ours; its entry may have changed.

        A wait that is said again is not longer: what a lost owner had on its way may have ended.
        """
        until = turn.now + share.wait_s
        if until < self._submit_not_before:
            self._submit_not_before = until
            self.asking.when_gate_opens(until)
        self.resume(turn)
        if share.operators != self._operators:
            self._operators = share.operators
            for task in [t for t in self.tasks.listed() if t.state is TaskState.DEAD]:
                if self._may_be_tried_by_now(task):
                    self._revive(task, turn)

    def resume(self, turn: ProcessorTurn) -> None:
        """Somebody may have mended why it was stopped."""
        if self.asking.paused_until > turn.now:
            self.asking.begin_anew(turn.now)

    def leave(self, turn: ProcessorTurn, *, kill: bool, fenced: bool = False) -> None:
        """Begin nothing any more, and end what runs or let it come to its end."""
        self._fenced = self._fenced or fenced
        if self.phase is not Phase.LEAVING:
            self.phase = Phase.LEAVING
            if self.asking.open is not None:
                turn.do(StopAsking(self.asking.open))
                self.asking.stopped()
        if kill and not self._killed:
            self._killed = True
            for run in [run for run, task in self.runs.items() if task is not None]:
                turn.do(Kill(run))

    @property
    def is_gone(self) -> bool:
        return self.phase is Phase.LEAVING and not self.runs and self.submitting is None

    def released(self, turn: ProcessorTurn) -> None:
        turn.do(Released(self.application, self.epoch))

    # -- questions and answers --------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        return bool(self.runs or self.tasks.to_submit or self.submitting)

    def ask_at(self, now: float, unix_us: int) -> float:
        return self.asking.due_at(now, unix_us) if self.phase is Phase.WATCHED else inf

    def ask(self, number: int, turn: ProcessorTurn) -> None:
        """Ask what the application wants done."""
        opens = [self._submit_not_before, *(g.opens_at() for g in self.tasks.groups.values())]
        gates_at = min((at for at in opens if at > turn.now), default=inf)
        self.asking.sent(number, turn.now, gates_at)
        limit_s = self._settings.ask_limit_s
        turn.do(Ask(number, self.application, self._cursor, turn.unix_us, limit_s))

    def not_answered(self, text: str, turn: ProcessorTurn) -> None:
        self.asking.failed(turn.now, self._chance)
        self._is_told(text[:TEXT_MAX], turn)
        turn.note("warning", f"not_answered {self._named} text={text[:TEXT_MAX]}")

    def answered(self, ask: int, actions: ProcessorActions, turn: ProcessorTurn) -> None:
        """Take over what the application wants by now."""
        asked_at = self.asking.answered(turn.now, self._chance)
        self._is_told("", turn)
        if asked_at >= self._submit_not_before:
            self._may_submit = True
        self._call_back(actions.request_callback, turn)
        listed = by_group(actions.execute_tasks[:TASKS_MAX])
        skipped = len(actions.execute_tasks) > TASKS_MAX
        for id in [*listed, *(id for id in self.tasks.groups if id not in listed)]:
            group = self.tasks.group(id, self._gate)
            if group.is_on_its_way(ask):
                skipped = skipped or id in listed
                continue
            gone, new = group.agree(listed.get(id, []), lambda t: self.tasks.admit(t, turn.now))
            for task in gone:
                self._no_longer_asked(task, turn)
            for task in new:
                self._keep(task, turn)
            group.listed_again(asked_at)
            self.tasks.refresh(group, turn.now)
        self.tasks.drop_empty_groups()
        self._advance(actions.set_cursor, skipped, turn)

    def _is_told(self, trouble: str, turn: ProcessorTurn) -> None:
        """Remember why it does not go on; an answer is no end of what only a person can mend."""
        if turn.now >= self.asking.paused_until:
            self.trouble = trouble

    def _call_back(self, at_unix_us: int | None, turn: ProcessorTurn) -> None:
        if at_unix_us is not None:
            at_unix_us = min(at_unix_us, CALLBACK_MAX_US)
        if at_unix_us != self.asking.callback_unix_us:
            self.asking.callback_unix_us = at_unix_us
            turn.write(KeepCallback(self.application, at_unix_us))

    def _advance(self, cursor: str | None, skipped: bool, turn: ProcessorTurn) -> None:
        """Go on to the application's new cursor, unless it would leave tasks behind.

        A group that was skipped may have been listed with tasks that we do not know yet.
        """
        self._cursor_after = None
        if cursor is None or skipped:
            return
        if self._settings.cursor_commit == "after_batch" and self.tasks.has_open:
            self._cursor_after = cursor
        else:
            self._keep_cursor(cursor, turn)

    def _keep_cursor(self, cursor: str, turn: ProcessorTurn) -> None:
        if cursor != self._cursor:
            self._cursor = cursor
            turn.write(KeepCursor(self.application, cursor))

    def _no_longer_asked(self, task: OpenTask, turn: ProcessorTurn) -> None:
        if task.is_uncertain:
            text = "the application no longer asks for it"
            self._publish("task_outcome", task, turn, code=SubmitEnd.AMBIGUOUS, text=text)
        if task.run is not None:
            turn.do(Kill(task.run))
            self.runs[task.run] = None
        if task.state is not TaskState.DEAD:
            self._forget(task, turn)
            return
        task.change(asked=False)
        self._keep(task, turn)
        for crowded_out in self.tasks.keep_as_letter(task):
            self._forget(crowded_out, turn)

    def chain_went_on(self, turn: ProcessorTurn, *, new_block: bool) -> None:
        """A block or a round has begun: who waited for a turn to propose may have it now."""
        if self.phase is not Phase.WATCHED:
            return
        for group in self.tasks.groups.values():
            head = group.head
            if head is not None and head.awaits_round:
                head.not_before = turn.now
                self.asking.at_once(turn.now)
        if new_block:
            self.asking.soon(turn.now, busy=self.is_busy)

    def stream_opened(self, turn: ProcessorTurn) -> None:
        """What was told before was not heard."""
        self.asking.begin_anew(turn.now)

    # -- runs -------------------------------------------------------------------------------------

    def may_work(self, now: float) -> bool:
        """Nothing is begun for an application that does not answer: it could not be given."""
        return (
            self.phase is Phase.WATCHED
            and self.asking.is_answered
            and now >= self.asking.paused_until
        )

    def next_run(self, has_place: Callable[[str], bool], now: float) -> OpenTask | None:
        if not self.may_work(now) or len(self.runs) >= self._settings.per_application:
            return None
        if len(self._computed) >= UNSUBMITTED_MAX and self._unsubmitted() >= UNSUBMITTED_MAX:
            return None
        return self.tasks.take_to_run(has_place, now)

    def _unsubmitted(self) -> int:
        """How many outcomes wait for nothing but their submission."""
        return sum(task is self._group_of(task).head for task in self._computed.values())

    def run(self, task: OpenTask, number: int, turn: ProcessorTurn) -> bool:
        """Start the operator of a task. Returns: whether it may run at all."""
        record = task.record
        if (obstacle := self._obstacle(task)) is not None:
            self._bury(task, *obstacle, turn)
            return False
        if record.attempts >= self._settings.max_attempts:
            self._bury(task, RunEnd.TRANSIENT, "it was running when its processor ended", turn)
            return False
        attempt = record.attempts + 1
        task.change(state=TaskState.RUNNING, attempts=attempt, not_before_unix_us=0)
        task.run = number
        self.runs[number] = task
        self._keep(task, turn)
        self._publish("task_started", task, turn)
        turn.do(
            Run(number, self.application, task.serial, attempt, record.group, record.operator,
                record.input)
        )  # fmt: skip
        self.tasks.refresh(self._group_of(task), turn.now)
        return True

    def run_is_slow(self, run: int, seconds: float, turn: ProcessorTurn) -> None:
        task = self.runs[run]
        if task is not None:
            text = f"runs for {seconds:.0f} s"
            self._publish("task_slow", task, turn, text=text)
            turn.note("warning", f"task_slow {self._named} {named(task)} text={text}")

    def place_refused(self, run: int, turn: ProcessorTurn) -> None:
        """It did not start."""
        task = self._run_over(run)
        if task is not None:
            self._back_in_line(task, turn)

    def run_ended(self, run: int, result: RunResult, turn: ProcessorTurn) -> None:
        task = self._run_over(run)
        if task is None:
            return
        task.change(stderr=result.stderr)
        match result.end:
            case RunEnd.OUTPUT:
                task.change(state=TaskState.COMPUTED, output=result.output, why="")
                self._keep(task, turn)
                self.tasks.refresh(self._group_of(task), turn.now)
            case RunEnd.CANCELLED:
                self._back_in_line(task, turn)
            case RunEnd.NOT_STARTED:
                task.change(attempts=task.record.attempts - 1)
                self._run_again_later(task, result.end, result.text, turn)
            case end if end in PERMANENT_ENDS:
                self._bury(task, end, result.text, turn)
            case end if task.record.attempts >= self._settings.max_attempts:
                self._bury(task, end, result.text, turn)
            case end:
                self._run_again_later(task, end, result.text, turn)

    def _run_over(self, run: int) -> OpenTask | None:
        task = self.runs.pop(run)
        if task is not None:
            task.run = None
        return task

    def _back_in_line(self, task: OpenTask, turn: ProcessorTurn) -> None:
        """Run it again as if it had not run; in a group it keeps its place."""
        task.change(state=TaskState.WAITING, attempts=task.record.attempts - 1)
        group = self._group_of(task)
        group.waits(task)
        self._keep(task, turn)
        self.tasks.refresh(group, turn.now)

    def _run_again_later(
        self, task: OpenTask, code: RunEnd | SubmitEnd, text: str, turn: ProcessorTurn
    ) -> None:
        task.change(state=TaskState.WAITING, output=None)
        group = self._group_of(task)
        group.waits(task)
        self._close_gate(task, code, text, turn)

    # -- submissions ------------------------------------------------------------------------------

    def next_submission(self, now: float) -> OpenTask | None:
        if not (self.may_work(now) and self._may_submit) or self.submitting is not None:
            return None
        return self.tasks.take_to_submit(now)

    def submit(self, task: OpenTask, turn: ProcessorTurn) -> None:
        """Give a computed outcome to the application."""
        record = task.record
        assert record.output is not None
        task.change(state=TaskState.SUBMITTING, submitted_epoch=self.epoch, not_before_unix_us=0)
        self.submitting = self._group_of(task).submitting = task
        self._keep(task, turn)
        outcome = TaskOutcome(record.operator, record.output)
        if record.group is not None:
            outcome = TaskOutcome(record.operator, record.output, record.group)
        turn.do(Submit(self.application, self.epoch, task.serial, outcome))

    def submit_ended(self, result: SubmitResult, last_ask: int, turn: ProcessorTurn) -> None:
        """Go by how the open submission has ended; questions up to `last_ask` had left before."""
        task, self.submitting = self.submitting, None
        assert task is not None
        group = self._group_of(task)
        group.submitting = None
        group.stale_up_to = last_ask
        if result.end is not SubmitEnd.AMBIGUOUS:
            task.change(state=TaskState.COMPUTED)
        match result.end:
            case SubmitEnd.COMMITTED:
                self._committed(task, result, turn)
            case SubmitEnd.CONFLICT:
                task.conflicts += 1
                pause_s = self._chance.uniform(*CONFLICT_S)
                task.not_before = turn.now + pause_s * (task.conflicts > CONFLICTS_AT_ONCE)
                self._ask_before(task, result, turn)
            case SubmitEnd.WAIT_UNTIL:
                wait_s = max(0, result.until_unix_us - turn.unix_us) / 1e6
                task.not_before = turn.now + min(wait_s, WAIT_S_MAX)
                task.awaits_round = True
                self._ask_before(task, result, turn)
            case SubmitEnd.AMBIGUOUS:
                self._close_gate(task, result.end, result.text, turn, at_least_s=AMBIGUOUS_S)
                self.asking.at_once(turn.now)
            case SubmitEnd.TRANSIENT:
                self._close_gate(task, result.end, result.text, turn)
            case SubmitEnd.NO_EFFECT | SubmitEnd.REJECTED:
                self._fruitless(task, result, turn)
            case SubmitEnd.OUTCOME_TOO_LARGE:
                self._bury(task, result.end, result.text, turn)
            case SubmitEnd.CONFIGURATION:
                self._pause(task, result, turn)
            case SubmitEnd.FENCED:
                self.leave(turn, kill=True, fenced=True)

    def _committed(self, task: OpenTask, result: SubmitResult, turn: ProcessorTurn) -> None:
        group = self._group_of(task)
        group.committed()
        self._publish("task_outcome", task, turn, certificate=result.certificate)
        self._forget(task, turn)
        self.tasks.refresh(group, turn.now)
        if self._cursor_after is not None and not self.tasks.has_open:
            self._keep_cursor(self._cursor_after, turn)
            self._cursor_after = None
        self.asking.soon(turn.now, busy=self.is_busy)

    def _ask_before(self, task: OpenTask, result: SubmitResult, turn: ProcessorTurn) -> None:
        """Submit the same output again, if the application still asks for it then."""
        task.ask_first = True
        task.change(
            not_before_unix_us=turn.unix_us_at(task.not_before), why=why(result.end, result.text)
        )
        self._keep(task, turn)
        self.asking.when_gate_opens(task.not_before)

    def _fruitless(self, task: OpenTask, result: SubmitResult, turn: ProcessorTurn) -> None:
        task.change(fruitless=task.record.fruitless + 1)
        if task.record.fruitless >= self._settings.max_attempts:
            self._bury(task, result.end, result.text, turn)
        elif result.end is SubmitEnd.NO_EFFECT:
            self._close_gate(task, result.end, result.text, turn)
        else:
            self._run_again_later(task, result.end, result.text, turn)

    def _pause(self, task: OpenTask, result: SubmitResult, turn: ProcessorTurn) -> None:
        self.asking.pause(turn.now)
        task.not_before = turn.now
        self._ask_before(task, result, turn)
        until = time_of_day(turn.unix_us_at(self.asking.paused_until))
        self.trouble = (
            f"{why(result.end, result.text)}. Mend the node service or the ids; it goes on at"
            f" {until}, or at once with `forgepool tasks resume`"
        )
        turn.note("error", f"application_stopped {self._named} text={self.trouble}")

    # -- failures ---------------------------------------------------------------------------------

    def _close_gate(
        self, task: OpenTask, code: RunEnd | SubmitEnd, text: str, turn: ProcessorTurn,
        *, at_least_s: float = 0.0,
    ) -> None:  # fmt: skip
        """Let the group wait, and ask the application before anything is tried again."""
        group = self._group_of(task)
        group.gate.failed(turn.now, self._chance)
        group.ask_first = True
        task.ask_first = True
        task.not_before = max(group.gate.until, turn.now + at_least_s)
        retry_at = turn.unix_us_at(task.not_before)
        task.change(not_before_unix_us=retry_at, why=why(code, text))
        self._keep(task, turn)
        self.asking.when_gate_opens(task.not_before)
        self._publish("task_retry", task, turn, code=code, text=text, retry_at_unix_us=retry_at)

    def _bury(
        self, task: OpenTask, code: RunEnd | SubmitEnd, text: str, turn: ProcessorTurn
    ) -> None:
        """Try no more, and say so once; what is behind in its group waits for a decision."""
        task.change(state=TaskState.DEAD, output=None, not_before_unix_us=0, why=why(code, text))
        self._group_of(task).arrange()
        self._keep(task, turn)
        self._publish("task_dead", task, turn, code=code, text=text)
        turn.note(
            "error", f"task_dead {self._named} {named(task)} code={code} text={text[:TEXT_MAX]}"
        )

    # -- what people want -------------------------------------------------------------------------

    def wished(self, serial: int, wish: Wish, turn: ProcessorTurn) -> None:
        task = self.tasks.by_serial.get(serial)
        if task is None or task.state in (TaskState.RUNNING, TaskState.SUBMITTING):
            state = "unknown" if task is None else task.state
            turn.note(
                "warning",
                f"wish_not_followed {self._named} serial={serial} wish={wish} state={state}",
            )
        elif not task.record.asked:  # nobody would take its outcome
            self._forget(task, turn)
        elif wish is Wish.RETRY:
            self._revive(task, turn)
        else:
            task.change(state=TaskState.DROPPED, output=None, not_before_unix_us=0)
            self._group_of(task).arrange()
            self._keep(task, turn)
            self.asking.at_once(turn.now)

    def _revive(self, task: OpenTask, turn: ProcessorTurn) -> None:
        """Begin with a task as if it were new; what it has computed stays."""
        group = self._group_of(task)
        state = TaskState.WAITING if task.record.output is None else TaskState.COMPUTED
        task.change(state=state, attempts=0, fruitless=0, not_before_unix_us=0)
        task.not_before = turn.now
        task.ask_first = group.ask_first = True
        group.gate.open()
        group.arrange()
        self._keep(task, turn)
        self.asking.at_once(turn.now)

    # -- small things -----------------------------------------------------------------------------

    def _gate(self) -> RetryGate:
        return RetryGate(self._settings.retry_delay_s, self._settings.retry_max_s)

    def _group_of(self, task: OpenTask) -> OrderedGroup:
        return self.tasks.group(task.record.group, self._gate)

    def _obstacle(self, task: OpenTask) -> tuple[RunEnd, str] | None:
        """Why the operator of a task is not even tried."""
        operator, known = task.record.operator, self._settings.operators
        if self._operators is not None and operator not in self._operators:
            return RunEnd.NOT_ALLOWED, "the application's entry does not name it"
        if known is not None and operator not in known:
            return RunEnd.UNKNOWN_OPERATOR, f"no operator {operator[:OPERATOR_LETTERS_MAX]!r}"
        return None

    def _may_be_tried_by_now(self, task: OpenTask) -> bool:
        """Whether a task died of an obstacle that is no longer there."""
        was_not_tried = task.record.why.partition(":")[0] in _NOT_TRIED
        return was_not_tried and self._obstacle(task) is None

    def _keep(self, task: OpenTask, turn: ProcessorTurn) -> None:
        if task.record.output is None:
            self._computed.pop(task.serial, None)
        else:
            self._computed[task.serial] = task
        if not self._fenced:
            turn.keep(self.application, task)

    def _forget(self, task: OpenTask, turn: ProcessorTurn) -> None:
        self._computed.pop(task.serial, None)
        self.tasks.forget(task)
        if not self._fenced:
            turn.forget(self.application, task)

    def _publish(
        self, event: str, task: OpenTask, turn: ProcessorTurn, *, code: str = "", text: str = "",
        certificate: str = "", retry_at_unix_us: int = 0,
    ) -> None:  # fmt: skip
        if not self._fenced:
            turn.write(
                news(self.application, event, task, code=code, text=text, certificate=certificate,
                     retry_at_unix_us=retry_at_unix_us)
            )  # fmt: skip

    @property
    def _named(self) -> str:
        return f"application={self.application} epoch={self.epoch}"
