"""The tables of the journal, tasks.db, and how it is opened.

    meta          uuid, which makes the numbers of its events unique
    applications  by whom each is processed (epoch, process), its cursor and its next call
    tasks         what each application has asked for, and how far it is; the texts apart,
    inputs        because they are written once and
    outputs       a task is written at each step
    runs          operators that were started and whose end nobody has written down
    outbox        events that the broker has not confirmed
    wishes        what somebody wants done with a dead letter

Times are microseconds since the Unix epoch.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

from workers.offchain.offchain_errors import JournalUnusable

JOURNAL_NAME = "tasks.db"
LAYOUT = 1
APPLICATION_ID = 0x66707461  # "fpta", which file(1) and every opener can see
# For recovery after a crash and people's tools; writers wait for the journal's own lock.
BUSY_TIMEOUT_MS = 1_000

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE applications (
    key TEXT PRIMARY KEY, epoch INTEGER NOT NULL, owner BLOB NOT NULL, cursor TEXT,
    callback_us INTEGER, next_serial INTEGER NOT NULL DEFAULT 1) WITHOUT ROWID;
CREATE TABLE tasks (
    key TEXT NOT NULL, serial INTEGER NOT NULL, state TEXT NOT NULL, group_id TEXT,
    operator TEXT NOT NULL, attempts INTEGER NOT NULL, fruitless INTEGER NOT NULL,
    not_before_us INTEGER NOT NULL, why TEXT NOT NULL, stderr TEXT NOT NULL,
    submitted_epoch INTEGER NOT NULL, asked INTEGER NOT NULL, changed_us INTEGER NOT NULL,
    PRIMARY KEY (key, serial)) WITHOUT ROWID;
CREATE TABLE inputs (
    key TEXT NOT NULL, serial INTEGER NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (key, serial)) WITHOUT ROWID;
CREATE TABLE outputs (
    key TEXT NOT NULL, serial INTEGER NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (key, serial)) WITHOUT ROWID;
CREATE TABLE runs (
    token TEXT PRIMARY KEY, key TEXT NOT NULL, serial INTEGER NOT NULL, attempt INTEGER NOT NULL,
    operator TEXT NOT NULL, owner BLOB NOT NULL, started_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, event BLOB NOT NULL);
CREATE TABLE wishes (
    key TEXT NOT NULL, serial INTEGER NOT NULL, wish TEXT NOT NULL,
    PRIMARY KEY (key, serial)) WITHOUT ROWID;
"""


def open_to_write(path: Path) -> sqlite3.Connection:
    """Open the journal, or make it; the caller holds its lock.

    Raises:
        JournalUnusable: damaged, of a newer release, or no journal at all.
        OSError, sqlite3.OperationalError: full disk, no permission.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    # Made by one thread and used by another, never by both at once.
    db = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False
    )
    try:
        if db.execute("PRAGMA journal_mode=WAL").fetchone() != ("wal",):
            raise JournalUnusable(f"{path}: no WAL on this file system; choose a local one")
        if _layout(db, path) == 0:
            db.executescript(f"BEGIN IMMEDIATE; {_TABLES}")
            db.execute("INSERT INTO meta VALUES ('uuid', ?)", (uuid4().hex,))
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={LAYOUT}")
            db.execute("COMMIT")
    except sqlite3.DatabaseError as e:
        db.close()
        raise meaning(e, path) from None
    except BaseException:
        db.close()
        raise
    return db


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open the journal for looking, while others may write.

    Raises:
        JournalUnusable: there is none, or it cannot be read.
    """
    if not path.exists():
        raise JournalUnusable(
            f"{path}: no off-chain task was ever processed here, but perhaps in compat mode, "
            "which keeps no journal"
        )
    db = sqlite3.connect(
        f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_MS / 1000
    )
    try:
        if _layout(db, path) == 0:
            raise JournalUnusable(f"{path}: it is empty")
    except sqlite3.DatabaseError as e:
        db.close()
        raise meaning(e, path) from None
    except BaseException:
        db.close()
        raise
    return db


def _layout(db: sqlite3.Connection, path: Path) -> int:
    (layout,) = db.execute("PRAGMA user_version").fetchone()
    (application,) = db.execute("PRAGMA application_id").fetchone()
    if layout == 0 and application == 0:
        return 0
    if application != APPLICATION_ID:
        raise JournalUnusable(f"{path} is a database of another program; move it away")
    if layout != LAYOUT:
        raise JournalUnusable(
            f"{path} has layout {layout}, this release writes {LAYOUT}; use the newer release"
        )
    return LAYOUT


def meaning(error: sqlite3.Error, path: Path) -> Exception:
    """What an error of SQLite's is about: the disk and other programs (it stays), or the file."""
    if not isinstance(error, sqlite3.DatabaseError) or isinstance(error, sqlite3.OperationalError):
        return error  # of the disk or another program, not of the file
    return JournalUnusable(
        f"{path} is damaged ({error}); stop the pool, move {path.name}* away and start again: "
        "applications are then asked anew, from no cursor"
    )
