"""Accounts and nonce commitments: what the chain remembers, and drafts of what it may become.

A draft reads through to the state it was made on and keeps its changes to itself until they are
merged, so what fails half-way leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from struct import Struct
from typing import NamedTuple

from signers.formats.signable import Kind
from workers.sandbox.context import Context, Entry

_ACCOUNT = b"account:"
_NONCE = b"nonce:"
_DENOUNCED = b"denounced:"
_PROGRESS = b"progress"

_ACCOUNT_NUMBERS = Struct(">QQQ")
_PROGRESS_NUMBERS = Struct(">IQQ")


@dataclass(frozen=True, slots=True)
class Account:
    """An implicit account. Amounts in mutez (mumav).

    `counter` is the last one used. `public_key` is the tagged key once it is revealed,
    `delegate` a tagged public key hash. `frozen` is a delegate's deposit, which it cannot spend.
    """

    balance: int
    counter: int
    public_key: bytes | None = None
    delegate: bytes | None = None
    frozen: int = 0

    def encode(self) -> bytes:
        numbers = _ACCOUNT_NUMBERS.pack(self.balance, self.counter, self.frozen)
        return numbers + _optional(self.public_key) + _optional(self.delegate)


@dataclass(frozen=True, slots=True)
class NonceCommitment:
    """What the baker of a level promised to reveal in the next cycle, and then did."""

    nonce_hash: bytes
    delegate: bytes
    nonce: bytes | None = None

    def encode(self) -> bytes:
        return self.nonce_hash + self.delegate + _optional(self.nonce)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the chain is: its level, the counter that new accounts start at, what was burnt."""

    level: int
    global_counter: int
    burnt: int = 0

    def encode(self) -> bytes:
        return _PROGRESS_NUMBERS.pack(self.level, self.global_counter, self.burnt)


class Offence(NamedTuple):
    """Two different things signed by one delegate for one level and round."""

    kind: Kind
    level: int
    round: int
    delegate: bytes

    @property
    def key(self) -> bytes:
        place = self.level.to_bytes(4) + self.round.to_bytes(4)
        return _DENOUNCED + place + self.kind.to_bytes() + self.delegate


@dataclass(frozen=True, slots=True)
class Denunciation:
    """The operation that denounced an offence."""

    operation_hash: bytes

    def encode(self) -> bytes:
        return self.operation_hash


class Ledger:
    """A draft of the state; `base` is the state, or the draft, that it changes."""

    def __init__(self, base: Context | Ledger) -> None:
        self._base = base
        self._changes: dict[bytes, Entry | None] = {}

    def get(self, key: bytes) -> Entry | None:
        """Return the entry of a key as this draft sees it."""
        if key in self._changes:
            return self._changes[key]
        return self._base.get(key)

    def account(self, address: bytes) -> Account | None:
        """Return an account, or None when it was never used or has been emptied."""
        found = self.get(_ACCOUNT + address)
        return found if isinstance(found, Account) else None

    def put_account(self, address: bytes, account: Account) -> None:
        """Change or make an account."""
        self._changes[_ACCOUNT + address] = account

    def drop_if_empty(self, address: bytes) -> None:
        """Let an account that is left with nothing cease to be; its key is forgotten with it."""
        account = self.account(address)
        if account and not (account.balance or account.frozen or account.delegate):
            self._changes[_ACCOUNT + address] = None

    def nonce(self, level: int) -> NonceCommitment | None:
        """Return the commitment made in the block of this level."""
        found = self.get(_NONCE + level.to_bytes(4))
        return found if isinstance(found, NonceCommitment) else None

    def put_nonce(self, level: int, commitment: NonceCommitment | None) -> None:
        self._changes[_NONCE + level.to_bytes(4)] = commitment

    def is_denounced(self, offence: Offence) -> bool:
        """Whether a delegate was denounced for this before."""
        return self.get(offence.key) is not None

    def denounce(self, offence: Offence, operation_hash: bytes) -> None:
        self._changes[offence.key] = Denunciation(operation_hash)

    def forget_denounced(self, below: int) -> None:
        """Drop the offences of the levels of the state that lie below this one."""
        if not isinstance(self._base, Context):
            raise TypeError("only a draft of the state itself knows all of them")
        for key in self._base.keys(_DENOUNCED):
            if int.from_bytes(key[len(_DENOUNCED) :][:4]) < below:
                self._changes[key] = None

    @property
    def progress(self) -> Progress:
        found = self.get(_PROGRESS)
        return found if isinstance(found, Progress) else Progress(level=0, global_counter=0)

    def put_progress(self, progress: Progress) -> None:
        self._changes[_PROGRESS] = progress

    def credit(self, address: bytes, amount: int) -> None:
        """Add to an account, which is made if need be."""
        account = self.account(address)
        if account is None:
            account = Account(0, counter=self.progress.global_counter)
        self.put_account(address, replace(account, balance=account.balance + amount))

    def merge(self) -> None:
        """Move the changes into the draft that this one was made on."""
        if isinstance(self._base, Context):
            raise TypeError("a draft of the state itself has nothing to merge into")
        self._base._changes.update(self._changes)
        self._changes.clear()

    def context(self) -> Context:
        """Return the state with the changes made."""
        if isinstance(self._base, Ledger):
            raise TypeError("merge this draft first")
        return self._base.updated(self._changes)


def addresses(context: Context) -> Iterator[bytes]:
    """Return the accounts that exist in a state."""
    return (key.removeprefix(_ACCOUNT) for key in context.keys(_ACCOUNT))


def _optional(value: bytes | None) -> bytes:
    return b"\x00" if value is None else b"\xff" + value
