"""Keys and transfers for tests, demos and load: made from a seed, worth nothing anywhere else.

Whoever knows the seed has the keys. They are for sandboxes alone: never fund them elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from signers.formats.block_header import BlockHeader, unsigned
from signers.formats.hashes import blake2b_32
from signers.formats.manager_operation import REVEAL, REVEAL_WITHOUT_PROOF, TRANSACTION
from signers.formats.networks import BLOCK_WATERMARK, GENERIC_WATERMARK, TEZOS, Network
from signers.formats.operation import Content, Operation, encode
from signers.formats.operation import unsigned as unsigned_operation
from signers.keyring.curve import Curve
from signers.keyring.keys import SecretKey
from workers.sandbox.names import Names, address_of, public_key_text

_REVEAL_TAG = 107
_TRANSACTION_TAG = 108

# What a transfer between accounts that exist needs on the sandbox, and a fee that the mempool
# takes for it: 100, plus a tenth of the gas and one for each of some 170 bytes, rounded up.
TRANSFER_GAS = 200
TRANSFER_FEE = 400
REVEAL_GAS = 200


@dataclass(frozen=True, slots=True)
class SandboxKey:
    """A key that is derived from a public seed; one of BLS signs as Tezos does."""

    seed: bytes = field(repr=False)
    curve: Curve = Curve.ED25519
    public_key: bytes = field(init=False)  # behind its curve's tag
    address: bytes = field(init=False)  # tagged public key hash
    _secret_key: SecretKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        secret_key = SecretKey.from_seed(self.seed, self.curve, TEZOS.bls_scheme)
        tagged = bytes([self.curve.value.tag]) + secret_key.public_key.raw
        object.__setattr__(self, "public_key", tagged)
        object.__setattr__(self, "address", address_of(tagged))
        object.__setattr__(self, "_secret_key", secret_key)

    @property
    def public_key_text(self) -> str:
        """The public key as people write it, ``edpk…``."""
        return public_key_text(self.public_key)

    @property
    def secret_key_text(self) -> str:
        """The secret as a key file has it, ``edsk…``."""
        return self._secret_key.secret_text()

    def address_text(self, network: Network) -> str:
        """The address on a network, ``mv1…`` or ``tz1…``."""
        return Names(network).address(self.address)

    def sign(self, message: bytes) -> bytes:
        """Sign a message, its watermark in front."""
        return self._secret_key.sign(message, blake2b_32(message))

    def sign_block(self, header: BlockHeader, chain_id: bytes) -> bytes:
        """Return the signature of a header."""
        return self.sign(bytes([BLOCK_WATERMARK]) + chain_id + unsigned(header))


def sandbox_keys(seed: str, role: str, count: int) -> list[SandboxKey]:
    """Return the first keys of a role ("baker", "account", …) under a seed."""
    return [
        SandboxKey(blake2b_32(f"forgepool sandbox key {seed} {role} {number}".encode()))
        for number in range(count)
    ]


def bakers_json(keys: Iterable[SandboxKey], stakes: Sequence[int]) -> list[dict[str, Any]]:
    """Return what the command's `--bakers` file holds; stakes in mutez (mumav)."""
    return [
        {"public_key": key.public_key_text, "stake": str(stake)}
        for key, stake in zip(keys, stakes, strict=True)
    ]


def accounts_json(
    keys: Iterable[SandboxKey], balance: int, network: Network, *, revealed: bool = True
) -> list[dict[str, Any]]:
    """Return what the command's `--accounts` file holds; the balance in mutez (mumav)."""
    return [
        {"public_key": key.public_key_text, "balance": str(balance)}
        if revealed
        else {"address": key.address_text(network), "balance": str(balance)}
        for key in keys
    ]


def make_transfer(
    network: Network,
    source: SandboxKey,
    *,
    branch: bytes,
    counter: int,
    destination: bytes,
    amount: int,
    fee: int = TRANSFER_FEE,
    gas_limit: int = TRANSFER_GAS,
    storage_limit: int = 0,
    reveal: bool = False,
) -> bytes:
    """Return a signed transfer, ready to be injected.

    `branch` is a live block's hash, `destination` a tagged public key hash. `counter` is the
    account's plus one; with `reveal` the source's key is revealed first and takes that counter.
    A destination that does not exist yet needs a `storage_limit` of 257.
    """
    limits = {"gas_limit": gas_limit, "storage_limit": storage_limit}
    contents = []
    if reveal:
        fields = {"source": source.address, "fee": fee, "counter": counter, **limits}
        fields |= {"public_key": source.public_key, "proof": None}
        kind = REVEAL if network is TEZOS else REVEAL_WITHOUT_PROOF
        contents.append(Content(_REVEAL_TAG, kind, fields))
        counter += 1
    fields = {"source": source.address, "fee": fee, "counter": counter, **limits}
    fields |= {"amount": amount, "destination": (0, destination), "parameters": None}
    contents.append(Content(_TRANSACTION_TAG, TRANSACTION, fields))
    return sign_operation(source, Operation(branch, tuple(contents), None))


def sign_operation(key: SandboxKey, operation: Operation) -> bytes:
    """Return the bytes of an operation with its signature by this key."""
    message = bytes([GENERIC_WATERMARK]) + unsigned_operation(operation)
    return encode(Operation(operation.branch, operation.contents, key.sign(message)))
