"""The keys that this worker can sign with: which there are, and their secrets once needed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from signers.errors import SignersError
from signers.keyring.keystore import UNENCRYPTED, Keystore

_FILES = ("public_key_hashs", "secret_keys")
_Stamps = tuple[tuple[int, int, int] | None, ...]


class KeyReading(NamedTuple):
    """The hashes of the keys that can sign, and of which state of the files they are."""

    stamps: _Stamps
    hashes: frozenset[str]


class KeyRing:
    """A key store as a worker uses it; a key that is added while it runs is noticed."""

    def __init__(self, base_dir: Path) -> None:
        self._base_dir = base_dir
        self._keystore = Keystore(base_dir)
        self._signers: dict[str, Callable[[bytes], bytes]] = {}  # of keys that were used
        self._seen: _Stamps = ()
        self._hashes: frozenset[str] = frozenset()
        self.problem = ""  # why the key store could not be read the last time

    def look(self) -> bool:
        """Read the list of keys again if its files have changed; True when the list has."""
        try:
            if self._stamps() == self._seen:
                return False
            reading = self.read()
        except (SignersError, OSError) as e:
            self.problem = str(e)  # keep what we had: a file may be in the making
            return False
        return self.take(reading)

    def read(self) -> KeyReading:
        """The list of keys as it is now. Raises SignersError, OSError."""
        stamps = self._stamps()
        entries = self._keystore.entries()
        # Keys that are kept in another way cannot be loaded; no mark is taken for them.
        return KeyReading(stamps, frozenset(e.key_hash for e in entries if e.scheme == UNENCRYPTED))

    def take(self, reading: KeyReading) -> bool:
        """Go by a list of keys that was read; True when it is another one."""
        hashes = reading.hashes
        self.problem, self._seen = "", reading.stamps
        changed, self._hashes = hashes != self._hashes, hashes
        for key_hash in self._signers.keys() - hashes:  # no secret outlives its key's removal
            del self._signers[key_hash]
            self._keystore.forget(key_hash)
        return changed

    def _stamps(self) -> _Stamps:
        return tuple(_version(self._base_dir / name) for name in _FILES)

    @property
    def hashes(self) -> list[str]:
        return sorted(self._hashes)

    def holds(self, key_hash: str) -> bool:
        return key_hash in self._hashes

    def signer(self, key_hash: str) -> Callable[[bytes], bytes]:
        """What signs a digest with this key; raises SignersError when it cannot be loaded."""
        signer = self._signers.get(key_hash)
        if signer is None:
            signer = self._signers[key_hash] = self._keystore.secret_key(key_hash).sign
        return signer


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
