"""Block headers: the part of a block that its baker signs.

Layout: level i32 · proto u8 · predecessor 32 · timestamp i64 · validation passes u8 ·
operations hash 32 · fitness · context 32 (the *shell* header, known to every protocol), then
payload hash 32 · payload round i32 · proof-of-work nonce 8 · optional seed nonce hash 32 ·
per-block votes u8, then the signature up to the end.

Source: Octez ``src/lib_base/block_header.ml``, ``fitness.ml``; protocol
``block_header_repr.ml``, ``fitness_repr.ml``, ``per_block_votes_repr.ml``; ``baking_pow.ml``.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, Self

from signers.errors import MalformedBytes
from signers.formats import base58, codec
from signers.formats.codec import Reader
from signers.formats.hashes import HASH_BYTES, blake2b_32

POW_NONCE_BYTES = 8

# A Tenderbake fitness is at most 37 bytes; Octez lets a protocol use 256.
_FITNESS_BYTES_MAX = 256
_TENDERBAKE_VERSION = b"\x02"
# The signature of a header whose proof of work is being looked for.
UNSIGNED = bytes(64)

# Bits 0-1 vote on liquidity baking, bits 2-3 on adaptive issuance (Oxford to Quebec, Mavryk).
_TOGGLE_VOTES = ("on", "off", "pass")
# Ithaca had one boolean instead, "escape liquidity baking"; its false is the byte 00.
_ESCAPE_VOTE = 0xFF


@dataclass(frozen=True, slots=True)
class Fitness:
    """How a block ranks among others: a list of byte strings, compared from the left.

    Tenderbake gives five: version 02, level, locked round (empty when there is none),
    minus the predecessor's round minus one, and round. Older protocols gave other lists,
    which read and compare alike but have no round.
    """

    elements: tuple[bytes, ...]

    @classmethod
    def tenderbake(
        cls, *, level: int, round: int, predecessor_round: int, locked_round: int | None = None
    ) -> Self:
        """Rank a block of this level and round; `locked_round` is that of a re-proposal."""
        return cls(
            (
                _TENDERBAKE_VERSION,
                level.to_bytes(4),
                b"" if locked_round is None else locked_round.to_bytes(4),
                (-predecessor_round - 1).to_bytes(4, signed=True),
                round.to_bytes(4),
            )
        )

    @property
    def is_tenderbake(self) -> bool:
        """Whether level and rounds can be read, and are in range."""
        if len(self.elements) != 5:
            return False
        version, level, locked, predecessor, round_ = self.elements
        return (
            version == _TENDERBAKE_VERSION
            and _is_natural_i32(level)
            and (locked == b"" or _is_natural_i32(locked))
            and len(predecessor) == 4
            and predecessor[0] >= 0x80
            and _is_natural_i32(round_)
            and (locked == b"" or locked < round_)
        )

    @property
    def level(self) -> int:
        """The level of the block. Raises MalformedBytes before Tenderbake."""
        return int.from_bytes(self._tenderbake_element(1))

    @property
    def locked_round(self) -> int | None:
        """The round at which the payload was locked, or None."""
        element = self._tenderbake_element(2)
        return int.from_bytes(element) if element else None

    @property
    def predecessor_round(self) -> int:
        """The round of the predecessor."""
        return -int.from_bytes(self._tenderbake_element(3), signed=True) - 1

    @property
    def round(self) -> int:
        """The round of the block. Raises MalformedBytes before Tenderbake."""
        return int.from_bytes(self._tenderbake_element(4))

    def __lt__(self, other: "Fitness") -> bool:
        return self._rank < other._rank

    @property
    def _rank(self) -> tuple[int, list[tuple[int, bytes]]]:
        return len(self.elements), [(len(element), element) for element in self.elements]

    def _tenderbake_element(self, index: int) -> bytes:
        if not self.is_tenderbake:
            raise MalformedBytes("the fitness is not one of Tenderbake")
        return self.elements[index]


class ShellHeader(NamedTuple):
    """The fields that headers of every protocol begin with."""

    level: int
    proto: int
    predecessor: bytes
    timestamp: int
    validation_passes: int
    operations_hash: bytes
    fitness: Fitness
    context: bytes


class HasShell(Protocol):
    """A header of any protocol, seen as its shell."""

    @property
    def level(self) -> int: ...
    @property
    def proto(self) -> int: ...
    @property
    def predecessor(self) -> bytes: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def validation_passes(self) -> int: ...
    @property
    def operations_hash(self) -> bytes: ...
    @property
    def fitness(self) -> Fitness: ...
    @property
    def context(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """A block header; `signature` is None as long as nobody has signed it.

    `timestamp` is in seconds since 1970, hashes are raw bytes, `per_block_votes` is the byte
    as it stands (see `votes_of`).
    """

    level: int
    proto: int
    predecessor: bytes
    timestamp: int
    validation_passes: int
    operations_hash: bytes
    fitness: Fitness
    context: bytes
    payload_hash: bytes
    payload_round: int
    proof_of_work_nonce: bytes
    seed_nonce_hash: bytes | None
    per_block_votes: int
    signature: bytes | None

    @property
    def round(self) -> int:
        """The round at which this block was baked. Raises MalformedBytes before Tenderbake."""
        return self.fitness.round


def encode(header: BlockHeader) -> bytes:
    """Write a header, with its signature when it has one."""
    return b"".join(
        (
            write_shell(header),
            header.payload_hash,
            header.payload_round.to_bytes(4),
            header.proof_of_work_nonce,
            codec.optional(header.seed_nonce_hash),
            header.per_block_votes.to_bytes(1),
            header.signature or b"",
        )
    )


def decode(data: bytes) -> BlockHeader:
    """Read a signed or an unsigned header; the bytes must end exactly with it.

    Raises MalformedBytes.
    """
    reader = Reader(data)
    header = BlockHeader(
        *read_shell(reader),
        payload_hash=reader.take(HASH_BYTES),
        payload_round=reader.natural_i32("payload round"),
        proof_of_work_nonce=reader.take(POW_NONCE_BYTES),
        seed_nonce_hash=reader.optional(lambda: reader.take(HASH_BYTES)),
        per_block_votes=_read_votes(reader),
        signature=None,
    )
    if reader.remaining == 0:
        return header
    if reader.remaining not in base58.SIGNATURE_OF_LENGTH:
        raise MalformedBytes(f"no signature has {reader.remaining} bytes")
    return replace(header, signature=reader.rest())


def read_shell(reader: Reader) -> ShellHeader:
    """Read the part of a header that every protocol shares."""
    return ShellHeader(
        level=reader.natural_i32("level"),
        proto=reader.u8(),
        predecessor=reader.take(HASH_BYTES),
        timestamp=reader.i64(),
        validation_passes=reader.u8(),
        operations_hash=reader.take(HASH_BYTES),
        fitness=_read_fitness(reader),
        context=reader.take(HASH_BYTES),
    )


def write_shell(header: HasShell) -> bytes:
    """Write the part of a header that every protocol shares."""
    fitness = b"".join(codec.sized(element) for element in header.fitness.elements)
    return b"".join(
        (
            header.level.to_bytes(4, signed=True),
            header.proto.to_bytes(1),
            header.predecessor,
            header.timestamp.to_bytes(8, signed=True),
            header.validation_passes.to_bytes(1),
            header.operations_hash,
            codec.sized(fitness),
            header.context,
        )
    )


def unsigned(header: BlockHeader) -> bytes:
    """Write the bytes that a baker signs, the watermark aside."""
    return encode(replace(header, signature=None))


def block_hash(header: BlockHeader) -> bytes:
    """Hash a signed header: the block's name. Raises MalformedBytes when it is unsigned."""
    if header.signature is None:
        raise MalformedBytes("an unsigned header has no block hash")
    return blake2b_32(encode(header))


def pow_stamp(header: BlockHeader) -> bytes:
    """Hash a header for its proof of work: signed with 64 zero bytes, whatever its curve."""
    return blake2b_32(unsigned(header) + UNSIGNED)


def pow_is_enough(stamp: bytes, threshold: int) -> bool:
    """Whether the stamp's first 8 bytes, unsigned, are at most the protocol's threshold.

    The constant is a signed 64-bit number that is read as unsigned: -1 lets everything pass.
    """
    return int.from_bytes(stamp[:8]) <= threshold % (1 << 64)


def votes_of(per_block_votes: int) -> tuple[str, str]:
    """Return the votes on liquidity baking and on adaptive issuance: on, off or pass.

    A protocol without the second vote leaves its bits 0, which reads as "on" here.
    """
    if per_block_votes == _ESCAPE_VOTE:
        return "off", "on"
    return _TOGGLE_VOTES[per_block_votes & 3], _TOGGLE_VOTES[per_block_votes >> 2]


def to_json(header: BlockHeader) -> dict[str, Any]:
    """Show a header with the names and texts of the node's JSON.

    `adaptive_issuance_vote` is shown for every header: the bytes do not tell whether their
    protocol asks for it.
    """
    liquidity_baking, adaptive_issuance = votes_of(header.per_block_votes)
    shown = {
        **shell_to_json(header),
        "payload_hash": base58.encode(base58.PAYLOAD_HASH, header.payload_hash),
        "payload_round": header.payload_round,
        "proof_of_work_nonce": header.proof_of_work_nonce.hex(),
        "liquidity_baking_toggle_vote": liquidity_baking,
        "adaptive_issuance_vote": adaptive_issuance,
    }
    if header.seed_nonce_hash is not None:
        shown["seed_nonce_hash"] = base58.encode(base58.NONCE_HASH, header.seed_nonce_hash)
    if header.signature is not None:
        shown["signature"] = base58.signature_text(header.signature)
    return shown


def shell_to_json(header: HasShell) -> dict[str, Any]:
    """Show the part of a header that every protocol shares."""
    return {
        "level": header.level,
        "proto": header.proto,
        "predecessor": base58.encode(base58.BLOCK_HASH, header.predecessor),
        "timestamp": _timestamp(header.timestamp),
        "validation_pass": header.validation_passes,
        "operations_hash": base58.encode(base58.OPERATIONS_HASH, header.operations_hash),
        "fitness": [element.hex() for element in header.fitness.elements],
        "context": base58.encode(base58.CONTEXT_HASH, header.context),
    }


def _timestamp(seconds: int) -> str:
    """Write a time as RFC 3339 in UTC, or as a number where that has no year of four digits."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return str(seconds)
    return moment.isoformat().replace("+00:00", "Z")


def _read_fitness(reader: Reader) -> Fitness:
    inner = reader.sized(bytes_max=_FITNESS_BYTES_MAX)
    elements = []
    while inner.remaining:
        elements.append(inner.sized().rest())
    return Fitness(tuple(elements))


def _read_votes(reader: Reader) -> int:
    votes = reader.u8()
    liquidity_baking, adaptive_issuance = votes & 3, votes >> 2
    if votes != _ESCAPE_VOTE and (liquidity_baking > 2 or adaptive_issuance > 2):
        raise MalformedBytes(f"no per-block votes are written as {votes:02x}")
    return votes


def _is_natural_i32(element: bytes) -> bool:
    return len(element) == 4 and element[0] < 0x80
