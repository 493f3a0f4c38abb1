"""The rim of the task processor: one turn after the other around its core.

A turn takes everything that has happened, has the core say what follows, writes what must not be
forgotten into the journal, and only then starts operators and gives outcomes away. While the
journal is written the loop goes on listening; what happens meanwhile is the next turn's.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import inf
from typing import Any, Protocol, TypeVar

from workers.offchain.application import Application
from workers.offchain.commands import (
    Ask,
    Command,
    Done,
    ForgetTask,
    JournalCommand,
    KeepCallback,
    KeepCursor,
    KeepTask,
    Kill,
    Note,
    Publish,
    Run,
    StopAsking,
    Submit,
    TakeEpoch,
    UnwatchChain,
    WatchChain,
)
from workers.offchain.ends import RunEnd, RunResult, SubmitEnd, SubmitResult
from workers.offchain.hardened.watched_application import Phase
from workers.offchain.journal import journal_holder
from workers.offchain.journal.journal import Journal, Posted, Written
from workers.offchain.node_service.node_service import NodeService
from workers.offchain.node_service.notification_stream import NotificationStream
from workers.offchain.offchain_errors import OffchainError
from workers.offchain.operators.launcher import Launcher
from workers.offchain.operators.operator_runner import OperatorRunner
from workers.offchain.operators.orphans import end_orphans
from workers.offchain.operators.process_table import ProcessIdentity
from workers.offchain.standing import Standing
from workers.offchain.stimuli import (
    Answered,
    Cancelled,
    EpochTaken,
    NotAnswered,
    PlaceRefused,
    RunEnded,
    RunIsSlow,
    Stimulus,
    SubmitEnded,
    Wished,
)

log = logging.getLogger("forgepool.tasks")

T = TypeVar("T")

_FOR_JOURNAL = (TakeEpoch, KeepCursor, KeepCallback, KeepTask, ForgetTask, Publish)
# A submission that could not leave for so long after its epoch was compared (our process was
# stopped) does not leave any more: somebody else may own the application by now.
SUBMIT_STARTS_S_MAX = 5.0
LOOK_FOR_WISHES_S = 60.0  # when nobody tells us that there are some
PREDECESSOR_LOOK_S = 0.05
# What the broker has confirmed is crossed out with the next turn, or so long after it. Who takes
# over before that says it again, with the same id.
CROSS_OUT_S = 1.0


# The disk is full, or another program reads the journal for long. The same can be written later.
_PASSING = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY}
STALL_S = 1.0


class Core(Protocol):
    """What both cores are to the loop."""

    def handle_all(
        self, stimuli: Iterable[Stimulus], now: float, unix_us: int
    ) -> list[Command]: ...
    def deadline(self) -> float: ...
    def held(self) -> list[tuple[Application, int]]: ...
    def standings(self, now: float) -> list[Standing]: ...


class ProcessorLoop:
    """Stimuli in, commands performed; until the core is done."""

    def __init__(
        self,
        core: Core,
        journal: Journal | None,
        launcher: Launcher,
        service: NodeService,
        stream: NotificationStream,
        *,
        submit_limit_s: float,
        publish: Callable[[Sequence[Posted]], None],
        on_turn: Callable[[Sequence[Stimulus]], None],
        on_stall: Callable[[Exception], None],
    ) -> None:
        """Args:
        journal: None in compat mode, which remembers nothing.
        publish: is given events that are in the journal.
        on_turn: is told what a turn has taken in, when it is over.
        on_stall: is told why a turn waits for the disk, whenever it has tried in vain.
        """
        self._core, self._journal = core, journal
        self._runner = OperatorRunner(launcher, self._run_ended, self._run_is_slow)
        self._service, self._stream = service, stream
        self._submit_limit_s = submit_limit_s
        self._publish, self._on_turn, self._on_stall = publish, on_turn, on_stall
        self._stimuli: list[Stimulus] = []
        self._wake = asyncio.Event()
        # One thread: a journal is used by one at a time, and its turns keep their order.
        self._thread = ThreadPoolExecutor(1, "journal")
        self._looking: asyncio.TimerHandle | None = None
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._tokens: dict[int, str] = {}  # of runs
        self._ended_tokens: list[str] = []
        self._confirmed: list[int] = []  # numbers of events, not crossed out yet
        self._crosses_out = False  # though there is nothing else to write
        self._look_at = inf  # when the journal is looked into for wishes
        self._events = 0  # of a mode without a journal
        self._is_ending = self._done = False

    def tell(self, stimulus: Stimulus) -> None:
        """Something has happened; any number of it is one turn."""
        self._is_ending = self._is_ending or isinstance(stimulus, Cancelled)
        self._stimuli.append(stimulus)
        self._wake.set()

    def end_at_once(self) -> None:
        """Begin nothing any more and kill what runs: nobody is there to take what comes of it."""
        self.tell(Cancelled())
        self._runner.end_at_once()

    def look_again(self) -> None:
        """Somebody has left a wish in the journal."""
        self._look_at = 0.0
        self._wake.set()

    async def run(self) -> None:
        """Work until the core says that it is done.

        Raises:
            OSError, sqlite3.Error: the journal cannot be written.
        """
        try:
            await self.end_orphans()
            while not self._done:
                await self._turn()
            self._cross_out()
            await self._write([], [], [])
        finally:
            for task in self._background:
                task.cancel()
            await self._runner.shutdown()
            self._thread.shutdown()
            if self._journal is not None:
                self._journal.close()

    async def _turn(self) -> None:
        deadline = self._core.deadline()
        if self._journal is not None:
            deadline = min(deadline, self._look_at)
        left_s = deadline - time.monotonic()
        if left_s > 0:
            try:
                async with asyncio.timeout(None if left_s == inf else left_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()
        stimuli, self._stimuli = self._stimuli, []
        heard = await self._wishes()
        now, unix_us = time.monotonic(), time.time_ns() // 1000
        # Wishes first: what comes after them may take an application away that was to hear one.
        commands = self._core.handle_all([*heard, *stimuli], now, unix_us)
        if any(isinstance(each, EpochTaken) for each in stimuli):
            self._look_at = 0.0
        await self._perform(commands, heard)
        self._on_turn(stimuli)

    async def _perform(self, commands: Sequence[Command], heard: Sequence[Wished]) -> None:
        for command in commands:
            if isinstance(command, Kill):  # no disk may hold it up
                self._runner.cancel(command.run)
        entries = [c for c in commands if isinstance(c, _FOR_JOURNAL)]
        runs = [c for c in commands if isinstance(c, Run)]
        written = await self._write(entries, runs, heard)
        at = time.monotonic()
        refused = {each.application for each in written.refused}
        for command in commands:
            if not isinstance(command, _FOR_JOURNAL) and (
                isinstance(command, Note | Done | WatchChain | UnwatchChain | StopAsking)
                or getattr(command, "application", None) not in refused
            ):
                self._do(command, at)
            else:
                self._never_begun(command)
        self._publish(written.posted)  # operators are at work meanwhile

    def _never_begun(self, command: Command) -> None:
        """Tell the core the end of what it waits for and what did not begin: its epoch is over."""
        over = "the application has another owner"
        match command:
            case Run():
                self.tell(RunEnded(command.run, RunResult(RunEnd.CANCELLED, text=over)))
            case Ask():
                self.tell(NotAnswered(command.ask, over))
            case Submit():
                fenced = SubmitResult(SubmitEnd.FENCED, text=over)
                self.tell(SubmitEnded(command.application, command.serial, fenced))

    # -- the journal ------------------------------------------------------------------------------

    async def _write(
        self, entries: Sequence[JournalCommand], runs: Sequence[Run], heard: Sequence[Wished]
    ) -> Written:
        """Write a turn down; what it came to is told to the core."""
        ended, self._ended_tokens = self._ended_tokens, []
        if self._journal is None:
            return Written([], [], [], [], self._forgotten(entries))
        if not (entries or runs or ended or heard or self._crosses_out):
            return Written([], [], [], [], [])
        if any(isinstance(entry, TakeEpoch) for entry in entries):
            # What the last owner may have left behind is ended before anything is begun anew.
            await self.end_orphans()
        confirmed, self._confirmed = self._confirmed, []
        self._crosses_out = False
        written = await self._in_thread(
            partial(
                self._journal.commit, entries, runs, ended=ended, heard=heard, confirmed=confirmed
            )
        )
        self._tokens |= dict(written.started)
        for taken in written.taken:
            if taken.predecessor is None:
                self.tell(taken.told)
            else:
                self._begin(self._tell_after(taken.predecessor, taken.told))
        for refused in written.refused:
            self.tell(refused)
        for run in written.no_place:
            self.tell(PlaceRefused(run))
        if written.no_place:  # perhaps somebody has them who is gone, and whom nobody succeeds
            await self.end_orphans()
        return written

    def _forgotten(self, entries: Sequence[JournalCommand]) -> list[Posted]:
        """The events of a turn that nobody writes down."""
        events = [entry for entry in entries if isinstance(entry, Publish)]
        self._events += len(events)
        first = self._events - len(events)
        return [Posted(first + n, os.urandom(16), event) for n, event in enumerate(events)]

    async def _tell_after(self, predecessor: ProcessIdentity, told: EpochTaken) -> None:
        """What an owner before us has on its way comes first; it begins nothing more."""
        until = time.monotonic() + SUBMIT_STARTS_S_MAX + self._submit_limit_s
        while predecessor.is_alive() and time.monotonic() < until:
            await asyncio.sleep(PREDECESSOR_LOOK_S)
        self.tell(told)

    async def _wishes(self) -> list[Wished]:
        now = time.monotonic()
        if self._journal is None or now < self._look_at:
            return []
        self._look_at = now + LOOK_FOR_WISHES_S
        # A wish that is read is crossed out with the turn; others do not hear it.
        watched = [s.application for s in self._core.standings(now) if s.phase == Phase.WATCHED]
        return await self._in_thread(partial(self._journal.wishes, watched))

    async def end_orphans(self) -> None:
        """End what processors that are gone have left running."""
        journal = self._journal
        if journal is None:
            return
        if tokens := await self._in_thread(journal.orphans):
            left = await asyncio.to_thread(end_orphans, tokens)
            log.warning("orphans_ended runs=%d left=%s", len(tokens), left)
            await self._in_thread(partial(journal.buried, tokens))

    def confirmed(self, numbers: Iterable[int]) -> None:
        """The broker has these events."""
        if self._journal is None:
            return
        if not self._confirmed:
            asyncio.get_running_loop().call_later(CROSS_OUT_S, self._cross_out)
        self._confirmed += numbers

    def _cross_out(self) -> None:
        self._crosses_out = bool(self._confirmed)
        self._wake.set()

    async def _in_thread(self, job: Callable[[], T]) -> T:
        """Use the journal; while the disk is full, what must not be forgotten is kept in memory."""
        while True:
            self._look_at_holder_later()
            try:
                return await asyncio.get_running_loop().run_in_executor(self._thread, job)
            except sqlite3.OperationalError as error:
                if self._is_ending or (error.sqlite_errorcode & 0xFF) not in _PASSING:
                    raise
                self._on_stall(error)
            finally:
                if self._looking is not None:
                    self._looking.cancel()
            await asyncio.sleep(STALL_S)

    def _look_at_holder_later(self) -> None:
        """If the journal is still waited for then, see to whoever holds its lock."""
        loop = asyncio.get_running_loop()
        self._looking = loop.call_later(journal_holder.LOOK_S, self._look_at_holder)

    def _look_at_holder(self) -> None:
        assert self._journal is not None
        self._look_at_holder_later()
        if (held := journal_holder.look_at_holder(self._journal.path)) is not None:
            self._on_stall(held)

    # -- the world --------------------------------------------------------------------------------

    def _do(self, command: Command, at: float) -> None:
        match command:
            case Run():
                if (token := self._tokens.get(command.run, "")) or self._journal is None:
                    self._runner.start(command, token)
            case Ask():
                self._asking[command.ask] = self._begin(self._ask(command))
            case StopAsking():
                if (asking := self._asking.pop(command.ask, None)) is not None:
                    asking.cancel()
            case Submit():
                self._begin(self._submit(command, at))
            case WatchChain():
                self._stream.watch(command.chain_id)
            case UnwatchChain():
                self._stream.unwatch(command.chain_id)
            case Note():
                log.log(logging.getLevelNamesMapping()[command.level.upper()], "%s", command.text)
            case Done():
                self._done = True

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _ask(self, ask: Ask) -> None:
        try:
            actions = await self._service.next_actions(
                ask.application, ask.cursor, ask.now_unix_us, ask.limit_s
            )
        except OffchainError as e:
            self.tell(NotAnswered(ask.ask, f"{e.code}: {e}"))
        except Exception as e:  # a bug of ours or a library's: or it would never be asked again
            log.exception("ask_failed application=%s", ask.application)
            self.tell(NotAnswered(ask.ask, repr(e)))
        else:
            self.tell(Answered(ask.ask, actions))
        self._asking.pop(ask.ask, None)

    async def _submit(self, submit: Submit, at: float) -> None:
        late_s = time.monotonic() - at
        if self._journal is not None and late_s > SUBMIT_STARTS_S_MAX:
            result = SubmitResult(SubmitEnd.TRANSIENT, text=f"came {late_s:.0f} s late to send it")
        else:
            try:
                result = await self._service.submit_outcome(
                    submit.application, submit.outcome, self._submit_limit_s
                )
            except Exception as e:  # likewise: or its chain would wait for ever
                log.exception("submit_failed application=%s", submit.application)
                result = SubmitResult(SubmitEnd.AMBIGUOUS, text=repr(e))
        self.tell(SubmitEnded(submit.application, submit.serial, result))

    def _run_ended(self, run: int, result: RunResult) -> None:
        if token := self._tokens.pop(run, ""):
            self._ended_tokens.append(token)
        self.tell(RunEnded(run, result))

    def _run_is_slow(self, run: int, seconds: float) -> None:
        self.tell(RunIsSlow(run, seconds))
