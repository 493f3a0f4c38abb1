"""Real task processors, driven as a worker drives them, and what they say to the broker."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from broker import wire
from broker.applications import ApplicationShare, TaskEvent
from broker.config import OperatorSettings, TaskSettings
from broker.messages import (
    Applications,
    ApplicationsFound,
    ApplicationsHeld,
    LookAgain,
    TaskEvents,
    TaskEventsAck,
    TaskNumbers,
)
from tests.offchain.served_applications import Served, served
from workers.offchain.application import Application
from workers.offchain.channel import ProcessorSetup
from workers.offchain.task_processor import TaskProcessor


@dataclass
class Processor:
    """One worker's task processor, and all that the broker has heard of it."""

    inner: TaskProcessor
    confirms: bool = True  # whether the broker confirms events
    events: list[TaskEvent] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)
    fenced: dict[str, int] = field(default_factory=dict)
    seen: int = 0  # the last list
    numbers: TaskNumbers = field(default_factory=lambda: TaskNumbers(0, 0, 0))
    found: list[ApplicationsFound] = field(default_factory=list)
    _lists: int = 0

    def give(self, *shares: ApplicationShare) -> None:
        """The broker's list, whole."""
        self._lists += 1
        self._take(Applications("epoch", self._lists, list(shares)))

    def look_again(self, application: Application) -> None:
        self._take(LookAgain([application.key]))

    def _take(self, message: Applications | LookAgain | TaskEventsAck) -> None:
        for body in self.inner.take(message, time.monotonic()):
            self._hear(body)

    def names(self, application: Application | None = None) -> list[str]:
        """What has happened, in order."""
        return [e.event for e in self.events if application is None or e.key == application.key]

    def codes(self, event: str) -> list[str]:
        return [e.code for e in self.events if e.event == event]

    @property
    def pid(self) -> int:
        assert self.inner.pid is not None
        return self.inner.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def attend(self) -> None:
        """Do what a worker's loop does."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.inner.fileno(), readable.set)
        try:
            while True:
                left_s = max(0.0, self.inner.deadline() - time.monotonic())
                try:
                    async with asyncio.timeout(min(left_s, 1.0)):
                        await readable.wait()
                except TimeoutError:
                    pass
                readable.clear()
                for body in self.inner.exchange(time.monotonic()):
                    self._hear(body)
        finally:
            loop.remove_reader(self.inner.fileno())

    def _hear(self, body: bytes) -> None:
        match wire.decode_worker_message(body):
            case TaskEvents() as message:
                self.events += message.events
                if self.confirms:
                    self._take(TaskEventsAck(message.number))
            case ApplicationsHeld() as message:
                self.held = {each.key: each.epoch for each in message.held}
                self.fenced = {each.key: each.epoch for each in message.fenced}
                self.seen = message.number
            case TaskNumbers() as message:
                self.numbers = message
            case ApplicationsFound() as message:
                self.found.append(message)
            case other:
                raise AssertionError(f"a processor never says {other}")


@dataclass
class Pool:
    """Sandbox applications, a state directory, and processors on it."""

    served: Served
    directory: Path
    settings: TaskSettings
    _attended: dict[int, tuple[Processor, asyncio.Task[None]]] = field(default_factory=dict)

    def processor(self, *, confirms: bool = True) -> Processor:
        setup = ProcessorSetup("w1", str(self.directory), self.settings)
        made = Processor(TaskProcessor(setup), confirms)
        self._attended[id(made)] = made, asyncio.create_task(made.attend())
        return made

    def share(
        self,
        epoch: int = 1,
        *,
        application: int = 0,
        wait_ms: int = 0,
        operators: Iterable[str] | None = None,
    ) -> ApplicationShare:
        key = self.application(application).key
        return ApplicationShare(key, epoch, wait_ms, None if operators is None else list(operators))

    def application(self, number: int = 0) -> Application:
        return Application(self.served.plan.chains[0], self.served.plan.applications[number])

    async def forget(self, made: Processor) -> None:
        """Its worker is gone."""
        _, attending = self._attended.pop(id(made))
        attending.cancel()
        await asyncio.gather(attending, return_exceptions=True)
        if made.inner.pid is not None:
            made.signal(signal.SIGCONT)
        await asyncio.to_thread(made.inner.close)

    async def close(self) -> None:
        for made, _ in list(self._attended.values()):
            await self.forget(made)


@asynccontextmanager
async def pool(
    directory: Path,
    operators: dict[str, OperatorSettings],
    *,
    ids: bool = True,
    applications: int = 1,
    workers: int = 0,
    **settings: object,
) -> AsyncIterator[Pool]:
    """Sandbox applications and a place for processors, for as long as the block lasts."""
    async with served(ids=ids, applications=applications, workers=workers) as host:
        chosen = TaskSettings(node_service=host.url, operators=operators, **settings)
        made = Pool(host, directory, chosen)
        try:
            yield made
        finally:
            await made.close()


def script(directory: Path, name: str, text: str) -> OperatorSettings:
    """An operator that is a shell script."""
    path = directory / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return OperatorSettings(str(path), grace_s=0.2)


def waits_for(gate: Path, *, then: str = "cat", notes: Path = Path("/dev/null")) -> str:
    """A script that notes its process, then waits until a file is there."""
    return f"echo $$ >> {notes}\nwhile [ ! -e {gate} ]; do sleep 0.01; done\n{then}"


CAT = OperatorSettings("/bin/cat")
