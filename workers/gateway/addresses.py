"""Where a gateway listens: addresses taken apart and checked."""

from __future__ import annotations

from dataclasses import dataclass

from broker.config import IPC_PATH_BYTES_MAX, PORT_MAX, is_local
from broker.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port to listen on; port 0 is one of the system's choice."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return is_local(f"tcp://{self}")


def read_address(text: str) -> Address:
    """Read ``HOST:PORT``, ``[::1]:PORT``. Raises Misconfigured."""
    host, _, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or (":" in bare and bare == host) or not port.isdecimal() or int(port) > PORT_MAX:
        raise Misconfigured(f"{text!r} is no HOST:PORT")
    return Address(bare, int(port))


def check_socket_path(path: str) -> str:
    """Return the path of a Unix socket if the system can bind it. Raises Misconfigured."""
    length = len(path.encode())
    if length > IPC_PATH_BYTES_MAX:
        raise Misconfigured(
            f"the socket's path has {length} bytes, the system allows {IPC_PATH_BYTES_MAX}: {path}"
        )
    return path
