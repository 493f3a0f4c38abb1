"""The sockets of the sandbox application host: HTTP, the notification stream, and its controls.

| path | |
|---|---|
| `POST /`, `POST /chains/{c}/applications/{a}` | GraphQL, as of a node service |
| `GET /ws` | notifications |
| `GET /ready` | `ready!` |
| `/sandbox/…` | what no node service has: see `host_controls` |
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from aiohttp import WSMsgType, web

from workers.sandbox_apps.application_host import (
    ApplicationHost,
    Hang,
    Outcome,
    Received,
    Reply,
)
from workers.sandbox_apps.faults import FaultKind
from workers.sandbox_apps.host_controls import HostControls
from workers.sandbox_apps.sandbox_chain import Notification
from workers.sandbox_apps.stream_desk import CLOSE_MALFORMED, Close, StreamDesk

log = logging.getLogger("forgepool.sandbox_apps")

# The default of the real service's HTTP library; more is a 413.
BODY_BYTES_MAX = 2 * 1024 * 1024
# A listener this far behind has stopped reading: it is cut off, and comes back.
BACKLOG_MAX = 10_000
# Requests that hang are cut when the host ends.
SHUTDOWN_S_MAX = 0.5
FRAME_BYTES_MAX = 64 * 1024
# How often a request that hangs looks whether its fault is still there.
HANG_LOOK_S = 0.05

_PAGE = "<!doctype html><title>Sandbox</title><p>GraphQL: POST to this address."
_TRANSPORT_WS, _LEGACY = "graphql-transport-ws", "graphql-ws"


class _Listener:
    """A connection to the stream, and what it has still to read."""

    def __init__(self, desk: StreamDesk, cut: Callable[[], None]) -> None:
        self.desk = desk
        self.cut = cut  # the connection, without a farewell
        self.backlog: asyncio.Queue[str] = asyncio.Queue(BACKLOG_MAX)

    def say(self, texts: list[str]) -> None:
        for text in texts:
            try:
                self.backlog.put_nowait(text)
            except asyncio.QueueFull:
                self.cut()
                return


class HostServer:
    """Serves a host. Make it inside an event loop."""

    def __init__(self, host: ApplicationHost) -> None:
        self.host = host
        self._runner: web.AppRunner | None = None
        self._listeners: set[_Listener] = set()
        self.refused_streams = 0  # how many wanted to listen and were not let in
        host.tell = self._tell

    async def start(self, address: str, port: int) -> int:
        """Begin to listen, on a port of the system's choice when `port` is 0; return the port."""
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_routes(
            [
                web.get("/ready", self._ready),
                web.get("/ws", self._stream),
                web.get("/", self._page),
                web.post("/", self._ask_node),
                web.get("/chains/{chain}/applications/{application}", self._page),
                web.post("/chains/{chain}/applications/{application}", self._ask_application),
                *HostControls(self.host, self.drop_streams).routes(),
            ]
        )
        application.on_shutdown.append(self._end_streams)
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=SHUTDOWN_S_MAX, handler_cancellation=True
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, address, port).start()
        bound: tuple[str, int] = self._runner.addresses[0]
        return bound[1]

    async def stop(self) -> None:
        """End the streams, cut what hangs, and stop listening."""
        self.host.faults.clear()
        if self._runner is not None:
            await self._runner.cleanup()

    def drop_streams(self) -> int:
        """Cut every listener's connection; return how many there were."""
        listeners = list(self._listeners)
        for listener in listeners:
            listener.cut()
        return len(listeners)

    def say_to_streams(self, text: str) -> None:
        """Send a text to every listener, whatever it is."""
        for listener in self._listeners:
            listener.say([text])

    # -- HTTP --

    async def _ready(self, _: web.Request) -> web.Response:
        return web.Response(text="ready!")

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=_PAGE, content_type="text/html")

    async def _ask_node(self, request: web.Request) -> web.StreamResponse:
        received = self.host.receive(await request.read(), _unix_us())
        return await self._answer(request, received, self.host.answer_node)

    async def _ask_application(self, request: web.Request) -> web.StreamResponse:
        where = request.match_info
        received = self.host.receive(
            await request.read(), _unix_us(), where["chain"], where["application"]
        )
        return await self._answer(request, received, self.host.answer_application)

    async def _answer(
        self,
        request: web.Request,
        received: Received,
        answer: Callable[[Received], Outcome],
    ) -> web.StreamResponse:
        begun = time.monotonic()
        record, fault = received.record, received.fault
        try:
            if fault is not None and fault.kind is FaultKind.DELAY:
                await asyncio.sleep(fault.seconds)
            outcome = answer(received)
            if not self.host.switches.tell_after_reply:
                self.host.tell_news()
            response = await self._send(request, outcome)
            record.status = response.status if isinstance(outcome, Reply) else None
            self.host.tell_news()
            return response
        finally:
            record.seconds = time.monotonic() - begun
            log.debug(
                "request number=%d application=%s status=%s fault=%s",
                record.number, record.application_id, record.status, record.fault,
            )  # fmt: skip

    async def _send(self, request: web.Request, outcome: Outcome) -> web.StreamResponse:
        if isinstance(outcome, Reply):
            response = web.Response(
                status=outcome.status,
                body=outcome.body,
                headers={"Content-Type": outcome.content_type},
            )
            await response.prepare(request)
            await response.write_eof()
            return response
        clearings = self.host.faults.clearings
        while isinstance(outcome, Hang) and self.host.faults.clearings == clearings:
            await asyncio.sleep(HANG_LOOK_S)
        _abort(request)
        return web.Response()

    # -- the notification stream --

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        switches = self.host.switches
        known = [_LEGACY] if switches.legacy_streams else [_TRANSPORT_WS, _LEGACY]
        offered = request.headers.get("Sec-WebSocket-Protocol", "")
        if switches.refuse_streams or not set(known) & set(offered.replace(",", " ").split()):
            self.refused_streams += 1
            return web.Response(status=503 if switches.refuse_streams else 400)
        socket = web.WebSocketResponse(protocols=known, max_msg_size=FRAME_BYTES_MAX)
        await socket.prepare(request)
        desk = StreamDesk(self.host.network.chains, legacy=socket.ws_protocol == _LEGACY)
        listener = _Listener(desk, lambda: _abort(request))
        self._listeners.add(listener)
        log.info("listener_came protocol=%s", socket.ws_protocol)
        sending = asyncio.create_task(_send_backlog(socket, listener))
        try:
            await _listen(socket, listener)
        finally:
            self._listeners.discard(listener)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            log.info("listener_left code=%s", socket.close_code)
        return socket

    def _tell(self, notification: Notification) -> None:
        for listener in list(self._listeners):
            listener.say(listener.desk.tell(notification))

    async def _end_streams(self, _: web.Application) -> None:
        self.drop_streams()


async def _listen(socket: web.WebSocketResponse, listener: _Listener) -> None:
    """Read what a listener says until either side ends the connection."""
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            await socket.close(code=CLOSE_MALFORMED, message=b"text is due")
            return
        try:
            listener.say(listener.desk.handle(message.data))
        except Close as end:
            await socket.close(code=end.code, message=end.reason.encode())
            return


async def _send_backlog(socket: web.WebSocketResponse, listener: _Listener) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            await socket.send_str(await listener.backlog.get())


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _unix_us() -> int:
    return time.time_ns() // 1000
