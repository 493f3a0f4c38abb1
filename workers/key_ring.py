"""The keys that this worker can sign with: which there are, and who signs once needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from signers.backends.key_uri import (
    ELSEWHERE,
    HttpKey,
    LedgerKey,
    MalformedKeyUri,
    Pkcs11Key,
    TcpKey,
    UnixKey,
    read_key_uri,
)
from signers.errors import BadRequest, SignersError
from signers.formats.tagged_keys import BLS_TAG, tagged_hash
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey, SecretKey
from signers.keyring.keystore import ENCRYPTED_SCHEMES, SCHEMES, Keystore
from signers.keyring.passwords import Passwords
from signers.keyring.wallet_file import BrokenWalletFile, Stamp, stamp_of
from signers.ledger.device_name import is_called
from signers.ledger.device_search import WORDS_ENV
from workers.key_source import BackEndSigner, DelayedKey, DeviceKey, LocalSigner, Source

_FILES = ("public_key_hashs", "public_keys", "secret_keys")
_OTHERS_READ = 0o044
_Stamps = tuple[Stamp | None, ...]

KeySigner = LocalSigner | BackEndSigner


class PinExposed(BadRequest):
    """A token's PIN stands where others can read it: close the file, or use pin-source."""

    code = "pin_exposed"


class KeyReading(NamedTuple):
    """The keys that somebody can sign with, and of which state of the files they are."""

    stamps: _Stamps
    here: frozenset[str]  # their secrets are in the directory
    encrypted: frozenset[str]  # these of them take time to open
    passwords: Passwords
    elsewhere: Mapping[str, BackEndSigner]
    unusable: Mapping[str, str]  # elsewhere, but nobody can be asked for them: why

    @property
    def hashes(self) -> frozenset[str]:
        """All that can sign."""
        return self.here | self.elsewhere.keys()


class KeyRing:
    """A key store as a worker uses it; a key that is added while it runs is noticed.

    A key with its secret in the directory signs here, whatever other names of it say; one without
    is asked of its back-ends, in the order of its names.
    """

    def __init__(
        self,
        base_dir: Path,
        environment: Mapping[str, str],
        delays_ms: Mapping[str, int] | None = None,
        *,
        passwords: Passwords | None = None,
    ) -> None:
        self._base_dir = base_dir
        self._environment = environment
        self._delays_ms = delays_ms or {}
        self._keystore = Keystore(base_dir, passwords)
        self._signers: dict[str, KeySigner] = {}  # of keys that were used, or are elsewhere
        self._seen: _Stamps = ()
        self._hashes: frozenset[str] = frozenset()
        self._elsewhere = frozenset(self._delays_ms)
        self.locked: set[str] = set()  # keys that take time to open, and are not open yet
        self.encrypted: frozenset[str] = frozenset()  # those, and those that are open by now
        self.readings = 0  # how often a list of keys was taken
        self.problem = ""  # why the key store could not be read the last time
        self.unusable: Mapping[str, str] = {}  # by hash: why nobody can be asked

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
        # Keys that are kept in another way cannot be loaded; no mark is taken for them.
        here, encrypted, elsewhere = set(), set(), set()
        for entry in self._keystore.entries():
            if entry.scheme in SCHEMES:
                here.add(entry.key_hash)
            elif entry.scheme in ELSEWHERE:
                elsewhere.add(entry.key_hash)
            if entry.scheme in ENCRYPTED_SCHEMES:
                encrypted.add(entry.key_hash)
        found, unusable = self._find_sources(elsewhere - here)
        passwords = self._keystore.passwords.reread()
        return KeyReading(stamps, frozenset(here), frozenset(encrypted), passwords, found, unusable)

    def take(self, reading: KeyReading) -> bool:
        """Go by a list of keys that was read; True when it is another one."""
        self.problem, self._seen, self.unusable = "", reading.stamps, reading.unusable
        for key_hash in self._signers.keys() - reading.here:
            # No secret outlives its key's removal, and who else has a key is said anew.
            del self._signers[key_hash]
        self._keystore.retain(reading.here)
        self._keystore.passwords = reading.passwords
        self.encrypted = reading.encrypted
        self.locked = set(reading.encrypted - self._keystore.loaded)
        self.readings += 1
        self._signers |= reading.elsewhere
        self._elsewhere = frozenset(reading.elsewhere.keys() | self._delays_ms.keys())
        changed, self._hashes = reading.hashes != self._hashes, reading.hashes
        return changed

    def _stamps(self) -> _Stamps:
        files = (stamp_of(self._base_dir / name) for name in _FILES)
        return *files, self._keystore.passwords.current_stamp()

    @property
    def passwords(self) -> Passwords:
        return self._keystore.passwords

    @property
    def hashes(self) -> list[str]:
        return sorted(self._hashes)

    def holds(self, key_hash: str) -> bool:
        return key_hash in self._hashes

    def is_elsewhere(self, key_hash: str) -> bool:
        """Whether a key's signer is a device or a remote one, which might not sign alike."""
        return key_hash in self._elsewhere

    def signer(self, key_hash: str) -> KeySigner:
        """Who signs with this key; raises SignersError when nobody can be found."""
        signer = self._signers.get(key_hash)
        if signer is None:
            signer = self._signers[key_hash] = self._local_signer(key_hash)
            self.locked.discard(key_hash)
        return signer

    def sources(self, key_hash: str) -> tuple[Source, ...]:
        """Who is asked for a key's signatures, in this order; none for a key that signs here."""
        signer = self._signers.get(key_hash)
        return signer.sources if isinstance(signer, BackEndSigner) else ()

    def prove_possession(self, key_hash: str, proven: bytes) -> bytes:
        """Prove the possession of a BLS key, over its own public key or, if not empty, another.

        Raises SignersError.
        """
        other = None
        if proven:
            other = PublicKey.from_tagged(bytes([Curve.BLS.value.tag]) + proven)
        return self._keystore.secret_key(key_hash).prove_possession(other)

    def derive_nonce(self, key_hash: str, data: bytes) -> bytes:
        """Derive a nonce from data with a key of the directory. Raises SignersError.

        A key elsewhere derives none: devices have rules of their own, and the signers of the
        HTTP protocol answer such a request with a signature.
        """
        return self._keystore.secret_key(key_hash).deterministic_nonce(data)

    def open(self, key_hash: str) -> SecretKey:
        """Read and open a key, and change nothing here; any thread may. Raises SignersError."""
        return self._keystore.load(key_hash)

    def opened(self, key_hash: str, key: SecretKey) -> None:
        """Take a key that was opened, unless it was removed meanwhile."""
        if key_hash in self.locked:
            self._keystore.keep(key_hash, key)
            self.locked.discard(key_hash)

    def device_key(self, key_hash: str, authority: str) -> DeviceKey | None:
        """Where on a device a key is; None when it is not there. Any thread may ask."""
        for source in self.sources(key_hash):
            if isinstance(source, DeviceKey) and source.authority == authority:
                return source
        return None

    def secret_key(self, name: str) -> SecretKey:
        """Read a key of the directory by its name or hash; any thread may. Raises SignersError."""
        return self._keystore.load(self._keystore.key_hash(name) or name)

    def _local_signer(self, key_hash: str) -> KeySigner:
        secret = self._keystore.secret_key(key_hash)
        delay_ms = self._delays_ms.get(key_hash)
        if delay_ms is None:
            return LocalSigner(secret.sign, secret.public_key)
        source = DelayedKey(key_hash, delay_ms, secret)
        return BackEndSigner(key_hash, (source,), secret.public_key)

    def _find_sources(self, elsewhere: set[str]) -> tuple[dict[str, BackEndSigner], dict[str, str]]:
        """Find who has the keys that are not here, and why nobody has the others."""
        found, unusable = {}, {}
        for key_hash in elsewhere:
            try:
                sources = self._sources(key_hash)
                public_key = self._keystore.public_key(key_hash)
            except (BadRequest, BrokenWalletFile) as e:  # this key's trouble, not the others'
                unusable[key_hash] = str(e)
            else:
                found[key_hash] = BackEndSigner(key_hash, sources, public_key)
        return found, unusable

    def _sources(self, key_hash: str) -> tuple[Source, ...]:
        """Who has a key, in the order of its names. Raises BadRequest."""
        sources: dict[Source, None] = {}
        for locator in self._keystore.locators(key_hash):
            if locator.partition(":")[0] not in ELSEWHERE:
                continue
            source = read_key_uri(locator, self._environment)
            if isinstance(source, LedgerKey | Pkcs11Key):
                self._check_pin_is_ours(source)
                self._check_words_are_known(source)
                sources[DeviceKey(key_hash, source)] = None
                continue
            assert isinstance(source, HttpKey | TcpKey | UnixKey)
            # A signer of another network may have the key: its hash is written otherwise there.
            if tagged_hash(source.key_hash) != tagged_hash(key_hash):
                raise MalformedKeyUri(f"the key at {source.authority} is another one")
            if tagged_hash(key_hash)[0] == BLS_TAG and source.key_hash != key_hash:
                # BLS signatures of the two networks differ.
                raise MalformedKeyUri(f"the key at {source.authority} is of another network")
            sources[source] = None
        return tuple(sources)

    def _check_words_are_known(self, place: LedgerKey | Pkcs11Key) -> None:
        """Raise UnknownDeviceName for a device that could never be found, before it is needed."""
        if WORDS_ENV not in self._environment and isinstance(place, LedgerKey):
            is_called(place.device, b"", None)

    def _check_pin_is_ours(self, place: LedgerKey | Pkcs11Key) -> None:
        """Raise PinExposed if a PIN stands in a file that others can read."""
        if isinstance(place, Pkcs11Key) and place.pin is not None:
            file = self._base_dir / "secret_keys"
            if os.stat(file).st_mode & _OTHERS_READ:
                raise PinExposed(f"pin-value stands in {file}, which others can read: chmod 600")
