"""Task processors, their journal, a broker, a chain: all in one process under a seeded clock.

Real: the hardened cores of two workers. Made up, and out to get them: the chain (answers are of
some moment between question and arrival; submissions conflict, fail, are without effect, and may
be committed although nobody hears of it), the notifications (late, doubled, lost), operators (they
fail, are slow, find no place), processes (killed, or cut off from the broker and still at work),
the wall clock (it is set), and people (they wish what they like).

Checked at every step:
  * an outcome that is committed is of the task that stands first in its group, and an operator has
    given it for this input: nothing is invented, doubled, or out of order;
  * who submits goes by the journal's epoch, has said so in the same turn, and does one at a time;
  * an application is never submitted to by whom it was taken away from, once that is said;
  * no cap is broken, and the core's own invariants hold;
and at the end, when everything works again: every task was committed once, nothing runs, nobody
waits.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import NamedTuple

from tests.offchain.processor_script import CHAIN, OTHER_CHAIN, PlayedJournal
from workers.offchain.actions import ProcessorActions, Task
from workers.offchain.application import Application
from workers.offchain.commands import (
    Ask,
    Command,
    Done,
    JournalCommand,
    KeepTask,
    Kill,
    Note,
    Released,
    Run,
    StopAsking,
    Submit,
    TakeEpoch,
    UnwatchChain,
    WatchChain,
)
from workers.offchain.ends import RunEnd, RunResult, SubmitEnd, SubmitResult
from workers.offchain.hardened.processor import Processor
from workers.offchain.hardened.processor_invariants import validate
from workers.offchain.processor_settings import ProcessorSettings
from workers.offchain.records import TaskState
from workers.offchain.stimuli import (
    Answered,
    EpochRefused,
    EpochTaken,
    NotAnswered,
    Notified,
    PlaceRefused,
    RunEnded,
    RunIsSlow,
    Share,
    Stimulus,
    StreamOpened,
    SubmitEnded,
    Updated,
    Wish,
    Wished,
)

START_UNIX_US = 1_700_000_000_000_000
SUBMIT_LIMIT_S = 120.0
# So long after its sender has died or was cut off, the node may go on with what it was sent.
LATE_S = 2.0
SETTINGS = ProcessorSettings(concurrency=4, per_application=3, per_operator={"heavy": 1},
                             max_attempts=4, retry_max_s=30.0)  # fmt: skip
HOST_PLACES = 6
JOURNAL = JournalCommand.__args__
# Said by the rim itself, or the end of a task for good.
NOT_PLAYED = (SubmitEnd.FENCED, SubmitEnd.OUTCOME_TOO_LARGE)


class Wrong(AssertionError):
    """The processors did what they must never do."""


# -- the chain ------------------------------------------------------------------------------------


class Wanted(NamedTuple):
    uid: int
    task: Task


class ModelApplication:
    """A queue of tasks; an outcome removes the first of its id, or of those without."""

    def __init__(self, application: Application, *, ids: int) -> None:
        self.application = application
        self.ids = ids  # how many different ones; 0: it knows none
        self.queue: list[Wanted] = []
        self.committed: Counter[int] = Counter()
        self.calls_back_at: int | None = None

    def take(self, submit: Submit) -> None:
        id = submit.outcome.id if isinstance(submit.outcome.id, str) else None
        first = next((w for w in self.queue if w.task.id == id), None)
        if first is None:
            raise Wrong(f"nobody has asked for {submit}")
        if not submit.outcome.output.startswith(first.task.input + "="):
            raise Wrong(f"{submit} is not of the first task, {first}")
        self.queue.remove(first)
        self.committed[first.uid] += 1

    def actions(self, now_unix_us: int) -> ProcessorActions:
        if self.calls_back_at is not None and self.calls_back_at <= now_unix_us:
            self.calls_back_at = None
        return ProcessorActions([w.task for w in self.queue], self.calls_back_at, None)


# -- workers --------------------------------------------------------------------------------------


class SimulatedWorker:
    """A core and its rim; what the rim has begun goes on in the simulation."""

    def __init__(self, simulation: Simulation, name: str) -> None:
        self.simulation = simulation
        self.name = name
        self.alive = True
        self.core = Processor(SETTINGS, simulation.chance)
        self.runs: dict[int, Run] = {}
        self.submits: dict[str, Submit] = {}  # by chain
        self.chains: set[str] = set()
        self.epochs: dict[Application, int] = {}  # by which its entries are compared
        self.given: dict[Application, Share] = {}  # the list as it was last told
        self.released: set[tuple[Application, int]] = set()

    def tell(self, *stimuli: Stimulus) -> None:
        """What has happened together is one turn, as in the loop around the core."""
        if not self.alive or not stimuli:
            return
        now, unix_us = self.simulation.now, self.simulation.unix_us
        self._perform(self.core.handle_all(stimuli, now, unix_us))

    def tick(self) -> None:
        if self.alive and self.core.deadline() <= self.simulation.now:
            self._perform(self.core.tick(self.simulation.now, self.simulation.unix_us))

    def _perform(self, commands: Sequence[Command]) -> None:
        validate(self.core)
        entries = [c for c in commands if isinstance(c, JOURNAL)]
        lost, replies = self._write(entries)
        submitting = {
            (c.application, c.task.serial)
            for c in entries
            if isinstance(c, KeepTask) and c.task.state is TaskState.SUBMITTING
        }
        for command in commands:
            if isinstance(command, JOURNAL):
                continue
            if getattr(command, "application", None) in lost and not isinstance(command, Released):
                replies += self._never_begun(command)
                continue
            if isinstance(command, Submit):
                if (command.application, command.serial) not in submitting:
                    raise Wrong(f"{command} is not in the journal")
                self._check_owner(command)
            self._begin(command)
        refused = [EpochRefused(a, e, self.simulation.journal.epochs[a]) for a, e in lost.items()]
        self.tell(*refused, *replies)

    def _write(
        self, entries: Sequence[JournalCommand]
    ) -> tuple[dict[Application, int], list[Stimulus]]:
        """Apply the entries of those applications whose epoch is the journal's."""
        journal = self.simulation.journal
        lost: dict[Application, int] = {}
        replies: list[Stimulus] = []
        taking = {c.application: c.epoch for c in entries if isinstance(c, TakeEpoch)}
        for application in dict.fromkeys(c.application for c in entries):
            ours = taking.get(application, self.epochs.get(application, 0))
            newest = journal.epochs.get(application, 0)
            if ours < newest or (ours != newest and application not in taking):
                lost[application] = ours
        for entry in entries:
            if entry.application in lost:
                continue
            if isinstance(entry, TakeEpoch):
                self.epochs[entry.application] = entry.epoch
                taken = journal.take(entry)
                assert isinstance(taken, EpochTaken)
                replies.append(taken)
            else:
                journal.write(entry)
        return lost, replies

    def _never_begun(self, command: Command) -> list[Stimulus]:
        match command:
            case Ask():
                return [NotAnswered(command.ask, "the epoch is over")]
            case Run():
                return [RunEnded(command.run, RunResult(RunEnd.CANCELLED))]
            case Submit():
                end = SubmitResult(SubmitEnd.FENCED)
                return [SubmitEnded(command.application, command.serial, end)]
        return []

    def _check_owner(self, submit: Submit) -> None:
        if self.simulation.journal.epochs[submit.application] != submit.epoch:
            raise Wrong(f"{self.name} is fenced and submits: {submit}")
        share = self.given.get(submit.application)
        if share is None or share.epoch != submit.epoch:
            raise Wrong(f"{self.name} submits what is not its own: {submit}")
        if submit.application.chain_id in self.submits:
            raise Wrong(f"{self.name} submits two outcomes at once on a chain")

    def _begin(self, command: Command) -> None:
        simulation = self.simulation
        match command:
            case WatchChain():
                self.chains.add(command.chain_id)
                opened = StreamOpened(command.chain_id)
                simulation.later(0.0, 2.0, partial(self.tell, opened))
            case UnwatchChain():
                self.chains.discard(command.chain_id)
            case Ask():
                simulation.ask(self, command)
            case Run():
                self._run(command)
            case Kill():
                simulation.later(0.0, 0.5, partial(self._killed, command.run))
            case Submit():
                self.submits[command.application.chain_id] = command
                simulation.submit(self, command)
            case Released():
                self.released.add((command.application, command.epoch))
            case StopAsking() | Note() | Done():
                pass

    # -- operators --

    def _run(self, run: Run) -> None:
        simulation = self.simulation
        if run.application not in self.epochs:
            raise Wrong(f"{run} for nobody")
        if simulation.operators_running() >= HOST_PLACES:
            simulation.later(0.0, 0.0, partial(self.tell, PlaceRefused(run.run)))
            return
        self.runs[run.run] = run
        if len(self.runs) > SETTINGS.concurrency:
            raise Wrong("more operators than may run at once")
        of_application = Counter(r.application for r in self.runs.values())
        if max(of_application.values()) > SETTINGS.per_application:
            raise Wrong("more operators of one application than may run at once")
        if sum(r.operator == "heavy" for r in self.runs.values()) > 1:
            raise Wrong("an operator has a bound of its own")
        if simulation.chance.random() < 0.1:
            simulation.later(1.0, 2.0, partial(self.tell, RunIsSlow(run.run, 1.0)))
        simulation.later(0.01, 3.0, partial(self._run_ended, run))

    def _run_ended(self, run: Run) -> None:
        if self.alive and self.runs.pop(run.run, None) is not None:
            self.tell(RunEnded(run.run, self.simulation.operator_result(run)))

    def _killed(self, run: int) -> None:
        if self.alive and self.runs.pop(run, None) is not None:
            self.tell(RunEnded(run, RunResult(RunEnd.CANCELLED)))

    def die(self) -> None:
        self.alive = False
        self.runs.clear()  # orphans are reaped


# -- everything -----------------------------------------------------------------------------------


class Simulation:
    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.now, self.unix_us = 100.0, START_UNIX_US
        self.calm = False  # nothing fails any more
        self.journal = PlayedJournal()
        chance = self.chance
        self.applications = {
            a: ModelApplication(a, ids=chance.choice((0, 0, 2, 1000)))
            for a in (Application(c, d * 64) for c in (CHAIN, OTHER_CHAIN) for d in "ab")
        }
        self.poison: set[str] = set()  # inputs that make every run fail
        self.workers = [SimulatedWorker(self, f"w{i}") for i in range(2)]
        self.names = itertools.count(2)
        self.owner: dict[Application, SimulatedWorker | None] = {}
        self.epochs = dict.fromkeys(self.applications, 0)
        self.uids = itertools.count(1)
        self.commits = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    # -- time --

    def later(self, least_s: float, most_s: float, what: Callable[[], None]) -> None:
        at = self.now + self.chance.uniform(least_s, most_s)
        heapq.heappush(self._events, (at, next(self._order), what))

    def run_until(self, end: float) -> None:
        while True:
            deadline = min(w.core.deadline() for w in self.workers)
            event_at = self._events[0][0] if self._events else end
            at = min(deadline, event_at, end)
            self._pass(max(0.0, at - self.now))
            if self.now >= end:
                return
            if event_at <= self.now:
                heapq.heappop(self._events)[2]()
            for worker in list(self.workers):
                worker.tick()

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        self.unix_us += round(seconds * 1e6) + (seconds > 0)

    # -- what the chain does --

    def ask(self, worker: SimulatedWorker, ask: Ask) -> None:
        if not self.calm and self.chance.random() < 0.1:
            self.later(0.0, 2.0, partial(worker.tell, NotAnswered(ask.ask, "500")))
            return
        self.later(0.0, 0.3, partial(self._look, worker, ask))

    def _look(self, worker: SimulatedWorker, ask: Ask) -> None:
        """The node answers as of now; the answer arrives later."""
        actions = self.applications[ask.application].actions(ask.now_unix_us)
        self.later(0.0, 0.3, partial(worker.tell, Answered(ask.ask, actions)))

    def submit(self, worker: SimulatedWorker, submit: Submit) -> None:
        ends = [SubmitEnd.COMMITTED] * 6
        if not self.calm:
            ends += [e for e in SubmitEnd if e not in NOT_PLAYED]
        end = self.chance.choice(ends)
        ended = partial(self._submit_ended, worker, submit, end)
        if end is SubmitEnd.COMMITTED or (
            end is SubmitEnd.AMBIGUOUS and self.chance.random() < 0.4
        ):
            self.later(0.0, 1.0, partial(self._commit, worker, submit, ended))
        elif end is SubmitEnd.AMBIGUOUS and self.chance.random() < 0.3:
            self.later(0.0, 1.0, partial(self._commit_late, worker, submit, ended))
        else:
            self.later(0.0, 1.0, ended)

    def _commit(self, worker: SimulatedWorker, submit: Submit, ended: Callable[[], None]) -> None:
        """The node has it; whether its sender hears of it is another question."""
        self.applications[submit.application].take(submit)
        self.commits += 1
        self.new_block(submit.application.chain_id)
        self.later(0.0, 0.5, ended)

    def _commit_late(
        self, worker: SimulatedWorker, submit: Submit, ended: Callable[[], None]
    ) -> None:
        """The connection breaks, and the node goes on with what it has."""
        ended()
        self.later(0.0, LATE_S, partial(self._commit, worker, submit, lambda: None))

    def _submit_ended(self, worker: SimulatedWorker, submit: Submit, end: SubmitEnd) -> None:
        if worker.submits.get(submit.application.chain_id) is submit:
            del worker.submits[submit.application.chain_id]
        until = self.unix_us + int(self.chance.uniform(-1, 20) * 1e6)
        result = SubmitResult(end, until_unix_us=until if end is SubmitEnd.WAIT_UNTIL else 0)
        worker.tell(SubmitEnded(submit.application, submit.serial, result))

    def new_block(self, chain_id: str, reason: str = "NewBlock") -> None:
        for worker in self.workers:
            for _ in range(1 if self.calm else self.chance.choice((0, 1, 1, 2))):
                if chain_id in worker.chains:
                    self.later(0.0, 0.5, partial(worker.tell, Notified(chain_id, reason)))

    def request(self, application: ModelApplication) -> None:
        """Somebody wants one to four tasks done, perhaps equal ones."""
        for _ in range(self.chance.randint(1, 4)):
            uid = next(self.uids)
            input = self.chance.choice((f"{uid}", "same"))
            id = None
            if application.ids:
                id = f"{uid % application.ids}"
            if input != "same" and not self.calm and self.chance.random() < 0.1:
                self.poison.add(input)
            operator = self.chance.choice(("echo", "echo", "heavy"))
            application.queue.append(Wanted(uid, Task(operator, input, id)))
        if self.chance.random() < 0.3:
            application.calls_back_at = self.unix_us + int(self.chance.uniform(-5, 30) * 1e6)
        self.new_block(application.application.chain_id)

    # -- operators --

    def operators_running(self) -> int:
        return sum(len(worker.runs) for worker in self.workers)

    def operator_result(self, run: Run) -> RunResult:
        if run.input in self.poison:
            ends = (RunEnd.TRANSIENT, RunEnd.PERMANENT, RunEnd.TIMEOUT)
            return RunResult(self.chance.choice(ends))
        if not self.calm and self.chance.random() < 0.1:
            return RunResult(self.chance.choice((RunEnd.TRANSIENT, RunEnd.NOT_STARTED)))
        return RunResult(RunEnd.OUTPUT, f"{run.input}={self.chance.random()}")

    # -- the broker --

    def give(self, application: Application, worker: SimulatedWorker, wait_s: float) -> None:
        self.epochs[application] += 1
        self.owner[application] = worker
        share = Share(application, self.epochs[application], wait_s)
        worker.given[application] = share
        worker.tell(Updated(list(worker.given.values())))

    def hand_over(self, application: Application, to: SimulatedWorker) -> None:
        """Make before break: the next owner begins when the last one has let go."""
        owner = self.owner.get(application)
        if owner is None or not owner.alive or owner is to:
            return
        share = owner.given.pop(application)
        self.owner[application] = None
        owner.tell(Updated(list(owner.given.values())))
        self._when_released(application, share.epoch, owner, to)

    def _when_released(
        self, application: Application, epoch: int, owner: SimulatedWorker, to: SimulatedWorker
    ) -> None:
        if self.owner[application] is not None:
            return
        if not to.alive:
            to = self.chance.choice(self.workers)
        if (application, epoch) in owner.released or not owner.alive:
            self.give(application, to, 0.0)
        else:
            again = partial(self._when_released, application, epoch, owner, to)
            self.later(0.1, 0.2, again)

    def kill(self, worker: SimulatedWorker) -> None:
        """The process is gone; another one takes its place."""
        worker.die()
        born = SimulatedWorker(self, f"w{next(self.names)}")
        self.workers[self.workers.index(worker)] = born
        for application in worker.given:
            self.give(application, self.chance.choice(self.workers), 0.0)

    def cut_off(self, application: Application) -> None:
        """The lease of an owner ends while it works on, as it does not know."""
        owner = self.owner.get(application)
        others = [worker for worker in self.workers if worker is not owner]
        if owner is None or not owner.alive or not others:
            return
        self.give(application, self.chance.choice(others), SUBMIT_LIMIT_S)
        heard = partial(self._hears_that_it_has_lost, owner, application)
        self.later(1.0, 200.0, heard)

    def _hears_that_it_has_lost(self, owner: SimulatedWorker, application: Application) -> None:
        if owner.alive and self.owner[application] is not owner:
            owner.given.pop(application, None)
            owner.tell(Updated(list(owner.given.values())))

    # -- people --

    def wish(self) -> None:
        for application, kept in self.journal.tasks.items():
            dead = [t for t in kept.values() if t.state is TaskState.DEAD]
            owner = self.owner.get(application)
            if dead and owner is not None:
                self.poison -= {task.input for task in dead}
                for task in dead:
                    owner.tell(Wished(application, task.serial, Wish.RETRY))

    # -- a day --

    def trouble(self) -> None:
        """Something happens."""
        chance = self.chance
        application = chance.choice(list(self.applications))
        match chance.randrange(9):
            case 0 | 1 | 2 | 3:
                self.request(self.applications[application])
            case 4:
                self.hand_over(application, chance.choice(self.workers))
            case 5:
                self.kill(chance.choice(self.workers))
            case 6:
                self.cut_off(application)
            case 7:
                self.unix_us += int(chance.uniform(-3600, 3600) * 1e6)
            case 8:
                reason = chance.choice(("NewRound", "NewBlock", "BlockExecuted"))
                self.new_block(application.chain_id, reason)

    def run(self, *, troubles: int) -> None:
        for application in self.applications:
            self.give(application, self.chance.choice(self.workers), 0.0)
        for _ in range(troubles):
            self.trouble()
            self.run_until(self.now + self.chance.expovariate(1 / 4))
        self.calm = True
        for _ in range(40):  # after the longest pause of a wrong configuration everything is done
            self.wish()
            self.run_until(self.now + 30)
            if not any(a.queue for a in self.applications.values()):
                break
        self._check_end()

    def _check_end(self) -> None:
        for model in self.applications.values():
            if model.queue:
                raise Wrong(f"never done: {model.queue}, {self.journal.tasks[model.application]}")
        self.run_until(self.now + 400)
        for model in self.applications.values():
            if set(model.committed.values()) - {1}:
                raise Wrong(f"committed twice: {model.committed}")
            left = [t for t in self.journal.tasks.get(model.application, {}).values() if t.asked]
            if left:
                raise Wrong(f"left behind: {left}")
        if self.operators_running() or any(worker.submits for worker in self.workers):
            raise Wrong("something goes on for nobody")
