"""A key in a token: found by what its URI says, and it is the key that was meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import pkcs11
from pkcs11 import Attribute, Mechanism, ObjectClass, Session
from pkcs11.types import SignMixin

from signers.backends.backend import SignerMalformed
from signers.backends.key_uri import Pkcs11Key
from signers.curves import p256, secp256k1
from signers.errors import MalformedBytes
from signers.formats.hashes import blake2b_20
from signers.formats.tagged_keys import tagged_hash
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey
from signers.pkcs11 import ec_point
from signers.pkcs11.token_errors import Ambiguous, KeyMissing, NotForToken, OtherKey

# Always named: the wrapper's own choice for EC keys hashes what is a digest already.
MECHANISMS: Final = {
    Curve.SECP256K1: Mechanism.ECDSA,
    Curve.P256: Mechanism.ECDSA,
    Curve.ED25519: Mechanism.EDDSA,
}
DIGEST_BYTES: Final = 32  # CKM_ECDSA takes any length, and cuts
SIGNATURE_BYTES: Final = 64
# Tokens give either s; of secp256k1 the chain takes the smaller one alone.
_LOW_S: Final[dict[Curve, Callable[[int, int], bytes]]] = {
    Curve.SECP256K1: secp256k1.low_s,
    Curve.P256: p256.low_s,
}


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A private key object of a session, with its public key."""

    private: Any  # pkcs11.PrivateKey that signs
    public_key: PublicKey

    def sign(self, digest: bytes) -> bytes:
        """Sign a digest of 32 bytes: low-S. Raises PKCS11Error, SignerMalformed."""
        assert len(digest) == DIGEST_BYTES
        curve = self.public_key.curve
        signature: bytes = self.private.sign(digest, mechanism=MECHANISMS[curve])
        if len(signature) != SIGNATURE_BYTES:
            raise SignerMalformed(f"the token gave a signature of {len(signature)} bytes")
        low_s = _LOW_S.get(curve)
        if low_s is None:
            return signature
        return low_s(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))


def find_key(
    session: Session, place: Pkcs11Key, key_hash: str, expected: PublicKey | None
) -> TokenKey:
    """Find the key that a URI names, and see that it is the one with this hash.

    `expected` is taken where neither the token nor the URI shows a public key. Raises
    KeyMissing, Ambiguous, OtherKey, NotForToken, PKCS11Error.
    """
    private = _private_object(session, place)
    public_key = public_key_of(session, private) or _stated(place) or expected
    if public_key is None:
        raise NotForToken(
            "the token shows no public key for it: make the public object with the same id, or "
            "add x-public-key=… to the URI"
        )
    tag = public_key.curve.value.tag
    if bytes([tag]) + blake2b_20(public_key.raw) != tagged_hash(key_hash):
        raise OtherKey(f"the token's key is {public_key.text()}, which is not {key_hash}")
    if _stated(place) not in (None, public_key):
        raise OtherKey("the token's key is not the URI's x-public-key")
    mechanism = MECHANISMS[public_key.curve]
    if mechanism not in session.token.slot.get_mechanisms():
        raise NotForToken(
            f"the token has no CKM_{mechanism.name}, which {public_key.curve.value.name} keys need"
        )
    return TokenKey(private, public_key)


def public_key_of(session: Session, private: Any) -> PublicKey | None:
    """Return the public key of a private key object, where the token shows it.

    Raises Ambiguous, NotForToken, PKCS11Error.
    """
    by = {Attribute.ID: private.id} if private.id else {Attribute.LABEL: private.label}
    objects = session.get_objects({Attribute.CLASS: ObjectClass.PUBLIC_KEY, **by})
    found = {read_public_key(public) for public in list(objects)} or {read_public_key(private)}
    if len(found) > 1:
        raise Ambiguous(f"{len(found)} public keys have the id of the key {private.label!r}")
    return found.pop()


def read_public_key(key: Any) -> PublicKey | None:
    """Return the public key that a key object shows, if it does. Raises NotForToken."""
    try:
        curve = ec_point.curve_of(key[Attribute.EC_PARAMS])
        return ec_point.public_key(curve, key[Attribute.EC_POINT])
    except (pkcs11.AttributeTypeInvalid, pkcs11.AttributeSensitive):
        return None
    except MalformedBytes as error:
        raise NotForToken(f"the key {key.label!r}: {error}") from None


def _private_object(session: Session, place: Pkcs11Key) -> Any:
    wanted: dict[Attribute, Any] = {Attribute.CLASS: ObjectClass.PRIVATE_KEY}
    if place.object is not None:
        wanted[Attribute.LABEL] = place.object
    if place.id is not None:
        wanted[Attribute.ID] = place.id
    found = list(session.get_objects(wanted))
    if not found:
        raise KeyMissing("the token shows no such private key: it is missing, or not for this PIN")
    if len(found) > 1:
        raise Ambiguous(f"{len(found)} private keys of the token fit the URI")
    if not isinstance(found[0], SignMixin):
        raise NotForToken("the key may not sign (CKA_SIGN)")
    return found[0]


def _stated(place: Pkcs11Key) -> PublicKey | None:
    if place.public_key is None:
        return None
    try:
        return PublicKey.read(place.public_key)
    except MalformedBytes as error:
        raise NotForToken(f"x-public-key: {error}") from None
