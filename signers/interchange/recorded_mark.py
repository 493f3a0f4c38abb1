"""One high watermark as a file has it, and what can be wrong with such a file.

The files of the baker, of octez-signer and of Signatory differ in layout alone. Each reader
gives marks of this form, each writer takes them.
"""

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from signers.errors import BadRequest
from signers.formats import base58
from signers.formats.base58 import Prefix
from signers.formats.networks import Network
from signers.formats.signable import Kind, Signable
from signers.marks.watermark import ROUND_MAX

LEVEL_MAX: Final = 2**31 - 1  # levels, as rounds, are signed 32-bit numbers on chain
# What all signers but this one tell apart: the DAL attestation of Mavryk Atlas they do not mark.
COMMON_KINDS: Final = (Kind.BLOCK, Kind.PREATTESTATION, Kind.ATTESTATION)
_NO_DIGEST = b""
# Written where a format demands a digest and the mark has none; no bytes have this BLAKE2b.
ZERO_DIGEST: Final = bytes(32)

# In the order of the binary tags of key hashes, as in `Network.key_hash_prefixes`.
_SIGNATURE_OF_CURVE = (
    base58.ED25519_SIGNATURE,
    base58.SECP256K1_SIGNATURE,
    base58.P256_SIGNATURE,
    base58.BLS_SIGNATURE,
    base58.MLDSA_SIGNATURE,
)


class MalformedMarks(BadRequest):
    """A file of marks cannot be read, and nothing of it was used: repair it at the place named."""

    code = "malformed_marks"


class WrongChain(BadRequest):
    """A file has the marks of another chain than the store: take the file of the store's chain."""

    code = "wrong_chain"


class RecordedMark(NamedTuple):
    """The mark of one key and kind.

    `mark` is a floor when the file closes a whole level, and has no digest when the file tells
    none. `signature` is that of what was signed, where the file keeps it. `delegate` is for whom
    the key signs, None when the file does not say. `place` is where in the file it stands.
    """

    holder: str
    mark: Signable
    signature: bytes | None = None
    delegate: str | None = None
    place: str = ""


def mark_at(
    kind: Kind, chain_id: bytes, level: int, round: int | None, digest: bytes = _NO_DIGEST
) -> Signable:
    """Return a mark at a level and round; without a round it closes the whole level."""
    if round is None:
        return Signable(kind, chain_id, level, ROUND_MAX, _NO_DIGEST)
    return Signable(kind, chain_id, level, round, _NO_DIGEST if digest == ZERO_DIGEST else digest)


def signature_prefixes(holder: str, network: Network) -> tuple[Prefix, ...]:
    """Return how a signature of a key may be written: first as its curve does.

    Raises MalformedBytes for what is no key hash of the network.
    """
    prefix, _ = base58.read(network.key_hash_prefixes, holder)
    of_curve = _SIGNATURE_OF_CURVE[network.key_hash_prefixes.index(prefix)]
    is_typed = of_curve.payload_bytes != base58.GENERIC_SIGNATURE.payload_bytes
    return (of_curve,) if is_typed else (of_curve, base58.GENERIC_SIGNATURE)


def signature_text(signature: bytes, holder: str, network: Network) -> str:
    """Write a signature as the curve of its key does. Raises MalformedBytes."""
    return base58.encode(signature_prefixes(holder, network)[0], signature)


def highest(recorded: Iterable[RecordedMark]) -> list[RecordedMark]:
    """Keep of each key and kind the highest mark, as when two files tell of one key.

    Raises MalformedMarks when two tell of different bytes at one level and round.
    """
    kept: dict[tuple[str, Kind], RecordedMark] = {}
    for each in recorded:
        name = each.holder, each.mark.kind
        other = kept.setdefault(name, each)
        if is_higher(each.mark, other.mark):
            kept[name] = each
        elif is_conflict(each.mark, other.mark):
            raise MalformedMarks(
                f"{each.place} and {other.place} tell of different bytes that {each.holder} signed "
                f"at level {each.mark.level} round {each.mark.round}: find out which is true"
            )
    return list(kept.values())


def is_higher(one: Signable, other: Signable) -> bool:
    """Say whether one mark is strictly above another of the same kind."""
    return (one.level, one.round) > (other.level, other.round)


def is_conflict(one: Signable, other: Signable) -> bool:
    """Say whether two marks tell of different bytes at the same level and round."""
    at_one_place = (one.level, one.round) == (other.level, other.round)
    return at_one_place and bool(one.digest and other.digest) and one.digest != other.digest


def check_unique(recorded: Sequence[RecordedMark]) -> None:
    """Raise MalformedMarks when one file has two marks of one key and kind."""
    places: dict[tuple[str, Kind, bytes], str] = {}
    for each in recorded:
        name = each.holder, each.mark.kind, each.mark.chain_id
        if (first := places.setdefault(name, each.place)) != each.place:
            raise MalformedMarks(f"{each.place}: {each.holder} stands at {first} already")
