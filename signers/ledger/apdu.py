"""The commands of the baking app, and what it answers: bytes from and to values, nothing else.

A command is ``CLA INS P1 P2 Lc data``, with at most 235 bytes of data. An answer is data and a
status word of two bytes (`status_words`). The same app runs for Tezos and Mavryk.

Source: ledger-app-tezos-baking 2.5.1 (``APDUs.md``, ``src/apdu*.c``), Octez
``src/lib_signer_backends/unix/ledger.available.ml``.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.base58 import Prefix
from signers.ledger.device_errors import NotForDevice

CLA: Final = 0x80
DATA_BYTES_MAX: Final = 235  # more is refused with 917E
HARDENED: Final = 1 << 31
COIN_TEZOS: Final = 1729
COIN_MAVRYK: Final = 1969  # of Mavryk's own app; some of its clients still use Tezos' path
LEVEL_MAX: Final = (1 << 30) - 1
# Later apps answer SIGN_WITH_HASH, so that a reply that was mixed up is noticed.
VERSION_WITH_HASH: Final = (2, 0, 1)
BAKING_CLASS: Final = 1
WALLET_CLASS: Final = 0

Path = Sequence[int]


class Instruction(IntEnum):
    """The baking app's commands."""

    VERSION = 0x00
    AUTHORIZE_BAKING = 0x01
    GET_PUBLIC_KEY = 0x02
    PROMPT_PUBLIC_KEY = 0x03
    SIGN = 0x04
    RESET = 0x06
    QUERY_AUTH_KEY = 0x07
    QUERY_MAIN_WATERMARK = 0x08
    GIT = 0x09
    SETUP = 0x0A
    QUERY_ALL_WATERMARKS = 0x0B
    DEAUTHORIZE = 0x0C
    QUERY_AUTH_KEY_WITH_CURVE = 0x0D
    HMAC = 0x0E
    SIGN_WITH_HASH = 0x0F


# Those that put a question on the screen and wait for a finger.
PROMPTING: Final = frozenset(
    {
        Instruction.AUTHORIZE_BAKING,
        Instruction.PROMPT_PUBLIC_KEY,
        Instruction.RESET,
        Instruction.SETUP,
    }
)


class Derivation(IntEnum):
    """How a key is derived, and its curve: P2 of most commands."""

    ED25519 = 0
    SECP256K1 = 1
    P256 = 2
    BIP32_ED25519 = 3


PUBLIC_KEY_PREFIX: Final[dict[Derivation, Prefix]] = {
    Derivation.ED25519: base58.ED25519_PUBLIC_KEY,
    Derivation.SECP256K1: base58.SECP256K1_PUBLIC_KEY,
    Derivation.P256: base58.P256_PUBLIC_KEY,
    Derivation.BIP32_ED25519: base58.ED25519_PUBLIC_KEY,
}


class Version(NamedTuple):
    """Which app is open: `app_class` 1 bakes, 0 is a wallet."""

    app_class: int
    major: int
    minor: int
    patch: int

    @property
    def number(self) -> tuple[int, int, int]:
        return self.major, self.minor, self.patch

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


class DeviceMark(NamedTuple):
    """The highest level and round that the device has signed for some chain."""

    level: int
    round: int


class DeviceMarks(NamedTuple):
    """All of a device's marks; `round` is 0 in answers of apps before Tenderbake."""

    main: DeviceMark
    test: DeviceMark
    chain_id: bytes  # of the main chain; zeros: every chain counts as main


class AuthorisedKey(NamedTuple):
    """The key that a device bakes with."""

    derivation: Derivation
    path: tuple[int, ...]


def full_path(path: Path, coin: int = COIN_TEZOS) -> tuple[int, ...]:
    """Put the root of a coin in front: 44'/1729' and what a key's URI says."""
    return (44 | HARDENED, coin | HARDENED, *path)


def path_text(path: Path) -> str:
    """Write a path as ``44h/1729h/0h``."""
    return "/".join(f"{step & ~HARDENED}{'h' if step & HARDENED else ''}" for step in path)


# -- commands -------------------------------------------------------------------------------------


def command(instruction: Instruction, p1: int = 0, p2: int = 0, data: bytes = b"") -> bytes:
    """Make a command; always with its length byte, which some apps insist on."""
    if len(data) > DATA_BYTES_MAX:
        raise NotForDevice(f"{len(data)} bytes do not fit into one command of {DATA_BYTES_MAX}")
    return bytes([CLA, instruction, p1, p2, len(data)]) + data


def encode_path(path: Path) -> bytes:
    """A count and as many numbers of 4 bytes, the top bit of the hardened ones set."""
    return bytes([len(path)]) + b"".join(step.to_bytes(4) for step in path)


def sign_commands(
    derivation: Derivation, path: Path, message: bytes, *, with_hash: bool
) -> tuple[bytes, bytes]:
    """The pair that signs a message (watermark included): choose the key, then the bytes.

    Nothing may come between the two. Raises NotForDevice for a message that is too long.
    """
    sign = Instruction.SIGN_WITH_HASH if with_hash else Instruction.SIGN
    choose = command(sign, 0x00, derivation, encode_path(path))
    return choose, command(sign, 0x81, derivation, message)


def gives_signature(command: bytes) -> bool:
    """Say whether a command is the second of such a pair."""
    is_second = command[2:3] == b"\x81"
    return is_second and command[1] in (Instruction.SIGN, Instruction.SIGN_WITH_HASH)


def setup_command(
    derivation: Derivation, path: Path, chain_id: bytes, main_level: int, test_level: int
) -> bytes:
    """Authorise a key for a chain and set both marks."""
    data = chain_id + main_level.to_bytes(4) + test_level.to_bytes(4) + encode_path(path)
    return command(Instruction.SETUP, 0, derivation, data)


# -- answers --------------------------------------------------------------------------------------


def read_version(data: bytes) -> Version:
    """Read the answer to VERSION. Raises MalformedBytes."""
    if len(data) != 4:
        raise MalformedBytes(f"a version of {len(data)} bytes")
    return Version(*data)


def read_public_key(data: bytes, derivation: Derivation) -> bytes:
    """Return the raw public key, compressed where its curve does that. Raises MalformedBytes."""
    if not data or data[0] != len(data) - 1:
        raise MalformedBytes("a public key of another length than it says")
    key = data[1:]
    if derivation in (Derivation.ED25519, Derivation.BIP32_ED25519):
        if len(key) != 33 or key[0] != 0x02:
            raise MalformedBytes("this is no Ed25519 key")
        return key[1:]
    if len(key) != 65 or key[0] != 0x04:
        raise MalformedBytes("this is no uncompressed key")
    return bytes([0x02 | key[64] & 1]) + key[1:33]


def read_signature(data: bytes, derivation: Derivation) -> bytes:
    """Return a signature's 64 bytes. Raises MalformedBytes."""
    if derivation in (Derivation.ED25519, Derivation.BIP32_ED25519):
        if len(data) != 64:
            raise MalformedBytes(f"a signature of {len(data)} bytes")
        return data
    return _raw_of_der(data)


def read_marks(data: bytes) -> DeviceMarks:
    """Read the answer to QUERY_ALL_WATERMARKS. Raises MalformedBytes."""
    numbers = [int.from_bytes(data[i : i + 4]) for i in range(0, len(data) - 4, 4)]
    if len(data) == 20:
        main, test = DeviceMark(*numbers[:2]), DeviceMark(*numbers[2:])
    elif len(data) == 12:  # apps before Tenderbake
        main, test = DeviceMark(numbers[0], 0), DeviceMark(numbers[1], 0)
    else:
        raise MalformedBytes(f"high watermarks of {len(data)} bytes")
    return DeviceMarks(main, test, data[-4:])


def read_authorised_key(data: bytes) -> AuthorisedKey | None:
    """Read the answer to QUERY_AUTH_KEY_WITH_CURVE: None when no key is authorised.

    Raises MalformedBytes.
    """
    if len(data) < 2 or len(data) != 2 + 4 * data[1]:
        raise MalformedBytes("an authorised key of another length than it says")
    if data[1] == 0:
        return None
    try:
        derivation = Derivation(data[0])
    except ValueError:
        raise MalformedBytes(f"the derivation {data[0]} is not known") from None
    path = tuple(int.from_bytes(data[i : i + 4]) for i in range(2, len(data), 4))
    return AuthorisedKey(derivation, path)


def _raw_of_der(data: bytes) -> bytes:
    """r and s of 32 bytes each; the first byte may carry a parity bit that is none of DER's."""
    body = data[2:]
    if len(data) < 8 or data[0] & 0xFE != 0x30 or data[1] != len(body):
        raise MalformedBytes("this is no DER signature")
    numbers, rest = [], body
    for _ in range(2):
        if len(rest) < 2 or rest[0] != 0x02 or len(rest) < 2 + rest[1]:
            raise MalformedBytes("this is no DER signature")
        number = rest[2 : 2 + rest[1]].lstrip(b"\0")
        if len(number) > 32:
            raise MalformedBytes("a number of this signature is too long")
        numbers.append(number.rjust(32, b"\0"))
        rest = rest[2 + rest[1] :]
    if rest:
        raise MalformedBytes("something stands behind this signature")
    return b"".join(numbers)
