"""The layouts that the store's file has had, and the steps from one to the next.

`PRAGMA user_version` says which layout a file has. A new store is made in the first one and then
takes the same steps as an old store, so there is one way to the newest layout and every test
walks it. A step is taken whole or not at all, and changes no mark.
"""

import sqlite3
from typing import Final

FIRST: Final = 1
_STEPS: Final[tuple[tuple[str, ...], ...]] = (
    # 2: ceilings, what people have changed by hand, and signatures that cannot be made again.
    (
        """
        CREATE TABLE ceilings (
            holder INTEGER PRIMARY KEY,     -- number of a key or delegate, 0: everyone
            level  INTEGER NOT NULL         -- nothing above it is signed
        )
        """,
        """
        CREATE TABLE administration (
            number  INTEGER PRIMARY KEY,
            at      INTEGER NOT NULL,       -- Unix seconds
            user    TEXT NOT NULL,
            command TEXT NOT NULL,
            changes TEXT NOT NULL           -- a JSON list of sentences
        )
        """,
        """
        CREATE TRIGGER administration_stays BEFORE UPDATE ON administration
        BEGIN SELECT RAISE(ABORT, 'what was done by hand would be rewritten'); END
        """,
        """
        CREATE TABLE kept_signatures (
            key       INTEGER NOT NULL REFERENCES holders (number),
            kind      INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 3),
            version   INTEGER NOT NULL,     -- of the signature: 0, and for BLS 1 or 2
            digest    BLOB NOT NULL CHECK (length(digest) = 32),
            signature BLOB,                 -- NULL: a signer was asked, and nothing has come yet
            PRIMARY KEY (key, kind, version)
        ) WITHOUT ROWID
        """,
        "ALTER TABLE marks DROP COLUMN signature",  # it was never filled
    ),
    # 3: under which expectation a signature that is missing was asked for. 0: before there were
    # numbers, so nobody can withdraw it; NULL: it was withdrawn.
    ("ALTER TABLE kept_signatures ADD COLUMN expectation INTEGER DEFAULT 0",),
)
NEWEST: Final = FIRST + len(_STEPS)


def read_layout(connection: sqlite3.Connection) -> int:
    """Read which layout a file has."""
    (layout,) = connection.execute("PRAGMA user_version").fetchone()
    return int(layout)


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring a file of a layout that is known to the newest one, in one transaction."""
    if read_layout(connection) == NEWEST:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have done it while this one waited.
        for step in _STEPS[read_layout(connection) - FIRST :]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {NEWEST}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
