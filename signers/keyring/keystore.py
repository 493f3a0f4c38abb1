"""The keys of an Octez or Mavryk client directory: found by hash, loaded when they are needed.

The directory has three files: ``public_key_hashs``, ``public_keys`` and ``secret_keys``, each a
list of names with a value (`wallet_file`). The value of a secret key says where the key is:
``unencrypted:edsk…`` is in the file, ``encrypted:edesk…`` as well but under a password; other
schemes name a device or a remote signer.

Source: Octez ``src/lib_client_base/client_keys.ml``, ``src/lib_signer_backends/``.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from signers.errors import BadRequest
from signers.formats.networks import Network
from signers.formats.tagged_keys import network_of_hash
from signers.keyring.encrypted_key import EncryptedKey
from signers.keyring.keys import PublicKey, SecretKey
from signers.keyring.passwords import Passwords
from signers.keyring.wallet_file import BrokenWalletFile, Stamp, WalletFile

UNENCRYPTED = "unencrypted"
ENCRYPTED = "encrypted"
# Octez once wrote encrypted BLS keys so.
_ENCRYPTED_BLS = "aggregate_encrypted"
ENCRYPTED_SCHEMES = (ENCRYPTED, _ENCRYPTED_BLS)
_ENCRYPTED_LETTERS = "esk"  # after two for the curve: edesk…, spesk…
SCHEMES = (UNENCRYPTED, *ENCRYPTED_SCHEMES)


class UnknownKey(BadRequest):
    """The key directory has no such key: generate or import it, or look at --base-dir."""

    code = "unknown_key"


class UnsupportedKey(BadRequest):
    """The secret is not in the file, or in a form that is not known: see docs/signers.md."""

    code = "unsupported_key"


class NameTaken(BadRequest):
    """The key directory has a key of that name, and a name is never given twice."""

    code = "name_taken"


class KeystoreEntry(NamedTuple):
    """A key as the directory lists it.

    `scheme` says how the secret is kept, None when only the public part is here. `public_key`
    is its text, None when it is not known.
    """

    name: str
    key_hash: str
    public_key: str | None
    scheme: str | None


class Keystore:
    """The keys of one client directory; those that were used stay in memory.

    Any thread may `load` keys, since opening an encrypted one takes its time; what stays in memory
    and what is dropped is one thread's business, so that no late thread brings a removed key back.
    """

    def __init__(self, base_dir: Path, passwords: Passwords | None = None) -> None:
        self._base_dir = base_dir
        self.passwords = passwords or Passwords()  # of encrypted keys
        self._hashes = WalletFile(base_dir / "public_key_hashs")
        self._public_keys = WalletFile(base_dir / "public_keys")
        self._secret_keys = WalletFile(base_dir / "secret_keys")
        self._loaded: dict[str, SecretKey] = {}
        self._names: dict[str, list[str]] = {}  # by hash, as of the stamp
        self._names_stamp: Stamp | None = None

    def secret_key(self, key_hash: str) -> SecretKey:
        """Return the secret key with this hash, and keep it in memory. Raises as `load` does."""
        key = self._loaded.get(key_hash)
        if key is None:
            key = self._loaded[key_hash] = self.load(key_hash)
        return key

    @property
    def loaded(self) -> Set[str]:
        """The hashes of the keys that are in memory."""
        return self._loaded.keys()

    def keep(self, key_hash: str, key: SecretKey) -> None:
        """Keep in memory a key that was loaded by another thread."""
        self._loaded[key_hash] = key

    def retain(self, key_hashes: Set[str]) -> None:
        """Drop from memory all keys but these."""
        for key_hash in self._loaded.keys() - key_hashes:
            del self._loaded[key_hash]

    def entries(self) -> Iterator[KeystoreEntry]:
        """List all keys by their hashes. Raises BrokenWalletFile."""
        public_keys = {name: _public_text(value) for name, value in self._public_keys.items()}
        schemes = {name: _scheme(value) for name, value in self._secret_keys.items()}
        for name, key_hash in self._key_hashes():
            yield KeystoreEntry(name, key_hash, public_keys.get(name), schemes.get(name))

    def key_hash(self, name: str) -> str | None:
        """Return the hash of the key that is called so, if there is one."""
        value = self._hashes.value(name)
        return value if isinstance(value, str) else None

    def add(
        self,
        keys: Mapping[str, SecretKey],
        network: Network,
        encrypted: Mapping[str, EncryptedKey] | None = None,
    ) -> None:
        """Write new keys into the directory: as they are, or `encrypted` in their place.

        Raises NameTaken, BrokenWalletFile.
        """
        sealed = encrypted or {}
        self._base_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _wallet_lock(self._base_dir):
            for name in keys:
                if any(name in file for file in self._files()):
                    raise NameTaken(f"{self._base_dir} has a key {name!r} already")
            # The hash comes last: a key is found by it, so a key that is found is whole.
            self._secret_keys.add(
                {
                    name: f"{ENCRYPTED}:{sealed[name].text()}"
                    if name in sealed
                    else f"{UNENCRYPTED}:{key.secret_text()}"
                    for name, key in keys.items()
                }
            )
            self._public_keys.add(
                {
                    name: {"locator": f"{UNENCRYPTED}:{text}", "key": text}
                    for name, text in ((n, key.public_key.text()) for n, key in keys.items())
                }
            )
            self._hashes.add({name: key.public_key.hash(network) for name, key in keys.items()})

    def add_elsewhere(
        self, name: str, uri: str, key_hash: str, public_key: PublicKey | None
    ) -> None:
        """Write down who has a key that is not here. Raises NameTaken, BrokenWalletFile.

        A key may have several names, and each may say another place.
        """
        self._base_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _wallet_lock(self._base_dir):
            if any(name in file for file in self._files()):
                raise NameTaken(f"{self._base_dir} has a key {name!r} already")
            self._secret_keys.add({name: uri})
            if public_key is not None:
                self._public_keys.add({name: {"locator": uri, "key": public_key.text()}})
            self._hashes.add({name: key_hash})

    def locators(self, key_hash: str) -> list[str]:
        """Return where this key's secret is, one text for each of its names that has one."""
        values = (self._secret_keys.value(name) for name in self._names_of(key_hash))
        return [value for value in values if isinstance(value, str)]

    def public_key(self, key_hash: str) -> PublicKey | None:
        """Return the public key with this hash, if the directory has it.

        Raises BrokenWalletFile, MalformedBytes.
        """
        for name in self._names_of(key_hash):
            text = _public_text(self._public_keys.value(name))
            if text is not None:
                key = PublicKey.read(text)
                if key.hash(network_of_hash(key_hash)) != key_hash:
                    raise BrokenWalletFile(
                        f"{self._base_dir}: the public key under the name of {key_hash} is "
                        "another key's"
                    )
                return key
        return None

    def _files(self) -> tuple[WalletFile, WalletFile, WalletFile]:
        return self._secret_keys, self._public_keys, self._hashes

    def load(self, key_hash: str) -> SecretKey:
        """Read and open the secret key with this hash; any thread may do so.

        Raises UnknownKey, UnsupportedKey, BrokenWalletFile, MalformedBytes, and what `Passwords`
        raises for an encrypted key.
        """
        locators = self.locators(key_hash)
        if not locators:
            raise UnknownKey(f"{self._base_dir} has no secret key of {key_hash[:40]}")
        usable = sorted((each for each in locators if _scheme(each) in SCHEMES), key=_cost)
        if not usable:
            raise UnsupportedKey(
                f"the secret of {key_hash} is not in {self._base_dir}, which says "
                f"{_scheme(locators[0])!r} of it; in the file are those that say "
                f"{UNENCRYPTED!r} or {ENCRYPTED!r}"
            )
        network = network_of_hash(key_hash)
        key = read_locator(usable[0], network)
        if isinstance(key, EncryptedKey):
            key = self.passwords.open(key, self._called(key_hash), network.bls_scheme)
        if key.public_key.hash(network) != key_hash:
            raise BrokenWalletFile(
                f"{self._base_dir}: the secret key under the name of {key_hash} is another key's"
            )
        return key

    def _key_hashes(self) -> Iterator[tuple[str, str]]:
        for name, value in self._hashes.items():
            if isinstance(value, str):
                yield name, value

    def _called(self, key_hash: str) -> str:
        """Name a key to people: as the directory calls it, and by its hash."""
        names = self._names_of(key_hash)
        return f"{names[0]} ({key_hash})" if names else key_hash

    def _names_of(self, key_hash: str) -> list[str]:
        if (stamp := self._hashes.stamp()) != self._names_stamp:
            names: dict[str, list[str]] = {}
            for name, value in self._key_hashes():
                names.setdefault(value, []).append(name)
            self._names, self._names_stamp = names, stamp
        return self._names.get(key_hash, [])


def read_locator(locator: str, network: Network) -> SecretKey | EncryptedKey:
    """Read the key that a locator holds, or a text without a scheme: plain or encrypted.

    Raises MalformedBytes, UnsupportedKey for a key that is elsewhere.
    """
    scheme, _, text = locator.strip().rpartition(":")
    if scheme in ENCRYPTED_SCHEMES or (not scheme and text[2:5] == _ENCRYPTED_LETTERS):
        return EncryptedKey.read(text)
    if scheme not in ("", UNENCRYPTED):
        scheme = scheme.partition(":")[0]
        raise UnsupportedKey(
            f"{scheme[:40]!r} holds no key: those that do are {UNENCRYPTED!r} and {ENCRYPTED!r}"
        )
    return SecretKey.read(text, network.bls_scheme)


def _cost(locator: str) -> int:
    """Say what to try first of several places that hold one key: the quickest."""
    return SCHEMES.index(_scheme(locator))


def _scheme(locator: Any) -> str:
    text = locator if isinstance(locator, str) else ""
    return text.partition(":")[0] if ":" in text else "unknown"


def _public_text(value: Any) -> str | None:
    """Return the public key of either form: its locator, or an object with locator and key."""
    if isinstance(value, dict):
        key = value.get("key")
        return key if isinstance(key, str) else None
    if isinstance(value, str) and _scheme(value) == UNENCRYPTED:
        return value.removeprefix(f"{UNENCRYPTED}:")
    return None


@contextmanager
def _wallet_lock(base_dir: Path) -> Iterator[None]:
    """Hold the lock that Octez and Mavryk clients take before they write."""
    fd = os.open(base_dir / "wallet_lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
