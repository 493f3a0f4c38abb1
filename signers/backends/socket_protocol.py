"""The frames of octez-signer over TCP and Unix sockets, in both directions.

    frame    = length u16 ‖ message                     both ways, any number on a connection
    request  = tag u8 ‖ fields
    answer   = 00 ‖ value                               which value, only the request says
             | 01 ‖ error trace

A signature that ends a message has no length and no presence byte. Key hashes are tagged
(`tagged_keys`), with one exception: see `Dialect`.

Pure: bytes in, values out, and MalformedBytes for every bytes that are none.

Source: Octez and Mavryk ``src/lib_signer_services/signer_messages.ml``,
``src/lib_base/unix/socket.ml``, ``src/bin_signer/socket_daemon.ml``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar, assert_never

from signers.backends import bson
from signers.backends.error_trace import Error, ErrorTrace
from signers.errors import MalformedBytes
from signers.formats.base58 import BLS_PUBLIC_KEY, BLS_SIGNATURE, SIGNATURE_OF_LENGTH
from signers.formats.codec import Reader, boolean, optional, sized
from signers.formats.networks import Network
from signers.formats.tagged_keys import BLS_TAG, PUBLIC_KEYS, TAGGED_HASH_BYTES

HEAD_BYTES = 2
MESSAGE_BYTES_MAX = 0xFFFF  # what a length of 16 bits can say
NONCE_BYTES = 32
# Signature versions: 0 no BLS, 1 message augmentation, 2 proof of possession, 3 with ML-DSA.
VERSION_MAX = 3

_OK, _ERROR = 0x00, 0x01
# A client that must authenticate signs these two bytes, the tagged key hash and the data. Octez
# declares other tags for nonces, but client and server use 1 everywhere.
_AUTHENTICATION = b"\x04\x01"
_POSSESSION_AUTHENTICATION = b"\x04\x04"

Value = TypeVar("Value")


class Dialect(Enum):
    """How a request to sign names a BLS key.

    PLAIN: as everywhere (Mavryk, Octez before 23.0). VERSIONED: the tag once more in front, and
    the signature version behind (Octez since 23.0); other keys as before.
    """

    PLAIN = "plain"
    VERSIONED = "versioned"

    @classmethod
    def of(cls, network: Network) -> "Dialect":
        """Return what clients and signers of a network speak."""
        return cls.VERSIONED if network.name == "tezos" else cls.PLAIN


# -- requests -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sign:
    """Sign `data`, watermark included; `version` is that of a BLS key's signature."""

    key_hash: bytes  # 21 bytes, as in every other request
    data: bytes
    authentication: bytes | None = None  # signature of `authentication_bytes`
    version: int | None = None


@dataclass(frozen=True, slots=True)
class AskPublicKey:
    key_hash: bytes


@dataclass(frozen=True, slots=True)
class AskAuthorizedKeys:
    """Whose authentication is wanted; clients ask before every signature."""


@dataclass(frozen=True, slots=True)
class AskNonce:
    """The deterministic nonce for `data`."""

    key_hash: bytes
    data: bytes
    authentication: bytes | None = None


@dataclass(frozen=True, slots=True)
class AskNonceHash:
    key_hash: bytes
    data: bytes
    authentication: bytes | None = None


@dataclass(frozen=True, slots=True)
class AskSupportsNonces:
    key_hash: bytes


@dataclass(frozen=True, slots=True)
class AskKnownKeys:
    pass


@dataclass(frozen=True, slots=True)
class AskPossessionProof:
    """Prove the possession of a BLS key, over its own public key or another (48 bytes).

    `authentication` is a signature of `possession_authentication_bytes`.
    """

    key_hash: bytes
    over: bytes | None = None
    authentication: bytes | None = None


Request = (
    Sign
    | AskPublicKey
    | AskAuthorizedKeys
    | AskNonce
    | AskNonceHash
    | AskSupportsNonces
    | AskKnownKeys
    | AskPossessionProof
)


def encode_request(request: Request, dialect: Dialect) -> bytes:
    """Write a request, without its frame. Raises MalformedBytes for a BLS key without version."""
    match request:
        case Sign(key_hash, data, authentication, version):
            key = _signing_key(key_hash, version, dialect)
            return b"\x00" + key + sized(data) + (authentication or b"")
        case AskPublicKey(key_hash):
            return b"\x01" + key_hash
        case AskAuthorizedKeys():
            return b"\x02"
        case AskNonce(key_hash, data, authentication):
            return b"\x03" + key_hash + sized(data) + (authentication or b"")
        case AskNonceHash(key_hash, data, authentication):
            return b"\x04" + key_hash + sized(data) + (authentication or b"")
        case AskSupportsNonces(key_hash):
            return b"\x05" + key_hash
        case AskKnownKeys():
            return b"\x06"
        case AskPossessionProof(key_hash, over, authentication):
            return b"\x07" + key_hash + optional(over) + (authentication or b"")
        case _:
            assert_never(request)


def decode_request(message: bytes, dialect: Dialect) -> Request:
    """Read a request, without its frame. Raises MalformedBytes."""
    reader = Reader(message)
    request = _read_request(reader, dialect)
    reader.finish()
    return request


def authentication_bytes(key_hash: bytes, data: bytes) -> bytes:
    """Return what a client signs, by the rule of its own key's curve, to show who it is."""
    return _AUTHENTICATION + key_hash + data


def possession_authentication_bytes(key_hash: bytes, over: bytes | None) -> bytes:
    """Return what a client signs to ask for a proof of possession (Octez of 2026)."""
    return _POSSESSION_AUTHENTICATION + key_hash + (over or b"")


def _signing_key(key_hash: bytes, version: int | None, dialect: Dialect) -> bytes:
    if dialect is Dialect.PLAIN or key_hash[0] != BLS_TAG:
        return key_hash
    if version is None:
        raise MalformedBytes("a request to sign with a BLS key names the signature version")
    return key_hash[:1] + key_hash + bytes([version])


def _read_request(reader: Reader, dialect: Dialect) -> Request:
    tag = reader.u8()
    match tag:
        case 0x00:
            key_hash, version = _read_signing_key(reader, dialect)
            data = reader.sized().rest()
            return Sign(key_hash, data, _read_authentication(reader), version)
        case 0x01:
            return AskPublicKey(_read_hash(reader))
        case 0x02:
            return AskAuthorizedKeys()
        case 0x03 | 0x04:
            kind = AskNonce if tag == 0x03 else AskNonceHash
            key_hash, data = _read_hash(reader), reader.sized().rest()
            return kind(key_hash, data, _read_authentication(reader))
        case 0x05:
            return AskSupportsNonces(_read_hash(reader))
        case 0x06:
            return AskKnownKeys()
        case 0x07:
            key_hash, over = _read_hash(reader), _read_proven_key(reader)
            return AskPossessionProof(key_hash, over, _read_authentication(reader))
    raise MalformedBytes(f"a signer knows no request with tag {tag}")


def _read_signing_key(reader: Reader, dialect: Dialect) -> tuple[bytes, int | None]:
    if dialect is Dialect.PLAIN or reader.data[reader.offset : reader.offset + 1] != b"\x03":
        return _read_hash(reader), None
    reader.u8()
    key_hash, version = _read_hash(reader), reader.u8()
    if key_hash[0] != BLS_TAG:
        raise MalformedBytes("the two tags of a BLS key differ")
    if version > VERSION_MAX:
        raise MalformedBytes(f"signature version {version} is not known")
    return key_hash, version


def _read_hash(reader: Reader) -> bytes:
    tagged = reader.take(TAGGED_HASH_BYTES)
    if tagged[0] >= len(PUBLIC_KEYS):
        raise MalformedBytes(f"no key hash has tag {tagged[0]}")
    return tagged


def _read_proven_key(reader: Reader) -> bytes | None:
    """Read a key that may be absent; newer clients write 01, where older ones write ff."""
    presence = reader.u8()
    if presence not in (0x00, 0x01, 0xFF):
        raise MalformedBytes(f"a key is there (01, ff) or not (00), not {presence:02x}")
    return reader.take(BLS_PUBLIC_KEY.payload_bytes) if presence else None


def _read_authentication(reader: Reader) -> bytes | None:
    return _read_signature(reader) if reader.remaining else None


# -- answers --------------------------------------------------------------------------------------


def signature_answer(signature: bytes) -> bytes:
    """Answer Sign and AskPossessionProof."""
    return bytes([_OK]) + signature


def public_key_answer(tagged: bytes) -> bytes:
    """Answer AskPublicKey."""
    return bytes([_OK]) + tagged


def authorized_keys_answer(key_hashes: Iterable[bytes] | None) -> bytes:
    """Answer AskAuthorizedKeys; None: nobody needs to authenticate."""
    if key_hashes is None:
        return bytes([_OK, 0])
    return bytes([_OK, 1]) + sized(b"".join(key_hashes))


def nonce_answer(nonce: bytes) -> bytes:
    """Answer AskNonce and AskNonceHash."""
    return bytes([_OK]) + sized(nonce)


def supports_nonces_answer(value: bool) -> bytes:
    """Answer AskSupportsNonces."""
    return bytes([_OK]) + boolean(value)


def known_keys_answer(key_hashes: Iterable[bytes]) -> bytes:
    """Answer AskKnownKeys."""
    return bytes([_OK]) + sized(b"".join(key_hashes))


def error_answer(trace: ErrorTrace) -> bytes:
    """Answer anything with an error trace; one that is too long for a frame loses its end."""
    kept, room = [], MESSAGE_BYTES_MAX - 5
    for error in trace.errors:
        item = sized(bson.encode(error))
        if len(item) > room:
            break
        kept.append(item)
        room -= len(item)
    return bytes([_ERROR]) + sized(b"".join(kept))


def decode_answer(message: bytes, read: Callable[[Reader], Value]) -> Value | ErrorTrace:
    """Read an answer, without its frame, as one of the values below. Raises MalformedBytes."""
    reader = Reader(message)
    status = reader.u8()
    if status == _ERROR:
        trace = _read_trace(reader.sized())
        reader.finish()
        return trace
    if status != _OK:
        raise MalformedBytes(f"an answer begins with 00 or 01, not {status:02x}")
    value = read(reader)
    reader.finish()
    return value


def a_signature(reader: Reader) -> bytes:
    """Read what answers Sign."""
    return _read_signature(reader)


def a_possession_proof(reader: Reader) -> bytes:
    """Read what answers AskPossessionProof."""
    return reader.take(BLS_SIGNATURE.payload_bytes)


def a_public_key(reader: Reader) -> bytes:
    """Read what answers AskPublicKey: tag and bytes."""
    tag = reader.u8()
    if tag >= len(PUBLIC_KEYS):
        raise MalformedBytes(f"no public key has tag {tag}")
    return bytes([tag]) + reader.take(PUBLIC_KEYS[tag].payload_bytes)


def authorized_keys(reader: Reader) -> list[bytes] | None:
    """Read what answers AskAuthorizedKeys; None: nobody needs to authenticate."""
    presence = reader.u8()
    if presence > 1:
        raise MalformedBytes(f"authorized keys begin with 00 or 01, not {presence:02x}")
    return known_keys(reader) if presence else None


def known_keys(reader: Reader) -> list[bytes]:
    """Read what answers AskKnownKeys."""
    hashes, found = reader.sized(), []
    while hashes.remaining:
        found.append(_read_hash(hashes))
    return found


def a_nonce(reader: Reader) -> bytes:
    """Read what answers AskNonce and AskNonceHash."""
    content = reader.sized()
    nonce = content.take(NONCE_BYTES)
    content.finish()
    return nonce


def supports_nonces(reader: Reader) -> bool:
    """Read what answers AskSupportsNonces."""
    return reader.boolean()


def _read_signature(reader: Reader) -> bytes:
    signature = reader.rest()
    if len(signature) not in SIGNATURE_OF_LENGTH:
        raise MalformedBytes(f"no signature has {len(signature)} bytes")
    return signature


def _read_trace(reader: Reader) -> ErrorTrace:
    errors: list[Error] = []
    while reader.remaining:
        errors.append(bson.decode(reader.sized().rest()))
    return ErrorTrace(tuple(errors))


# -- frames ---------------------------------------------------------------------------------------


def frame(message: bytes) -> bytes:
    """Put a message behind its length. Raises MalformedBytes for one that is too long."""
    if len(message) > MESSAGE_BYTES_MAX:
        raise MalformedBytes(
            f"a signer's socket carries {MESSAGE_BYTES_MAX} bytes at a time, not {len(message)}"
        )
    return len(message).to_bytes(HEAD_BYTES) + message


class FrameReader:
    """Finds the messages in what a connection brings, however it is cut; holds one at most."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, received: bytes) -> list[bytes]:
        """Take what was received; return the messages that are whole by now."""
        self._buffer += received
        messages = []
        while (end := self._end_of_first()) is not None:
            messages.append(bytes(self._buffer[HEAD_BYTES:end]))
            del self._buffer[:end]
        return messages

    @property
    def is_within_frame(self) -> bool:
        """Whether a connection that ends now ends in the middle of a message."""
        return bool(self._buffer)

    def _end_of_first(self) -> int | None:
        if len(self._buffer) < HEAD_BYTES:
            return None
        end = HEAD_BYTES + int.from_bytes(self._buffer[:HEAD_BYTES])
        return end if len(self._buffer) >= end else None
