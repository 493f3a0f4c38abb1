"""ECDSA on P-256 over the BLAKE2b-32 digest of a message: deterministic and low-S.

A signature is r ‖ s, big-endian. Upstream takes a random nonce and either s; it accepts what is
made here, and what it makes is accepted here. Ours are the same each time because a signature
that is asked for again must be the one that was given before.

Source: RFC 6979 with HMAC-SHA256, Octez ``src/lib_crypto/p256.ml``. Signed by OpenSSL;
`cryptography` releases the GIL.
"""

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256

from signers.curves.signing import PUBLIC_KEYS_KEPT, NotASecret, Signer

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_HALF = _ORDER // 2
_SCALAR_BYTES = 32

# The digest is a BLAKE2b one; SHA-256 says its length, and which HMAC the nonce comes from.
_DIGEST = Prehashed(SHA256())
_CURVE = ec.SECP256R1()
_SIGN = ec.ECDSA(_DIGEST, deterministic_signing=True)
_VERIFY = ec.ECDSA(_DIGEST)


def key_pair(secret: bytes) -> tuple[bytes, Signer]:
    """Return the 33 bytes of a scalar's public key, and what signs with it. Raises NotASecret.

    `secret` is the scalar, 32 bytes, big-endian.
    """
    scalar = int.from_bytes(secret)
    if not 0 < scalar < _ORDER:
        raise NotASecret("these bytes are no P-256 secret key")
    key = ec.derive_private_key(scalar, _CURVE)
    sign_der = key.sign

    def sign(message: bytes, digest: bytes) -> bytes:
        return low_s(*decode_dss_signature(sign_der(digest, _SIGN)))

    return _compressed(key.public_key().public_numbers()), sign


def _compressed(point: ec.EllipticCurvePublicNumbers) -> bytes:
    """Write a point as SEC 1 §2.3.3 does: x, and in the first byte which of the two y."""
    return bytes([2 + point.y % 2]) + point.x.to_bytes(_SCALAR_BYTES)


def low_s(r: int, s: int) -> bytes:
    """Write a signature with the smaller of its two s, which is as valid as the other."""
    return r.to_bytes(_SCALAR_BYTES) + min(s, _ORDER - s).to_bytes(_SCALAR_BYTES)


def verify(public_key: bytes, digest: bytes, signature: bytes) -> bool:
    """Say whether a key of 33 bytes signed a digest; `signature` has 64 bytes."""
    r = int.from_bytes(signature[:_SCALAR_BYTES])
    s = int.from_bytes(signature[_SCALAR_BYTES:])
    try:
        _public_key(public_key).verify(encode_dss_signature(r, s), digest, _VERIFY)
    except (InvalidSignature, ValueError):  # ValueError: the key is not on the curve
        return False
    return True


@lru_cache(maxsize=PUBLIC_KEYS_KEPT)
def _public_key(raw: bytes) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, raw)
