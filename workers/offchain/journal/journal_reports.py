"""What people see of the journal, and how they leave a wish in it. No pool need run for either."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from signers.marks.store_lock import StoreLock
from workers.offchain.application import Application
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

    @property
    def name(self) -> str:
        """As people name it: application and serial number."""
        return f"{self.application}:{self.task.serial}"

    @property
    def short_name(self) -> str:
        """The same with less of the id: enough for the few applications of a pool."""
        return f"{self.application.application_id[:SHORT_DIGITS]}:{self.task.serial}"

    def is_of(self, application: str) -> bool:
        """Whether that is its application; the id may be cut short, or stand behind its chain's."""
        known = self.application
        return known.application_id.startswith(application) or str(known).startswith(application)


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
        for key, task, changed in read_tasks(db):
            wish = wishes.get((key, task.serial))
            yield KnownTask(Application.of_key(key), task, changed, wish)


def find_task(path: Path, name: str) -> KnownTask:
    """The task of that name; the application's id may be cut short as long as it is unique.

    Raises:
        NoSuchTask: there is none, or more than one.
        JournalUnusable: there is no journal, or it is damaged.
    """
    application, _, serial = name.rpartition(":")
    if not application or not serial.isdecimal():
        raise NoSuchTask(f"{name!r} names no task: write APPLICATION:NUMBER, as `tasks list` does")
    found = [
        known
        for known in known_tasks(path)
        if known.task.serial == int(serial) and known.is_of(application)
    ]
    if not found:
        raise NoSuchTask(f"there is no task {name}; see `forgepool tasks list`")
    if len(found) > 1:
        names = ", ".join(known.name for known in found)
        raise NoSuchTask(f"{name} could be any of {names}; write more of the id")
    return found[0]


def leave_wish(path: Path, known: KnownTask, wish: Wish) -> None:
    """Have the application's processor do it, now or when there is one.

    Raises:
        NoSuchTask: the task is not dead, so nobody has to decide.
        JournalUnusable, OSError: it could not be written.
    """
    state = known.task.state
    if state not in STOPPED or (wish is Wish.DROP and state is TaskState.DROPPED):
        raise NoSuchTask(f"task {known.name} is {state}: only a dead one waits for a decision")
    with _changed(path) as db:
        db.execute(
            "INSERT OR REPLACE INTO wishes VALUES (?, ?, ?)",
            (known.application.key, known.task.serial, str(wish)),
        )


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
