"""Bytes to sign that decode to the end, and the test keys that sign them."""

from hashlib import blake2b
from struct import pack
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from interchange_cases import CHAIN

from signers.formats.networks import TEZOS
from signers.keyring.curve import Curve
from signers.keyring.keys import SecretKey

_SECRETS = {
    key.public_key.hash(TEZOS): key
    for key in (
        SecretKey(bytes([1]) * 32, Curve.ED25519),
        SecretKey(bytes([1]) * 32, Curve.SECP256K1),
        SecretKey(bytes([1]) * 32, Curve.P256),
        SecretKey(bytes([1]) * 32, Curve.BLS, TEZOS.bls_scheme),
        SecretKey(bytes([2]) * 32, Curve.P256),
    )
}
KEYS = list(_SECRETS)
# The last one is with a signer elsewhere, which takes a new nonce each time.
TZ1, TZ2, TZ3, TZ4, ELSEWHERE = KEYS
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


def sign(key: str, data: bytes) -> bytes:
    """Sign as whoever has the key does."""
    digest = blake2b(data, digest_size=32).digest()
    return _with_random_nonce(digest) if key == ELSEWHERE else _SECRETS[key].sign(data, digest)


def is_signed(key: str, data: bytes, signature: bytes) -> bool:
    """Whether a signature is the key's, of these bytes."""
    return _SECRETS[key].public_key.verify(data, signature, TEZOS.bls_scheme)


def _with_random_nonce(digest: bytes) -> bytes:
    number = int.from_bytes(bytes([2]) * 32)
    signature = ec.derive_private_key(number, ec.SECP256R1()).sign(
        digest, ec.ECDSA(Prehashed(SHA256()))
    )
    return b"".join(part.to_bytes(32) for part in decode_dss_signature(signature))
