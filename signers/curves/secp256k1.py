"""ECDSA on secp256k1 over the BLAKE2b-32 digest of a message: deterministic and low-S.

A signature is r ‖ s, big-endian. As upstream's does, verification refuses the second signature
that any signature has, with n - s for s.

Source: RFC 6979 with HMAC-SHA256, Octez ``src/lib_crypto/secp256k1.ml``. Signed by libsecp256k1,
which works in constant time; `coincurve` releases the GIL.
"""

from functools import lru_cache

from coincurve import PrivateKey, PublicKey
from coincurve.ecdsa import cdata_to_der, deserialize_compact

from signers.curves.signing import PUBLIC_KEYS_KEPT, NotASecret, Signer

_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
_SCALAR_BYTES = 32
_SIGNATURE_BYTES = 64  # what follows them is for recovering the key


def key_pair(secret: bytes) -> tuple[bytes, Signer]:
    """Return the 33 bytes of a scalar's public key, and what signs with it. Raises NotASecret.

    `secret` is the scalar, 32 bytes, big-endian.
    """
    try:
        key = PrivateKey(secret)
    except ValueError:
        raise NotASecret("these bytes are no secp256k1 secret key") from None
    sign_recoverable = key.sign_recoverable

    def sign(message: bytes, digest: bytes) -> bytes:
        return sign_recoverable(digest, hasher=None)[:_SIGNATURE_BYTES]

    return key.public_key.format(), sign


def low_s(r: int, s: int) -> bytes:
    """Write a signature with the smaller of its two s: the only one that `verify` takes."""
    return r.to_bytes(_SCALAR_BYTES) + min(s, _ORDER - s).to_bytes(_SCALAR_BYTES)


def verify(public_key: bytes, digest: bytes, signature: bytes) -> bool:
    """Say whether a key of 33 bytes signed a digest; `signature` has 64 bytes."""
    try:
        der = cdata_to_der(deserialize_compact(signature))
        return _public_key(public_key).verify(der, digest, hasher=None)
    except ValueError:  # r or s is not below the order, or the key is not on the curve
        return False


@lru_cache(maxsize=PUBLIC_KEYS_KEPT)
def _public_key(raw: bytes) -> PublicKey:
    return PublicKey(raw)
