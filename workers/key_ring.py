"""The keys that this worker can sign with: which there are, and their secrets once needed."""

from __future__ import annotations

import os
from pathlib import Path

from signers.curves.signing import Signer
from signers.errors import SignersError
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey
from signers.keyring.keystore import ENCRYPTED_SCHEMES, SCHEMES, Keystore
from signers.keyring.passwords import Passwords

_FILES = ("public_key_hashs", "secret_keys")


class KeyRing:
    """A key store as a worker uses it; a key that is added while it runs is noticed."""

    def __init__(self, base_dir: Path, passwords: Passwords | None = None) -> None:
        self._base_dir = base_dir
        self._keystore = Keystore(base_dir, passwords)
        self._signers: dict[str, Signer] = {}  # of keys that were used
        self._seen: tuple[tuple[int, int, int] | None, ...] = ()
        self._hashes: frozenset[str] = frozenset()
        self.locked: set[str] = set()  # keys that take time to open, and were not yet needed
        self.problem = ""  # why the key store could not be read the last time

    def look(self) -> bool:
        """Read the list of keys again if its files have changed; True when the list has."""
        try:
            seen = tuple(_version(self._base_dir / name) for name in _FILES)
            if seen == self._seen:
                return False
            # Keys that are kept in another way cannot be loaded; no mark is taken for them.
            entries = [e for e in self._keystore.entries() if e.scheme in SCHEMES]
            hashes = frozenset(e.key_hash for e in entries)
        except (SignersError, OSError) as e:
            self.problem = str(e)  # keep what we had: a file may be in the making
            return False
        self.problem, self._seen = "", seen
        encrypted = {e.key_hash for e in entries if e.scheme in ENCRYPTED_SCHEMES}
        self.locked = encrypted - self._signers.keys()
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
            self.locked.discard(key_hash)
        return signer

    def prove_possession(self, key_hash: str, proven: bytes) -> bytes:
        """Prove the possession of a BLS key, over its own public key or, if not empty, another.

        Raises SignersError.
        """
        other = None
        if proven:
            other = PublicKey.from_tagged(bytes([Curve.BLS.value.tag]) + proven)
        return self._keystore.secret_key(key_hash).prove_possession(other)

    def is_open(self, key_hash: str) -> bool:
        """Whether the key has been loaded, so that signing with it takes no time."""
        return self._keystore.has_loaded(key_hash)

    def open(self, key_hash: str) -> None:
        """Load a key and say nothing more; other threads may do so. Raises SignersError."""
        self._keystore.secret_key(key_hash)


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
