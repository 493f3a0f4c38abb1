"""What one turn of the processor comes to: entries for the journal, and then what is done."""

from __future__ import annotations

from typing import TypeVar

from workers.offchain.application import Application
from workers.offchain.commands import (
    Command,
    ForgetTask,
    JournalCommand,
    KeepTask,
    Note,
    WorldCommand,
)
from workers.offchain.hardened.open_task import OpenTask

C = TypeVar("C", bound=WorldCommand)


class ProcessorTurn:
    """The time of a turn, and its commands so far.

    A task that changes more than once is written down once, as it is at the end.
    """

    __slots__ = ("_changed", "_journal", "_world", "now", "unix_us")

    def __init__(self, now: float, unix_us: int) -> None:
        self.now = now
        self.unix_us = unix_us
        self._journal: list[JournalCommand] = []
        self._changed: dict[tuple[Application, int], OpenTask | None] = {}
        self._world: list[WorldCommand] = []

    def write(self, command: JournalCommand) -> None:
        self._journal.append(command)

    def keep(self, application: Application, task: OpenTask) -> None:
        self._changed[application, task.serial] = task

    def forget(self, application: Application, task: OpenTask) -> None:
        self._changed[application, task.serial] = None

    def do(self, command: WorldCommand) -> None:
        self._world.append(command)

    def note(self, level: str, text: str) -> None:
        self._world.append(Note(level, text))

    def unix_us_at(self, moment: float) -> int:
        """The wall clock's time at a moment of the monotonic clock, as far as one can tell now."""
        return self.unix_us + int((moment - self.now) * 1e6)

    def commands(self) -> list[Command]:
        """Everything, in the order in which it is to be performed.

        Tasks come first: who takes an application's next epoch in this turn gets them as they are.
        """
        tasks: list[JournalCommand] = []
        for (application, serial), task in self._changed.items():
            if task is None:
                tasks.append(ForgetTask(application, serial))
            elif task.record != task.kept:
                task.kept = task.record
                tasks.append(KeepTask(application, task.record))
        return [*tasks, *self._journal, *self._world]
