"""Keys and signatures: their text forms, what a key signs, and whose a signature is.

A public key hash is the BLAKE2b-20 of the raw public key, written with the prefix of the
network (``tz1…`` on Tezos, ``mv1…`` on Mavryk). Secret keys sign the BLAKE2b-32 of watermark ‖
message, which is what `Signable.digest` holds.

Only Ed25519 signs so far; every other curve has its texts and hashes, and says so when asked
for more.

Source: Octez ``src/lib_crypto/ed25519.ml``, ``signature_v1.ml``; RFC 8032.
"""

import hmac
from dataclasses import dataclass
from enum import Enum
from typing import NoReturn, Self

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_seed_keypair
from nacl.utils import random as random_bytes

from signers.errors import BadRequest, MalformedBytes
from signers.formats import base58
from signers.formats.base58 import Prefix
from signers.formats.hashes import blake2b_20
from signers.formats.networks import Network
from signers.keyring.signature_check import is_signed_by

_SEED_BYTES = 32


class UnsupportedCurve(BadRequest):
    """Keys of this curve are known here but cannot sign or verify yet."""

    code = "unsupported_curve"


@dataclass(frozen=True, slots=True)
class CurveTexts:
    """How keys and signatures of one curve are written; `tag` is their binary number."""

    name: str
    tag: int
    public_key: Prefix
    signature: Prefix


class Curve(Enum):
    """The signature schemes of Tezos and Mavryk."""

    ED25519 = CurveTexts("ed25519", 0, base58.ED25519_PUBLIC_KEY, base58.ED25519_SIGNATURE)
    SECP256K1 = CurveTexts("secp256k1", 1, base58.SECP256K1_PUBLIC_KEY, base58.SECP256K1_SIGNATURE)
    P256 = CurveTexts("p256", 2, base58.P256_PUBLIC_KEY, base58.P256_SIGNATURE)
    BLS = CurveTexts("bls", 3, base58.BLS_PUBLIC_KEY, base58.BLS_SIGNATURE)
    MLDSA = CurveTexts("mldsa", 4, base58.MLDSA_PUBLIC_KEY, base58.MLDSA_SIGNATURE)


_CURVE_OF_PUBLIC_KEY = {curve.value.public_key: curve for curve in Curve}
_SIGNATURES = (*(curve.value.signature for curve in Curve), base58.GENERIC_SIGNATURE)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key of any curve; `raw` is what its text form holds."""

    curve: Curve
    raw: bytes

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``edpk…`` or the like. Raises MalformedBytes."""
        prefix, raw = base58.read(_CURVE_OF_PUBLIC_KEY, text)
        return cls(_CURVE_OF_PUBLIC_KEY[prefix], raw)

    def text(self) -> str:
        """Write the key as ``edpk…`` or the like."""
        return base58.encode(self.curve.value.public_key, self.raw)

    def hash(self, network: Network) -> str:
        """Write the key's hash as the network does. Raises UnsupportedCurve if it has no such."""
        prefixes = network.key_hash_prefixes
        if self.curve.value.tag >= len(prefixes):
            raise UnsupportedCurve(f"{network.name} has no {self.curve.value.name} keys")
        return base58.encode(prefixes[self.curve.value.tag], blake2b_20(self.raw))

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Say whether the key signed a message (watermark included). Raises UnsupportedCurve."""
        verdict = is_signed_by((self.curve.value.public_key, self.raw), message, signature)
        if verdict is None:
            raise UnsupportedCurve(f"{self.curve.value.name} signatures cannot be checked yet")
        return verdict


def verify(public_key: PublicKey, message: bytes, signature: bytes) -> bool:
    """Say whether a key signed a message (watermark included). Raises UnsupportedCurve."""
    return public_key.verify(message, signature)


def read_key_hash(text: str, network: Network) -> bytes:
    """Return the 20 bytes of a key hash of a network. Raises MalformedBytes."""
    return base58.decode(network.key_hash_prefixes, text)


def write_signature(signature: bytes, curve: Curve | None = None) -> str:
    """Write a signature as its curve does, or as ``sig…`` when the curve is not known."""
    prefix = base58.GENERIC_SIGNATURE if curve is None else curve.value.signature
    return base58.encode(prefix, signature)


def read_signature(text: str) -> bytes:
    """Read a signature of any curve, or one without: ``sig…``. Raises MalformedBytes."""
    return base58.decode(_SIGNATURES, text)


class SecretKey:
    """An Ed25519 secret key: it signs, and shows itself to nobody but `secret_text`."""

    __slots__ = ("_expanded", "_seed", "public_key")

    def __init__(self, seed: bytes) -> None:
        public, self._expanded = crypto_sign_seed_keypair(seed)
        self._seed = seed
        self.public_key = PublicKey(Curve.ED25519, public)

    @classmethod
    def generate(cls) -> Self:
        """Make a new key from the operating system's randomness."""
        return cls(random_bytes(_SEED_BYTES))

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``edsk…``, of 54 letters (the seed) or 98 (seed and public key).

        Raises MalformedBytes, or UnsupportedCurve for a secret key of another curve; neither
        says anything of the text.
        """
        prefix, payload = base58.read((*_ED25519_SECRETS, *_OTHER_SECRETS), text)
        if prefix in _OTHER_SECRETS:
            raise UnsupportedCurve(f"a {prefix.name} cannot sign yet")
        key = cls(payload[:_SEED_BYTES])
        if prefix is base58.ED25519_LONG_SECRET and payload[_SEED_BYTES:] != key.public_key.raw:
            raise MalformedBytes("the two halves of this secret key are not of one key")
        return key

    def secret_text(self) -> str:
        """Write the secret itself as ``edsk…``: for the key file and for nothing else."""
        return base58.encode(base58.ED25519_SEED, self._seed)

    def sign(self, message: bytes, digest: bytes) -> bytes:
        """Sign a message (watermark included), whose BLAKE2b-32 is the digest.

        The signature has 64 bytes and is the same each time.
        """
        return crypto_sign(digest, self._expanded)[:crypto_sign_BYTES]

    def deterministic_nonce(self, level: int) -> bytes:
        """Derive the 32-byte seed nonce of a block from its level.

        Source: Octez ``ed25519.ml`` ``deterministic_nonce``, ``baking_nonces.ml``.
        """
        return hmac.digest(self._seed, level.to_bytes(4, signed=True), "sha256")

    def __repr__(self) -> str:
        return f"<SecretKey of {self.public_key.text()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret key is neither pickled nor copied")


_ED25519_SECRETS = (base58.ED25519_SEED, base58.ED25519_LONG_SECRET)
_OTHER_SECRETS = (base58.SECP256K1_SECRET, base58.P256_SECRET, base58.BLS_SECRET)
