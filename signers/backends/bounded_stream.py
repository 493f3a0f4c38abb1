"""Network connections whose exchanges end at a deadline, however slowly the other side drips.

A time limit on each read alone lets a signer that sends one byte a second hold a thread for
hours. Here the limit is that of the whole exchange: whoever asks sets it for his thread first.
"""

import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any

import httpcore


class Deadline(threading.local):
    """When the exchange of this thread ends, and whether it has begun to be sent."""

    at = 0.0
    has_sent = False

    def begin(self, timeout_s: float) -> None:
        self.at, self.has_sent = time.monotonic() + timeout_s, False

    def left_s(self, limit: type[Exception]) -> float:
        """Return what is left; raises `limit` when nothing is."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise limit("no time is left")
        return left


class BoundedStream(httpcore.NetworkStream):
    """A connection that obeys the deadline of the thread that uses it."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left_s(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = self._deadline.left_s(httpcore.WriteTimeout)
        self._deadline.has_sent = True
        self._stream.write(buffer, left)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self._deadline.left_s(httpcore.ConnectTimeout)
        return BoundedStream(
            self._stream.start_tls(ssl_context, server_hostname, left), self._deadline
        )

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class BoundedNetwork(httpcore.NetworkBackend):
    """Opens connections that obey the deadline."""

    def __init__(self, deadline: Deadline, connect_s_max: float) -> None:
        self._network = httpcore.SyncBackend()
        self._deadline = deadline
        self._connect_s_max = connect_s_max

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        left = min(self._connect_s_max, self._deadline.left_s(httpcore.ConnectTimeout))
        stream = self._network.connect_tcp(host, port, left, local_address, socket_options)
        return BoundedStream(stream, self._deadline)
