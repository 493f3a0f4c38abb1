"""Connections that speak HTTP: reads calls, within bounds of size and time, and replies.

Everything else about HTTP is in `http_protocol`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Collection

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from signers.backends.socket_protocol import Request as Question
from signers.errors import MalformedBytes
from workers.gateway.addresses import Address
from workers.gateway.answers import BAD_REQUEST, INTERNAL_ERROR, Denial
from workers.gateway.desk import Desk
from workers.gateway.http_protocol import (
    BODY_BYTES_MAX,
    AskHealth,
    Call,
    Health,
    Reply,
    check_head,
    read_call,
    too_large,
    write_answer,
)
from workers.gateway.tally import Tally

log = logging.getLogger("forgepool.gateway")

# A connection is about 20 KiB. At the bound new ones are closed at once.
CONNECTIONS_MAX = 400
# Who has connected sends a whole first head in so long, and each body: a call is one packet.
HEAD_S_MAX = 10.0
BODY_S_MAX = 10.0
ANSWER_S_MAX = 10.0  # and takes each answer
# Longer than clients and proxies keep idle connections, so that they close first.
KEEP_ALIVE_S = 75.0
TLS_HANDSHAKE_S_MAX = 10.0
END_S_MAX = 1.0


class _BoundedServer(web.Server):
    """Counts its connections, and ends those that send no call."""

    def __init__(self, handler: Callable[[web.BaseRequest], object], tally: Tally) -> None:
        super().__init__(
            handler,  # type: ignore[arg-type]
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
            lingering_time=0.0,
            auto_decompress=False,
            logger=_quiet,
        )
        self._tally = tally
        # What ends a connection unless its client goes on.
        self._timers: dict[RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        loop = asyncio.get_running_loop()
        if len(self._connections) > CONNECTIONS_MAX:
            if self._tally.connection_refused(loop.time()):
                log.warning("connection_refused why='%d are open'", CONNECTIONS_MAX)
            loop.call_soon(transport.abort)  # not before aiohttp has begun with it
            return
        timer = loop.call_later(HEAD_S_MAX, transport.abort)
        self._timers[handler] = timer

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        self.head_is_here(handler)
        super().connection_lost(handler, exc)

    def head_is_here(self, handler: RequestHandler) -> None:
        if (timer := self._timers.pop(handler, None)) is not None:
            timer.cancel()

    def answer_is_ready(self, handler: RequestHandler) -> None:
        """The client now takes the answer in time; it is written when we have returned."""
        transport = handler.transport
        if transport is not None and not transport.is_closing():
            loop = asyncio.get_running_loop()
            self._timers[handler] = loop.call_later(ANSWER_S_MAX, _abort_if_stuck, transport)


def _abort_if_stuck(transport: asyncio.Transport) -> None:
    if transport.get_write_buffer_size():
        transport.abort()


# What a stranger sends is no error of ours, and a traceback for each would fill the disk.
_quiet = logging.getLogger("forgepool.gateway.http")
_quiet.setLevel(logging.CRITICAL)


class HttpListener:
    """Serves the desk over HTTP and HTTPS.

    `own_names` are the host names under which clients may call; addresses always are.
    """

    def __init__(
        self, desk: Desk, own_names: Collection[str], is_ready: Callable[[], bool]
    ) -> None:
        self._desk = desk
        self._own_names = frozenset(name.lower() for name in (*own_names, "localhost"))
        self._is_ready = is_ready
        self._server = _BoundedServer(self._handle, desk.tally)
        self._listening: list[asyncio.Server] = []

    async def start(self, address: Address, tls: ssl.SSLContext | None = None) -> Address:
        """Begin to listen; returns the address with the port that it has."""
        server = await asyncio.get_running_loop().create_server(
            self._server,
            address.host,
            address.port,
            ssl=tls,
            ssl_handshake_timeout=None if tls is None else TLS_HANDSHAKE_S_MAX,
            backlog=CONNECTIONS_MAX,
        )
        self._listening.append(server)
        return Address(address.host, server.sockets[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._server.connections)

    def stop_listening(self) -> None:
        """Take no new connections; those that there are go on."""
        for server in self._listening:
            server.close()

    async def close(self) -> None:
        """End all connections."""
        self._server.pre_shutdown()
        await self._server.shutdown(END_S_MAX)

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        self._server.head_is_here(request.protocol)
        peer = _peer(request)
        try:
            reply = await self._reply(request, peer)
        except ConnectionError:
            raise  # the client is gone
        except Exception:
            log.exception("call_failed client=%s path=%r", peer, request.path[:80])
            reply = write_answer(Denial(INTERNAL_ERROR, "defect", "see the log of the gateway"))
        response = web.Response(
            status=reply.status, body=reply.body, headers={"Server": "forgepool", **reply.headers}
        )
        if not request.content.is_eof():
            response.force_close()  # what comes of its body is not read
        self._server.answer_is_ready(request.protocol)
        return response

    async def _reply(self, request: web.BaseRequest, peer: str) -> Reply:
        headers = {name.lower(): value for name, value in request.headers.items()}
        url = request.rel_url
        call = Call(request.method, url.raw_path, url.raw_query_string, headers)
        question = check_head(call, self._own_names) or await _read_question(request, call)
        match question:
            case AskHealth(even_alone):
                await asyncio.sleep(0)  # see `Desk.answer`
                return write_answer(Health(even_alone or self._is_ready()))
            case Denial(status, code, text):
                log.warning(
                    "call_refused client=%s path=%r status=%d code=%s text=%r",
                    peer, call.path[:80], status, code, text,
                )  # fmt: skip
                self._desk.tally.ended(question)
                await asyncio.sleep(0)
                return write_answer(question)
        return write_answer(await self._desk.answer(question, peer))


async def _read_question(request: web.BaseRequest, call: Call) -> Question | AskHealth | Denial:
    body = await _read_body(request)
    return body if isinstance(body, Denial) else read_call(call, body)


async def _read_body(request: web.BaseRequest) -> bytes | Denial:
    """Read the whole body, or say why it is not taken."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S_MAX):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    return too_large()
    except TimeoutError:
        text = f"the body did not come in {BODY_S_MAX:.0f} s"
        return Denial(BAD_REQUEST, MalformedBytes.code, text)
    except web.RequestPayloadError as e:
        return Denial(BAD_REQUEST, MalformedBytes.code, str(e)[:80])
    return bytes(body)


def _peer(request: web.BaseRequest) -> str:
    """Name who calls, for the log."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return f"http:{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "http:gone"
