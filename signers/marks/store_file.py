"""The file of the store: how it is made, opened and watched. SQL of the marks is elsewhere.

Every connection is opened by `connect`, with the settings on which durability rests set and
read back. Nothing but SQLite opens the database, its ``-wal`` or its ``-shm`` in a process that
has the store open: POSIX locks belong to the process, so closing any descriptor of these files
would drop SQLite's, and another process might then delete the WAL under us. What must be known
of the files is asked by name (`file_identity`).
"""

import ctypes
import os
import sqlite3
from pathlib import Path
from tempfile import mkstemp
from typing import Any, Self
from urllib.parse import quote

from signers.marks import store_layouts
from signers.marks.store_errors import (
    StoreBroken,
    StoreCorrupt,
    StoreExists,
    StoreMissing,
    StoreUnavailable,
    WrongStore,
)

APPLICATION_ID = 0x666F7267  # "forg", which file(1) and every opener can see
PAGE_BYTES = 4096

# For recovery after a crash and for checkpoints only; writers wait for the store's own lock.
BUSY_TIMEOUT_MS = 1_000

# Set and read back on every connection. FULL: a commit returns after the WAL's fdatasync.
# No automatic checkpoint: it would run inside a vote's commit. No limit: a checkpoint must not
# shorten the WAL, because growing it again costs each commit twice the time.
SETTINGS: tuple[tuple[str, int], ...] = (
    ("busy_timeout", BUSY_TIMEOUT_MS),
    ("synchronous", 2),
    ("fullfsync", 1),
    ("checkpoint_fullfsync", 1),
    ("wal_autocheckpoint", 0),
    ("journal_size_limit", -1),
    ("mmap_size", 0),
    ("cell_size_check", 1),
)

_LENGTHENING_CACHE_PAGES = 16

_PRIMARY_CODE = 0xFF  # the low byte of an extended SQLite error code
_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY: "another program locks it: close that program",
    sqlite3.SQLITE_LOCKED: "another program locks it: close that program",
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_READONLY: "it cannot be written: look at its owner, mode and file system",
    sqlite3.SQLITE_PERM: "it cannot be written: look at its owner, mode and file system",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: look at its owner, mode and file system",
    sqlite3.SQLITE_PROTOCOL: "it is being recovered: try again",
    sqlite3.SQLITE_NOMEM: "the host is out of memory",
}
_CORRUPT = frozenset({
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_FORMAT,
    sqlite3.SQLITE_ERROR,  # our SQL is fixed: a table or column is missing
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
    sqlite3.SQLITE_SCHEMA,
})  # fmt: skip


class DamagedRows(Exception):
    """The tables hold what this program never writes."""


def store_error(error: BaseException, path: Path) -> BaseException:
    """Say what an error of SQLite means for signing, and who must act; others stay as they are."""
    if isinstance(error, DamagedRows):
        return corrupt(path, str(error))
    if not isinstance(error, sqlite3.Error):
        return error
    extended = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_INTERNAL)
    code = extended & _PRIMARY_CODE
    if code in _UNAVAILABLE:
        return StoreUnavailable(f"{path}: {_UNAVAILABLE[code]} ({error}); nothing was signed")
    if extended == sqlite3.SQLITE_IOERR_SHMSIZE:  # the index, not the WAL: nothing was written
        reason = _UNAVAILABLE[sqlite3.SQLITE_FULL]
        return StoreUnavailable(f"{path}: {reason} ({error}); nothing was signed")
    if code in _CORRUPT:
        return corrupt(path, str(error))
    return StoreBroken(
        f"{path}: {error} (SQLite {extended}); what is on the disk is unknown, so this process "
        "must end; look at the disk (dmesg)"
    )


def corrupt(path: Path, reason: str) -> StoreCorrupt:
    """Return the error of a store that cannot be read, with what to do about it."""
    return StoreCorrupt(
        f"{path} is damaged ({reason}); nothing is signed. Stop the pool, move {path.name}* "
        "to a place of their own, then `forgepool watermarks restore BACKUP --floor LEVEL`"
    )


def file_names(path: Path) -> list[Path]:
    """Return the names of all files that SQLite makes of one database in WAL mode."""
    return [Path(f"{path}{suffix}") for suffix in ("", "-wal", "-shm")]


def check_present(path: Path) -> None:
    """Raise StoreMissing when there is no file."""
    if not path.exists():
        raise StoreMissing(
            f"there is no watermark store at {path}, and an absent store is not an empty one: "
            "if these keys have signed before, restore a backup (`forgepool watermarks "
            "restore`); only for a new pool use `forgepool init`"
        )


def connect(path: Path) -> sqlite3.Connection:
    """Open the store's file as this program always does; only `create` makes one.

    A store of an older layout is brought to the newest one first, on the disk before it is used.
    Raises StoreMissing, WrongStore, StoreCorrupt, StoreUnavailable, StoreBroken.
    """
    check_present(path)
    try:
        connection = _open(path)
        try:
            _check_stamp(connection, path)
            _check_mode(connection, path)
            _apply_settings(connection, path)
            store_layouts.upgrade(connection)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise store_error(error, path) from error
    return connection


def open_backup(path: Path) -> sqlite3.Connection:
    """Open a backup to be read. Raises StoreMissing, WrongStore, StoreCorrupt."""
    if not path.exists():
        raise StoreMissing(f"there is no backup at {path}")
    connection = _open(path)
    try:
        _check_stamp(connection, path)
        quick_check(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        raise StoreCorrupt(f"{path} is no whole backup of a store ({error})") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=BUSY_TIMEOUT_MS / 1000,
        isolation_level=None,  # every BEGIN and COMMIT is ours
        check_same_thread=False,  # opened in one thread, used in the worker's store thread
    )


def _check_stamp(connection: sqlite3.Connection, path: Path) -> None:
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise corrupt(path, "it is no watermark store of forgepool, or it was emptied")
    layout = store_layouts.read_layout(connection)
    if layout > store_layouts.NEWEST:
        raise WrongStore(
            f"{path} has layout {layout}, this forgepool knows up to {store_layouts.NEWEST}: "
            "a newer version wrote it, use that one or a later one"
        )
    if layout < store_layouts.FIRST:
        raise corrupt(path, f"no forgepool makes stores of layout {layout}")


def _check_mode(connection: sqlite3.Connection, path: Path) -> None:
    if (mode := _pragma(connection, "journal_mode")) != "wal":
        raise corrupt(path, f"its journal mode is {mode}, not wal: another program changed it")


def _apply_settings(connection: sqlite3.Connection, path: Path) -> None:
    for name, value in SETTINGS:
        connection.execute(f"PRAGMA {name} = {value}").fetchall()
        if (stands := _pragma(connection, name)) != value:
            raise StoreUnavailable(f"{path}: SQLite has {name} {stands} where it must be {value}")


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    row = connection.execute(f"PRAGMA {name}").fetchone()
    return 0 if row is None else row[0]  # none: SQLite was built without it


def wal_bytes(path: Path) -> int:
    """Return how long the WAL of an open store is."""
    return os.stat(f"{path}-wal").st_size


def lengthen_wal(connection: sqlite3.Connection, more_bytes: int) -> None:
    """Write so many zeros to the WAL, in a transaction that is to be rolled back.

    Pages that do not fit into SQLite's cache are written to the WAL before the commit, and a
    rollback does not shorten it: so nothing of this stays but the length.
    """
    cache_pages = _pragma(connection, "cache_size")
    connection.execute(f"PRAGMA cache_size = {_LENGTHENING_CACHE_PAGES}")
    connection.execute("CREATE TABLE padding (zeros BLOB)")
    in_cache_bytes = 2 * _LENGTHENING_CACHE_PAGES * PAGE_BYTES  # these pages stay there
    connection.execute("INSERT INTO padding VALUES (zeroblob(?))", (more_bytes + in_cache_bytes,))
    connection.execute(f"PRAGMA cache_size = {cache_pages}")


def quick_check(connection: sqlite3.Connection, path: Path) -> None:
    """Read every page once. Raises StoreCorrupt when the file is not whole."""
    finding = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if finding != "ok":
        raise corrupt(path, finding)


class NewFile:
    """A store's file in the making: it gets its name whole and durable, or not at all.

    A context; leaving it removes what has not appeared. Raises StoreExists when something is
    under that name, or was and left its WAL: SQLite would replay that into the new file.
    """

    def __init__(self, path: Path) -> None:
        for found in file_names(path):
            if found.exists():
                raise StoreExists(
                    f"{found} exists; a watermark store is never replaced, nor a backup. If it "
                    "is a store that is damaged, or of a pool that ended, stop the pool and move "
                    f"{path.name}* away first; give a backup another name"
                )
        fd, draft = mkstemp(prefix=f"{path.name}.new-", dir=path.parent)  # mode 0600
        os.close(fd)
        self._path = path
        self._draft = Path(draft)
        self.connection = _open(self._draft)
        self.connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        self.connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self.connection.execute(f"PRAGMA user_version = {store_layouts.FIRST}")

    def appear(self, *, journal_mode: str) -> None:
        """Give the file its name, once it and its name are on the disk."""
        self.connection.execute(f"PRAGMA journal_mode = {journal_mode}").fetchall()
        self.connection.close()
        _sync(self._draft)
        try:
            os.link(self._draft, self._path)  # unlike a rename, it replaces nothing
        except FileExistsError:
            raise StoreExists(f"{self._path} has just been made by someone else") from None
        _sync(self._path.parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self._draft.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def abandon(connection: sqlite3.Connection) -> None:
    """Leave a connection whose files were replaced open until the process is gone.

    The last connection to close copies its WAL into the database and deletes the WAL *by name*:
    it would undo and delete what others wrote since. The kernel closes without doing so.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))
