"""Block headers from before Tenderbake, kept readable for old blocks.

Layout: the shell header (see `block_header`), then priority u16 · proof-of-work nonce 8 ·
optional seed nonce hash 32 · since Granada a boolean to escape liquidity baking · signature 64.
The fitness is version 00 or 01 and 8 bytes. Nothing here is ever signed by this package.

Source: protocol ``block_header_repr.ml`` and ``fitness_repr.ml`` of 000 to 011.
"""

from dataclasses import dataclass, replace
from typing import Any

from signers.errors import MalformedBytes
from signers.formats import base58, codec
from signers.formats.block_header import (
    POW_NONCE_BYTES,
    UNSIGNED,
    Fitness,
    read_shell,
    shell_to_json,
    write_shell,
)
from signers.formats.codec import Reader
from signers.formats.hashes import HASH_BYTES, blake2b_32

_SIGNATURE_BYTES = 64
_FITNESS_VERSIONS = (b"\x00", b"\x01")
_FITNESS_BYTES = 8


@dataclass(frozen=True, slots=True)
class EmmyHeader:
    """A header of protocols 000 to 011; `escape_vote` is None before Granada.

    `signature` is None as long as nobody has signed it. The shell fields are those of
    `BlockHeader`.
    """

    level: int
    proto: int
    predecessor: bytes
    timestamp: int
    validation_passes: int
    operations_hash: bytes
    fitness: Fitness
    context: bytes
    priority: int
    proof_of_work_nonce: bytes
    seed_nonce_hash: bytes | None
    escape_vote: bool | None
    signature: bytes | None


def decode(data: bytes) -> EmmyHeader:
    """Read a signed or an unsigned header; the bytes must end exactly with it.

    Raises MalformedBytes.
    """
    reader = Reader(data)
    shell = read_shell(reader)
    elements = shell.fitness.elements
    if len(elements) != 2 or elements[0] not in _FITNESS_VERSIONS:
        raise MalformedBytes("the fitness is not one from before Tenderbake")
    if len(elements[1]) != _FITNESS_BYTES:
        raise MalformedBytes(f"a fitness before Tenderbake ends in {_FITNESS_BYTES} bytes")
    header = EmmyHeader(
        *shell,
        priority=reader.u16(),
        proof_of_work_nonce=reader.take(POW_NONCE_BYTES),
        seed_nonce_hash=reader.optional(lambda: reader.take(HASH_BYTES)),
        escape_vote=None,
        signature=None,
    )
    if reader.remaining in (1, 1 + _SIGNATURE_BYTES):
        header = replace(header, escape_vote=reader.boolean())
    if reader.remaining not in (0, _SIGNATURE_BYTES):
        raise MalformedBytes(f"no signature has {reader.remaining} bytes")
    return replace(header, signature=reader.rest() or None)


def encode(header: EmmyHeader) -> bytes:
    """Write a header, with its signature when it has one."""
    return write_shell(header) + _protocol_data(header)


def unsigned(header: EmmyHeader) -> bytes:
    """Write the bytes that a baker signed, the watermark aside."""
    return encode(replace(header, signature=None))


def pow_stamp(header: EmmyHeader) -> bytes:
    """Hash a header for its proof of work: signed with 64 zero bytes."""
    return blake2b_32(encode(replace(header, signature=UNSIGNED)))


def to_json(header: EmmyHeader) -> dict[str, Any]:
    """Show a header with the names and texts of the node's JSON."""
    shown = {
        **shell_to_json(header),
        "protocol_data": _protocol_data(header).hex(),
        "priority": header.priority,
        "proof_of_work_nonce": header.proof_of_work_nonce.hex(),
    }
    if header.seed_nonce_hash is not None:
        shown["seed_nonce_hash"] = base58.encode(base58.NONCE_HASH, header.seed_nonce_hash)
    if header.escape_vote is not None:
        shown["liquidity_baking_escape_vote"] = header.escape_vote
    if header.signature is not None:
        shown["signature"] = base58.signature_text(header.signature)
    return shown


def _protocol_data(header: EmmyHeader) -> bytes:
    return b"".join(
        (
            header.priority.to_bytes(2),
            header.proof_of_work_nonce,
            codec.optional(header.seed_nonce_hash),
            b"" if header.escape_vote is None else codec.boolean(header.escape_vote),
            header.signature or b"",
        )
    )
