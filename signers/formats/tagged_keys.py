"""Key hashes and public keys in bytes: a tag for the curve, then what the text form holds.

A key hash has 21 bytes and is the same on every network; its text differs (``tz1…``, ``mv1…``).

Source: Octez ``src/lib_crypto/signature_v*.ml``.
"""

from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.base58 import Prefix
from signers.formats.networks import BLS_SCHEME_OF_VERSION, NETWORKS, Network
from signers.keyring.curve import CURVE_OF_TAG, Curve

TAGGED_HASH_BYTES = 21
BLS_TAG = Curve.BLS.value.tag

PUBLIC_KEYS = tuple(CURVE_OF_TAG[tag].value.public_key for tag in sorted(CURVE_OF_TAG))
_KINDS: dict[Prefix, tuple[Network, Curve]] = {
    prefix: (network, CURVE_OF_TAG[tag])
    for network in NETWORKS.values()
    for tag, prefix in enumerate(network.key_hash_prefixes)
}


def tagged_hash(text: str) -> bytes:
    """Return the 21 bytes of a key hash of any network. Raises MalformedBytes."""
    prefix, payload = base58.read(_KINDS, text)
    return bytes([_KINDS[prefix][1].value.tag]) + payload


def hash_text(tagged: bytes, network: Network) -> str:
    """Write a tagged key hash as the network does. Raises MalformedBytes."""
    if len(tagged) != TAGGED_HASH_BYTES or tagged[0] >= len(network.key_hash_prefixes):
        raise MalformedBytes(f"these {len(tagged)} bytes are no key hash of {network.name}")
    return base58.encode(network.key_hash_prefixes[tagged[0]], tagged[1:])


def network_of_hash(text: str) -> Network:
    """Return the network whose key hashes are written like this one. Raises MalformedBytes."""
    prefix, _ = base58.read(_KINDS, text)
    return _KINDS[prefix][0]


def curve_of_hash(text: str) -> Curve:
    """Return of which curve the key of a hash is. Raises MalformedBytes."""
    prefix, _ = base58.read(_KINDS, text)
    return _KINDS[prefix][1]


def is_deterministic(text: str) -> bool:
    """Say whether all who have a key make the same signature of the same bytes.

    So it is by the rules of Ed25519 (RFC 8032 §5.1.6) and BLS; of ECDSA each signer chooses the
    nonce by himself. Takes the text of the key's hash. Raises MalformedBytes.
    """
    return curve_of_hash(text) in (Curve.ED25519, Curve.BLS)


def signature_version(text: str) -> int:
    """Return which of a key's signatures its network takes: 0, and of a BLS key 1 or 2.

    Raises MalformedBytes.
    """
    if tagged_hash(text)[0] != BLS_TAG:
        return 0
    scheme = network_of_hash(text).bls_scheme
    return next(version for version, each in BLS_SCHEME_OF_VERSION.items() if each is scheme)


def tagged_public_key(text: str) -> bytes:
    """Return tag and bytes of ``edpk…`` or the like. Raises MalformedBytes."""
    prefix, raw = base58.read(PUBLIC_KEYS, text)
    return bytes([PUBLIC_KEYS.index(prefix)]) + raw


def public_key_text(tagged: bytes) -> str:
    """Write a tagged public key as ``edpk…`` or the like. Raises MalformedBytes."""
    if not tagged or tagged[0] >= len(PUBLIC_KEYS):
        raise MalformedBytes("the tag of this public key is not known")
    return base58.encode(PUBLIC_KEYS[tagged[0]], tagged[1:])
