"""Connections that speak the signer's socket protocol, over TCP or a Unix socket.

One request at a time on each; octez-signer serves them so too.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator

from broker.errors import Misconfigured
from signers.backends.error_trace import ErrorTrace
from signers.backends.socket_protocol import (
    MESSAGE_BYTES_MAX,
    Dialect,
    FrameReader,
    decode_request,
    error_answer,
    frame,
)
from signers.errors import MalformedBytes
from workers.gateway.addresses import Address
from workers.gateway.answers import BAD_REQUEST, Denial
from workers.gateway.client_directory import ClientDirectory
from workers.gateway.desk import Desk
from workers.gateway.socket_answers import write_answer

log = logging.getLogger("forgepool.gateway")

CONNECTIONS_MAX = 400  # see `http_listener`
# As octez-signer: who has begun a message ends it in so long, and takes its answer in so long.
MESSAGE_S_MAX = 8.0
IDLE_S_MAX = 75.0  # between two messages
_PEER_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid: struct ucred


class SocketListener:
    """Serves the desk over TCP and Unix sockets."""

    def __init__(self, desk: Desk, directory: ClientDirectory) -> None:
        self._desk = desk
        self._directory = directory
        self._listening: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def start_tcp(self, address: Address) -> Address:
        """Begin to listen; returns the address with the port that it has."""
        server = await asyncio.start_server(
            self._connected, address.host, address.port, backlog=CONNECTIONS_MAX
        )
        self._listening.append(server)
        return Address(address.host, server.sockets[0].getsockname()[1])

    async def start_unix(self, path: str) -> None:
        """Begin to listen on a path, for this user alone. Raises Misconfigured."""
        _take_over(path)
        umask = os.umask(0o177)
        try:
            server = await asyncio.start_unix_server(self._connected, path, backlog=CONNECTIONS_MAX)
        finally:
            os.umask(umask)
        self._listening.append(server)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def stop_listening(self) -> None:
        """Take no new connections; those that there are go on."""
        for server in self._listening:
            server.close()

    async def close(self) -> None:
        """End all connections."""
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            if self._desk.tally.connection_refused(asyncio.get_running_loop().time()):
                log.warning("connection_refused why='%d are open'", CONNECTIONS_MAX)
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
            writer.close()
            async with asyncio.timeout(MESSAGE_S_MAX):  # to take its last answer
                await writer.wait_closed()
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # gone, too slow, or we end
        finally:
            writer.transport.abort()  # what nobody takes would keep the connection for ever
            self._connections.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _peer(writer)
        async for message in _messages(reader):
            dialect = Dialect.of(self._directory.listing().network)
            try:
                question = decode_request(message, dialect)
            except MalformedBytes as e:
                self._desk.tally.ended(Denial(BAD_REQUEST, e.code, str(e)))
                log.warning("message_refused client=%s code=%s text=%r", peer, e.code, str(e))
                await _send(writer, error_answer(ErrorTrace.failure(f"{e.code}: {e}")))
                return  # octez-signer hangs up too
            await _send(writer, write_answer(await self._desk.answer(question, peer)))


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The messages of a connection, as long as they come in time."""
    frames = FrameReader()
    while True:
        async with asyncio.timeout(IDLE_S_MAX):
            received = await reader.read(MESSAGE_BYTES_MAX)
        messages = frames.feed(received)
        async with asyncio.timeout(MESSAGE_S_MAX):
            while received and not messages:
                received = await reader.read(MESSAGE_BYTES_MAX)
                messages = frames.feed(received)
        for message in messages:
            yield message
        if not received:
            return


async def _send(writer: asyncio.StreamWriter, answer: bytes) -> None:
    try:
        framed = frame(answer)
    except MalformedBytes as e:  # more keys than a frame can list
        framed = frame(error_answer(ErrorTrace.failure(str(e))))
    writer.write(framed)
    async with asyncio.timeout(MESSAGE_S_MAX):
        await writer.drain()


def _peer(writer: asyncio.StreamWriter) -> str:
    """Name who is at the other end, for the log."""
    peer = writer.get_extra_info("peername")
    if isinstance(peer, tuple):
        return f"tcp:{peer[0]}:{peer[1]}"
    connection = writer.get_extra_info("socket")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    return f"unix:pid={_PEER_CREDENTIALS.unpack(raw)[0]}"


def _take_over(path: str) -> None:
    """Remove what a killed gateway left of its socket; one that somebody serves stays.

    Raises Misconfigured.
    """
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise Misconfigured(f"{path} is there already, and is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as e:
            raise Misconfigured(f"cannot listen on {path}: {e.strerror}") from None
    raise Misconfigured(f"somebody listens on {path} already")
