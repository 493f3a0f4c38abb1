"""The baking app and the device around it: a command's bytes in, an answer's bytes out.

Faithful where a client can tell: the order of the parser's checks, the two packets of a
signature, the mark that moves before the signature is made, DER with its parity bit. It is
version 2.5.1 of the Tezos app; of its curves, BLS and BIP32-Ed25519 are missing.

Source: ledger-app-tezos-baking 2.5.1 ``src/apdu*.c``, ``src/baking_auth.c``, ``test/``.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from hashlib import sha512
from hmac import digest as hmac_digest
from typing import Final

from signers.errors import SignersError
from signers.formats.hashes import blake2b_20, blake2b_32
from signers.formats.networks import GENERIC_WATERMARK, TEZOS
from signers.formats.operation import decode_operation
from signers.formats.signable import Kind, Signable, read_signable
from signers.keyring.curve import Curve
from signers.keyring.keys import SecretKey
from signers.ledger.apdu import CLA, DATA_BYTES_MAX, HARDENED, LEVEL_MAX, Derivation, Instruction
from signers.ledger_emulator.derivation import derive, seed_of
from signers.ledger_emulator.device_marks import ChainMarks

VERSION: Final = (2, 5, 1)
COMMIT: Final = b"50ec8cfc"
_ROOT_STEPS: Final = 2  # 44' and the coin; the app refuses every other root
_PATH_STEPS_MAX: Final = 10
_CURVES: Final = {
    Derivation.ED25519: Curve.ED25519,
    Derivation.SECP256K1: Curve.SECP256K1,
    Derivation.P256: Curve.P256,
}
# What the device signs to have a secret for HMAC that never leaves it.
_HMAC_SECRET: Final = bytes.fromhex(
    "6c4e7e706c54d367c87a8d89c16adfe06cb5680cb7d18e625a90475ec0dbdb9f"
)

OK: Final = 0x9000
CRYPTO_FAILED: Final = 0x9001
NOT_ALLOWED: Final = 0x6982
REJECTED: Final = 0x6985
WRONG_VALUES: Final = 0x6A80
WRONG_PARAMETER: Final = 0x6B00
WRONG_LENGTH: Final = 0x6C00
UNKNOWN_INSTRUCTION: Final = 0x6D00
UNKNOWN_CLASS: Final = 0x6E00
LOCKED: Final = 0x5515
NOT_UNDERSTOOD: Final = 0x9405
TOO_LONG: Final = 0x917E


class App(Enum):
    """What is open on the device."""

    BAKING = "baking"
    WALLET = "wallet"
    DASHBOARD = "dashboard"


class Finger(Enum):
    """What the person in front of the device does when it asks."""

    ACCEPTS = "accepts"
    REJECTS = "rejects"


class _Status(Exception):
    """A command ends with a status word and no data."""

    def __init__(self, word: int) -> None:
        super().__init__(f"{word:04x}")
        self.word = word


class BakingApp:
    """One device's state; `coin` is what its app derives keys for (1729 Tezos, 1969 Mavryk)."""

    def __init__(self, mnemonic: str, *, coin: int = 1729) -> None:
        self._seed = seed_of(mnemonic)
        self._root = (44 | HARDENED, coin | HARDENED)
        self.app = App.BAKING
        self.is_locked = False
        self.finger = Finger.ACCEPTS
        self.marks = ChainMarks()
        self.authorised: tuple[Derivation, tuple[int, ...]] | None = None
        self._chosen: tuple[Derivation, tuple[int, ...]] | None = None
        self._is_second_packet = False

    def exchange(self, command: bytes) -> bytes:
        """Answer a command: data and status word."""
        try:
            return self._answer(command) + OK.to_bytes(2)
        except _Status as status:
            return status.word.to_bytes(2)

    def _answer(self, command: bytes) -> bytes:
        if self.is_locked:
            raise _Status(LOCKED)
        if len(command) < 4:
            raise _Status(WRONG_LENGTH)
        length, data = (command[4] if len(command) > 4 else 0), command[5:]
        if command[0] == 0xB0 and command[1:4] == b"\1\0\0":
            return self._app_name()
        if self.app is App.DASHBOARD:
            raise _Status(UNKNOWN_CLASS)
        if len(data) != length:
            raise _Status(WRONG_LENGTH)
        if length > DATA_BYTES_MAX:
            raise _Status(TOO_LONG)
        if command[0] != CLA:
            raise _Status(UNKNOWN_CLASS)
        if self.app is App.WALLET:
            if command[1] == Instruction.VERSION:
                return bytes([0, *VERSION])
            raise _Status(UNKNOWN_INSTRUCTION)
        service = self._services().get(command[1])
        if service is None:
            raise _Status(UNKNOWN_INSTRUCTION)
        return service(command[2], command[3], data)

    def _services(self) -> dict[int, Callable[[int, int, bytes], bytes]]:
        return {
            Instruction.VERSION: self._plain(lambda: bytes([1, *VERSION])),
            Instruction.GIT: self._plain(lambda: COMMIT + b"\0"),
            Instruction.GET_PUBLIC_KEY: self._get_public_key,
            Instruction.PROMPT_PUBLIC_KEY: self._prompt_public_key,
            Instruction.AUTHORIZE_BAKING: self._authorize,
            Instruction.SETUP: self._set_up,
            Instruction.RESET: self._reset,
            Instruction.DEAUTHORIZE: self._plain(self._deauthorize),
            Instruction.QUERY_AUTH_KEY: self._plain(self._authorised_path),
            Instruction.QUERY_AUTH_KEY_WITH_CURVE: self._plain(self._authorised_key),
            Instruction.QUERY_MAIN_WATERMARK: self._plain(lambda: self.marks.to_bytes()[:8]),
            Instruction.QUERY_ALL_WATERMARKS: self._plain(self.marks.to_bytes),
            Instruction.SIGN: lambda p1, p2, data: self._sign(p1, p2, data, with_hash=False),
            Instruction.SIGN_WITH_HASH: lambda p1, p2, data: self._sign(
                p1, p2, data, with_hash=True
            ),
            Instruction.HMAC: self._hmac,
        }

    @staticmethod
    def _plain(answer: Callable[[], bytes]) -> Callable[[int, int, bytes], bytes]:
        """A command without parameters and data."""

        def service(p1: int, p2: int, data: bytes) -> bytes:
            if p1 or p2:
                raise _Status(WRONG_PARAMETER)
            if data:
                raise _Status(WRONG_VALUES)
            return answer()

        return service

    def _app_name(self) -> bytes:
        names = {App.BAKING: b"Tezos Baking", App.WALLET: b"Tezos Wallet", App.DASHBOARD: b"BOLOS"}
        version = ".".join(map(str, VERSION)).encode()
        name = names[self.app]
        return b"\1" + bytes([len(name)]) + name + bytes([len(version)]) + version

    # -- keys -------------------------------------------------------------------------------------

    def _get_public_key(self, p1: int, p2: int, data: bytes) -> bytes:
        chosen = self._choice(p1, p2, data)
        self._chosen = chosen
        return self._public_key(*chosen)

    def _prompt_public_key(self, p1: int, p2: int, data: bytes) -> bytes:
        key = self._get_public_key(p1, p2, data)
        self._ask()
        return key

    def _authorize(self, p1: int, p2: int, data: bytes) -> bytes:
        if not data and self.authorised is not None:
            chosen = self.authorised
        else:
            chosen = self._choice(p1, p2, data)
        key = self._public_key(*chosen)
        self._ask()
        self.authorised = chosen
        return key

    def _set_up(self, p1: int, p2: int, data: bytes) -> bytes:
        if len(data) < 12:
            raise _Status(WRONG_VALUES)
        main, test = int.from_bytes(data[4:8]), int.from_bytes(data[8:12])
        if main > LEVEL_MAX or test > LEVEL_MAX:
            raise _Status(WRONG_VALUES)
        chosen = self._choice(p1, p2, data[12:])
        key = self._public_key(*chosen)
        self._ask()
        self.marks = ChainMarks(data[:4])
        self.marks.main.level, self.marks.test.level = main, test
        self.authorised = chosen
        return key

    def _reset(self, p1: int, p2: int, data: bytes) -> bytes:
        if p1 or p2:
            raise _Status(WRONG_PARAMETER)
        level = int.from_bytes(data)
        if len(data) != 4 or level > LEVEL_MAX:
            raise _Status(WRONG_VALUES)
        self._ask()
        self.marks.reset(level)
        return b""

    def _deauthorize(self) -> bytes:
        self.authorised = None
        return b""

    def _authorised_path(self) -> bytes:
        return _path_bytes(self.authorised[1]) if self.authorised else b"\0"

    def _authorised_key(self) -> bytes:
        if self.authorised is None:
            return bytes(2)
        return bytes([self.authorised[0]]) + _path_bytes(self.authorised[1])

    def _ask(self) -> None:
        if self.finger is Finger.REJECTS:
            raise _Status(REJECTED)

    def _choice(self, p1: int, p2: int, data: bytes) -> tuple[Derivation, tuple[int, ...]]:
        if p1:
            raise _Status(WRONG_PARAMETER)
        return _derivation(p2), _path(data)

    def _key(self, derivation: Derivation, path: Sequence[int]) -> SecretKey:
        if tuple(path[:_ROOT_STEPS]) != self._root or derivation not in _CURVES:
            raise _Status(CRYPTO_FAILED)
        try:
            return derive(self._seed, _CURVES[derivation], path)
        except SignersError:
            raise _Status(CRYPTO_FAILED) from None

    def _public_key(self, derivation: Derivation, path: Sequence[int]) -> bytes:
        key = self._key(derivation, path).public_key
        body = b"\2" + key.raw if key.curve is Curve.ED25519 else _uncompressed(key.curve, key.raw)
        return bytes([len(body)]) + body

    # -- signing ----------------------------------------------------------------------------------

    def _sign(self, p1: int, p2: int, data: bytes, *, with_hash: bool) -> bytes:
        if p1 & 0x7F == 0:
            self._chosen = self._choice(0, p2, data)
            self._is_second_packet = False
            return b""
        if p1 & 0x7F != 1:
            raise _Status(WRONG_PARAMETER)
        if self._chosen is None:
            raise _Status(TOO_LONG)
        if self._is_second_packet or not p1 & 0x80:
            self._is_second_packet = True
            raise _Status(NOT_UNDERSTOOD)
        self._is_second_packet = True
        key = self._key(*self._chosen)
        self._permit(data, key)
        digest = blake2b_32(data)
        signature = _as_the_device_writes(key, key.sign(data, digest))
        return (digest if with_hash else b"") + signature

    def _permit(self, data: bytes, key: SecretKey) -> None:
        """Refuse what the baking app does not sign; else the mark moves, before it signs."""
        try:
            asked = read_signable(data)
        except SignersError:
            raise _Status(NOT_UNDERSTOOD) from None
        if asked.kind is Kind.GENERIC:
            self._permit_delegation(data, key)
        elif asked.kind is Kind.DAL_ATTESTATION:
            raise _Status(NOT_UNDERSTOOD)
        else:
            self._permit_duty(asked)

    def _permit_duty(self, asked: Signable) -> None:
        if self._chosen != self.authorised:
            raise _Status(NOT_ALLOWED)
        mark = self.marks.of(asked.chain_id)
        if asked.level > LEVEL_MAX or not mark.permits(asked.kind, asked.level, asked.round):
            raise _Status(WRONG_VALUES)
        mark.raise_to(asked.kind, asked.level, asked.round)

    def _permit_delegation(self, data: bytes, key: SecretKey) -> None:
        """Reveals of the key, and one delegation of its account to itself."""
        assert data[0] == GENERIC_WATERMARK
        contents = decode_operation(data[1:], TEZOS, signed=False).contents
        own = bytes([key.public_key.curve.value.tag]) + blake2b_20(key.public_key.raw)
        delegations = [c for c in contents if c.name == "delegation"]
        if len(delegations) > 1 or any(c.name not in ("reveal", "delegation") for c in contents):
            raise _Status(NOT_UNDERSTOOD)
        if any(c.fields["source"] != own for c in contents):
            raise _Status(NOT_UNDERSTOOD)
        if self._chosen != self.authorised or any(c.fields["delegate"] != own for c in delegations):
            raise _Status(NOT_ALLOWED)
        if delegations:
            self._ask()

    def _hmac(self, p1: int, p2: int, data: bytes) -> bytes:
        if p1:
            raise _Status(WRONG_PARAMETER)
        steps = data[0] if data else 0
        key = self._key(_derivation(p2), _path(data[: 1 + 4 * steps]))
        secret = sha512(_as_the_device_writes(key, key.sign(_HMAC_SECRET, _HMAC_SECRET))).digest()
        return hmac_digest(secret, data[1 + 4 * steps :], "sha256")


def _derivation(p2: int) -> Derivation:
    try:
        return Derivation(p2)
    except ValueError:
        raise _Status(WRONG_PARAMETER) from None


def _path(data: bytes) -> tuple[int, ...]:
    if not data or not 0 < data[0] <= _PATH_STEPS_MAX or len(data) < 1 + 4 * data[0]:
        raise _Status(WRONG_VALUES)
    if len(data) > 1 + 4 * data[0]:
        raise _Status(WRONG_LENGTH)
    return tuple(int.from_bytes(data[i : i + 4]) for i in range(1, len(data), 4))


def _path_bytes(path: Sequence[int]) -> bytes:
    return bytes([len(path)]) + b"".join(step.to_bytes(4) for step in path)


def _uncompressed(curve: Curve, raw: bytes) -> bytes:
    """A point with both of its coordinates: y is a root of x^3 + ax + b with the given parity."""
    prime, a, b = _EQUATIONS[curve]
    x = int.from_bytes(raw[1:])
    y = pow(x**3 + a * x + b, (prime + 1) // 4, prime)
    if y & 1 != raw[0] & 1:
        y = prime - y
    return b"\4" + raw[1:] + y.to_bytes(32)


# SEC 2: the prime, and a and b of the curve's equation. Both primes are 3 modulo 4.
_EQUATIONS: Final = {
    Curve.SECP256K1: (2**256 - 2**32 - 977, 0, 7),
    Curve.P256: (
        2**256 - 2**224 + 2**192 + 2**96 - 1,
        -3,
        0x5AC635D8_AA3A93E7_B3EBBD55_769886BC_651D06B0_CC53B0F6_3BCE3C3E_27D2604B,
    ),
}


def _as_the_device_writes(key: SecretKey, signature: bytes) -> bytes:
    """Ed25519 as it is; else DER, in whose first byte a device also says a parity."""
    if key.public_key.curve is Curve.ED25519:
        return signature
    numbers = b""
    for half in (signature[:32], signature[32:]):
        digits = half.lstrip(b"\0")
        if digits[0] & 0x80:
            digits = b"\0" + digits
        numbers += bytes([2, len(digits)]) + digits
    return bytes([0x30 | signature[0] & 1, len(numbers)]) + numbers
