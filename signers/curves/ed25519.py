"""Ed25519 over the BLAKE2b-32 digest of a message (not Ed25519ph).

Source: RFC 8032 §5.1, Octez ``src/lib_crypto/ed25519.ml``. Signed by libsodium, which releases
the GIL.
"""

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_open, crypto_sign_seed_keypair
from nacl.exceptions import BadSignatureError

from signers.curves.signing import Signer


def key_pair(seed: bytes) -> tuple[bytes, Signer]:
    """Return the 32 bytes of a seed's public key, and what signs with it."""
    public_key, expanded = crypto_sign_seed_keypair(seed)

    def sign(message: bytes, digest: bytes) -> bytes:
        return crypto_sign(digest, expanded)[:crypto_sign_BYTES]

    return public_key, sign


def verify(public_key: bytes, digest: bytes, signature: bytes) -> bool:
    """Say whether a key of 32 bytes signed a digest; `signature` has 64 bytes."""
    try:
        crypto_sign_open(signature + digest, public_key)
    except BadSignatureError:
        return False
    return True
