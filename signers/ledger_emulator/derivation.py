"""From a mnemonic to the secret key at a path, as a device derives it.

Source: BIP 39 (mnemonic to seed), SLIP 10 (Ed25519, secp256k1, P-256).
"""

import hmac
from collections.abc import Sequence
from hashlib import pbkdf2_hmac
from typing import Final
from unicodedata import normalize

from signers.errors import BadRequest
from signers.keyring.curve import Curve
from signers.keyring.keys import SecretKey
from signers.ledger.apdu import HARDENED

_SEED_ROUNDS: Final = 2048
_ROOT_KEYS: Final = {
    Curve.ED25519: b"ed25519 seed",
    Curve.SECP256K1: b"Bitcoin seed",
    Curve.P256: b"Nist256p1 seed",
}
_ORDERS: Final = {
    Curve.SECP256K1: 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141,
    Curve.P256: 0xFFFFFFFF_00000000_FFFFFFFF_FFFFFFFF_BCE6FAAD_A7179E84_F3B9CAC2_FC632551,
}


class NotDerivable(BadRequest):
    """There is no key at this path on this curve."""

    code = "not_derivable"


def seed_of(mnemonic: str) -> bytes:
    """The 64 bytes that a mnemonic without a passphrase stands for."""
    words = normalize("NFKD", " ".join(mnemonic.split())).encode()
    return pbkdf2_hmac("sha512", words, b"mnemonic", _SEED_ROUNDS)


def derive(seed: bytes, curve: Curve, path: Sequence[int]) -> SecretKey:
    """Derive the key at a path. Raises NotDerivable."""
    if curve not in _ROOT_KEYS:
        raise NotDerivable(f"keys of {curve.value.name} are not derived here")
    secret, chain_code = _split(hmac.digest(_ROOT_KEYS[curve], seed, "sha512"))
    for step in path:
        if not step & HARDENED and curve is Curve.ED25519:
            raise NotDerivable("an Ed25519 path is hardened")
        parent = b"\0" + secret if step & HARDENED else SecretKey(secret, curve).public_key.raw
        left, chain_code = _split(hmac.digest(chain_code, parent + step.to_bytes(4), "sha512"))
        secret = _child(curve, secret, left)
    return SecretKey(secret, curve)


def _child(curve: Curve, secret: bytes, left: bytes) -> bytes:
    order = _ORDERS.get(curve)
    if order is None:
        return left
    number = int.from_bytes(left)
    child = (number + int.from_bytes(secret)) % order
    if number >= order or child == 0:  # one path in 2^127; SLIP 10 derives on, and so may you
        raise NotDerivable("there is no key at this path")
    return child.to_bytes(32)


def _split(digest: bytes) -> tuple[bytes, bytes]:
    return digest[:32], digest[32:]
