"""The keys that this worker can sign with: which there are, and their secrets once needed."""

from __future__ import annotations

import os
from pathlib import Path

from signers.curves.signing import Signer
from signers.errors import SignersError
from signers.keyring.keystore import UNENCRYPTED, Keystore

_FILES = ("public_key_hashs", "secret_keys")


class KeyRing:
    """A key store as a worker uses it; a key that is added while it runs is noticed."""

    def __init__(self, base_dir: Path) -> None:
        self._base_dir = base_dir
        self._keystore = Keystore(base_dir)
        self._signers: dict[str, Signer] = {}  # of keys that were used
        self._seen: tuple[tuple[int, int, int] | None, ...] = ()
        self._hashes: frozenset[str] = frozenset()
        self.problem = ""  # why the key store could not be read the last time

    def look(self) -> bool:
        """Read the list of keys again if its files have changed; True when the list has."""
        try:
            seen = tuple(_version(self._base_dir / name) for name in _FILES)
            if seen == self._seen:
                return False
            entries = self._keystore.entries()
            # Keys that are kept in another way cannot be loaded; no mark is taken for them.
            hashes = frozenset(e.key_hash for e in entries if e.scheme == UNENCRYPTED)
        except (SignersError, OSError) as e:
            self.problem = str(e)  # keep what we had: a file may be in the making
            return False
        self.problem, self._seen = "", seen
        changed, self._hashes = hashes != self._hashes, hashes
        return changed

    @property
    def hashes(self) -> list[str]:
        return sorted(self._hashes)

    def holds(self, key_hash: str) -> bool:
        return key_hash in self._hashes

    def signer(self, key_hash: str) -> Signer:
        """What signs with this key; raises SignersError when it cannot be loaded."""
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
