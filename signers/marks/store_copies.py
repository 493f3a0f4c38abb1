"""Looking at a store, backing it up and restoring it: for processes that sign nothing with it.

All of this is safe while a pool signs: reads see one commit and wait for nobody. A backup is
made through SQLite, because a plain copy of the files of an open store is of no single moment.
"""

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from uuid import uuid4

from signers.formats.signable import Kind
from signers.host import host_id, user_name
from signers.marks import administration_log, store_file, store_layouts, store_tables
from signers.marks.administration_log import AdministrationEntry
from signers.marks.store_tables import StoreContent, StoreIdentity

RESTORE: Final = "watermarks restore"


class StoreView(NamedTuple):
    """A store as of one commit; `signatures` are those that came with marks in force."""

    identity: StoreIdentity
    content: StoreContent
    signatures: Mapping[tuple[str, Kind], bytes]


def read_store(path: Path) -> StoreView:
    """Read which store this is, its keys and all marks in force.

    Raises StoreMissing, WrongStore, StoreCorrupt, StoreUnavailable, StoreBroken.
    """
    with _errors_of(path), closing(store_file.connect(path)) as connection:
        connection.execute("BEGIN")
        view = _read(connection)
        connection.execute("COMMIT")
    return view


def read_administration(path: Path) -> list[AdministrationEntry]:
    """Read what people have changed by hand, the oldest first. Raises as `read_store`."""
    with _errors_of(path), closing(store_file.connect(path)) as connection:
        return administration_log.read(connection)


def back_up(path: Path, backup: Path) -> StoreView:
    """Write a store as of now into one file that can be kept elsewhere, and say what is in it.

    Raises what `read_store` does, or StoreExists when the backup's file is there already.
    """
    with (
        _errors_of(path),
        closing(store_file.connect(path)) as connection,
        store_file.NewFile(backup) as copy,
    ):
        connection.backup(copy.connection)
        view = _read(copy.connection)
        copy.appear(journal_mode="delete")
    return view


def restore(backup: Path, path: Path, floor: int) -> StoreView:
    """Make a store of this host from a backup, in which nothing up to a level is signed.

    A backup does not know what was signed after it was made, so the floor must be: the level
    of the chain's head now, or above. The new store has an id of its own. Raises StoreMissing,
    WrongStore or StoreCorrupt for the backup, StoreExists for the store.
    """
    with (
        _errors_of(backup),
        closing(store_file.open_backup(backup)) as connection,
        store_file.NewFile(path) as new,
    ):
        connection.backup(new.connection)
        store_layouts.upgrade(new.connection)
        identity, content, _ = _read(new.connection)
        identity = identity._replace(uuid=uuid4().hex, host_id=host_id())
        _rewrite(new.connection, identity, content, floor)
        view = _read(new.connection)
        new.appear(journal_mode="wal")
    return view


def _read(connection: sqlite3.Connection) -> StoreView:
    identity = store_tables.read_identity(connection)
    content = store_tables.read_content(connection, identity.chain_id)
    signatures = store_tables.read_signatures(connection, content.marks)
    return StoreView(identity, content, signatures)


def _rewrite(
    connection: sqlite3.Connection, identity: StoreIdentity, content: StoreContent, floor: int
) -> None:
    connection.execute("BEGIN")
    store_tables.fold(connection, identity.chain_id, content.seq)
    for holder in content.marks.holders():
        store_tables.raise_floor(connection, identity.chain_id, holder, floor)
    store_tables.change_identity(connection, identity)
    done = f"made from a backup as of commit {content.seq}, with floor {floor} for everyone"
    administration_log.append(
        connection, AdministrationEntry(int(time.time()), user_name(), RESTORE, [done])
    )
    store_tables.append_commit(connection, content.seq + 1, None)
    connection.execute("COMMIT")


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, store_file.DamagedRows) as error:
        raise store_file.store_error(error, path) from error
