"""Accounts of tests, and the operations that they sign."""

from __future__ import annotations

from typing import Any

from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from signers.formats import base58
from signers.formats.consensus_operation import ATTESTATION, PREATTESTATION
from signers.formats.content_kind import ContentKind
from signers.formats.hashes import blake2b_20, blake2b_32
from signers.formats.manager_operation import REVEAL_WITHOUT_PROOF, TRANSACTION
from signers.formats.networks import Network, network_by_name
from signers.formats.operation import Content, Operation, encode, signing_bytes, to_json
from signers.formats.operation import decode_operation as decode

MAVRYK = network_by_name("mavryk")
CHAIN_ID = bytes.fromhex("ed9d217c")


class Wallet:
    """An Ed25519 account made of a number."""

    def __init__(self, number: int, network: Network = MAVRYK) -> None:
        seed = number.to_bytes(32)
        public, self._secret = crypto_sign_seed_keypair(seed)
        self.network = network
        self.public_key = b"\0" + public
        self.key_hash = b"\0" + blake2b_20(public)
        self.address = base58.encode(network.key_hash_prefixes[0], self.key_hash[1:])
        self.public_key_text = base58.encode(base58.ED25519_PUBLIC_KEY, public)

    def transaction(self, branch: bytes, **fields: Any) -> bytes:
        """A signed transfer; every field may be set."""
        return self.managers(branch, self.transaction_content(**fields))

    def transaction_content(self, **fields: Any) -> Content:
        return self._content(
            108, TRANSACTION, amount=1, destination=(0, self.key_hash), parameters=None, **fields
        )

    def reveal_content(self, **fields: Any) -> Content:
        fields = {"public_key": self.public_key} | fields
        return self._content(107, REVEAL_WITHOUT_PROOF, **fields)

    def managers(self, branch: bytes, *contents: Content) -> bytes:
        return self.sign(Operation(branch, contents, None))

    def vote(
        self,
        branch: bytes,
        *,
        level: int,
        round_: int,
        payload_hash: bytes,
        slot: int = 0,
        attestation: bool = True,
    ) -> bytes:
        tag, kind = (0x15, ATTESTATION) if attestation else (0x14, PREATTESTATION)
        fields = {
            "slot": slot,
            "level": level,
            "round": round_,
            "block_payload_hash": payload_hash,
        }
        return self.sign(Operation(branch, (Content(tag, kind, fields),), None))

    def sign(self, operation: Operation) -> bytes:
        message = blake2b_32(signing_bytes(operation, CHAIN_ID, bls_votes=False))
        signature = crypto_sign(message, self._secret)[:64]
        return encode(Operation(operation.branch, operation.contents, signature))

    def sign_header(self, unsigned: bytes) -> bytes:
        message = blake2b_32(b"\x11" + CHAIN_ID + unsigned)
        return unsigned + crypto_sign(message, self._secret)[:64]

    def _content(self, tag: int, kind: ContentKind, **fields: Any) -> Content:
        common = {
            "source": self.key_hash,
            "fee": 1_000,
            "counter": 1,
            "gas_limit": 1_000,
            "storage_limit": 300,
        }
        return Content(tag, kind, common | fields)


def as_pending(signed: bytes, network: Network = MAVRYK) -> dict[str, Any]:
    """What a node's mempool prints for an operation."""
    return {
        "hash": base58.encode(base58.OPERATION_HASH, blake2b_32(signed)),
        **to_json(decode(signed, network), network),
    }
