"""From the settings to back-ends: their limits, certificates and the key that we show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from ssl import SSLContext
from typing import TypeVar

from broker.config import BackEndSettings, SignerSettings
from signers.backends.backend import BackEnd, ClientKey
from signers.backends.http_signer import HttpSigner, tls_context
from signers.backends.key_uri import HttpKey, LedgerKey, Pkcs11Key, TcpKey, UnixKey
from signers.backends.signer_environment import http_headers
from signers.backends.socket_signer import SocketSigner
from signers.formats.tagged_keys import network_of_hash
from signers.keyring.keys import SecretKey
from signers.ledger.device_search import coin_of, device_finder
from signers.ledger.ledger_signer import LedgerSigner
from signers.pkcs11.module_file import check_installed, module_file
from signers.pkcs11.pin import read_pin
from workers.bulkhead import Limits
from workers.key_source import DelayedKey, DelayedSigner, DeviceKey, Source

# A played device serves one at a time, and may be told to be slower than any limit.
_DELAYED_LIMITS = Limits(concurrency=1, time_limit_s=3600.0)
_NOTHING_SET = BackEndSettings()
# A person reads what is on the screen, and may have to go to where the device is.
_PERSON_LIMIT_S = 120.0

Place = TypeVar("Place", LedgerKey, Pkcs11Key)


class BackEndMaker:
    """Makes the back-end of a source, and says how much it may take."""

    def __init__(
        self,
        settings: SignerSettings,
        environment: Mapping[str, str],
        client_key: Callable[[str], SecretKey],
        device_key: Callable[[str, str], DeviceKey | None],
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._client_key = client_key  # by name or hash
        self._device_key = device_key  # by hash and authority

    def limits(self, authority: str) -> Limits:
        """How much a back-end may take: its own settings before those of all."""
        if authority.startswith("delayed:"):
            return _DELAYED_LIMITS
        own, common, default = self._own(authority), self._settings, Limits()
        limits = Limits(
            own.concurrency or common.concurrency or default.concurrency,
            own.queue or common.queue or default.queue,
            own.time_limit_s or common.time_limit_s or default.time_limit_s,
            own.open_s_max or common.open_s_max or default.open_s_max,
            own.person_limit_s or common.person_limit_s or _person_limit_s(authority),
        )
        # A device does one thing at a time, whatever the settings say, and a module one call.
        is_serial = authority.startswith(("ledger:", "pkcs11:"))
        return replace(limits, concurrency=1) if is_serial else limits

    def make(self, source: Source) -> BackEnd:
        """Make the back-end that has a key. Raises SignersError for settings that do not work."""
        match source:
            case DelayedKey():
                return DelayedSigner(source)
            case DeviceKey():
                return self._device(source)
            case UnixKey(path):
                return SocketSigner(path, client_key=self._identity(source.authority))
            case TcpKey(host, port):
                return SocketSigner((host, port), client_key=self._identity(source.authority))
            case HttpKey(base):
                return HttpSigner(
                    base,
                    connections=self.limits(source.authority).concurrency,
                    client_key=self._identity(source.authority),
                    headers=http_headers(self._environment),
                    tls=self._tls(source.authority) if base.startswith("https:") else None,
                )

    def _device(self, source: DeviceKey) -> BackEnd:
        match source.place:
            case LedgerKey(device):
                network = network_of_hash(source.key_hash)
                finder = device_finder(self._environment, network)
                find_key = self._places(source.authority, LedgerKey)
                return LedgerSigner(device, find_key, finder, coin=coin_of(network))
            case Pkcs11Key(module_path=path, module_name=name):
                check_installed()
                from signers.pkcs11.module import open_module
                from signers.pkcs11.token_signer import TokenSigner

                module = open_module(module_file(path, name, self._environment))
                place_of = self._places(source.authority, Pkcs11Key)
                return TokenSigner(module, place_of, lambda key: read_pin(key, self._environment))

    def _places(self, authority: str, kind: type[Place]) -> Callable[[str], Place | None]:
        """Return what says where on one device a key is now."""

        def place_of(key_hash: str) -> Place | None:
            key = self._device_key(key_hash, authority)
            return key.place if key is not None and isinstance(key.place, kind) else None

        return place_of

    def _own(self, authority: str) -> BackEndSettings:
        return self._settings.back_ends.get(authority, _NOTHING_SET)

    def _tls(self, authority: str) -> SSLContext:
        own, common = self._own(authority), self._settings
        authorities = own.authorities or common.authorities
        certificate = own.certificate or common.certificate
        return tls_context(
            Path(authorities) if authorities else None, Path(certificate) if certificate else None
        )

    def _identity(self, authority: str) -> ClientKey | None:
        name = self._own(authority).authentication_key or self._settings.authentication_key
        return ClientKey(self._client_key(name)) if name else None


def _person_limit_s(authority: str) -> float | None:
    """The baking app asks about what is no duty; of other signers nobody here knows."""
    return _PERSON_LIMIT_S if authority.startswith("ledger:") else None
