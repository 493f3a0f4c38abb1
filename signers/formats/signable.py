"""What a signer is asked to sign: its kind, chain, level and round, read from the bytes.

A request to sign begins with a watermark: ``11`` a block, ``12`` a preattestation, ``13`` an
attestation with or without DAL, ``14`` the DAL attestation of Mavryk Atlas, each followed by
the chain id; ``03`` any other operation; ``04`` a request to another signer, which a client
signs to say who asks. What follows a consensus watermark must decode
exactly as what the watermark says, or nothing is read at all: a signer that guessed the level
of bytes it does not understand could be made to sign two blocks.

Source: protocol ``operation_repr.ml`` and ``block_header_repr.ml`` (``to_watermark``),
``Bls_mode`` for the votes of tz4 keys, which carry no slot; Octez
``src/lib_signer_services/signer_messages.ml`` (``to_sign``) for authentications.
"""

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from signers.errors import MalformedBytes
from signers.formats import block_header, operation
from signers.formats.codec import Reader
from signers.formats.content_kind import CONSENSUS_PASS
from signers.formats.hashes import HASH_BYTES, blake2b_32
from signers.formats.networks import (
    ATTESTATION_TAG,
    ATTESTATION_WATERMARK,
    ATTESTATION_WITH_DAL_TAG,
    AUTHENTICATION_WATERMARK,
    BLOCK_WATERMARK,
    BLS_ATTESTATION_TAG,
    BLS_PREATTESTATION_TAG,
    DAL_ATTESTATION_TAG,
    DAL_ATTESTATION_WATERMARK,
    GENERIC_WATERMARK,
    PREATTESTATION_TAG,
    PREATTESTATION_WATERMARK,
    TEZOS,
)


class Kind(IntEnum):
    """What a signature commits to; each of the first four has its own high watermark."""

    BLOCK = 0
    PREATTESTATION = 1
    ATTESTATION = 2
    DAL_ATTESTATION = 3
    GENERIC = 4
    AUTHENTICATION = 5
    # What a key does that is no signature on a message: never read from bytes.
    PROOF_OF_POSSESSION = 6  # of a BLS key
    DETERMINISTIC_NONCE = 7


class Signable(NamedTuple):
    """A request to sign that was understood to its last byte.

    `chain_id` is 4 bytes, empty for GENERIC and AUTHENTICATION. `level` and `round` are 0 where
    the kind has none. `digest` is the BLAKE2b-32 of all the bytes, watermark included.
    """

    kind: Kind
    chain_id: bytes
    level: int
    round: int
    digest: bytes


CHAIN_ID_BYTES = 4
WATERMARK_BYTES = 1 + CHAIN_ID_BYTES
# The longest operation that a protocol admits is 32 KiB (``max_operation_data_length``).
SIGNABLE_BYTES_MAX = 64 * 1024


# watermark · chain id · branch · tag · slot · level · round · payload hash
_VOTE = Struct(">B4s32xB2xii32x")
_VOTE_BYTES = _VOTE.size
_read_vote = _VOTE.unpack
# watermark · chain id · branch · tag · level · round · payload hash
_BLS_VOTE = Struct(">B4s32xBii32x")

# watermark · 1 for "sign" · curve and hash of the key that the other signer has · what it signs
_AUTHENTICATION = Struct(">BBB20s")
AUTHENTICATION_BYTES = _AUTHENTICATION.size  # in front of what the other signer is asked to sign
_ASKED_TO_SIGN = 1
_CURVE_TAG_MAX = 4

# What Signable(…) does, without its wrapper in Python.
_new = tuple.__new__

_KIND_OF_VOTE = {
    (PREATTESTATION_WATERMARK, PREATTESTATION_TAG): Kind.PREATTESTATION,
    (ATTESTATION_WATERMARK, ATTESTATION_TAG): Kind.ATTESTATION,
}
_KIND_OF_BLS_VOTE = {
    (PREATTESTATION_WATERMARK, BLS_PREATTESTATION_TAG): Kind.PREATTESTATION,
    (ATTESTATION_WATERMARK, BLS_ATTESTATION_TAG): Kind.ATTESTATION,
}


def read_signable(data: bytes) -> Signable:
    """Read a request to sign: what it is, and at which chain, level and round.

    Raises MalformedBytes unless every byte is accounted for.
    """
    if len(data) == _VOTE_BYTES:
        # The vote of every key but tz4, without DAL: up to 80,000 of them a second pass here.
        watermark, chain_id, tag, level, round_ = _read_vote(data)
        kind = _KIND_OF_VOTE.get((watermark, tag))
        if kind is not None and level >= 0 and round_ >= 0:
            return _new(Signable, (kind, chain_id, level, round_, blake2b_32(data)))
    return _read_any(data)


def _read_any(data: bytes) -> Signable:
    if not data:
        raise MalformedBytes("there is nothing to sign")
    if len(data) > SIGNABLE_BYTES_MAX:
        raise MalformedBytes(f"more than {SIGNABLE_BYTES_MAX} bytes to sign")
    watermark = data[0]
    if watermark == BLOCK_WATERMARK:
        return _read_block(data)
    if watermark in (PREATTESTATION_WATERMARK, ATTESTATION_WATERMARK):
        return _read_rare_vote(data)
    if watermark == DAL_ATTESTATION_WATERMARK:
        return _read_dal_attestation(data)
    if watermark == GENERIC_WATERMARK:
        return _read_generic(data)
    if watermark == AUTHENTICATION_WATERMARK:
        return _read_authentication(data)
    raise MalformedBytes(f"nothing is signed under the watermark {watermark:02x}")


def _read_block(data: bytes) -> Signable:
    header = block_header.decode(data[WATERMARK_BYTES:])
    if header.signature is not None:
        raise MalformedBytes("a block header to sign has a signature already")
    if header.fitness.level != header.level:
        raise MalformedBytes(
            f"the fitness is of level {header.fitness.level}, the header of {header.level}"
        )
    chain_id = data[1:WATERMARK_BYTES]
    return Signable(Kind.BLOCK, chain_id, header.level, header.round, blake2b_32(data))


def _read_rare_vote(data: bytes) -> Signable:
    """Read a vote with DAL or of a tz4 key, or say what is wrong with a vote."""
    if len(data) == _BLS_VOTE.size:
        watermark, chain_id, tag, level, round_ = _BLS_VOTE.unpack(data)
        kind = _KIND_OF_BLS_VOTE.get((watermark, tag))
    elif len(data) > _VOTE_BYTES:
        watermark, chain_id, tag, level, round_ = _VOTE.unpack_from(data)
        is_attestation = (watermark, tag) == (ATTESTATION_WATERMARK, ATTESTATION_WITH_DAL_TAG)
        kind = Kind.ATTESTATION if is_attestation else None
        _read_bitset(Reader(data, _VOTE_BYTES)).finish()
    elif len(data) == _VOTE_BYTES:
        watermark, chain_id, tag, level, round_ = _VOTE.unpack(data)
        kind = _KIND_OF_VOTE.get((watermark, tag))
    else:
        raise MalformedBytes(f"no vote has {len(data)} bytes")
    if kind is None:
        raise MalformedBytes(f"watermark {watermark:02x} is not for the operation {tag:02x}")
    _check_natural(level, "level")
    _check_natural(round_, "round")
    return Signable(kind, chain_id, level, round_, blake2b_32(data))


def _read_dal_attestation(data: bytes) -> Signable:
    reader = Reader(data, 1)
    chain_id = reader.take(CHAIN_ID_BYTES)
    reader.take(HASH_BYTES)
    if (tag := reader.u8()) != DAL_ATTESTATION_TAG:
        raise MalformedBytes(f"watermark 14 is not for the operation {tag:02x}")
    _read_bitset(reader)
    level = reader.natural_i32("level")
    reader.u16()
    reader.finish()
    return Signable(Kind.DAL_ATTESTATION, chain_id, level, 0, blake2b_32(data))


def _read_generic(data: bytes) -> Signable:
    # Tezos has every layout that Mavryk has, so what to sign is read without its network.
    decoded = operation.decode_operation(data[1:], TEZOS, signed=False)
    if decoded.validation_pass == CONSENSUS_PASS:
        raise MalformedBytes("a vote is not signed under the generic watermark")
    return Signable(Kind.GENERIC, b"", 0, 0, blake2b_32(data))


def _read_authentication(data: bytes) -> Signable:
    if len(data) <= AUTHENTICATION_BYTES:
        raise MalformedBytes(f"no authentication of a request has {len(data)} bytes")
    _, asked, curve, _ = _AUTHENTICATION.unpack_from(data)
    if asked != _ASKED_TO_SIGN or curve > _CURVE_TAG_MAX:
        raise MalformedBytes(f"no signer is asked {asked:02x} with a key of curve {curve:02x}")
    wanted = data[AUTHENTICATION_BYTES:]
    if wanted[0] == AUTHENTICATION_WATERMARK:
        raise MalformedBytes("an authentication of an authentication")
    read_signable(wanted)
    return Signable(Kind.AUTHENTICATION, b"", 0, 0, blake2b_32(data))


def _read_bitset(reader: Reader) -> Reader:
    if reader.integer() < 0:
        raise MalformedBytes("a set of DAL slots is negative")
    return reader


def _check_natural(number: int, what: str) -> None:
    if number < 0:
        raise MalformedBytes(f"the {what} is negative: {number}")
