"""The rule of ``octez-signer --check-high-watermark``, once more and on bytes alone.

Nothing here is of this project: level and round are read at fixed places, as octez-signer does,
and a mark is a plain tuple. Source: Octez ``src/bin_signer/handler.ml``.
"""

from collections.abc import Callable
from hashlib import blake2b
from struct import error as StructError
from struct import unpack_from
from typing import NamedTuple

BLOCK, PREATTESTATION, ATTESTATION = 0x11, 0x12, 0x13
SHORTEST_BYTES = 9  # shorter data under one of these watermarks is refused


class Mark(NamedTuple):
    level: int
    round: int
    hash: bytes
    signature: bytes | None


class Answer(NamedTuple):
    """`outcome`: "signed", "repeated" (the stored signature) or "refused"."""

    outcome: str
    signature: bytes | None


REFUSED = Answer("refused", None)


class OctezSigner:
    def __init__(self, sign: Callable[[str, bytes], bytes]) -> None:
        self.sign = sign  # key and data to signature
        self.marks: dict[tuple[int, bytes, str], Mark] = {}  # by watermark, chain and key

    def ask(self, key: str, data: bytes) -> Answer:
        hashed = blake2b(data, digest_size=32).digest()
        if data[:1] not in (b"\x11", b"\x12", b"\x13"):
            return Answer("signed", self.sign(key, data))  # unchecked
        if len(data) < SHORTEST_BYTES:
            return REFUSED
        try:
            level, round_ = position(key, data)
        except StructError:
            return REFUSED
        name = data[0], data[1:5], key
        mark = self.marks.get(name)
        if mark is not None and (level, round_) <= (mark.level, mark.round):
            is_same = (level, round_, hashed) == mark[:3]
            if is_same and mark.signature is not None:
                return Answer("repeated", mark.signature)
            return REFUSED
        signature = self.sign(key, data)
        self.marks[name] = Mark(level, round_, hashed, signature)
        return Answer("signed", signature)


def position(key: str, data: bytes) -> tuple[int, int]:
    """Level and round, at the places where they stand; a tz4 key's votes have no slot."""
    if data[0] == BLOCK:
        (fitness_bytes,) = unpack_from(">I", data, 83)
        return unpack_from(">i", data, 5)[0], unpack_from(">i", data, 83 + fitness_bytes)[0]
    return unpack_from(">ii", data, 38 if key.startswith("tz4") else 40)
