"""The public files of an Octez or Mavryk client directory, read again when they have changed.

``public_key_hashs`` and ``public_keys`` list the keys, ``authorized_keys`` those of clients: a list
of names with a public key each, as octez-signer writes it.

Source: Octez ``src/bin_signer/handler.ml`` (``Authorized_key``), ``client_aliases.ml``.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from signers.errors import SignersError
from signers.formats.networks import TEZOS, Network
from signers.formats.tagged_keys import network_of_hash
from signers.keyring.keys import PublicKey
from signers.keyring.keystore import Keystore
from signers.keyring.wallet_file import Stamp, WalletFile
from workers.gateway.key_listing import KeyListing

log = logging.getLogger("forgepool.gateway")

KEY_FILES = ("public_key_hashs", "public_keys")
AUTHORIZED_FILE = "authorized_keys"
# How often the files are looked at when there is much to do.
LOOK_S = 0.2


class ClientDirectory:
    """One client directory; secret keys are not looked at.

    A change is noticed within `look_s`.
    """

    def __init__(self, base_dir: Path, look_s: float = LOOK_S) -> None:
        self._look_s = look_s
        self._keystore = Keystore(base_dir)
        self._files = [WalletFile(base_dir / name) for name in (*KEY_FILES, AUTHORIZED_FILE)]
        self._seen: list[Stamp | None] | None = None
        self._next_look = 0.0
        self._listing = KeyListing()

    def listing(self) -> KeyListing:
        """What the directory says now.

        While the keys cannot be read, those of before count; while the authorized keys cannot,
        nobody is authorized.
        """
        now = time.monotonic()
        if now < self._next_look:
            return self._listing
        self._next_look = now + self._look_s
        seen = [_stamp(file) for file in self._files]
        if seen != self._seen:
            self._seen = seen  # a broken file is reported once
            self._listing = self._read()
        return self._listing

    def _read(self) -> KeyListing:
        public_keys = dict(self._listing.public_keys)
        try:
            public_keys = self._public_keys()
        except (SignersError, OSError) as e:
            log.error("key_files_unreadable, so the keys of before count: %s", e)
        first = next(iter(public_keys), None)
        network = TEZOS if first is None else network_of_hash(first)
        authorized: list[PublicKey] = []
        try:
            authorized = self._authorized(network)
        except (SignersError, OSError) as e:
            log.error("authorized_keys_unreadable, so nobody is authorized: %s", e)
        log.info(
            "keys_listed count=%d network=%s authorized=%d",
            len(public_keys), network.name, len(authorized),
        )  # fmt: skip
        return KeyListing(public_keys, network, authorized)

    def _public_keys(self) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for entry in self._keystore.entries():
            network_of_hash(entry.key_hash)  # raises for what is no hash
            found[entry.key_hash] = entry.public_key or found.get(entry.key_hash)
        return found

    def _authorized(self, network: Network) -> list[PublicKey]:
        found = [PublicKey.read(str(value)) for _, value in self._files[-1].items()]
        for key in found:
            key.hash(network)  # raises for a curve that the network does not have
        return found


def _stamp(file: WalletFile) -> Stamp | None:
    try:
        return file.stamp()
    except OSError:  # a directory that is closed to us; to read says why
        return None
