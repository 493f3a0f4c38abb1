"""The back-end that signs with keys on one device.

Source: Octez ``src/lib_signer_backends/unix/ledger.available.ml``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

from signers.backends.backend import SignerUnknownKey
from signers.backends.key_uri import LedgerKey
from signers.formats.hashes import blake2b_20
from signers.formats.tagged_keys import tagged_hash
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey
from signers.ledger import apdu
from signers.ledger.apdu import Derivation
from signers.ledger.baking_device import BakingDevice, DeviceFinder
from signers.ledger.device_errors import DeviceBusy, DeviceMisconfigured

DERIVATIONS: Final = {
    "ed25519": Derivation.ED25519,
    "secp256k1": Derivation.SECP256K1,
    "p256": Derivation.P256,
    "bip25519": Derivation.BIP32_ED25519,
}
CURVES: Final = {
    Derivation.ED25519: Curve.ED25519,
    Derivation.SECP256K1: Curve.SECP256K1,
    Derivation.P256: Curve.P256,
    Derivation.BIP32_ED25519: Curve.ED25519,
}


class LedgerSigner:
    """Signs with the keys of one device, one at a time; `find_key` says where on it a key is."""

    def __init__(
        self,
        device: str,
        find_key: Callable[[str], LedgerKey | None],
        finder: DeviceFinder,
        *,
        coin: int = apdu.COIN_TEZOS,
    ) -> None:
        self._device = device
        self._find_key = find_key
        self._finder = finder
        self._coin = coin
        self._turn = Lock()

    def sign(self, public_key: PublicKey, key_hash: str, message: bytes, timeout_s: float) -> bytes:
        """Have a message signed: blocks and votes at once, a delegation after a button.

        `timeout_s` is for getting hold of the device. Once it has the message it is waited for
        longer, since what it signs late is of use and cannot be had again; for a person at least
        as long.
        """
        derivation, path = self._place_of(key_hash)
        with self._having(timeout_s) as turn:
            return turn.sign(derivation, path, message, timeout_s)

    def public_key(self, key_hash: str, timeout_s: float) -> PublicKey:
        """Ask the device for a key. Raises DeviceMisconfigured when it is not the one meant."""
        derivation, path = self._place_of(key_hash)
        with self._having(timeout_s) as turn:
            raw = turn.public_key(derivation, path)
        if blake2b_20(raw) != tagged_hash(key_hash)[1:]:
            raise DeviceMisconfigured(
                f"the key at {apdu.path_text(path)} of {self._device} is not {key_hash}"
            )
        return PublicKey(CURVES[derivation], raw)

    def close(self) -> None:
        """Nothing is held between two turns."""

    @contextmanager
    def _having(self, timeout_s: float) -> Iterator[BakingDevice]:
        if not self._turn.acquire(timeout=max(timeout_s, 0.0)):
            raise DeviceBusy(f"{self._device} is still busy with another command of ours")
        try:
            with self._finder.device(self._device, timeout_s) as device:
                yield device
        finally:
            self._turn.release()

    def _place_of(self, key_hash: str) -> tuple[Derivation, apdu.Path]:
        key = self._find_key(key_hash)
        if key is None:
            raise SignerUnknownKey(f"{key_hash} is not on {self._device}")
        return DERIVATIONS[key.curve], apdu.full_path(key.path, self._coin)
