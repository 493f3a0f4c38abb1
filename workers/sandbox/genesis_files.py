"""The files that name a chain's bakers and accounts, and what a genesis makes of them.

Both are JSON lists. A baker is ``{"public_key": "edpk…", "stake": "4000000000000"}``; an
account has ``"balance"`` and either its ``"public_key"``, which is then revealed, or its
``"address"``. Amounts are in mutez (mumav), as strings or numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from signers.errors import MalformedBytes
from signers.formats.networks import Network, Protocol
from signers.keyring.curve import CURVE_OF_TAG, Curve
from workers.sandbox.constants import Constants
from workers.sandbox.genesis import BootstrapAccount, Genesis
from workers.sandbox.names import Names, address_of, read_public_key

# The ledger counts in 64 bits, and all amounts together must fit.
_SUPPLY_MAX = 2**62
T = TypeVar("T")


class BadGenesis(Exception):
    """A chain cannot begin like this; the text says what to change."""


class BakerEntry(Struct, forbid_unknown_fields=True):
    """One baker of the file."""

    public_key: str
    stake: int | str


class AccountEntry(Struct, forbid_unknown_fields=True):
    """One account of the file, with a key or with an address alone."""

    balance: int | str
    public_key: str | None = None
    address: str | None = None


def read_bakers(text: bytes) -> list[BakerEntry]:
    """Read a file of bakers. Raises BadGenesis."""
    return _read(text, list[BakerEntry], "bakers")


def read_accounts(text: bytes) -> list[AccountEntry]:
    """Read a file of accounts. Raises BadGenesis."""
    return _read(text, list[AccountEntry], "accounts")


def genesis_of(
    network: Network,
    protocol: Protocol,
    constants: Constants,
    *,
    seed: str,
    timestamp: int,
    bakers: Sequence[BakerEntry],
    accounts: Sequence[AccountEntry],
) -> Genesis:
    """Return the genesis of a chain. Raises BadGenesis."""
    names = Names(network)
    everybody = [_baker(entry, protocol) for entry in bakers]
    everybody += (_account(entry, names) for entry in accounts)
    if not bakers:
        raise BadGenesis("a chain needs at least one baker")
    if len({account.address for account in everybody}) != len(everybody):
        raise BadGenesis("an address is listed twice among bakers and accounts")
    if sum(account.balance + account.stake for account in everybody) > _SUPPLY_MAX:
        raise BadGenesis("all amounts together are out of range")
    return Genesis(network, protocol, constants, seed.encode(), timestamp, everybody)


def _baker(entry: BakerEntry, protocol: Protocol) -> BootstrapAccount:
    public_key = _key(entry.public_key)
    curve = CURVE_OF_TAG[public_key[0]]
    if curve is Curve.MLDSA or (curve is Curve.BLS and not protocol.bls_votes):
        raise BadGenesis(f"under {protocol.name} here {curve.value.name} keys do not bake")
    stake = _amount(entry.stake)
    if stake == 0:
        raise BadGenesis(f"the baker {entry.public_key} has no stake")
    return BootstrapAccount(address_of(public_key), public_key, stake=stake)


def _account(entry: AccountEntry, names: Names) -> BootstrapAccount:
    balance = _amount(entry.balance)
    if entry.public_key is not None and entry.address is None:
        public_key = _key(entry.public_key)
        return BootstrapAccount(address_of(public_key), public_key, balance)
    if entry.address is not None and entry.public_key is None:
        try:
            return BootstrapAccount(names.read_address(entry.address), None, balance)
        except MalformedBytes as error:
            raise BadGenesis(f"accounts: {entry.address}: {error}") from None
    raise BadGenesis("an account has either a public_key or an address")


def _key(public_key: str) -> bytes:
    try:
        return read_public_key(public_key)
    except MalformedBytes as error:
        raise BadGenesis(f"{public_key}: {error}") from None


def _amount(amount: int | str) -> int:
    text = str(amount)
    if not (text.isascii() and text.isdecimal() and len(text) <= 19):
        raise BadGenesis(f"{amount!r} is not an amount")
    return int(text)


def _read(text: bytes, type: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(text, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadGenesis(f"{what}: {error}") from None
