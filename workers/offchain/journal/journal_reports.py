"""What people see of the journal, and how they leave a wish in it. No pool need run for either."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from signers.marks.store_lock import StoreLock
from workers.offchain.application import Application, is_beginning
from workers.offchain.journal import journal_tables
from workers.offchain.journal.journal import read_tasks
from workers.offchain.offchain_errors import JournalUnusable, NoSuchTask
from workers.offchain.records import TaskRecord, TaskState
from workers.offchain.stimuli import Wish

# Of these a person decides.
STOPPED = frozenset({TaskState.DEAD, TaskState.DROPPED})
SHORT_DIGITS = 12


class KnownTask(NamedTuple):
    """A task as the journal has it."""

    application: Application
    task: TaskRecord
    changed_unix_us: int
    wish: Wish | None  # what somebody wants done, and was not done yet
    held_up_by: int | None = None  # number of the stopped task before it in its group

    @property
    def name(self) -> str:
        """As people name it: application and serial number."""
        return self.neighbour(self.task.serial)

    def neighbour(self, serial: int) -> str:
        """The name of a task of the same application."""
        return f"{self.application}:{serial}"

    @property
    def short_name(self) -> str:
        """The same with less of the id: enough for the few applications of a pool."""
        return f"{self.application.application_id[:SHORT_DIGITS]}:{self.task.serial}"


@contextmanager
def _used(path: Path) -> Iterator[None]:
    """Say what an error of SQLite's means to whoever looks."""
    try:
        yield
    except sqlite3.Error as error:
        meant = journal_tables.meaning(error, path)
        if meant is error:
            meant = JournalUnusable(f"{path}: {error}")
        raise meant from None


def known_tasks(path: Path) -> Iterator[KnownTask]:
    """Every task of the journal. Raises JournalUnusable."""
    with _used(path), closing(journal_tables.open_to_read(path)) as db:
        wishes = {
            (key, serial): Wish(wish)
            for key, serial, wish in db.execute("SELECT key, serial, wish FROM wishes")
        }
        stopped: dict[tuple[str, str | None], int] = {}  # the first of each group
        for key, task, changed in read_tasks(db):
            wish = wishes.get((key, task.serial))
            group = key, task.group
            yield KnownTask(Application.of_key(key), task, changed, wish, stopped.get(group))
            if task.state in STOPPED and task.asked:  # what is asked for no more is in no group
                stopped.setdefault(group, task.serial)


def parse_task_name(name: str) -> tuple[str, int]:
    """Read ``APPLICATION:NUMBER``, where the application's id may be cut short.

    Raises:
        NoSuchTask: it is written otherwise.
    """
    application, _, serial = name.rpartition(":")
    if not is_beginning(application) or not serial.isdecimal():
        raise NoSuchTask(f"{name!r} names no task: write APPLICATION:NUMBER, as `tasks list` does")
    return application, int(serial)


def find_task(path: Path, name: str) -> KnownTask:
    """The task of that name. Raises as `find_tasks` does."""
    return find_tasks(path, [name])[0]


def find_tasks(path: Path, names: Sequence[str]) -> list[KnownTask]:
    """The tasks of these names; an id may be cut short as long as it is unique.

    Raises:
        NoSuchTask: of a name there is none, or more than one.
        JournalUnusable: there is no journal, or it is damaged.
    """
    wanted = {name: parse_task_name(name) for name in names}
    found: dict[str, list[KnownTask]] = {name: [] for name in wanted}
    for known in known_tasks(path):
        for name, (application, serial) in wanted.items():
            if known.task.serial == serial and known.application.begins_with(application):
                found[name].append(known)
    for name, each in found.items():
        if not each:
            raise NoSuchTask(f"there is no task {name}; see `forgepool tasks list`")
        if len(each) > 1:
            could_be = ", ".join(known.name for known in each)
            raise NoSuchTask(f"{name} could be any of {could_be}; write more of the id")
    return list({known.name: known for (known,) in found.values()}.values())


def leave_wishes(path: Path, tasks: Sequence[KnownTask], wish: Wish) -> None:
    """Have the applications' processors do it to all of them, now or when there are any.

    Raises:
        NoSuchTask: one of them is not dead, so nobody has to decide; nothing was written.
        JournalUnusable, OSError: it could not be written.
    """
    for known in tasks:
        state = known.task.state
        if state not in STOPPED or (wish is Wish.DROP and state is TaskState.DROPPED):
            raise NoSuchTask(f"task {known.name} is {state}: only a dead one waits for a decision")
    with _changed(path) as db:
        db.execute("BEGIN IMMEDIATE")
        db.executemany(
            "INSERT OR REPLACE INTO wishes VALUES (?, ?, ?)",
            [(known.application.key, known.task.serial, str(wish)) for known in tasks],
        )
        db.execute("COMMIT")


def applications(path: Path) -> list[Application]:
    """Those that anything is kept of. Raises JournalUnusable."""
    with _used(path), closing(journal_tables.open_to_read(path)) as db:
        keys = db.execute("SELECT key FROM applications ORDER BY key").fetchall()
    return [Application.of_key(key) for (key,) in keys]


def forget(path: Path, application: Application) -> int:
    """Forget the tasks and the cursor of an application that nobody processes any more.

    Epoch and serial numbers stay: an old owner must find the door closed, and no number may name
    two tasks. Returns how many tasks there were. Raises JournalUnusable, OSError.
    """
    key = (application.key,)
    with _changed(path) as db:
        db.execute("BEGIN IMMEDIATE")
        count = db.execute("DELETE FROM tasks WHERE key = ?", key).rowcount
        for table in ("inputs", "outputs", "wishes", "outbox"):
            db.execute(f"DELETE FROM {table} WHERE key = ?", key)
        db.execute("UPDATE applications SET cursor = NULL, callback_us = NULL WHERE key = ?", key)
        db.execute("COMMIT")
    return count


@contextmanager
def _changed(path: Path) -> Iterator[sqlite3.Connection]:
    """The journal, to be changed under its lock; what is written lasts."""
    lock = StoreLock(path)
    lock.acquire()
    try:
        with _used(path), closing(journal_tables.open_to_write(path)) as db:
            db.execute("PRAGMA synchronous=FULL")
            yield db
    finally:
        lock.release()
        lock.close()
