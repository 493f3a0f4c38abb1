"""Base58check: the text form of every hash, key and signature of Tezos and Mavryk.

A text is base58(prefix ‖ payload ‖ checksum), the checksum being the first four bytes of
SHA-256(SHA-256(prefix ‖ payload)). The prefix bytes are chosen so that the text of a payload
of the right length begins with readable letters (``B…`` a block, ``edpk…`` a key). Reading
checks all three: prefix, payload length and checksum.

Source: Octez and Mavryk ``src/lib_crypto/base58.ml``. Mavryk differs from Tezos in the
prefixes of public key hashes (and smart contracts) alone.
"""

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import NamedTuple

from signers.errors import MalformedBytes

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGIT_OF_LETTER = {letter: digit for digit, letter in enumerate(_ALPHABET)}
_PAIR_OF_DIGITS = [high + low for high in _ALPHABET for low in _ALPHABET]

_CURVE = re.compile("(Ed25519|secp256k1|P-256|BLS|ML-DSA) ")  # in the name of a kind

_CHECKSUM_BYTES = 4
# An ML-DSA secret key is the longest thing that has a text form: 3,880 bytes, 5,306 letters.
_TEXT_LETTERS_MAX = 5_400


class Prefix(NamedTuple):
    """What one kind of text begins with, and how long its payload is."""

    name: str
    head: bytes
    payload_bytes: int


BLOCK_HASH = Prefix("block hash", bytes.fromhex("0134"), 32)
OPERATION_HASH = Prefix("operation hash", bytes.fromhex("0574"), 32)
OPERATION_LIST_HASH = Prefix("operation list hash", bytes.fromhex("85e9"), 32)
OPERATIONS_HASH = Prefix("operation list list hash", bytes.fromhex("1d9f6d"), 32)
CONTEXT_HASH = Prefix("context hash", bytes.fromhex("4fc7"), 32)
PROTOCOL_HASH = Prefix("protocol hash", bytes.fromhex("02aa"), 32)
PAYLOAD_HASH = Prefix("block payload hash", bytes.fromhex("016af2"), 32)
NONCE_HASH = Prefix("nonce hash", bytes.fromhex("45dca9"), 32)
CHAIN_ID = Prefix("chain id", bytes.fromhex("575200"), 4)

CONTRACT = Prefix("contract", bytes.fromhex("025a79"), 20)
SMART_ROLLUP = Prefix("smart rollup", bytes.fromhex("067c75"), 20)
SMART_ROLLUP_COMMITMENT = Prefix("smart rollup commitment", bytes.fromhex("11a5868a"), 32)
SMART_ROLLUP_STATE = Prefix("smart rollup state", bytes.fromhex("11a5ebf0"), 32)
TX_ROLLUP = Prefix("transaction rollup", bytes.fromhex("0180781f"), 20)
ZK_ROLLUP = Prefix("ZK rollup", bytes.fromhex("0117e07d"), 20)
DAL_COMMITMENT = Prefix("DAL slot commitment", bytes.fromhex("0274b4"), 48)

ED25519_PUBLIC_KEY = Prefix("Ed25519 public key", bytes.fromhex("0d0f25d9"), 32)
SECP256K1_PUBLIC_KEY = Prefix("secp256k1 public key", bytes.fromhex("03fee256"), 33)
P256_PUBLIC_KEY = Prefix("P-256 public key", bytes.fromhex("03b28b7f"), 33)
BLS_PUBLIC_KEY = Prefix("BLS public key", bytes.fromhex("069587cc"), 48)
MLDSA_PUBLIC_KEY = Prefix("ML-DSA public key", bytes.fromhex("0d07ed43"), 1312)

ED25519_SEED = Prefix("Ed25519 secret key", bytes.fromhex("0d0f3a07"), 32)
ED25519_LONG_SECRET = Prefix("Ed25519 secret key", bytes.fromhex("2bf64e07"), 64)  # and public
SECP256K1_SECRET = Prefix("secp256k1 secret key", bytes.fromhex("11a2e0c9"), 32)
P256_SECRET = Prefix("P-256 secret key", bytes.fromhex("1051eebd"), 32)
BLS_SECRET = Prefix("BLS secret key", bytes.fromhex("0396c028"), 32)
ENCRYPTED_ED25519 = Prefix("encrypted Ed25519 secret key", bytes.fromhex("075a3cb329"), 56)
ENCRYPTED_SECP256K1 = Prefix("encrypted secp256k1 secret key", bytes.fromhex("09edf1ae96"), 56)
ENCRYPTED_P256 = Prefix("encrypted P-256 secret key", bytes.fromhex("09303973ab"), 56)
ENCRYPTED_BLS = Prefix("encrypted BLS secret key", bytes.fromhex("02051e3519"), 56)

ED25519_SIGNATURE = Prefix("Ed25519 signature", bytes.fromhex("09f5cd8612"), 64)
SECP256K1_SIGNATURE = Prefix("secp256k1 signature", bytes.fromhex("0d7365133f"), 64)
P256_SIGNATURE = Prefix("P-256 signature", bytes.fromhex("36f02c34"), 64)
BLS_SIGNATURE = Prefix("BLS signature", bytes.fromhex("28ab40cf"), 96)
MLDSA_SIGNATURE = Prefix("ML-DSA signature", bytes.fromhex("019c2dd203"), 2420)
GENERIC_SIGNATURE = Prefix("signature", bytes.fromhex("04822b"), 64)

# A signature in bytes tells its curve by its length alone; 64 bytes do not.
SIGNATURE_OF_LENGTH = {
    kind.payload_bytes: kind for kind in (GENERIC_SIGNATURE, BLS_SIGNATURE, MLDSA_SIGNATURE)
}


def encode(prefix: Prefix, payload: bytes) -> str:
    """Write a payload as the text that people read.

    Raises MalformedBytes when the payload has not the length of its kind.
    """
    if len(payload) != prefix.payload_bytes:
        raise MalformedBytes(
            f"{_with_article(prefix.name)} has {prefix.payload_bytes} bytes, not {len(payload)}"
        )
    body = prefix.head + payload
    return _base58(body + _checksum(body))


def signature_text(signature: bytes) -> str:
    """Write a signature of any curve; one of 64 bytes becomes ``sig…``.

    Raises MalformedBytes when no signature has this length.
    """
    kind = SIGNATURE_OF_LENGTH.get(len(signature))
    if kind is None:
        raise MalformedBytes(f"no signature has {len(signature)} bytes")
    return encode(kind, signature)


def decode(prefixes: Prefix | Iterable[Prefix], text: str) -> bytes:
    """Return the payload of a text that has one of the given prefixes.

    Raises MalformedBytes.
    """
    return read(prefixes, text)[1]


def read(prefixes: Prefix | Iterable[Prefix], text: str) -> tuple[Prefix, bytes]:
    """Return which of the given prefixes a text has, and its payload.

    Raises MalformedBytes for a letter outside the alphabet, a wrong checksum, or a text that
    is none of the given kinds. The text itself is never quoted: it may be a secret.
    """
    kinds = (prefixes,) if isinstance(prefixes, Prefix) else tuple(prefixes)
    try:
        raw = _bytes_of(text)
    except MalformedBytes as error:
        raise _none_of(kinds, f": {error}") from None
    body, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
    if checksum != _checksum(body):
        raise _none_of(kinds, ": its checksum is wrong")
    for kind in kinds:
        if len(body) == len(kind.head) + kind.payload_bytes and body.startswith(kind.head):
            return kind, body[len(kind.head) :]
    raise _none_of(kinds)


def _none_of(kinds: Iterable[Prefix], why: str = "") -> MalformedBytes:
    names = [kind.name for kind in kinds]
    if len(names) > 1:  # the same thing of several curves or networks has one name
        names = list(dict.fromkeys(_CURVE.sub("", name) for name in names))
    return MalformedBytes(f"this text is not {_with_article(' or '.join(names))}{why}")


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiouE' or name.startswith('ML') else 'a'} {name}"


def _checksum(body: bytes) -> bytes:
    return sha256(sha256(body).digest()).digest()[:_CHECKSUM_BYTES]


def _base58(raw: bytes) -> str:
    number = int.from_bytes(raw)
    pairs = []
    while number >= 58:
        number, pair = divmod(number, 58 * 58)
        pairs.append(_PAIR_OF_DIGITS[pair])
    pairs.append(_ALPHABET[number])
    zeros = len(raw) - len(raw.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(pairs)).lstrip("1")


def _bytes_of(text: str) -> bytes:
    if len(text) > _TEXT_LETTERS_MAX:
        raise MalformedBytes(f"it is longer than {_TEXT_LETTERS_MAX} letters")
    number = 0
    for letter in text:
        digit = _DIGIT_OF_LETTER.get(letter)
        if digit is None:
            raise MalformedBytes("a letter is outside the base58 alphabet")
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8)
