"""Whether a manager operation can be valid on top of a predecessor, given its account.

Pure: what the account looks like after the predecessor is an argument. How much a block may hold
is `selection`'s business, and what applying an operation does is known to a node alone.

Source: protocol `validate.ml` (check_manager_operation and what it calls).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from signers.formats import base58
from signers.formats.hashes import blake2b_20
from signers.formats.networks import BlsScheme
from signers.formats.operation import signing_bytes
from signers.keyring.keys import NoBlsScheme, PublicKey, UnsupportedCurve
from workers.preparation.chain_view import ForgingConstants
from workers.preparation.submitted_operation import SubmittedOperation

# In the order of their tags.
PUBLIC_KEYS = (
    base58.ED25519_PUBLIC_KEY,
    base58.SECP256K1_PUBLIC_KEY,
    base58.P256_PUBLIC_KEY,
    base58.BLS_PUBLIC_KEY,
    base58.MLDSA_PUBLIC_KEY,
)


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """An implicit account as the predecessor left it."""

    balance: int  # mutez (mumav)
    counter: int  # the last one used
    public_key: bytes | None  # tag and key; None: not revealed


class NotValid(Exception):
    """An operation that cannot be in the next block; the text says why."""


def check_manager_operation(
    operation: SubmittedOperation,
    account: AccountFacts,
    constants: ForgingConstants,
    bls_scheme: BlsScheme | None,
) -> None:
    """Raise NotValid unless source, limits, counters, key, balance and signature are in order.

    `bls_scheme` is that of the protocol, None when the protocol is not known. Signatures that
    cannot be checked here are left to the node that let them in.
    """
    contents = operation.manager_fields
    _check_contents(contents, constants)
    if contents[0]["counter"] != account.counter + 1:
        raise NotValid(f"counter {contents[0]['counter']} after {account.counter}")
    fees = sum(each["fee"] for each in contents)
    if fees > account.balance:
        raise NotValid(f"fees of {fees} exceed the balance of {account.balance}")
    _check_signature(operation, _key_of(operation, account), bls_scheme)


def _check_contents(contents: Sequence[Mapping[str, Any]], constants: ForgingConstants) -> None:
    """One source, counters without a gap, limits within those of the protocol."""
    first = contents[0]
    for place, content in enumerate(contents):
        if content["source"] != first["source"]:
            raise NotValid("the contents have different sources")
        if content["counter"] != first["counter"] + place:
            raise NotValid("the counters of the contents do not follow each other")
        if content["gas_limit"] > constants.gas_per_operation:
            raise NotValid(f"a gas limit of {content['gas_limit']} is too high")
        if content["storage_limit"] > constants.storage_per_operation:
            raise NotValid(f"a storage limit of {content['storage_limit']} is too high")


def _key_of(operation: SubmittedOperation, account: AccountFacts) -> bytes:
    """The key that must have signed: that which the operation reveals, or the revealed one.

    To reveal a key again is valid: it fails when it is applied, and pays for that.
    """
    names = [content.name for content in operation.decoded.contents]
    if "reveal" in names[1:]:
        raise NotValid("a reveal must come first")
    if names[0] != "reveal":
        if account.public_key is None:
            raise NotValid("the key is not revealed")
        return account.public_key
    key: bytes = operation.manager_fields[0]["public_key"]
    if key[:1] + blake2b_20(key[1:]) != operation.source:
        raise NotValid("the revealed key is not that of the source")
    return key


def _check_signature(
    operation: SubmittedOperation, key: bytes, bls_scheme: BlsScheme | None
) -> None:
    message = signing_bytes(operation.decoded, None, bls_votes=False)
    signature = operation.decoded.signature or b""
    try:
        is_signed = PublicKey.from_tagged(key).verify(message, signature, bls_scheme)
    except (UnsupportedCurve, NoBlsScheme):
        return
    if not is_signed:
        raise NotValid("the signature is wrong")
