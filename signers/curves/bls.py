"""BLS signatures on BLS12-381: public keys in G1 (48 bytes), signatures in G2 (96 bytes).

The message itself is hashed to the curve, not its digest. Two schemes are in use (`BlsScheme`):
message augmentation, which puts the public key in front of the message, and proof of possession,
which signs the message alone. Signatures over the same bytes add up, and so do their keys.

A secret key is a scalar of 32 bytes, little-endian, unlike everywhere else.

Source: IETF draft-irtf-cfrg-bls-signature-04 (§2.3 KeyGen, §3.2, §3.3), Octez
``src/lib_bls12_381_signature``. Signed by blst; `pyblst` keeps the GIL while it works.
"""

import hmac
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256

from pyblst import BlstP1Element, BlstP2Element, final_verify, miller_loop

from signers.curves.signing import PUBLIC_KEYS_KEPT, SECRET_BYTES, NotASecret, Signer
from signers.errors import MalformedBytes
from signers.formats.networks import BlsScheme

_SUITE = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_"
_SIGNATURE_TAGS = {BlsScheme.AUGMENTED: _SUITE + b"AUG_", BlsScheme.POSSESSION: _SUITE + b"POP_"}
_POSSESSION_TAG = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"

_ORDER = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
_KEYGEN_SALT = b"BLS-SIG-KEYGEN-SALT-"
_KEYGEN_BYTES = 48
SEED_BYTES_MIN = 32

_GENERATOR = BlstP1Element().uncompress(
    bytes.fromhex(
        "97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac58"
        "6c55e83ff97a1aeffb3af00adb22c6bb"
    )
)
_ZERO_KEY = BlstP1Element()
_hash_to_group = BlstP2Element().hash_to_group


def secret_from_seed(seed: bytes) -> bytes:
    """Derive a secret key from a seed of at least 32 random bytes (KeyGen of the draft)."""
    salt, scalar = _KEYGEN_SALT, 0
    while scalar == 0:
        salt = sha256(salt).digest()
        key = hmac.digest(salt, seed + b"\0", "sha256")
        info = _KEYGEN_BYTES.to_bytes(2)
        first = hmac.digest(key, info + b"\1", "sha256")
        second = hmac.digest(key, first + info + b"\2", "sha256")
        scalar = int.from_bytes((first + second)[:_KEYGEN_BYTES]) % _ORDER
    return scalar.to_bytes(SECRET_BYTES, "little")


def key_pair(secret: bytes, scheme: BlsScheme) -> tuple[bytes, Signer]:
    """Return the 48 bytes of a secret's public key, and what signs with it. Raises NotASecret."""
    scalar = _scalar(secret)
    public_key: bytes = _GENERATOR.scalar_mul(scalar).compress()
    tag = _SIGNATURE_TAGS[scheme]
    head = public_key if scheme is BlsScheme.AUGMENTED else b""

    def sign(message: bytes, digest: bytes) -> bytes:
        signature: bytes = _hash_to_group(head + message, tag).scalar_mul(scalar).compress()
        return signature

    return public_key, sign


def verify(public_key: bytes, message: bytes, signature: bytes, scheme: BlsScheme) -> bool:
    """Say whether a key of 48 bytes signed a message (watermark included)."""
    head = public_key if scheme is BlsScheme.AUGMENTED else b""
    return _is_signed(public_key, head + message, signature, _SIGNATURE_TAGS[scheme])


def prove_possession(secret: bytes, public_key: bytes) -> bytes:
    """Sign a public key, the secret's own or another, as a proof that one has the secret."""
    proof: bytes = (
        _hash_to_group(public_key, _POSSESSION_TAG).scalar_mul(_scalar(secret)).compress()
    )
    return proof


def verify_possession(public_key: bytes, proof: bytes, proven: bytes) -> bool:
    """Say whether a proof over the key `proven` was made with the secret of `public_key`."""
    return _is_signed(public_key, proven, proof, _POSSESSION_TAG)


def add_signatures(signatures: Iterable[bytes]) -> bytes:
    """Add signatures up; with the sum of their keys the sum verifies. Raises MalformedBytes."""
    total: bytes = sum(map(_signature, signatures), BlstP2Element()).compress()
    return total


def add_public_keys(public_keys: Iterable[bytes]) -> bytes:
    """Add public keys up. Raises MalformedBytes."""
    total: bytes = sum(map(_public_key, public_keys), BlstP1Element()).compress()
    return total


def weigh_signature(signature: bytes, weight: int) -> bytes:
    """Multiply a signature by a number. Raises MalformedBytes."""
    product: bytes = _signature(signature).scalar_mul(weight % _ORDER).compress()
    return product


def weigh_public_key(public_key: bytes, weight: int) -> bytes:
    """Multiply a public key by a number. Raises MalformedBytes."""
    product: bytes = _public_key(public_key).scalar_mul(weight % _ORDER).compress()
    return product


def _is_signed(public_key: bytes, message: bytes, signature: bytes, tag: bytes) -> bool:
    try:
        key, point = _public_key(public_key), _signature(signature)
    except MalformedBytes:
        return False
    if key == _ZERO_KEY:  # everybody has its secret
        return False
    hashed = _hash_to_group(message, tag)
    verdict: bool = final_verify(miller_loop(_GENERATOR, point), miller_loop(key, hashed))
    return verdict


def _scalar(secret: bytes) -> int:
    scalar = int.from_bytes(secret, "little")
    if not 0 < scalar < _ORDER:
        raise NotASecret("these bytes are no BLS secret key")
    return scalar


@lru_cache(maxsize=PUBLIC_KEYS_KEPT)
def _public_key(raw: bytes) -> BlstP1Element:
    try:
        return BlstP1Element().uncompress(raw)  # also checks that it is in the subgroup
    except ValueError:
        raise MalformedBytes("this BLS public key is no point of the group") from None


def _signature(raw: bytes) -> BlstP2Element:
    try:
        return BlstP2Element().uncompress(raw)
    except ValueError:
        raise MalformedBytes("this BLS signature is no point of the group") from None
