"""Requests to sign, as bytes, for tests of the policy: made by the layouts that nodes read."""

from __future__ import annotations

from typing import Any

from signers.formats import base58, block_header
from signers.formats import manager_operation as manager
from signers.formats.anonymous_operation import FAILING_NOOP
from signers.formats.block_header import BlockHeader, Fitness
from signers.formats.networks import MAVRYK
from signers.formats.operation import Content, Operation, unsigned
from signers.formats.signable import Kind
from signers.formats.vote import VoteTemplate
from signers.keyring.keys import SecretKey

CHAIN, OTHER_CHAIN = b"\x01\x02\x03\x04", b"\x05\x06\x07\x08"
CHAIN_TEXT, OTHER_CHAIN_TEXT = (base58.encode(base58.CHAIN_ID, c) for c in (CHAIN, OTHER_CHAIN))
ALICE, BOB, CAROL = (SecretKey(bytes([i]) * 32).public_key.hash(MAVRYK) for i in (1, 2, 3))
VALUE = bytes.fromhex("030b")  # Unit


def account(key_hash: str) -> bytes:
    """The curve's tag and the hash, as operations have them."""
    return b"\0" + base58.decode(MAVRYK.key_hash_prefixes, key_hash)


def block() -> bytes:
    header = BlockHeader(
        level=5,
        proto=1,
        predecessor=bytes(32),
        timestamp=1_700_000_000,
        validation_passes=4,
        operations_hash=bytes(32),
        fitness=Fitness.tenderbake(level=5, round=2, predecessor_round=0),
        context=bytes(32),
        payload_hash=bytes(32),
        payload_round=2,
        proof_of_work_nonce=bytes(8),
        seed_nonce_hash=None,
        per_block_votes=0,
        signature=None,
    )
    return b"\x11" + CHAIN + block_header.encode(header)


def vote(kind: Kind = Kind.ATTESTATION, chain: bytes = CHAIN) -> bytes:
    return VoteTemplate(kind, chain, bytes(32), 5, 2, bytes(32)).signable(3)


def dal_attestation() -> bytes:
    return b"\x14" + CHAIN + bytes(32) + b"\x16" + b"\x01" + (5).to_bytes(4) + bytes(2)


def operation(*contents: Content) -> bytes:
    """What is signed for an operation with these contents."""
    return b"\x03" + unsigned(Operation(bytes(32), contents, None))


def authentication(wanted: bytes) -> bytes:
    """What a client signs who asks another signer to sign."""
    return b"\x04\x01" + account(BOB) + wanted


def noop() -> Content:
    return Content(0x11, FAILING_NOOP, {"arbitrary": b"text"})


def transaction(
    to: str = BOB, amount: int = 10, fee: int = 1, call: int | None = None, source: str = ALICE
) -> Content:
    """A transfer of an account, or a call of it: 6 stake, 7 unstake, 0 default."""
    parameters = None if call is None else {"entrypoint": bytes([call]), "value": VALUE}
    fields = {"amount": amount, "destination": (0, account(to)), "parameters": parameters}
    return Content(108, manager.TRANSACTION, _paid(fields, fee, source))


def delegation() -> Content:
    return Content(110, manager.DELEGATION, _paid({"delegate": account(BOB)}))


def origination(balance: int) -> Content:
    script = {"code": VALUE, "storage": VALUE}
    fields = {"balance": balance, "delegate": None, "script": script}
    return Content(109, manager.ORIGINATION, _paid(fields))


def _paid(fields: dict[str, Any], fee: int = 1, source: str = ALICE) -> dict[str, Any]:
    paid = {"source": account(source), "fee": fee, "counter": 1}
    return paid | {"gas_limit": 1, "storage_limit": 1} | fields
