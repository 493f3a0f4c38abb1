"""The hashes that tie blocks, operations and payloads together.

Source: Octez ``src/lib_crypto/blake2B.ml`` (Merkle trees), ``block_payload_repr.ml``.
"""

from collections.abc import Sequence
from hashlib import blake2b

HASH_BYTES = 32
# A vote is hashed in 0.36 µs by a copy of this, in 0.48 by `blake2b(vote, digest_size=32)`.
_NOTHING_HASHED = blake2b(digest_size=HASH_BYTES)


def blake2b_32(message: bytes) -> bytes:
    """Hash a message to 32 bytes: unkeyed BLAKE2b, the hash of nearly everything here."""
    hashed = _NOTHING_HASHED.copy()
    hashed.update(message)
    return hashed.digest()


def blake2b_20(message: bytes) -> bytes:
    """Hash a public key to the 20 bytes of its public key hash."""
    return blake2b(message, digest_size=20).digest()


def operation_list_hash(hashes: Sequence[bytes]) -> bytes:
    """Hash the operations of one validation pass: the Merkle root of their hashes.

    A leaf is the hash of an operation's hash, the leaf row is filled to a power of two by
    repeating its last leaf, and the root of an empty list is the hash of no bytes.
    """
    if not hashes:
        return blake2b_32(b"")
    row = [blake2b_32(element) for element in hashes]
    size = 1 << (len(row) - 1).bit_length()
    row.extend([row[-1]] * (size - len(row)))
    while len(row) > 1:
        row = [blake2b_32(row[i] + row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]


def operations_hash(passes: Sequence[Sequence[bytes]]) -> bytes:
    """Hash all operations of a block: the Merkle root over the roots of its passes.

    `passes` holds one list of operation hashes for each validation pass, the empty ones
    included: four of them in every Tenderbake block.
    """
    return operation_list_hash([operation_list_hash(hashes) for hashes in passes])


def payload_hash(predecessor: bytes, payload_round: int, hashes: Sequence[bytes]) -> bytes:
    """Hash what a block's validators vote for: its place and its operations but the votes.

    `hashes` are the operation hashes of passes 1, 2 and 3 in order; `payload_round` is the
    round at which this payload was first proposed, not that of the block.
    """
    return blake2b_32(predecessor + payload_round.to_bytes(4) + operation_list_hash(hashes))
