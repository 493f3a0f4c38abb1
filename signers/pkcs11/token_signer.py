"""The back-end that signs with the keys of one token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from pkcs11 import PKCS11Error

from signers.backends.backend import SignerUnknownKey
from signers.backends.key_uri import Pkcs11Key
from signers.errors import SignersError
from signers.formats.hashes import blake2b_32
from signers.keyring.keys import PublicKey
from signers.pkcs11.module import Module
from signers.pkcs11.token_errors import MAY_BE_STALE, KeyMissing, error_of
from signers.pkcs11.token_key import TokenKey, find_key

# After opening the module anew was of no use: the other tokens of the module lose their logins
# by it each time. A key that is missing is more likely deleted than out of sight.
REST_S: Final = 1.0
KEY_REST_S: Final = 30.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Found:
    """A key object, and under which circumstances it was found."""

    place: Pkcs11Key
    generation: int
    key: TokenKey


class TokenSigner:
    """Signs with the keys of one token, one at a time; `place_of` says where in it a key is.

    `read_pin` is asked when a login is due.
    """

    def __init__(
        self,
        module: Module,
        place_of: Callable[[str], Pkcs11Key | None],
        read_pin: Callable[[Pkcs11Key], str | None],
    ) -> None:
        self._module = module
        self._place_of = place_of
        self._read_pin = read_pin
        self._found: dict[str, _Found] = {}  # by hash
        self._rests_until = 0.0
        self._key_rests_until: dict[str, float] = {}  # by hash

    def sign(self, public_key: PublicKey, key_hash: str, message: bytes, timeout_s: float) -> bytes:
        """Have the digest of a message signed. Raises the errors of `token_errors`."""
        digest = blake2b_32(message)
        return self._in_turn(
            key_hash, timeout_s, lambda: self._key(key_hash, public_key).sign(digest)
        )

    def public_key(self, key_hash: str, timeout_s: float) -> PublicKey:
        """Read a key's public key. Raises the errors of `token_errors`."""
        return self._in_turn(key_hash, timeout_s, lambda: self._key(key_hash, None).public_key)

    def close(self) -> None:
        """Let go of the module."""
        self._found.clear()
        self._module.close()

    def _in_turn(self, key_hash: str, timeout_s: float, ask: Callable[[], T]) -> T:
        """Ask, and once more with the module opened anew if what we hold of it may be void.

        To ask again is harmless: see `token_errors`.
        """
        with self._module.turn(timeout_s):
            try:
                with _translated():
                    return ask()
            except MAY_BE_STALE as error:
                self._found.pop(key_hash, None)
                if self._rests(key_hash, error):
                    raise
            try:
                with _translated():
                    self._module.restart()
                    return ask()
            except MAY_BE_STALE as error:
                self._rest(key_hash, error)
                raise

    def _rests(self, key_hash: str, error: SignersError) -> bool:
        until = self._rests_until
        if isinstance(error, KeyMissing):
            until = max(until, self._key_rests_until.get(key_hash, 0.0))
        return time.monotonic() < until

    def _rest(self, key_hash: str, error: SignersError) -> None:
        now = time.monotonic()
        self._rests_until = now + REST_S
        if isinstance(error, KeyMissing):
            self._key_rests_until[key_hash] = now + KEY_REST_S

    def _key(self, key_hash: str, expected: PublicKey | None) -> TokenKey:
        place = self._place_of(key_hash)
        if place is None:
            raise SignerUnknownKey(f"{key_hash} is not in this token")
        found, generation = self._found.get(key_hash), self._module.generation
        if found is None or (found.place, found.generation) != (place, generation):
            token = self._module.token(place)
            session = self._module.session(token, self._read_pin(place))
            key = find_key(session, place, key_hash, expected)
            found = self._found[key_hash] = _Found(place, generation, key)
        return found.key


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the wrapper's exceptions into ours."""
    try:
        yield
    except PKCS11Error as failure:
        raise error_of(failure) from failure
