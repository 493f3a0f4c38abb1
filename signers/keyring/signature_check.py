"""Whether a signature is that of a key: the one question, for every curve that can be asked.

Ed25519, secp256k1 and P-256 sign the BLAKE2b-32 of the message, BLS the message itself.

Source: Octez ``src/lib_crypto/ed25519.ml``, ``signature_v*.ml``.
"""

from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from signers.formats import base58
from signers.formats.base58 import Prefix
from signers.formats.hashes import blake2b_32

_PUBLIC_KEYS = (
    base58.ED25519_PUBLIC_KEY,
    base58.SECP256K1_PUBLIC_KEY,
    base58.P256_PUBLIC_KEY,
    base58.BLS_PUBLIC_KEY,
    base58.MLDSA_PUBLIC_KEY,
)


def read_public_key(text: str) -> tuple[Prefix, bytes]:
    """Return the curve and the bytes of a public key. Raises MalformedBytes."""
    return base58.read(_PUBLIC_KEYS, text)


def is_signed_by(public_key: tuple[Prefix, bytes], message: bytes, signature: bytes) -> bool | None:
    """Whether the key made the signature; None for a curve that cannot be checked.

    `message` includes the watermark. A signature of another curve's length is not the key's.
    """
    curve, key = public_key
    if curve is not base58.ED25519_PUBLIC_KEY:
        return None
    if len(signature) != base58.ED25519_SIGNATURE.payload_bytes:
        return False
    try:
        crypto_sign_open(signature + blake2b_32(message), key)
    except BadSignatureError:
        return False
    return True
