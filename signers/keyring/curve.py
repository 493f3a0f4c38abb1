"""The signature schemes of Tezos and Mavryk: their names, and what their texts begin with."""

from dataclasses import dataclass
from enum import Enum

from signers.formats import base58
from signers.formats.base58 import Prefix


@dataclass(frozen=True, slots=True)
class CurveTexts:
    """How keys and signatures of one curve are written; `tag` is their binary number.

    `secret` and `encrypted_secret` are None where no secret keys of the curve are read.
    """

    name: str
    tag: int
    public_key: Prefix
    signature: Prefix
    secret: Prefix | None
    encrypted_secret: Prefix | None


class Curve(Enum):
    """The signature schemes of Tezos and Mavryk."""

    # `Enum` hashes names, by a function in Python; each signature is looked up by its curve twice.
    __hash__ = object.__hash__

    ED25519 = CurveTexts(
        "ed25519",
        0,
        base58.ED25519_PUBLIC_KEY,
        base58.ED25519_SIGNATURE,
        base58.ED25519_SEED,
        base58.ENCRYPTED_ED25519,
    )
    SECP256K1 = CurveTexts(
        "secp256k1",
        1,
        base58.SECP256K1_PUBLIC_KEY,
        base58.SECP256K1_SIGNATURE,
        base58.SECP256K1_SECRET,
        base58.ENCRYPTED_SECP256K1,
    )
    P256 = CurveTexts(
        "p256",
        2,
        base58.P256_PUBLIC_KEY,
        base58.P256_SIGNATURE,
        base58.P256_SECRET,
        base58.ENCRYPTED_P256,
    )
    BLS = CurveTexts(
        "bls",
        3,
        base58.BLS_PUBLIC_KEY,
        base58.BLS_SIGNATURE,
        base58.BLS_SECRET,
        base58.ENCRYPTED_BLS,
    )
    MLDSA = CurveTexts("mldsa", 4, base58.MLDSA_PUBLIC_KEY, base58.MLDSA_SIGNATURE, None, None)


CURVES_BY_NAME = {curve.value.name: curve for curve in Curve if curve.value.secret is not None}
CURVE_OF_TAG = {curve.value.tag: curve for curve in Curve}
