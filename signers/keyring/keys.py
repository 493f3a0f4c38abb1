"""Keys and signatures: their text forms, what a key signs, and whose a signature is.

A public key hash is the BLAKE2b-20 of the raw public key, written with the prefix of the
network (``tz1…`` on Tezos, ``mv1…`` on Mavryk). A message is watermark ‖ bytes; BLS keys sign
it as it is, all others its BLAKE2b-32, which is what `Signable.digest` holds.

A BLS key signs as its network does, by message augmentation or by proof of possession
(`BlsScheme`). Which one is never guessed: a key that was read without a scheme does not sign.

Source: Octez ``src/lib_crypto/ed25519.ml``, ``secp256k1.ml``, ``p256.ml``, ``bls.ml``,
``signature_v1.ml`` to ``signature_v3.ml``.
"""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, Self

from nacl.utils import random as random_bytes

from signers.curves import bls, ed25519, p256, secp256k1
from signers.curves.signing import SECRET_BYTES, NotASecret, Signer
from signers.errors import BadRequest, MalformedBytes
from signers.formats import base58
from signers.formats.hashes import blake2b_20, blake2b_32
from signers.formats.networks import BlsScheme, Network
from signers.keyring.curve import CURVE_OF_TAG, Curve

_KEY_PAIRS: dict[Curve, Callable[[bytes], tuple[bytes, Signer]]] = {
    Curve.ED25519: ed25519.key_pair,
    Curve.SECP256K1: secp256k1.key_pair,
    Curve.P256: p256.key_pair,
}
_VERIFIERS: dict[Curve, Callable[[bytes, bytes, bytes], bool]] = {
    Curve.ED25519: ed25519.verify,
    Curve.SECP256K1: secp256k1.verify,
    Curve.P256: p256.verify,
}
# Python 3.11 takes 0.4 µs for a member's value, and votes are verified by the thousand.
_BLS = Curve.BLS
_SIGNATURE_BYTES = {curve: curve.value.signature.payload_bytes for curve in Curve}
_CURVE_OF_PUBLIC_KEY = {curve.value.public_key: curve for curve in Curve}
_CURVE_OF_SECRET = {curve.value.secret: curve for curve in Curve if curve.value.secret} | {
    base58.ED25519_LONG_SECRET: Curve.ED25519
}
_SIGNATURES = (*(curve.value.signature for curve in Curve), base58.GENERIC_SIGNATURE)


class UnsupportedCurve(BadRequest):
    """Keys of this curve cannot do what is asked: take a key of another curve."""

    code = "unsupported_curve"


class NoBlsScheme(BadRequest):
    """Nothing says of which network a BLS key signs: name the network or signature version."""

    code = "no_bls_scheme"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key of any curve; `raw` is what its text form holds."""

    curve: Curve
    raw: bytes

    @classmethod
    def read(cls, text: str) -> Self:
        """Read ``edpk…``, ``sppk…``, ``p2pk…`` or ``BLpk…``. Raises MalformedBytes."""
        prefix, raw = base58.read(_CURVE_OF_PUBLIC_KEY, text)
        return cls(_CURVE_OF_PUBLIC_KEY[prefix], raw)

    @classmethod
    def from_tagged(cls, tagged: bytes) -> Self:
        """Read a public key behind the tag of its curve. Raises MalformedBytes."""
        curve = CURVE_OF_TAG.get(tagged[0]) if tagged else None
        if curve is None or len(tagged) != 1 + curve.value.public_key.payload_bytes:
            raise MalformedBytes("these bytes are no public key")
        return cls(curve, tagged[1:])

    def tagged(self) -> bytes:
        """Write the key behind the tag of its curve."""
        return bytes([self.curve.value.tag]) + self.raw

    def text(self) -> str:
        """Write the key as ``edpk…`` or the like."""
        return base58.encode(self.curve.value.public_key, self.raw)

    def hash(self, network: Network) -> str:
        """Write the key's hash as the network does. Raises UnsupportedCurve if it has no such."""
        prefixes = network.key_hash_prefixes
        if self.curve.value.tag >= len(prefixes):
            raise UnsupportedCurve(f"{network.name} has no {self.curve.value.name} keys")
        return base58.encode(prefixes[self.curve.value.tag], blake2b_20(self.raw))

    def verify(self, message: bytes, signature: bytes, scheme: BlsScheme | None = None) -> bool:
        """Say whether the key signed a message (watermark included).

        A BLS key needs to be told the scheme. Raises NoBlsScheme, UnsupportedCurve.
        """
        curve = self.curve
        if len(signature) != _SIGNATURE_BYTES[curve]:
            return False
        if curve is _BLS:
            if scheme is None:
                raise NoBlsScheme("a BLS signature is checked by the scheme of its network")
            return bls.verify(self.raw, message, signature, scheme)
        is_signed = _VERIFIERS.get(curve)
        if is_signed is None:
            raise UnsupportedCurve(f"{curve.value.name} signatures cannot be checked")
        return is_signed(self.raw, blake2b_32(message), signature)

    def verify_possession(self, proof: bytes, proven: "PublicKey | None" = None) -> bool:
        """Say whether a proof of possession was made with this key's secret.

        `proven` is the key that was signed, this one unless another is given. Raises
        UnsupportedCurve for other keys than BLS.
        """
        _check_is_bls(self, proven or self)
        return bls.verify_possession(self.raw, proof, (proven or self).raw)


class SecretKey:
    """A secret key: it signs, and shows itself to nobody but `secret_text`.

    `sign` takes a message (watermark included) and its BLAKE2b-32, and returns the signature:
    96 bytes of a BLS key, else 64, and the same each time. A BLS key without a scheme raises
    NoBlsScheme.
    """

    __slots__ = ("_scheme", "_secret", "public_key", "sign")

    sign: Signer

    def __init__(
        self, secret: bytes, curve: Curve = Curve.ED25519, scheme: BlsScheme | None = None
    ) -> None:
        if len(secret) != SECRET_BYTES:
            raise NotASecret(f"a secret key has {SECRET_BYTES} bytes, not {len(secret)}")
        if curve is Curve.BLS:
            raw, self.sign = bls.key_pair(secret, scheme or BlsScheme.POSSESSION)
            if scheme is None:
                self.sign = _refuse_to_guess
        elif (key_pair := _KEY_PAIRS.get(curve)) is not None:
            raw, self.sign = key_pair(secret)
        else:
            raise UnsupportedCurve(f"{curve.value.name} keys cannot sign")
        self._secret, self._scheme = secret, scheme
        self.public_key = PublicKey(curve, raw)

    @classmethod
    def generate(cls, curve: Curve = Curve.ED25519, scheme: BlsScheme | None = None) -> Self:
        """Make a new key from the operating system's randomness."""
        while True:
            try:
                return cls.from_seed(random_bytes(SECRET_BYTES), curve, scheme)
            except NotASecret:  # one P-256 seed in four thousand millions
                continue

    @classmethod
    def from_seed(
        cls, seed: bytes, curve: Curve = Curve.ED25519, scheme: BlsScheme | None = None
    ) -> Self:
        """Make the key of a seed of 32 bytes: BLS derives its scalar, others take it as it is.

        Raises NotASecret.
        """
        return cls(bls.secret_from_seed(seed) if curve is Curve.BLS else seed, curve, scheme)

    @classmethod
    def read(cls, text: str, scheme: BlsScheme | None = None) -> Self:
        """Read ``edsk…``, ``spsk…``, ``p2sk…`` or ``BLsk…``.

        ``edsk…`` has 54 letters, or 98 with the public key behind the seed. Raises
        MalformedBytes, which says nothing of the text.
        """
        prefix, payload = base58.read(_CURVE_OF_SECRET, text)
        key = cls(payload[:SECRET_BYTES], _CURVE_OF_SECRET[prefix], scheme)
        if prefix is base58.ED25519_LONG_SECRET and payload[SECRET_BYTES:] != key.public_key.raw:
            raise MalformedBytes("the two halves of this secret key are not of one key")
        return key

    def with_scheme(self, scheme: BlsScheme) -> "SecretKey":
        """Return this key signing by a scheme of BLS; a key of another curve is itself."""
        if self.public_key.curve is not Curve.BLS or scheme is self._scheme:
            return self
        return SecretKey(self._secret, Curve.BLS, scheme)

    def secret_text(self) -> str:
        """Write the secret itself as ``edsk…`` or the like: for the key file and nothing else."""
        return base58.encode(self._prefix(), self._secret)

    def secret_bytes(self) -> bytes:
        """Return the secret itself: to be encrypted, and for nothing else."""
        return self._secret

    def deterministic_nonce(self, data: bytes) -> bytes:
        """Derive 32 bytes from data, always the same: for a block's seed nonce, from its level.

        A baker gives the level as 4 bytes, big-endian. Source: ``deterministic_nonce`` of Octez and
        Mavryk ``src/lib_crypto/ed25519.ml``, ``secp256k1.ml``, ``p256.ml`` and ``bls.ml``, the
        same in all; ``baking_nonces.ml``.
        """
        return hmac.digest(self._secret, data, "sha256")

    def prove_possession(self, proven: PublicKey | None = None) -> bytes:
        """Prove that one has this secret, by signing its public key, or another that is given.

        Raises UnsupportedCurve for other keys than BLS.
        """
        _check_is_bls(self.public_key, proven or self.public_key)
        return bls.prove_possession(self._secret, (proven or self.public_key).raw)

    def _prefix(self) -> base58.Prefix:
        prefix = self.public_key.curve.value.secret
        assert prefix is not None  # a key of a curve without secrets is never made
        return prefix

    def __repr__(self) -> str:
        return f"<SecretKey of {self.public_key.text()}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret key is neither pickled nor copied")


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


def _refuse_to_guess(message: bytes, digest: bytes) -> NoReturn:
    raise NoBlsScheme("this BLS key was read without its network's scheme, so it does not sign")


def _check_is_bls(*keys: PublicKey) -> None:
    for key in keys:
        if key.curve is not Curve.BLS:
            raise UnsupportedCurve(f"{key.curve.value.name} keys prove no possession; BLS keys do")
