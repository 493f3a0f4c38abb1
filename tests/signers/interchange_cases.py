"""Marks that the tests of the interchange formats have in common: three keys, mainnet."""

from hashlib import blake2b

from signers.formats import base58
from signers.formats.networks import TEZOS
from signers.formats.signable import Kind, Signable
from signers.interchange.located_json import LocatedValue, read_json
from signers.interchange.recorded_mark import RecordedMark

CHAIN = bytes.fromhex("7a06a770")
CHAIN_TEXT = "NetXdQprcVkpaWU"
OTHER_CHAIN = bytes.fromhex("ed9d217c")
OTHER_CHAIN_TEXT = "NetXxkAx4woPLyu"
TZ1, TZ2, TZ3, TZ4 = (
    base58.encode(TEZOS.key_hash_prefixes[curve], bytes([curve + 1] * 20)) for curve in range(4)
)
DIGEST = blake2b(b"signed", digest_size=32).digest()
OTHER_DIGEST = blake2b(b"signed too", digest_size=32).digest()
SIGNATURE = bytes(range(64))


def at(
    level: int,
    round: int = 0,
    digest: bytes = DIGEST,
    kind: Kind = Kind.ATTESTATION,
    chain: bytes = CHAIN,
) -> Signable:
    return Signable(kind, chain, level, round, digest)


def bare(recorded: list[RecordedMark]) -> list[RecordedMark]:
    """Marks without the places where they stood."""
    return [each._replace(place="") for each in recorded]


def document(text: str) -> LocatedValue:
    return read_json(text.encode())
