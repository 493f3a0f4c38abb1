"""What the quarantine must not forget, in a SQLite file of its own: quarantine.db.

    meta            chain id and layout
    held            items as they were sent, by request
    cleared_blocks  what holds, in the order in which it was cleared
    cleared_votes   likewise, a row for each batch that was stored
    seen            what delegates have signed, for detection, a row for each batch
    evidence        denunciations that were made, one for each delegate, kind, level and round

A vote is a hundred times as frequent as a block and is looked for by people only, hence a row a
batch: a few bytes of index for hundreds of votes. All of it is bounded by the window of levels that
`Window` names. One process writes (quarantine.lock); each commit is on disk when it returns.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from broker.errors import BrokerError, Misconfigured
from broker.quarantine.records import (
    Batch,
    ClearedBlock,
    ClearedVote,
    EvidenceRecord,
    HeldRecord,
    Offence,
    SignedRecord,
    untold,
)
from broker.verification import LEVEL_MAX

STORE_NAME = "quarantine.db"
LAYOUT = 2
BUSY_S = 1.0  # somebody looks into the file with a tool
# What decoding a record raises whose bytes have changed: pages of SQLite have no checksums.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)
COPIES_MAX = 2  # of one place: who signs a hundred is denounced by two

_TABLES = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS held (key BLOB PRIMARY KEY, record BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS cleared_blocks (
    position INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, level INTEGER NOT NULL,
    record BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS cleared_blocks_level ON cleared_blocks (level);
CREATE TABLE IF NOT EXISTS cleared_votes (
    position INTEGER PRIMARY KEY, first_level INTEGER NOT NULL, last_level INTEGER NOT NULL,
    records BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS seen (
    position INTEGER PRIMARY KEY, first_level INTEGER NOT NULL, last_level INTEGER NOT NULL,
    records BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS seen_levels ON seen (last_level, first_level);
CREATE TABLE IF NOT EXISTS evidence (
    level INTEGER NOT NULL, kind INTEGER NOT NULL, round INTEGER NOT NULL, delegate TEXT NOT NULL,
    told INTEGER NOT NULL, record BLOB NOT NULL,
    PRIMARY KEY (level, kind, round, delegate)) WITHOUT ROWID;
"""

Kept = TypeVar("Kept")

_encode = msgspec.msgpack.Encoder().encode
_held = msgspec.msgpack.Decoder(HeldRecord).decode
_block = msgspec.msgpack.Decoder(ClearedBlock).decode
_votes = msgspec.msgpack.Decoder(list[ClearedVote]).decode
_seen = msgspec.msgpack.Decoder(list[SignedRecord]).decode
_evidence = msgspec.msgpack.Decoder(EvidenceRecord).decode


class StoreDamaged(BrokerError):
    """The file is no database, or a damaged one."""

    code = "quarantine_store_damaged"
    advice = "It is put aside, and an empty one begun; what was held then must be sent again."


class Window(Struct, frozen=True):
    """The lowest levels of which something is kept."""

    cleared_from: int
    seen_from: int


class QuarantineStore:
    """The open file; used by one thread at a time."""

    def __init__(self, path: Path, chain_id: str) -> None:
        """Open the file, or make it.

        Raises:
            StoreDamaged: it cannot be read as a whole.
            Misconfigured: it is of another chain or of a newer release.
            OSError, sqlite3.OperationalError: full disk, no permission.
        """
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self.path = path
        # Made here, used by the store's thread, never by both at once.
        self._db = sqlite3.connect(
            path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._prepare(chain_id)
        except sqlite3.DatabaseError as e:
            self._db.close()
            if isinstance(e, sqlite3.OperationalError):
                raise
            raise StoreDamaged(f"{path}: {e}") from None
        except BrokerError:
            self._db.close()
            raise

    def _prepare(self, chain_id: str) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        [(sound,)] = self._db.execute("PRAGMA quick_check(1)")
        if sound != "ok":
            raise StoreDamaged(f"{self.path}: {sound}")
        self._db.executescript(_TABLES)
        meta = dict(self._db.execute("SELECT name, value FROM meta"))
        if not meta:
            self._db.executemany(
                "INSERT INTO meta VALUES (?, ?)",
                [("chain_id", chain_id), ("layout", str(LAYOUT))],
            )
        elif meta.get("chain_id") != chain_id:
            raise Misconfigured(
                f"{self.path} is of chain {meta.get('chain_id')}, the node is on {chain_id}: use "
                "another --state-dir, or move the file away"
            )
        elif meta.get("layout") != str(LAYOUT):
            raise Misconfigured(
                f"{self.path} has layout {meta.get('layout')}, this release knows {LAYOUT}"
            )

    # -- writing ----------------------------------------------------------------------------------

    def commit(
        self,
        batches: Sequence[Batch],
        *,
        forget: Iterable[bytes] = (),
        told: Iterable[EvidenceRecord] = (),
        probes: Sequence[SignedRecord] = (),
        window: Window | None = None,
    ) -> list[list[SignedRecord]]:
        """Write everything in one transaction; returns what was there for each probe.

        What is below the window is forgotten. Raises sqlite3.Error; then nothing is written, and
        the same may be tried again.
        """
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            for batch in batches:
                self._write(batch)
            found = self._probe(probes) if probes else []
            db.executemany("DELETE FROM held WHERE key = ?", [(key,) for key in forget])
            db.executemany(
                "UPDATE evidence SET told = 1 WHERE level = ? AND kind = ? AND round = ? "
                "AND delegate = ?",
                [(e.level, e.kind, e.round, e.delegate) for e in told],
            )
            if window is not None:
                self._prune(window)
            db.execute("COMMIT")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return found

    def _write(self, batch: Batch) -> None:
        db = self._db
        db.executemany(
            "INSERT OR REPLACE INTO held VALUES (?, ?)",
            [(held.key, _encode(held)) for held in batch.held],
        )
        if batch.seen:
            self._write_seen(batch.seen)
        db.executemany(
            "INSERT OR IGNORE INTO cleared_blocks (hash, level, record) VALUES (?, ?, ?)",
            [(each.facts.hash, each.facts.level, _encode(each)) for each in batch.blocks],
        )
        if batch.votes:
            levels = [vote.record.level for vote in batch.votes]
            db.execute(
                "INSERT INTO cleared_votes (first_level, last_level, records) VALUES (?, ?, ?)",
                (min(levels), max(levels), _encode(batch.votes)),
            )
        db.executemany(
            "INSERT OR IGNORE INTO evidence VALUES (?, ?, ?, ?, 0, ?)",
            [(e.level, e.kind, e.round, e.delegate, _encode(e)) for e in batch.evidence],
        )

    def _write_seen(self, records: list[SignedRecord]) -> None:
        levels = [record.level for record in records]
        self._db.execute(
            "INSERT INTO seen (first_level, last_level, records) VALUES (?, ?, ?)",
            (min(levels), max(levels), _encode(records)),
        )

    def _probe(self, records: Sequence[SignedRecord]) -> list[list[SignedRecord]]:
        """What is known for the place of each record, which is kept unless there are two already.

        All of a level are looked for at once: who asks has had too many of it for its memory.
        """
        known: dict[Offence, list[SignedRecord]] = {_place(record): [] for record in records}
        for level in {record.level for record in records}:
            rows = self._db.execute(
                "SELECT records FROM seen WHERE last_level >= ? AND first_level <= ? "
                "ORDER BY position",
                (level, level),
            )
            for (row,) in rows:
                for old in _seen(row):
                    if old.level == level and (kept := known.get(_place(old))) is not None:
                        kept.append(old)
        found, new = [], []
        for record in records:
            kept = known[_place(record)]
            found.append(list(kept))
            if len(kept) < COPIES_MAX and all(old.hash != record.hash for old in kept):
                kept.append(record)
                new.append(record)
        if new:
            self._write_seen(new)
        return found

    def _prune(self, window: Window) -> None:
        db, cleared, seen = self._db, window.cleared_from, window.seen_from
        db.execute("DELETE FROM cleared_blocks WHERE level < ?", (cleared,))
        db.execute("DELETE FROM cleared_votes WHERE last_level < ?", (cleared,))
        db.execute("DELETE FROM seen WHERE last_level < ?", (seen,))
        db.execute("DELETE FROM evidence WHERE level < ? AND told", (seen,))

    # -- reading ----------------------------------------------------------------------------------

    def held(self) -> list[HeldRecord]:
        """Everything that is held, oldest first."""
        rows = self._db.execute("SELECT record FROM held ORDER BY rowid")
        return [_held(record) for (record,) in rows]

    def cleared_blocks(self) -> list[ClearedBlock]:
        """All of them, oldest first."""
        rows = self._db.execute("SELECT record FROM cleared_blocks ORDER BY position")
        return [_block(record) for (record,) in rows]

    def cleared_votes(self) -> list[tuple[bytes, int]]:
        """Hash and level of each, the oldest first."""
        newest_first = _votes_of(self._db, None, None)
        return [(vote.record.hash, vote.record.level) for vote in newest_first][::-1]

    def untold_cleared(
        self, told: Container[tuple[str, bytes]]
    ) -> list[ClearedBlock | ClearedVote]:
        """What was cleared and not told, by the requests that were: blocks first."""
        rows = self._db.execute("SELECT record FROM cleared_blocks ORDER BY position DESC")
        blocks = untold((_block(record) for (record,) in rows), told)
        return [*blocks, *untold(_votes_of(self._db, None, None), told)]

    def latest_seen(self, count: int) -> list[SignedRecord]:
        """What was seen last, at most so many, oldest first."""
        rows = self._db.execute("SELECT records FROM seen ORDER BY position DESC")
        newest_first = (old for (records,) in rows for old in reversed(_seen(records)))
        return list(islice(newest_first, count))[::-1]

    def denounced(self) -> list[tuple[int, int, int, str]]:
        """Kind, level, round and delegate of all evidence."""
        return list(self._db.execute("SELECT kind, level, round, delegate FROM evidence"))

    def untold(self) -> list[EvidenceRecord]:
        """Evidence whose event may not have been published."""
        rows = self._db.execute("SELECT record FROM evidence WHERE NOT told")
        return [_evidence(record) for (record,) in rows]

    def close(self) -> None:
        self._db.close()


def read_cleared(
    path: Path, hash: bytes | None, level: int | None, count: int
) -> tuple[list[ClearedBlock], list[ClearedVote]]:
    """What was cleared under a hash or at a level, or of late: at most so many of each, and one.

    A look from the side, while the store's thread writes. Raises sqlite3.Error.
    """
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        where, value = _where("hash = ?", hash, "level = ?", level)
        rows = db.execute(
            f"SELECT record FROM cleared_blocks {where} ORDER BY position DESC LIMIT ?",
            (*value, count + 1),
        )
        blocks = [_block(record) for (record,) in rows][::-1]
        votes = list(islice(_votes_of(db, hash, level), count + 1))
    finally:
        db.close()
    return blocks, votes[::-1]


def _votes_of(
    db: sqlite3.Connection, hash: bytes | None, level: int | None
) -> Iterator[ClearedVote]:
    """The newest first."""
    lowest, highest = (0, LEVEL_MAX) if level is None else (level, level)
    rows = db.execute(
        "SELECT records FROM cleared_votes WHERE last_level >= ? AND first_level <= ? "
        "ORDER BY position DESC",
        (lowest, highest),
    )
    for (records,) in rows:
        for vote in reversed(_votes(records)):
            if hash in (None, vote.record.hash) and level in (None, vote.record.level):
                yield vote


def _place(record: SignedRecord) -> Offence:
    return (record.kind, record.level, record.round, record.delegate)


def _where(
    by_hash: str, hash: bytes | None, by_level: str, level: int | None
) -> tuple[str, tuple[bytes | int, ...]]:
    if hash is not None:
        return f"WHERE {by_hash}", (hash,)
    if level is not None:
        return f"WHERE {by_level}", (level,)
    return "", ()


def open_store(
    path: Path, chain_id: str, moment: int, read: Callable[[QuarantineStore], Kept]
) -> tuple[QuarantineStore, Kept, str]:
    """The store, what is read from it, and the damage for which it was put aside; empty: none.

    A damaged file must not keep the pool from verifying: it is renamed, and an empty one begun.
    `moment` (Unix seconds) becomes part of its name. Raises as `QuarantineStore` does otherwise.
    """
    try:
        return *_opened(path, chain_id, read), ""
    except StoreDamaged as e:
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(path.with_name(f"{path.name}.damaged-{moment}{suffix}"))
        return *_opened(path, chain_id, read), str(e)


def _opened(
    path: Path, chain_id: str, read: Callable[[QuarantineStore], Kept]
) -> tuple[QuarantineStore, Kept]:
    store = QuarantineStore(path, chain_id)
    try:
        return store, read(store)
    except sqlite3.OperationalError:
        store.close()
        raise
    except (sqlite3.DatabaseError, *UNREADABLE) as e:
        store.close()
        raise StoreDamaged(f"{path}: {e}") from None
