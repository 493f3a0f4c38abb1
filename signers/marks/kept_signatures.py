"""Signatures that cannot be made again: of signers that would not sign the same bytes alike.

A device or a remote signer may use a random nonce, and two different signatures on one block
header are a proof of double baking. So a block mark says whether such a signer was asked, before
it is asked; its signature is kept before it is released, and a repeat gets that one or none.

One row for each key, kind and signature version: a repeat is granted at the mark alone, so an
older signature is never asked for. A companion key signs the bytes of the consensus key; both
have rows of their own.
"""

import sqlite3
from collections.abc import Iterator
from enum import Enum
from typing import Final

from signers.formats.signable import Signable


class Unkept(Enum):
    """Why there is no kept signature of some bytes."""

    ASKED = "asked"  # a signer was asked for it, and what it made is not known
    UNKNOWN = "unknown"  # no such signer was asked for these bytes


ASKED: Final = Unkept.ASKED
UNKNOWN: Final = Unkept.UNKNOWN


def expect(connection: sqlite3.Connection, key: int, asked: Signable, version: int) -> None:
    """Note that a signer is going to be asked for the signature of a new mark."""
    connection.execute(
        "INSERT INTO kept_signatures VALUES (?, ?, ?, ?, NULL) ON CONFLICT DO UPDATE"
        " SET digest = excluded.digest, signature = NULL",
        (key, asked.kind, version, asked.digest),
    )


def recall(
    connection: sqlite3.Connection, key: int, asked: Signable, version: int
) -> bytes | Unkept:
    """Return the signature that was kept of exactly these bytes, or why there is none."""
    row = connection.execute(
        "SELECT signature FROM kept_signatures"
        " WHERE key = ? AND kind = ? AND version = ? AND digest = ?",
        (key, asked.kind, version, asked.digest),
    ).fetchone()
    if row is None:
        return UNKNOWN
    signature: bytes | None = row[0]
    return ASKED if signature is None else signature


def keep(
    connection: sqlite3.Connection, key: int, signed: Signable, version: int, signature: bytes
) -> bytes:
    """Keep the signature of a mark that stands, and return the one in force: the first."""
    (first,) = connection.execute(
        "INSERT INTO kept_signatures VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET signature = CASE WHEN digest = excluded.digest"
        "     THEN coalesce(signature, excluded.signature) ELSE excluded.signature END,"
        " digest = excluded.digest RETURNING signature",
        (key, signed.kind, version, signed.digest, signature),
    ).fetchone()
    return bytes(first)


def read_all(connection: sqlite3.Connection) -> Iterator[tuple[str, int, bytes, bytes]]:
    """Yield hash of the key, kind, digest and signature of all that are kept."""
    yield from connection.execute(
        "SELECT hash, kind, digest, signature FROM kept_signatures JOIN holders ON number = key"
        " WHERE signature IS NOT NULL ORDER BY key, kind, version"
    )
