"""What people have changed in the store by hand: when, who, with which command, and what.

An entry is written in the transaction of the change itself, so there is never one without the
other.
"""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

# Enough for a change a day over three years; a store is as large as its keys, not its history.
ENTRIES_MAX = 1_024
# Of 10,000 keys enabled at once the first tell what happened; the rest are counted.
CHANGES_LISTED_MAX = 256


class AdministrationEntry(NamedTuple):
    """One command of a person: `at` in Unix seconds, `changes` one sentence each."""

    at: int
    user: str
    command: str
    changes: Sequence[str]


def append(connection: sqlite3.Connection, entry: AdministrationEntry) -> None:
    """Add an entry, inside the transaction that makes the changes."""
    listed = list(entry.changes[:CHANGES_LISTED_MAX])
    if more := len(entry.changes) - len(listed):
        listed.append(f"and {more} more")
    connection.execute(
        "INSERT INTO administration (at, user, command, changes) VALUES (?, ?, ?, ?)",
        (entry.at, entry.user, entry.command, msgspec.json.encode(listed).decode()),
    )
    connection.execute(
        "DELETE FROM administration WHERE number <= (SELECT max(number) FROM administration) - ?",
        (ENTRIES_MAX,),
    )


def read(connection: sqlite3.Connection) -> list[AdministrationEntry]:
    """Read all entries that are kept, the oldest first."""
    return [
        AdministrationEntry(at, user, command, msgspec.json.decode(changes, type=list[str]))
        for at, user, command, changes in connection.execute(
            "SELECT at, user, command, changes FROM administration ORDER BY number"
        )
    ]
