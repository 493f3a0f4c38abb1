"""Seed nonces: what a baker commits to now and reveals a cycle later.

At the levels that the protocol names the header carries the hash of 32 bytes that nobody knows
yet. Whoever does not reveal them in the next cycle loses rewards, so they are as durable as the
signature: they are part of the block's draft in the watermark store, in the transaction that
records the mark, and travel in the client's `block_ready`.

Source: `lib_protocol/nonce_storage.ml`, `lib_delegate/baking_nonces.ml` (random by default).
"""

from __future__ import annotations

from collections.abc import Callable

from signers.formats.hashes import blake2b_32

SEED_NONCE_BYTES = 32


def new_seed_nonce(randomness: Callable[[int], bytes]) -> bytes:
    """A nonce from a source of random bytes such as `os.urandom`."""
    return randomness(SEED_NONCE_BYTES)


def seed_nonce_hash(seed_nonce: bytes) -> bytes:
    """The commitment that the header carries."""
    return blake2b_32(seed_nonce)
