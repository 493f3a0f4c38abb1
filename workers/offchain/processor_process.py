"""The task processor's process: a child of a worker, without keys, nice.

It lives as long as the other end of its channel: when that closes, whatever it runs is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sqlite3
import sys
import time
from collections import deque
from collections.abc import Sequence
from math import inf
from pathlib import Path
from random import Random

from broker import wire
from broker.applications import ApplicationHold, ApplicationShare
from broker.config import TaskSettings
from broker.errors import BrokerError
from broker.messages import (
    Applications,
    ApplicationsHeld,
    LookAgain,
    TaskEventsAck,
    TaskNumbers,
    WorkerMessage,
)
from broker.telemetry import log_to_stderr
from workers.frames import BrokenFrame, read_frame
from workers.offchain.application import Application
from workers.offchain.channel import (
    Condition,
    Finish,
    Finished,
    FromBroker,
    Ping,
    Pong,
    ProcessorSetup,
    ToBroker,
    Welcomed,
    Word,
    decode_order,
    encode_frame,
)
from workers.offchain.compat.seed_processors import SeedProcessors
from workers.offchain.controller.followed_controller import FollowedController
from workers.offchain.event_post import EventPost
from workers.offchain.hardened.processor import Processor
from workers.offchain.journal.journal import Journal, Places, Posted
from workers.offchain.journal.journal_tables import JOURNAL_NAME, meaning
from workers.offchain.node_service.node_service import NodeService
from workers.offchain.node_service.notification_stream import News, NotificationStream
from workers.offchain.operators.launcher import Launcher, OperatorLauncher
from workers.offchain.operators.operator_files import doubts, located, problems
from workers.offchain.operators.operator_table import operator_table
from workers.offchain.operators.scratch import Scratch
from workers.offchain.operators.seed_run import SeedLauncher
from workers.offchain.processor_loop import Core, ProcessorLoop
from workers.offchain.processor_settings import ProcessorSettings
from workers.offchain.standing import trouble, troubles
from workers.offchain.stimuli import Cancelled, EpochRefused, Resumed, Share, Stimulus, Updated

log = logging.getLogger("forgepool.tasks")

# Less than what signs, and operators inherit it; more than what strangers send (the quarantine).
NICENESS = 5
NUMBERS_S = 1.0  # how often the pool is told how many tasks there are, if that has changed
SCRATCH_NAME = "task-runs"
TEXT_MAX = 1000  # characters of why it cannot work
FAREWELL_S_MAX = 1.0
WORKS = Condition()


class TaskProcessorProcess:
    """Between the channel to the worker and the loop around the core."""

    def __init__(self, setup: ProcessorSetup, writer: asyncio.StreamWriter) -> None:
        # Absolute: while a child is started, we are in its directory (`child_process`).
        settings, state_dir = setup.settings, Path(setup.state_dir).absolute()
        compat = settings.mode == "compat"
        chance = Random(os.urandom(16))
        self._writer = writer
        self._post = EventPost(int.from_bytes(os.urandom(6)))
        self._gathering: asyncio.TimerHandle | None = None  # until more events are to be said
        self._lists: deque[Applications] = deque()  # that the core has not taken in yet
        self._seen = Applications("", 0, [])
        self._fenced: dict[Application, int] = {}  # of the list: what the journal knows
        self._said = ApplicationsHeld("", 0, [])
        self._numbers: TaskNumbers | None = None  # as the broker knows them
        self._failure = WORKS  # why the processor cannot work
        self._waits = WORKS  # why its applications do not go on
        self._condition: Condition | None = None  # as the worker knows it
        journal = None if compat else Journal(state_dir / JOURNAL_NAME, host_places(settings))
        self._core: Core = (
            SeedProcessors(core_settings(settings), chance)
            if compat
            else Processor(core_settings(settings), chance)
        )
        self._service = NodeService(settings.node_service, seed_text=compat)
        self._stream = NotificationStream(settings.node_service, self._hear, chance.random)
        self._controller = FollowedController(
            settings, self._service, self._stream, self._say, chance.random
        )
        self._loop = ProcessorLoop(
            self._core,
            journal,
            _launcher(settings, state_dir, journal),
            self._service,
            self._stream,
            submit_limit_s=settings.submit_limit_s,
            publish=self._publish,
            on_turn=self._turned,
            on_stall=self._stalled,
        )

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Work until told to finish, or until the worker is gone.

        Raises:
            OSError, sqlite3.Error: the journal cannot be written; nothing was lost.
            BrokenFrame: the worker is another version.
        """
        work = asyncio.create_task(self._loop.run())
        beside = [
            asyncio.create_task(each)
            for each in (self._stream.run(), self._listen(reader), self._count())
        ]
        try:
            await asyncio.wait([work, *beside], return_when=asyncio.FIRST_COMPLETED)
            if not work.done():  # beside it nothing ends but by a fault
                self._loop.end_at_once()
            await work
        finally:
            for message in self._post.messages(inf):  # no more will gather
                self._say(message)
            for task in beside:
                task.cancel()
            ends = await asyncio.gather(*beside, return_exceptions=True)
            await self._service.aclose()
            for end in ends:
                if isinstance(end, Exception):
                    raise end

    # -- in ---------------------------------------------------------------------------------------

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while (body := await read_frame(reader)) is not None:
            match decode_order(body):
                case FromBroker(body=message):
                    self._take(message)
                case Welcomed():
                    self._post.say_again()
                    self._send_events()
                    self._say(self._said)
                    self._numbers = None
                    self._controller.say_again()
                case Ping():
                    self._send(Pong())
                case Finish():
                    self._loop.tell(Cancelled())
                case ProcessorSetup():
                    raise BrokenFrame("a second setup")
        log.warning("worker_gone; ending what runs")
        self._loop.end_at_once()
        await asyncio.Event().wait()  # until the loop has ended

    def _take(self, body: bytes) -> None:
        match wire.decode_broker_message(body):
            case Applications() as message:
                self._lists.append(message)
                shares = {each.key: _share(each) for each in message.shares}
                self._controller.update(shares.pop(self._controller.key, None))
                self._loop.tell(Updated(list(shares.values())))
            case TaskEventsAck(number=number):
                if numbers := self._post.confirmed(number):
                    self._loop.confirmed(numbers)
                self._send_events()
            case LookAgain(keys=keys):
                self._loop.look_again()
                for key in keys:
                    self._loop.tell(Resumed(Application.of_key(key)))

    def _hear(self, news: News) -> None:
        self._loop.tell(news)
        self._controller.hear(news)

    # -- out --------------------------------------------------------------------------------------

    def _turned(self, stimuli: Sequence[Stimulus]) -> None:
        """Say what has changed in what we hold, and that the journal could be written."""
        self._failure = WORKS
        self._say_condition()
        for stimulus in stimuli:
            if isinstance(stimulus, Updated) and self._lists:
                self._seen = self._lists.popleft()
                self._fenced.clear()
            elif isinstance(stimulus, EpochRefused) and stimulus.newest:
                self._fenced[stimulus.application] = stimulus.newest
        held = ApplicationsHeld(
            self._seen.epoch,
            self._seen.number,
            [
                ApplicationHold(each.key, epoch)
                for each, epoch in (*self._core.held(), *self._controller.held)
            ],
            [ApplicationHold(each.key, epoch) for each, epoch in self._fenced.items()],
        )
        if held != self._said:
            self._said = held
            self._say(held)

    def _stalled(self, error: Exception) -> None:
        failure = _failure(error)
        if failure != self._failure:
            self._failure = failure
            log.critical("tasks_stalled code=%s %s", failure.code, failure.text)
            self._say_condition()

    def _say_condition(self) -> None:
        condition = self._failure if self._failure.code else self._waits
        if condition != self._condition:
            self._condition = condition
            self._send(condition)

    async def _count(self) -> None:
        """Tell the pool how many tasks there are and what does not go on, when that has changed."""
        while True:
            await asyncio.sleep(NUMBERS_S)
            all_ = self._core.standings(time.monotonic())
            text = trouble(all_)[:TEXT_MAX]
            self._waits = Condition("applications_wait", text) if text else WORKS
            if self._condition is not None:  # else no turn has shown yet that it works
                self._say_condition()
            numbers = TaskNumbers(
                sum(each.running for each in all_),
                sum(each.waiting for each in all_),
                sum(each.dead for each in all_),
                int(max((each.oldest_s for each in all_), default=0.0) * 1000),
                troubles(all_),
            )
            if numbers != self._numbers:
                self._numbers = numbers
                self._say(numbers)

    def _publish(self, posted: Sequence[Posted]) -> None:
        if posted:
            self._post.post(posted)
            self._send_events()

    def _send_events(self) -> None:
        for message in self._post.messages(time.monotonic()):
            self._say(message)
        if self._gathering is None and (at := self._post.deadline()) < inf:
            self._gathering = asyncio.get_running_loop().call_at(at, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self._send_events()

    def _say(self, message: WorkerMessage) -> None:
        self._send(ToBroker(wire.encode(message)))

    def _send(self, word: Word) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode_frame(word))


def _share(share: ApplicationShare) -> Share:
    allowed = None if share.operators is None else frozenset(share.operators)
    return Share(
        Application.of_key(share.key), share.epoch, share.wait_ms / 1000, allowed, share.before
    )


def host_places(settings: TaskSettings) -> Places:
    """How many operators may run on the host, of all workers together."""
    bounded = {n: o.concurrency for n, o in settings.operators.items() if o.concurrency}
    return Places(settings.concurrency, bounded)


def core_settings(settings: TaskSettings) -> ProcessorSettings:
    return ProcessorSettings(
        retry_delay_s=settings.retry_delay_s,
        retry_max_s=settings.retry_max_s,
        max_attempts=settings.max_attempts,
        concurrency=settings.concurrency,
        per_application=settings.per_application,
        per_operator=host_places(settings).of_operator,
        operators=frozenset(settings.operators),
        unassign=settings.unassign,
        cursor_commit=settings.cursor_commit,
    )


def _launcher(settings: TaskSettings, state_dir: Path, journal: Journal | None) -> Launcher:
    search_path = os.environ.get("PATH", os.defpath)
    table = located(operator_table(settings.operators), search_path, state_dir)
    for sentence in problems(table) + doubts(table):
        log.warning("operator_in_doubt %s", sentence)  # what needs it will be a dead letter
    if journal is None:
        return SeedLauncher(table)
    return OperatorLauncher(table, Scratch(state_dir / SCRATCH_NAME), os.environ, journal.uuid)


async def serve(channel: socket.socket) -> int:
    """Process tasks for whoever holds the other end of `channel`; returns the exit status."""
    reader, writer = await asyncio.open_connection(sock=channel)
    body = await read_frame(reader)
    setup = None if body is None else decode_order(body)
    if not isinstance(setup, ProcessorSetup):
        raise BrokenFrame("the first frame must be the setup")
    log_to_stderr(f"{setup.worker}/tasks")
    try:
        await TaskProcessorProcess(setup, writer).run(reader)
        writer.write(encode_frame(Finished()))
    except Exception as error:
        failure = _failure(error)
        log.critical("task_processor_failed code=%s %s", failure.code, failure.text)
        writer.write(encode_frame(failure))
        return 1
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):  # a worker that does not listen any more
            await asyncio.wait_for(writer.wait_closed(), FAREWELL_S_MAX)
    return 0


def _failure(error: Exception) -> Condition:
    """Why the processor cannot work, for whoever must mend it."""
    if isinstance(error, sqlite3.Error):
        error = meaning(error, Path(JOURNAL_NAME))
    match error:
        case BrokerError():
            return Condition(error.code, f"{error}. {error.advice}"[:TEXT_MAX])
        case sqlite3.Error() | OSError():
            text = f"{error}. No operator is run and nothing is submitted meanwhile; tried again."
            return Condition("journal_failed", text[:TEXT_MAX])
    log.error("task_processor_fault", exc_info=error)
    return Condition("fault", repr(error)[:TEXT_MAX])


def main() -> None:
    """Serve the socket whose descriptor is the first argument."""
    # A signal to the whole group reaches us too; when to end is our worker's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(NICENESS)
    log_to_stderr("tasks")  # until the setup says whose
    gc.freeze()  # what is loaded by now stays: to look for garbage in it takes 30 ms each time
    sys.exit(asyncio.run(serve(socket.socket(fileno=int(sys.argv[1])))))


if __name__ == "__main__":
    main()
