"""Signatures that cannot be made again: of signers that would not sign the same bytes alike.

A device or a remote signer may use a random nonce, and two different signatures on one block
header are a proof of double baking. So before such a signer is asked for a block, it is written
down that its signature is expected, and by whom; the signature is kept before it is released, and
a repeat gets that one or none::

            ┌────────── expect (by another attempt) ───────────┐
            ▼                                                  │
    expect: ASKED ──► withdraw (by who expects it alone): WITHDRAWN
            │                                                  │
            ▼                                                  └──► forget: our own key signs it
    keep: the signature, for good

An expectation has a number. Whoever wrote it down may ask signers under it, nobody else may; when
surely none of them has signed, nor will, he withdraws it, and after that he asks no more. Then the
next repeat may expect the signature in its turn. If nobody is left who could withdraw it (he was
killed, or does not know what a signer has done), the block is lost.

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

    ASKED = "asked"  # a signer was or will be asked for it, and what it makes is not known
    WITHDRAWN = "withdrawn"  # it was expected, and surely nobody has signed nor will
    UNKNOWN = "unknown"  # no such signer was asked for these bytes


ASKED: Final = Unkept.ASKED
WITHDRAWN: Final = Unkept.WITHDRAWN
UNKNOWN: Final = Unkept.UNKNOWN

_NOBODYS: Final = 0  # numbers of expectations begin at 1; this one can be withdrawn by nobody


def expect(
    connection: sqlite3.Connection, key: int, asked: Signable, version: int, number: int
) -> None:
    """Note that a signer is going to be asked, under an expectation of this number.

    Raises ValueError when these bytes are signed or expected already.
    """
    noted = connection.execute(
        "INSERT INTO kept_signatures VALUES (?, ?, ?, ?, NULL, ?) ON CONFLICT DO UPDATE"
        " SET digest = excluded.digest, signature = NULL, expectation = excluded.expectation"
        " WHERE digest != excluded.digest OR (signature IS NULL AND expectation IS NULL)",
        (key, asked.kind, version, asked.digest, number),
    )
    if noted.rowcount != 1:
        raise ValueError("a signature that is there, or expected by somebody else")


def withdraw(
    connection: sqlite3.Connection, key: int, asked: Signable, version: int, number: int
) -> None:
    """Note that surely nobody has signed under this expectation, nor will."""
    connection.execute(
        "UPDATE kept_signatures SET expectation = NULL WHERE key = ? AND kind = ? AND version = ?"
        " AND digest = ? AND expectation = ? AND expectation != ? AND signature IS NULL",
        (key, asked.kind, version, asked.digest, number, _NOBODYS),
    )


def forget(connection: sqlite3.Connection, key: int, asked: Signable, version: int) -> None:
    """Drop an expectation that was withdrawn: a key of ours signs, so no other signer may."""
    connection.execute(
        "DELETE FROM kept_signatures WHERE key = ? AND kind = ? AND version = ? AND digest = ?"
        " AND expectation IS NULL AND signature IS NULL",
        (key, asked.kind, version, asked.digest),
    )


def recall(
    connection: sqlite3.Connection, key: int, asked: Signable, version: int
) -> bytes | Unkept:
    """Return the signature that was kept of exactly these bytes, or why there is none."""
    row = connection.execute(
        "SELECT signature, expectation FROM kept_signatures"
        " WHERE key = ? AND kind = ? AND version = ? AND digest = ?",
        (key, asked.kind, version, asked.digest),
    ).fetchone()
    if row is None:
        return UNKNOWN
    signature: bytes | None = row[0]
    if signature is not None:
        return signature
    return WITHDRAWN if row[1] is None else ASKED


def keep(
    connection: sqlite3.Connection, key: int, signed: Signable, version: int, signature: bytes
) -> bytes:
    """Keep the signature of a mark that stands, and return the one in force: the first."""
    (first,) = connection.execute(
        "INSERT INTO kept_signatures VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET signature = CASE WHEN digest = excluded.digest"
        "     THEN coalesce(signature, excluded.signature) ELSE excluded.signature END,"
        " digest = excluded.digest RETURNING signature",
        (key, signed.kind, version, signed.digest, signature, _NOBODYS),
    ).fetchone()
    return bytes(first)


def read_all(connection: sqlite3.Connection) -> Iterator[tuple[str, int, bytes, bytes]]:
    """Yield hash of the key, kind, digest and signature of all that are kept."""
    yield from connection.execute(
        "SELECT hash, kind, digest, signature FROM kept_signatures JOIN holders ON number = key"
        " WHERE signature IS NOT NULL ORDER BY key, kind, version"
    )
