"""What signs with a key: the key itself, or back-ends that have it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from signers.backends.key_uri import HttpKey, LedgerKey, Pkcs11Key, TcpKey, UnixKey
from signers.errors import Unavailable
from signers.formats.hashes import blake2b_32
from signers.keyring.keys import PublicKey, SecretKey

# Makes chosen keys slow, to try the pool with a slow signer: "<key hash>=<ms>,<key hash>=<ms>".
# (Upstream's baker has TEZOS_SIGN_DELAY_I_KNOW_WHAT_I_AM_DOING for the same.)
SIGN_DELAY_ENV = "FORGEPOOL_SIGN_DELAY_MS"


class KeyMoved(Unavailable):
    """The key directory says now that the key is kept in another way: ask again."""

    code = "key_moved"


@dataclass(frozen=True, slots=True)
class DelayedKey:
    """A key of the directory that plays a slow device, for trials."""

    key_hash: str
    delay_ms: int
    secret: SecretKey = field(repr=False)

    @property
    def authority(self) -> str:
        """Each has a device of its own."""
        return f"delayed:{self.key_hash}"


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """A key on a device or in a token, which knows it by its place and not by its hash."""

    key_hash: str
    place: LedgerKey | Pkcs11Key

    @property
    def authority(self) -> str:
        """Keys of one device share a fate."""
        return self.place.authority


Source = HttpKey | TcpKey | UnixKey | DeviceKey | DelayedKey


@dataclass(frozen=True, slots=True)
class LocalSigner:
    """A key in this process: it signs at once, and the same each time."""

    is_local: ClassVar[bool] = True
    sign: Callable[[bytes, bytes], bytes]  # message, its digest
    public_key: PublicKey


@dataclass(frozen=True, slots=True)
class BackEndSigner:
    """A key elsewhere: who has it, in the order in which they are asked."""

    is_local: ClassVar[bool] = False
    key_hash: str
    sources: tuple[Source, ...]
    public_key: PublicKey | None  # None: the back-end is asked for it


class DelayedSigner:
    """The back-end of a DelayedKey: it signs, after a while, whatever the time limit."""

    def __init__(self, key: DelayedKey) -> None:
        self._key = key

    def sign(self, public_key: PublicKey, key_hash: str, message: bytes, timeout_s: float) -> bytes:
        time.sleep(self._key.delay_ms / 1000)
        return self._key.secret.sign(message, blake2b_32(message))

    def public_key(self, key_hash: str, timeout_s: float) -> PublicKey:
        return self._key.secret.public_key

    def close(self) -> None:
        """It holds nothing."""


def delays_from_environment(value: str) -> dict[str, int]:
    """Read FORGEPOOL_SIGN_DELAY_MS; raises ValueError."""
    return {
        key.strip(): int(ms)
        for key, _, ms in (part.partition("=") for part in value.split(",") if part.strip())
    }
