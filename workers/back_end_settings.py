"""From the settings to back-ends: their limits, certificates and the key that we show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from ssl import SSLContext

from broker.config import BackEndSettings, SignerSettings
from signers.backends.backend import BackEnd, ClientKey
from signers.backends.http_signer import HttpSigner, tls_context
from signers.backends.key_uri import HttpKey, TcpKey, UnixKey
from signers.backends.signer_environment import http_headers
from signers.backends.socket_signer import SocketSigner
from signers.keyring.keys import SecretKey
from workers.bulkhead import Limits
from workers.key_source import DelayedKey, DelayedSigner, Source

# A played device serves one at a time, and may be told to be slower than any limit.
_DELAYED_LIMITS = Limits(concurrency=1, time_limit_s=3600.0)
_NOTHING_SET = BackEndSettings()


class BackEndMaker:
    """Makes the back-end of a source, and says how much it may take."""

    def __init__(
        self,
        settings: SignerSettings,
        environment: Mapping[str, str],
        client_key: Callable[[str], SecretKey],
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._client_key = client_key  # by name or hash

    def limits(self, authority: str) -> Limits:
        """How much a back-end may take: its own settings before those of all."""
        if authority.startswith("delayed:"):
            return _DELAYED_LIMITS
        own, common, default = self._own(authority), self._settings, Limits()
        return Limits(
            own.concurrency or common.concurrency or default.concurrency,
            own.queue or common.queue or default.queue,
            own.time_limit_s or common.time_limit_s or default.time_limit_s,
            own.open_s_max or common.open_s_max or default.open_s_max,
        )

    def make(self, source: Source) -> BackEnd:
        """Make the back-end that has a key. Raises SignersError for settings that do not work."""
        match source:
            case DelayedKey():
                return DelayedSigner(source)
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
