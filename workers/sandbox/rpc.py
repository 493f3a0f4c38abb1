"""The node's HTTP: answers calls from the directory, word for word as an Octez node does.

Replies are minified JSON and one newline, their type exactly ``application/json``. Errors of
the chain are traces with status 500, what cannot be parsed is text with 400, what does not
exist an empty 404. This is the only file of the sandbox that knows HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
from aiohttp import web

from workers.sandbox.directory import (
    BadCall,
    Call,
    Directory,
    MethodNotAllowed,
    NotFound,
    Query,
    split,
)
from workers.sandbox.refusal import Refusal, failure
from workers.sandbox.streams import OpenStream, Streams

log = logging.getLogger(__name__)

# A block holds at most 4.7 MB of operations (the passes' quotas), twice that as hex, and names.
BODY_BYTES_MAX = 12 * 1024 * 1024
# Clients of a real node meet the same: they ask again on another connection.
KEEP_ALIVE_S = 75.0
# Streams end by themselves when the node does; nothing else takes longer than a block.
SHUTDOWN_S_MAX = 2.0

_JSON = "application/json"


class RpcServer:
    """Serves a directory over HTTP.

    `clock` gives Unix seconds. `slow_s` delays the calls whose path begins so: a fault that
    tests of clients ask for; the chain is called `main` there, however a call names it
    (`chain_id` is its other name). `cors_origin` lets browsers of that origin in.
    """

    def __init__(
        self,
        directory: Directory,
        streams: Streams,
        protocol_prefix: str,
        clock: Callable[[], float],
        *,
        chain_id: str,
        slow_s: Mapping[str, float] | None = None,
        cors_origin: str | None = None,
    ) -> None:
        self._directory = directory
        self._streams = streams
        self._protocol_prefix = protocol_prefix
        self._clock = clock
        self._slow_s = dict(slow_s or {})
        self._chain_id = chain_id
        self._cors = {"Access-Control-Allow-Origin": cors_origin} if cors_origin else {}
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Begin to listen, on a port of the system's choice when `port` is 0; return the port."""
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_route("*", "/{path:.*}", self._handle)
        application.on_shutdown.append(self._end_streams)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_S,
            shutdown_timeout=SHUTDOWN_S_MAX,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        address: tuple[str, int] = self._runner.addresses[0]
        return address[1]

    async def stop(self) -> None:
        """End the streams, answer what is under way, and stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _end_streams(self, _: web.Application) -> None:
        self._streams.end_all()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path = tuple(unquote(segment) for segment in split(request.rel_url.raw_path))
        await self._delay(request.rel_url.raw_path)
        try:
            return await self._answer(request, path)
        except BadCall as error:
            return self._reply(400, f"{error}\n".encode(), "text/plain")
        except NotFound:
            return self._reply(404)
        except MethodNotAllowed as error:
            status = 200 if request.method == "OPTIONS" else 405
            return self._reply(status, headers={"Allow": ", ".join(error.allowed)})
        except Refusal as refusal:
            return self._trace(refusal)
        except (ConnectionError, asyncio.CancelledError, web.HTTPException):
            raise
        except Exception as error:
            log.exception("rpc failed method=%s path=%s", request.method, request.path)
            return self._trace(failure(f"{type(error).__name__}: {error}"))

    async def _answer(self, request: web.Request, path: tuple[str, ...]) -> web.StreamResponse:
        route = self._directory.find(request.method, path)
        pairs = parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True)
        body = await request.read()
        answer = route.service(Call(path, route.positions, Query(pairs), body, self._clock()))
        if isinstance(answer, OpenStream):
            return await self._stream(request, answer)
        return self._reply(200, msgspec.json.encode(answer) + b"\n", _JSON)

    async def _stream(self, request: web.Request, stream: OpenStream) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": _JSON, **self._cors})
        try:
            await response.prepare(request)
            for line in stream.first:
                await response.write(line + b"\n")
            if stream.listener is not None:
                async for line in stream.listener:
                    await response.write(line + b"\n")
            await response.write_eof()
        except ConnectionResetError:
            pass  # the listener has hung up
        finally:
            if stream.listener is not None:
                self._streams.leave(stream.listener)
        return response

    async def _delay(self, path: str) -> None:
        path = path.replace(f"/chains/{self._chain_id}", "/chains/main", 1)
        delay_s = max(
            (delay for prefix, delay in self._slow_s.items() if path.startswith(prefix)),
            default=0.0,
        )
        if delay_s:
            await asyncio.sleep(delay_s)

    def _trace(self, refusal: Refusal) -> web.Response:
        trace: list[dict[str, Any]] = refusal.to_json(self._protocol_prefix)
        return self._reply(500, msgspec.json.encode(trace) + b"\n", _JSON)

    def _reply(
        self,
        status: int,
        body: bytes = b"",
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> web.Response:
        every = {**self._cors, **(headers or {})}
        if content_type is not None:
            every["Content-Type"] = content_type
        return web.Response(status=status, body=body, headers=every)
