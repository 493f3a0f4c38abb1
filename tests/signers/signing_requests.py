"""Bytes to sign that decode to the end, and what signs them in the tests of the rule."""

from functools import cache
from hashlib import blake2b
from struct import pack
from typing import NamedTuple

from interchange_cases import CHAIN, TZ1, TZ2, TZ4
from nacl.signing import SigningKey

KEYS = [TZ1, TZ2, TZ4]
KINDS = [0x11, 0x12, 0x13]
_TAGS = {0x12: 0x14, 0x13: 0x15}
_BLS_TAGS = {0x12: 0x28, 0x13: 0x29}


class Asked(NamedTuple):
    """A request of a key: what the bytes say, and one of a few contents."""

    key: str
    kind: int
    level: int
    round: int
    content: int

    def data(self, chain: bytes = CHAIN) -> bytes:
        body = _block(self) if self.kind == 0x11 else _vote(self)
        return bytes([self.kind]) + chain + body


def _block(asked: Asked) -> bytes:
    fitness = b"".join(
        pack(">I", len(part)) + part
        for part in (b"\x02", pack(">i", asked.level), b"", b"\xff" * 4, pack(">i", asked.round))
    )
    shell = pack(">iB32sqB32s", asked.level, 2, bytes(32), asked.content, 4, bytes(32))
    contents = pack(">32si8sBB", bytes(32), 0, bytes(8), 0, 0)
    return shell + pack(">I", len(fitness)) + fitness + bytes(32) + contents


def _vote(asked: Asked) -> bytes:
    payload_hash = bytes([asked.content] * 32)
    if asked.key.startswith("tz4"):
        tag = _BLS_TAGS[asked.kind]
        return bytes(32) + pack(">Bii", tag, asked.level, asked.round) + payload_hash
    if asked.kind == 0x13 and asked.content == 2:  # with DAL, where slots are attested
        return bytes(32) + pack(">BHii", 0x17, 1, asked.level, asked.round) + payload_hash + b"\x03"
    return bytes(32) + pack(">BHii", _TAGS[asked.kind], 1, asked.level, asked.round) + payload_hash


@cache
def _signing_key(key: str) -> SigningKey:
    return SigningKey(blake2b(key.encode(), digest_size=32).digest())


def signature_of(key: str, digest: bytes) -> bytes:
    """Sign as a deterministic signer does; the rule does not depend on the curve."""
    return _signing_key(key).sign(digest).signature
