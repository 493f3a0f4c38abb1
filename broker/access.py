"""Who may come in on which TCP socket: CurveZMQ keys, one allow-list for each role.

Roles are sockets: clients (requests and events), admins, workers. An ipc socket is guarded by the
modes of its directory instead. ZeroMQ asks (by ZAP, RFC 27) before it lets a connection in, so a
stranger never reaches a decoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import zmq
from zmq.auth import load_certificate

from broker.config import Curve, Endpoints
from broker.errors import Misconfigured
from broker.sockets import CurveIdentity

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator

_ROLE_OF_SOCKET = {
    "requests": "clients",
    "events": "clients",
    "admin": "admins",
    "workers": "workers",
}


class _AllowList:
    """The public keys of one role, for pyzmq's authenticator."""

    def __init__(self, names: dict[str, str]) -> None:
        self.name_of = {key: name for name, key in names.items()}

    def callback(self, domain: str, key: bytes) -> bool:
        return key.decode() in self.name_of  # in Z85 already


class Access:
    """The broker's own certificate and the allow-lists; without a certificate it does nothing."""

    def __init__(
        self, settings: Curve, endpoints: Endpoints, context: zmq.Context[zmq.Socket[bytes]]
    ) -> None:
        self._lists = {
            "clients": _AllowList(settings.clients),
            "admins": _AllowList(settings.admins),
            "workers": _AllowList(settings.workers),
        }
        self._on_tcp = {
            name for name in _ROLE_OF_SOCKET if getattr(endpoints, name).startswith("tcp://")
        }
        self._identity = load_identity(settings.certificate) if settings.certificate else None
        if self._identity is not None:  # our own processes and tools come in by our own key
            for allowed in self._lists.values():
                allowed.name_of[self._identity.public.decode()] = ""
        self._authenticator: ThreadAuthenticator | None = None
        if self._identity is not None and self._on_tcp:
            # It brings asyncio along, which each command would load and only this pool needs.
            from zmq.auth.thread import ThreadAuthenticator

            self._authenticator = ThreadAuthenticator(context)
            self._authenticator.start()
            for role, allowed in self._lists.items():
                self._authenticator.configure_curve_callback(role, allowed)

    def guard(self, name: str) -> tuple[CurveIdentity | None, str]:
        """The key pair and the ZAP domain for a socket; none for ipc, or without a certificate."""
        if self._identity is None or name not in self._on_tcp:
            return None, ""
        return self._identity, _ROLE_OF_SOCKET[name]

    def is_guarded(self, name: str) -> bool:
        """Whether only listed keys come in on a socket."""
        strangers = len(self._lists[_ROLE_OF_SOCKET[name]].name_of) - 1  # besides ourselves
        return self.guard(name)[0] is not None and strangers > 0

    def client_name(self, frame: zmq.Frame) -> str:
        """The name of the client whose connection a frame of the requests socket came from."""
        return self._lists["clients"].name_of.get(str(frame.get("User-Id")), "")

    def close(self) -> None:
        if self._authenticator is not None:
            self._authenticator.stop()


def own_identity(settings: Curve) -> CurveIdentity | None:
    """How a process or tool of ours shows itself to the broker; None without a certificate."""
    if not settings.certificate:
        return None
    identity = load_identity(settings.certificate, settings.server_key)
    if identity.server is None:
        identity.server = identity.public
    return identity


def load_identity(path: str, server_key: str = "") -> CurveIdentity:
    """Read a `.key_secret` file, as `zmq.auth.create_certificates` writes it.

    Raises:
        Misconfigured: there is none, or it holds no secret key.
    """
    try:
        public, secret = load_certificate(Path(path))
    except (OSError, ValueError) as e:
        raise Misconfigured(f"CURVE certificate {path}: {e}") from None
    if secret is None:
        raise Misconfigured(f"CURVE certificate {path} has no secret key")
    return CurveIdentity(public, secret, server_key.encode() if server_key else None)
