"""Text forms of hashes, addresses and keys on one network, both ways.

Texts are what the RPC speaks and bytes what the chain counts with. The same few hashes are
written over and over, so the last ones are remembered.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

from signers.formats import base58
from signers.formats.base58 import Prefix
from signers.formats.hashes import blake2b_20
from signers.formats.networks import Network

# Blocks, operations and accounts of a few busy levels; an entry takes about 250 bytes.
_TEXTS_KEPT = 16_384

_PUBLIC_KEYS = (
    base58.ED25519_PUBLIC_KEY,
    base58.SECP256K1_PUBLIC_KEY,
    base58.P256_PUBLIC_KEY,
    base58.BLS_PUBLIC_KEY,
    base58.MLDSA_PUBLIC_KEY,
)
_SIGNATURES = (
    base58.ED25519_SIGNATURE,
    base58.SECP256K1_SIGNATURE,
    base58.P256_SIGNATURE,
    base58.BLS_SIGNATURE,
    base58.GENERIC_SIGNATURE,
)
Contract = tuple[int, bytes]
IMPLICIT = 0
ORIGINATED = 1


@lru_cache(maxsize=_TEXTS_KEPT)
def text(prefix: Prefix, payload: bytes) -> str:
    """Return the text form of a hash or a key."""
    return base58.encode(prefix, payload)


def read_signature(signature: str) -> bytes:
    """Return the bytes of a signature of any curve. Raises MalformedBytes."""
    return base58.decode(_SIGNATURES, signature)


def public_key_text(tagged: bytes) -> str:
    """Return the text of a public key behind its curve's tag."""
    return text(_PUBLIC_KEYS[tagged[0]], tagged[1:])


def read_public_key(public_key: str) -> bytes:
    """Return a public key behind its curve's tag. Raises MalformedBytes."""
    prefix, raw = base58.read(_PUBLIC_KEYS, public_key)
    return bytes([_PUBLIC_KEYS.index(prefix)]) + raw


@lru_cache(maxsize=_TEXTS_KEPT)
def address_of(tagged_key: bytes) -> bytes:
    """Return the tagged hash of a tagged public key."""
    return tagged_key[:1] + blake2b_20(tagged_key[1:])


def time_text(timestamp: int) -> str:
    """Return a time in Unix seconds as the RPC writes it: whole seconds and Z."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Names:
    """Addresses of one network.

    A contract is a pair as operations hold it: 0 and a tagged public key hash (an implicit
    account), or 1 and the 20 bytes of an originated contract.
    """

    def __init__(self, network: Network) -> None:
        self._implicit = network.key_hash_prefixes

    def address(self, tagged: bytes) -> str:
        """Return the text of a tagged public key hash (21 bytes)."""
        return text(self._implicit[tagged[0]], tagged[1:])

    def read_address(self, address: str) -> bytes:
        """Return the tagged public key hash of a text. Raises MalformedBytes."""
        prefix, payload = base58.read(self._implicit, address)
        return bytes([self._implicit.index(prefix)]) + payload

    def contract(self, contract: Contract) -> str:
        """Return the text of a contract."""
        tag, payload = contract
        return self.address(payload) if tag == IMPLICIT else text(base58.CONTRACT, payload)

    def read_contract(self, contract: str) -> Contract:
        """Return the contract of a text. Raises MalformedBytes."""
        prefix, payload = base58.read((*self._implicit, base58.CONTRACT), contract)
        if prefix is base58.CONTRACT:
            return ORIGINATED, payload
        return IMPLICIT, bytes([self._implicit.index(prefix)]) + payload
