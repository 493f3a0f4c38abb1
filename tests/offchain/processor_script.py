"""A task processor's core under hand-held clocks, as a transcript: what happens, what it does.

    s = script(Processor)
    s >> owned(A) << watches(A) << asks(A)
    s >> answered(A, "slow", "fast") << runs("slow") << runs("fast")
    s >> output("fast")
    s >> output("slow") << submits("slow!")
    s >> committed(A) << submits("fast!")

`>>` tells the core something, `<<` is the next thing that it wants done in the world; when the next
`>>` or `wait` comes, or the test ends, there must not be anything more. The journal is played: its
entries are applied to `s.journal`, and epochs are taken or refused by it at once. Events and notes
are in `s.events` and `s.notes`. Every random pause is the longest one, so a retry comes after 5,
10, 20 s.

A task is written as its input; its operator is "echo" unless it is a `Task`. An output is the input
with "!".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from random import Random
from typing import Any, ClassVar

from msgspec import Struct

from workers.offchain.actions import ProcessorActions, Task
from workers.offchain.application import Application
from workers.offchain.commands import (
    Ask,
    Command,
    Done,
    ForgetTask,
    KeepCallback,
    KeepCursor,
    KeepTask,
    Kill,
    Note,
    Publish,
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
from workers.offchain.records import TaskRecord
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

CHAIN, OTHER_CHAIN = "c1" * 32, "c2" * 32
A, B, C = (Application(CHAIN, digit * 64) for digit in "abc")
ELSEWHERE = Application(OTHER_CHAIN, "a" * 64)
START_UNIX_US = 1_700_000_000_000_000

Listed = str | Task


class LongestPauses(Random):
    """No chance: every pause is as long as it may be, and of several choices it is the first."""

    def uniform(self, a: float, b: float) -> float:
        return b

    def choice(self, seq: Any) -> Any:
        return seq[0]


# -- the journal ----------------------------------------------------------------------------------


class PlayedJournal:
    """What is kept of each application, and by whose epoch it goes."""

    def __init__(self) -> None:
        self.epochs: dict[Application, int] = {}
        self.cursors: dict[Application, str | None] = {}
        self.callbacks: dict[Application, int | None] = {}
        self.tasks: dict[Application, dict[int, TaskRecord]] = {}
        self.next_serials: dict[Application, int] = {}

    def take(self, command: TakeEpoch) -> EpochTaken | EpochRefused:
        application, epoch = command.application, command.epoch
        if epoch < self.epochs.get(application, 0):
            return EpochRefused(application, epoch, self.epochs[application])
        last_has_ended = self.epochs.get(application) == command.before
        self.epochs[application] = epoch
        return EpochTaken(
            application,
            epoch,
            self.cursors.get(application),
            self.callbacks.get(application),
            list(self.tasks.get(application, {}).values()),
            self.next_serials.get(application, 1),
            last_has_ended,
        )

    def write(self, command: Command) -> None:
        match command:
            case KeepCursor():
                self.cursors[command.application] = command.cursor
            case KeepCallback():
                self.callbacks[command.application] = command.at_unix_us
            case KeepTask():
                serial = command.task.serial
                self.tasks.setdefault(command.application, {})[serial] = command.task
                self.next_serials[command.application] = max(
                    serial + 1, self.next_serials.get(command.application, 1)
                )
            case ForgetTask():
                self.tasks.get(command.application, {}).pop(command.serial, None)


# -- the transcript -------------------------------------------------------------------------------


class Script:
    played: ClassVar[list[Script]] = []  # in this test; `conftest.py` looks at how they end

    def __init__(self, core: Any, journal: PlayedJournal | None = None) -> None:
        self.played.append(self)
        self.core = core
        self.now, self.unix_us = 1000.0, START_UNIX_US
        self.journal = journal or PlayedJournal()
        self.wanted: list[Command] = []
        self.events: list[Publish] = []
        self.notes: list[Note] = []
        self.asks: dict[Application, Ask] = {}  # not answered yet
        self.runs: list[Run] = []  # not ended yet
        self.submits: list[Submit] = []  # likewise
        self.validates_every = 1  # turns; to look at every one of many tasks takes time
        self._turns = 0

    def __rshift__(self, happening: Happening) -> Script:
        self.nothing_more()
        self._tell(happening(self))
        return self

    def __lshift__(self, expected: Expected) -> Script:
        assert self.wanted, f"nothing is wanted, expected {expected}"
        command = self.wanted.pop(0)
        assert type(command) is expected.kind, f"{command}, expected {expected}"
        given = {name: getattr(command, name) for name in expected.fields}
        if isinstance(command, Submit) and "outcome" in expected.fields:
            given["outcome"] = command.outcome.output
        assert given == expected.fields, command
        return self

    def nothing_more(self) -> None:
        assert not self.wanted, f"more is wanted: {self.wanted}"

    def wait(self, seconds: float) -> Script:
        """Let time pass, from deadline to deadline."""
        self.nothing_more()
        end = self.now + seconds
        while self.core.deadline() <= end:
            self._pass(max(0.0, self.core.deadline() - self.now))
            self._perform(self.core.tick(self.now, self.unix_us))
        self._pass(end - self.now)
        return self

    def sleep(self, seconds: float) -> Script:
        """Let time pass without the core being called."""
        self.nothing_more()
        self._pass(seconds)
        return self

    def set_wall_clock(self, by_s: float) -> None:
        self.unix_us += int(by_s * 1e6)

    def _pass(self, seconds: float) -> None:
        self.now += seconds
        self.unix_us += round(seconds * 1e6)

    def _tell(self, stimulus: Stimulus) -> None:
        self._forget(stimulus)
        self._perform(self.core.handle(stimulus, self.now, self.unix_us))

    def _forget(self, stimulus: Stimulus) -> None:
        match stimulus:
            case Answered() | NotAnswered():
                self.asks = {a: q for a, q in self.asks.items() if q.ask != stimulus.ask}
            case RunEnded() | PlaceRefused():
                self.runs = [r for r in self.runs if r.run != stimulus.run]
            case SubmitEnded():
                ended = (stimulus.application, stimulus.serial)
                self.submits = [s for s in self.submits if (s.application, s.serial) != ended]

    def _perform(self, commands: Sequence[Command]) -> None:
        self._turns += 1
        if isinstance(self.core, Processor) and self._turns % self.validates_every == 0:
            validate(self.core)
        epochs = []
        for command in commands:
            match command:
                case TakeEpoch():
                    epochs.append(self.journal.take(command))
                case KeepCursor() | KeepCallback() | KeepTask() | ForgetTask():
                    self.journal.write(command)
                case Publish():
                    self.events.append(command)
                case Note():
                    self.notes.append(command)
                case _:
                    self._begin(command)
                    self.wanted.append(command)
        for epoch in epochs:
            self._tell(epoch)

    def _begin(self, command: Command) -> None:
        match command:
            case Ask():
                self.asks[command.application] = command
            case StopAsking():
                self.asks = {a: q for a, q in self.asks.items() if q.ask != command.ask}
            case Run():
                self.runs.append(command)
            case Submit():
                self.submits.append(command)

    def play(self, reply: Callable[[Command], Happening | None]) -> list[Command]:
        """Answer whatever is wanted, until nothing more is. Returns everything that was."""
        played = []
        while self.wanted:
            command = self.wanted.pop(0)
            played.append(command)
            happening = reply(command)
            if happening is not None:
                self._tell(happening(self))
        return played

    def run(self, input: str) -> int:
        """The number of the run with this input that began first."""
        return next(r.run for r in self.runs if r.input == input)

    def submission(self, application: Application) -> int:
        """The serial of the application's submission that began first."""
        return next(s.serial for s in self.submits if s.application == application)

    # -- what a test may look at --

    def seen(self) -> list[Command]:
        """What was wanted since the last look, when a test does not care in which order."""
        wanted, self.wanted = self.wanted, []
        return wanted

    def count(self, kind: type) -> int:
        """How often something was wanted since the last look."""
        return sum(isinstance(command, kind) for command in self.seen())

    def told(self, event: str) -> list[Publish]:
        return [e for e in self.events if e.event == event]

    def states(self, application: Application) -> list[tuple[str, str]]:
        """The tasks in the journal, by input, and how they stand."""
        kept = self.journal.tasks.get(application, {})
        return [(kept[serial].input, kept[serial].state.value) for serial in sorted(kept)]


Happening = Callable[[Script], Stimulus]


def script(
    core: Callable[..., Any] = Processor,
    *,
    journal: PlayedJournal | None = None,
    chance: Random | None = None,
    **settings: Any,
) -> Script:
    return Script(core(ProcessorSettings(**settings), chance or LongestPauses(0)), journal)


# -- what happens ---------------------------------------------------------------------------------


def owned(*applications: Application | Share, epoch: int = 1) -> Happening:
    """The list of what is ours."""
    shares = [a if isinstance(a, Share) else Share(a, epoch) for a in applications]
    return lambda _: Updated(shares)


def answered(
    application: Application, *tasks: Listed, callback: int | None = None, cursor: str | None = None
) -> Happening:
    listed = [t if isinstance(t, Task) else Task("echo", t) for t in tasks]
    actions = ProcessorActions(listed, callback, cursor)
    return lambda s: Answered(s.asks[application].ask, actions)


def not_answered(application: Application, text: str = "500") -> Happening:
    return lambda s: NotAnswered(s.asks[application].ask, text)


def new_block(chain_id: str = CHAIN) -> Happening:
    return notified("NewBlock", chain_id)


def notified(reason: str, chain_id: str = CHAIN) -> Happening:
    return lambda _: Notified(chain_id, reason)


def stream_opened(chain_id: str = CHAIN) -> Happening:
    return lambda _: StreamOpened(chain_id)


def output(input: str, text: str | None = None) -> Happening:
    result = RunResult(RunEnd.OUTPUT, f"{input}!" if text is None else text)
    return lambda s: RunEnded(s.run(input), result)


def failed(
    input: str, end: RunEnd = RunEnd.TRANSIENT, text: str = "exit status 1", stderr: str = ""
) -> Happening:
    return lambda s: RunEnded(s.run(input), RunResult(end, text=text, stderr=stderr))


def cancelled_run(input: str) -> Happening:
    return failed(input, RunEnd.CANCELLED, "cancelled")


def slow(input: str, seconds: float = 300.0) -> Happening:
    return lambda s: RunIsSlow(s.run(input), seconds)


def no_place(input: str) -> Happening:
    return lambda s: PlaceRefused(s.run(input))


def submitted(application: Application, end: SubmitEnd, **result: Any) -> Happening:
    return lambda s: SubmitEnded(
        application, s.submission(application), SubmitResult(end, **result)
    )


def committed(application: Application, certificate: str = "ce" * 32) -> Happening:
    return submitted(application, SubmitEnd.COMMITTED, certificate=certificate)


def wished(application: Application, input: str, wish: Wish) -> Happening:
    def happens(s: Script) -> Wished:
        kept = s.journal.tasks[application].values()
        return Wished(application, next(t.serial for t in kept if t.input == input), wish)

    return happens


def refused(application: Application, epoch: int = 1) -> Happening:
    """The journal goes by another epoch since an entry of ours came."""
    return lambda _: EpochRefused(application, epoch, epoch + 1)


def told(stimulus: Stimulus) -> Happening:
    return lambda _: stimulus


# -- what is wanted -------------------------------------------------------------------------------


class Expected(Struct):
    kind: type
    fields: dict[str, Any]


def watches(chain_id: str = CHAIN) -> Expected:
    return Expected(WatchChain, {"chain_id": chain_id})


def unwatches(chain_id: str = CHAIN) -> Expected:
    return Expected(UnwatchChain, {"chain_id": chain_id})


def asks(application: Application, **fields: Any) -> Expected:
    return Expected(Ask, {"application": application, **fields})


def stops_asking() -> Expected:
    return Expected(StopAsking, {})


def runs(input: str, **fields: Any) -> Expected:
    return Expected(Run, {"input": input, **fields})


def kills(s: Script, input: str) -> Expected:
    return Expected(Kill, {"run": s.run(input)})


def submits(outcome: str, **fields: Any) -> Expected:
    return Expected(Submit, {"outcome": outcome, **fields})


def releases(application: Application, epoch: int = 1) -> Expected:
    return Expected(Released, {"application": application, "epoch": epoch})


def is_done() -> Expected:
    return Expected(Done, {})


NEVER = inf
