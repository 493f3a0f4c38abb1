"""Secret keys under a password: ``edesk…``, ``spesk…``, ``p2esk…``, ``BLesk…``.

The payload is salt (8 bytes) ‖ secretbox (48). The box is NaCl's XSalsa20-Poly1305 over the 32
bytes of the secret, with a nonce of zeros: its key, PBKDF2-HMAC-SHA512 of password and salt, is
for this one box. Deriving it takes some 25 ms of a core and releases the GIL.

Source: Octez ``src/lib_signer_backends/encrypted.ml``.
"""

from dataclasses import dataclass
from hashlib import pbkdf2_hmac
from typing import Self

from nacl.bindings import (
    crypto_secretbox_easy,
    crypto_secretbox_KEYBYTES,
    crypto_secretbox_NONCEBYTES,
    crypto_secretbox_open_easy,
)
from nacl.exceptions import CryptoError
from nacl.utils import random as random_bytes

from signers.formats import base58
from signers.formats.networks import BlsScheme
from signers.keyring.curve import Curve
from signers.keyring.keys import SecretKey

_SALT_BYTES = 8
_ROUNDS = 32_768
_NONCE = bytes(crypto_secretbox_NONCEBYTES)

_CURVE_OF_TEXT = {
    curve.value.encrypted_secret: curve for curve in Curve if curve.value.encrypted_secret
}


@dataclass(frozen=True, slots=True)
class EncryptedKey:
    """A secret key that nobody can use without its password."""

    curve: Curve
    payload: bytes

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``edesk…`` or the like. Raises MalformedBytes."""
        prefix, payload = base58.read(_CURVE_OF_TEXT, text)
        return cls(_CURVE_OF_TEXT[prefix], payload)

    @classmethod
    def seal(cls, key: SecretKey, password: bytes) -> Self:
        """Put a secret key under a password."""
        salt = random_bytes(_SALT_BYTES)
        box = crypto_secretbox_easy(key.secret_bytes(), _NONCE, _box_key(password, salt))
        return cls(key.public_key.curve, salt + box)

    def text(self) -> str:
        """Write the key as ``edesk…`` or the like."""
        prefix = self.curve.value.encrypted_secret
        assert prefix is not None  # a key of a curve without secrets is never made
        return base58.encode(prefix, self.payload)

    def open(self, password: bytes, scheme: BlsScheme | None) -> SecretKey | None:
        """Return the secret key, None when the password is not its own.

        Raises NotASecret when what the password opens is no key of the curve.
        """
        salt, box = self.payload[:_SALT_BYTES], self.payload[_SALT_BYTES:]
        try:
            secret = crypto_secretbox_open_easy(box, _NONCE, _box_key(password, salt))
        except CryptoError:
            return None
        return SecretKey(secret, self.curve, scheme)


def _box_key(password: bytes, salt: bytes) -> bytes:
    return pbkdf2_hmac("sha512", password, salt, _ROUNDS, crypto_secretbox_KEYBYTES)
