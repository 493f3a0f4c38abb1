"""One process's turns on the store's file: the lock, a transaction, the check, the unlock.

A turn begins with the store's lock and SQLite's, and ends with a commit that is on the disk and
was made to the files that still carry the store's name. Whatever goes wrong in between ends the
turn: the transaction is rolled back, the lock freed, and memory is in doubt until it was read
from the disk again. An alarm ends the session for good.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from signers.errors import Alarm
from signers.marks import store_file
from signers.marks.file_identity import FileIdentity
from signers.marks.store_errors import StoreUnavailable
from signers.marks.store_lock import StoreLock, lock_path


class StoreSession:
    """The open file of a store, and the right to use it in turns.

    `connection` is for statements inside a turn. `in_doubt` is true when what a caller
    remembers of the file may not be what is on the disk; the caller clears it.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, waiting for its lock: what a crash left is recovered under it.

        Raises StoreMissing, WrongStore, StoreCorrupt, StoreUnavailable, StoreBroken.
        """
        self.path = path
        self.in_doubt = True
        self._fault: Alarm | None = None
        self._turns = 0
        self._is_in_turn = False
        store_file.check_present(path)
        try:
            self._lock = StoreLock(path)
        except OSError as error:
            raise StoreUnavailable(f"the lock of {path} cannot be used: {error}") from error
        try:
            self._lock.acquire()
            database = FileIdentity([path])
            self.connection = store_file.connect(path)  # has read, so the WAL is open too
            database.check()
            # With another lock file the others would no longer wait for us, nor we for them.
            self._files = FileIdentity([*store_file.file_names(path), lock_path(path)])
            self._lock.release()
        except BaseException:
            self._lock.close()
            raise

    @property
    def lock_wait_s_max(self) -> float:
        """The longest that a turn had to be waited for."""
        return self._lock.wait_s_max

    def begin(self) -> int:
        """Wait for the turn, and return its number."""
        self.check_usable()
        if self._is_in_turn:
            raise RuntimeError("the last transaction of this store has not ended")
        self._lock.acquire()
        self._is_in_turn = True
        self._turns += 1
        with self.guarded():
            self.connection.execute("BEGIN IMMEDIATE")
        return self._turns

    def is_in(self, turn: int) -> bool:
        """Say whether a turn has not ended yet, in whatever way."""
        return self._is_in_turn and turn == self._turns

    def commit(self, *, checkpoint: bool = False) -> None:
        """End the turn: what was written is on the disk, in the files of this name.

        With `checkpoint` the WAL is copied into the database too.
        """
        with self.guarded():
            self.connection.execute("COMMIT")  # returns after the WAL's fdatasync
            if checkpoint:
                # Inside the turn, so that no writer runs beside it: SQLite before 3.51.3 can
                # lose commits that restart the WAL during a checkpoint. PASSIVE never waits.
                self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._files.check()
        self._end_turn()

    def rollback(self) -> None:
        """End the turn as if it had not been."""
        with self.guarded():
            self.connection.execute("ROLLBACK")
        self._end_turn()

    def grow_wal(self, wal_bytes: int) -> bool:
        """Make the WAL at least so long, if it is not: the next commit makes that durable."""
        if store_file.wal_bytes(self.path) >= wal_bytes:
            return False
        self.begin()
        with self.guarded():
            store_file.lengthen_wal(self.connection, wal_bytes)
        self.rollback()
        return True

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Run statements; what fails ends the turn and becomes an error of the store."""
        try:
            yield
        except BaseException as error:
            self.in_doubt = True
            with suppress(sqlite3.Error):
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
            fault = store_file.store_error(error, self.path)
            if isinstance(fault, Alarm):
                self._give_up(fault)
            if self._is_in_turn:
                self._end_turn()
            if fault is error:
                raise
            raise fault from error

    def check_usable(self) -> None:
        """Raise the alarm that ended this session, if one did."""
        if self._fault is not None:
            raise type(self._fault)(str(self._fault))

    def check_files(self) -> None:
        """Raise StoreReplaced when the files were moved away under this session."""
        self.check_usable()
        with self.guarded():
            self._files.check()

    def close(self) -> None:
        """Close the file, unless it is another's by now."""
        with suppress(Alarm):
            self.check_files()
            self.connection.close()
        self._lock.close()

    def _end_turn(self) -> None:
        self._is_in_turn = False
        self._lock.release()

    def _give_up(self, fault: Alarm) -> None:
        self._fault = fault
        store_file.abandon(self.connection)
