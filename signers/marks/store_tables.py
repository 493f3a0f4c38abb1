"""The tables of the store: their SQL, and how their rows become a `MarkTable`.

``journal`` is the hot table: one row for each commit, numbered without a gap; the newest row
always stays, so its number is the store's commit counter. ``marks`` holds what was folded out
of the journal. The marks in force are both together: the rows of ``marks``, raised by every
journal row above ``folded_seq``. A journal row without entries says that keys or marks were
changed directly. These are the tables of the first layout; `store_layouts` adds the later ones.
"""

import sqlite3
from collections.abc import Iterable
from struct import error as StructError
from typing import NamedTuple

import msgspec

from signers.formats.signable import Kind, Signable
from signers.marks import kept_signatures, store_layouts
from signers.marks.mark_table import MarkTable, last_marks
from signers.marks.store_file import DamagedRows
from signers.marks.watermark import EVERYONE, MARKED_KINDS, floor_mark

_MAKE_TABLES = """
BEGIN;
CREATE TABLE store (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    uuid       TEXT NOT NULL,
    host_id    TEXT NOT NULL,
    network    TEXT NOT NULL,
    chain_id   BLOB NOT NULL CHECK (length(chain_id) = 4),
    folded_seq INTEGER NOT NULL
);
CREATE TABLE holders (                  -- every key and every delegate
    number INTEGER PRIMARY KEY,
    hash   TEXT NOT NULL UNIQUE
);
CREATE TABLE keys (
    key      INTEGER PRIMARY KEY REFERENCES holders (number),
    delegate INTEGER NOT NULL REFERENCES holders (number),
    enabled  INTEGER NOT NULL,
    since    INTEGER NOT NULL           -- Unix seconds of the last change
);
CREATE TABLE marks (
    chain_id  BLOB NOT NULL,
    holder    INTEGER NOT NULL REFERENCES holders (number),
    kind      INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 3),
    level     INTEGER NOT NULL,
    round     INTEGER NOT NULL,
    digest    BLOB NOT NULL CHECK (length(digest) IN (0, 32)),
    signature BLOB,                     -- of signers that would not make the same one again
    PRIMARY KEY (chain_id, holder, kind)
) WITHOUT ROWID;
CREATE TABLE journal (
    seq     INTEGER PRIMARY KEY,
    entries BLOB
);
CREATE TABLE block_drafts (
    key   INTEGER NOT NULL REFERENCES keys (key),
    level INTEGER NOT NULL,
    round INTEGER NOT NULL,
    draft BLOB NOT NULL,
    UNIQUE (key, level, round)
);
-- The rule once more, below every program: a mark neither goes down nor away.
CREATE TRIGGER marks_only_rise BEFORE UPDATE ON marks
WHEN NEW.level < OLD.level OR (NEW.level = OLD.level AND NEW.round < OLD.round)
BEGIN SELECT RAISE(ABORT, 'a mark would go down'); END;
CREATE TRIGGER marks_stay BEFORE DELETE ON marks
BEGIN SELECT RAISE(ABORT, 'a mark would go away'); END;
COMMIT;
"""

_RAISE = """
ON CONFLICT (chain_id, holder, kind) DO UPDATE
SET level = excluded.level, round = excluded.round, digest = excluded.digest
WHERE excluded.level > level OR (excluded.level = level AND excluded.round > round)
"""
_RAISE_MARK = "INSERT INTO marks VALUES (?, ?, ?, ?, ?, ?)" + _RAISE
_RAISE_TO_THOSE_OF = (
    "INSERT INTO marks SELECT chain_id, ?, kind, level, round, digest FROM marks"
    " WHERE chain_id = ? AND holder = ?" + _RAISE
)

# Folded rows that stay for readers that are behind: a worker commits every few milliseconds,
# so one that missed this many has been idle, and can afford to read everything.
FOLDED_ROWS_KEPT = 256
_EVERYONE = 0  # in `ceilings`; the numbers of holders begin at 1
# The highest blocks of each key whose drafts are kept: a repeat asks for a recent one.
DRAFTS_PER_KEY_MAX = 8


class StoreIdentity(NamedTuple):
    """Which store this is; `chain_id` has 4 bytes."""

    uuid: str
    host_id: str
    network: str
    chain_id: bytes


class BlockDraft(msgspec.Struct, frozen=True):
    """A block as it was before it was signed: enough to sign and inject the very same again.

    `header`: the unsigned header that was signed, without watermark. `operations`: the four
    validation passes. `seed_nonce`: 32 bytes in blocks that commit to one.
    """

    header: bytes
    operations: list[list[bytes]]
    seed_nonce: bytes | None


class StoreContent(NamedTuple):
    """All marks of a store at one commit: `seq` counts commits, `folded_seq` is in ``marks``."""

    marks: MarkTable
    seq: int
    folded_seq: int


def make_tables(connection: sqlite3.Connection, identity: StoreIdentity) -> None:
    """Make the tables of a store that has seen one commit: its making."""
    connection.executescript(_MAKE_TABLES)
    connection.execute("INSERT INTO store VALUES (1, ?, ?, ?, ?, 1)", identity)
    connection.execute("INSERT INTO journal VALUES (1, NULL)")
    store_layouts.upgrade(connection)


def read_identity(connection: sqlite3.Connection) -> StoreIdentity:
    """Read which store this is."""
    row = connection.execute("SELECT uuid, host_id, network, chain_id FROM store").fetchone()
    if row is None:
        raise DamagedRows("the table `store` is empty")
    return StoreIdentity(*row)


def change_identity(connection: sqlite3.Connection, identity: StoreIdentity) -> None:
    """Make the store another one, of another host; its network and chain stay."""
    connection.execute("UPDATE store SET uuid = ?, host_id = ?", (identity.uuid, identity.host_id))


def read_content(connection: sqlite3.Connection, chain_id: bytes) -> StoreContent:
    """Read all keys and marks, inside the caller's transaction. Raises DamagedRows."""
    marks = MarkTable(chain_id)
    hashes = dict(connection.execute("SELECT number, hash FROM holders"))
    for number, holder in hashes.items():
        marks.number(holder, number)
    for key, delegate, enabled in connection.execute(
        "SELECT key, delegate, enabled FROM keys ORDER BY key"
    ):
        marks.bind(hashes[key], hashes[delegate], enabled=bool(enabled))
    for holder, kind, level, round_, digest in connection.execute(
        "SELECT holder, kind, level, round, digest FROM marks WHERE chain_id = ?", (chain_id,)
    ):
        mark = Signable(MARKED_KINDS[kind], chain_id, level, round_, digest)
        marks.set_mark(hashes[holder], mark)
    for number, level in connection.execute("SELECT holder, level FROM ceilings"):
        marks.set_ceiling(EVERYONE if number == _EVERYONE else hashes[number], level)
    folded_seq = read_folded_seq(connection)
    (seq,) = connection.execute("SELECT max(seq) FROM journal").fetchone()
    if seq is None or seq < folded_seq:
        raise DamagedRows("the journal has lost its newest rows")
    replay(marks, journal_above(connection, folded_seq))
    return StoreContent(marks, seq, folded_seq)


def read_folded_seq(connection: sqlite3.Connection) -> int:
    """Read up to which commit the journal is in ``marks``."""
    (folded_seq,) = connection.execute("SELECT folded_seq FROM store").fetchone()
    return int(folded_seq)


def journal_above(connection: sqlite3.Connection, seq: int) -> list[bytes]:
    """Read the entries of all commits after one."""
    rows = connection.execute(
        "SELECT entries FROM journal WHERE seq > ? AND entries IS NOT NULL ORDER BY seq", (seq,)
    )
    return [entries for (entries,) in rows]


def replay(marks: MarkTable, journal: Iterable[bytes]) -> None:
    """Take over what the journal says was admitted. Raises DamagedRows."""
    try:
        for entries in journal:
            marks.replay(entries)
    except StructError:
        raise DamagedRows("a journal row ends within an entry") from None


def append_commit(connection: sqlite3.Connection, seq: int, entries: bytes | None) -> None:
    """Add the row of one commit; None when keys or marks were changed directly."""
    connection.execute("INSERT INTO journal VALUES (?, ?)", (seq, entries))


def fold(connection: sqlite3.Connection, chain_id: bytes, seq: int) -> None:
    """Write what the journal holds up to commit `seq`, its newest, into ``marks``.

    The newest rows stay, so that a process which is not far behind finds its next row; one
    that is further behind sees the gap and reads everything anew.
    """
    journal = journal_above(connection, read_folded_seq(connection))
    try:
        moved = [(chain_id, *mark) for mark in last_marks(journal)]
    except StructError:
        raise DamagedRows("a journal row ends within an entry") from None
    connection.executemany(_RAISE_MARK, moved)
    connection.execute("UPDATE store SET folded_seq = ?", (seq,))
    connection.execute("DELETE FROM journal WHERE seq <= ?", (seq - FOLDED_ROWS_KEPT,))


def number_holder(connection: sqlite3.Connection, holder: str) -> int:
    """Return the number of a key or delegate; give it one if it is new."""
    connection.execute("INSERT OR IGNORE INTO holders (hash) VALUES (?)", (holder,))
    (number,) = connection.execute(
        "SELECT number FROM holders WHERE hash = ?", (holder,)
    ).fetchone()
    return int(number)


def raise_floor(connection: sqlite3.Connection, chain_id: bytes, holder: str, level: int) -> None:
    """Give a holder marks at which nothing up to a level is signed; higher ones stay."""
    number = number_holder(connection, holder)
    floors = (floor_mark(kind, chain_id, level) for kind in MARKED_KINDS)
    connection.executemany(
        _RAISE_MARK,
        [
            (chain_id, number, floor.kind, floor.level, floor.round, floor.digest)
            for floor in floors
        ],
    )


def raise_mark(connection: sqlite3.Connection, holder: str, mark: Signable) -> bool:
    """Give a holder this mark unless his own is as high; say whether it was raised."""
    number = number_holder(connection, holder)
    raised = connection.execute(
        _RAISE_MARK, (mark.chain_id, number, mark.kind, mark.level, mark.round, mark.digest)
    )
    return raised.rowcount > 0


def read_signatures(
    connection: sqlite3.Connection, marks: MarkTable
) -> dict[tuple[str, Kind], bytes]:
    """Read the kept signatures of the marks that are in force."""
    return {
        (holder, mark.kind): signature
        for holder, kind, digest, signature in kept_signatures.read_all(connection)
        if (mark := marks.mark(holder, MARKED_KINDS[kind])) is not None and mark.digest == digest
    }


def set_ceiling(connection: sqlite3.Connection, holder: str, level: int | None) -> None:
    """Sign nothing above a level, for a key, a delegate or `EVERYONE`; None lifts the ceiling."""
    number = _EVERYONE if holder == EVERYONE else number_holder(connection, holder)
    connection.execute("DELETE FROM ceilings WHERE holder = ?", (number,))
    if level is not None:
        connection.execute("INSERT INTO ceilings VALUES (?, ?)", (number, level))


def bind_key(
    connection: sqlite3.Connection,
    chain_id: bytes,
    key: str,
    delegate: str,
    *,
    enabled: bool,
    now_s: int,
) -> None:
    """Enter a key, or change its delegate; the delegate inherits the marks of the key."""
    number = number_holder(connection, key)
    above = number_holder(connection, delegate)
    connection.execute(
        "INSERT INTO keys VALUES (?, ?, ?, ?) ON CONFLICT (key) DO UPDATE"
        " SET delegate = excluded.delegate, enabled = excluded.enabled, since = excluded.since",
        (number, above, enabled, now_s),
    )
    if above != number:
        connection.execute(_RAISE_TO_THOSE_OF, (above, chain_id, number))


def count_marks(connection: sqlite3.Connection, chain_id: bytes, holder: str) -> int:
    """Count the kinds for which a holder has a mark in ``marks``."""
    (count,) = connection.execute(
        "SELECT count(*) FROM marks WHERE chain_id = ?"
        " AND holder = (SELECT number FROM holders WHERE hash = ?)",
        (chain_id, holder),
    ).fetchone()
    return int(count)


def add_draft(
    connection: sqlite3.Connection, key: int, level: int, round_: int, draft: BlockDraft
) -> None:
    """Keep the draft of a block, and of this key only the highest few."""
    connection.execute(
        "INSERT OR IGNORE INTO block_drafts VALUES (?, ?, ?, ?)",
        (key, level, round_, msgspec.msgpack.encode(draft)),
    )
    connection.execute(
        "DELETE FROM block_drafts WHERE key = ?1 AND rowid NOT IN (SELECT rowid FROM block_drafts"
        " WHERE key = ?1 ORDER BY level DESC, round DESC LIMIT ?2)",
        (key, DRAFTS_PER_KEY_MAX),
    )


def find_draft(
    connection: sqlite3.Connection, key: str, level: int, round_: int
) -> BlockDraft | None:
    """Return the draft of the block that a key signed at a level and round, if it is kept."""
    row = connection.execute(
        "SELECT draft FROM block_drafts WHERE level = ? AND round = ?"
        " AND key = (SELECT number FROM holders WHERE hash = ?)",
        (level, round_, key),
    ).fetchone()
    return None if row is None else msgspec.msgpack.decode(row[0], type=BlockDraft)
