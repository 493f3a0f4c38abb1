"""One node, reached by HTTP: kept connections, hard time limits, bounded answers.

What the paths mean is in `node_rpc.py`; here is only how a question gets its answer. Time limits
are absolute (`deadline`, seconds of the event loop's clock) and bound a call as a whole: a node
that sends one byte a second cannot stretch them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec
from yarl import URL

from workers.preparation.preparation_errors import (
    NodeAnswerMalformed,
    NodeError,
    NodeTimeout,
    NodeUnavailable,
    NotOnNode,
)

T = TypeVar("T")
Query = Mapping[str, str | int]

# A node that does not even accept within this time is down; the kernel alone would try for minutes.
CONNECT_S_MAX = 2.0
# Calls at once. A node that hangs holds one connection for each of them, and a process has 1,024
# descriptors; calls beyond wait for a place until their deadline.
CONNECTIONS_MAX = 768
# Nodes close idle connections after about a minute; forgetting them first avoids the race.
KEEP_ALIVE_S = 30.0
# The largest ordinary answers are constants (4 KiB) and live blocks (361 hashes, 20 KiB).
ANSWER_BYTES_MAX = 4 * 1024 * 1024
# How much of an error's text is passed on.
ERROR_TEXT_MAX = 600

_OK, _NOT_FOUND = 200, 404


class Node:
    """A node's RPC server at `url`. Make it inside an event loop, and call `aclose` at the end."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=KEEP_ALIVE_S),
            # The whole call is limited below; only connecting has a limit of its own.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S_MAX),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    @property
    def origin(self) -> str:
        """What people may be told of the URL: scheme, host and port, no user and no secret path."""
        return str(URL(self.url).origin())

    async def aclose(self) -> None:
        await self._http.close()

    async def get(
        self,
        path: str,
        answer: type[T],
        *,
        deadline: float,
        query: Query | None = None,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> T:
        """Ask for `path` and read the answer as `answer`, a type that msgspec knows.

        Raises NodeUnavailable, NodeTimeout, NotOnNode, NodeError, NodeAnswerMalformed.
        """
        async with self._answer("GET", path, query, None, deadline) as response:
            return _decode(_name(response), await _read(response, bytes_max), answer)

    async def post(
        self,
        path: str,
        body: Any,
        answer: type[T],
        *,
        deadline: float,
        query: Query | None = None,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> T:
        """Send `body` as JSON to `path`; else as `get`. Only for calls that may be repeated."""
        content = msgspec.json.encode(body)
        async with self._answer("POST", path, query, content, deadline) as response:
            return _decode(_name(response), await _read(response, bytes_max), answer)

    async def lines(self, path: str, answer: type[T], *, query: Query | None = None) -> Stream[T]:
        """Open a stream of the node: one JSON value a line, until either side closes it.

        Raises as `get`; the answer must begin within `CONNECT_S_MAX` seconds.
        """
        deadline = asyncio.get_running_loop().time() + CONNECT_S_MAX
        async with _limited(f"GET {path}", deadline):
            response = await self._request("GET", path, query, None)
            try:
                await _check_status(response)
            except BaseException:
                response.close()
                raise
        return Stream(response, msgspec.json.Decoder(answer))

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, query: Query | None, content: bytes | None, deadline: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response with status 200; until the end of the block the deadline holds."""
        async with _limited(f"{method} {path}", deadline):
            response = await self._request(method, path, query, content)
            async with response:
                await _check_status(response)
                yield response

    async def _request(
        self, method: str, path: str, query: Query | None, content: bytes | None
    ) -> aiohttp.ClientResponse:
        async def send() -> aiohttp.ClientResponse:
            return await self._http.request(
                method,
                URL(self.url + path),
                params=query,
                data=content,
                headers=None if content is None else {"Content-Type": "application/json"},
                allow_redirects=False,
            )

        try:
            return await send()
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            if isinstance(error, aiohttp.ClientConnectorError):
                raise
            # The node closed a kept connection just as we used it. All our calls may be repeated.
            return await send()


class Stream(AsyncIterator[T]):
    """Values that a node sends as they happen, one JSON value a line. Close it after use."""

    def __init__(self, response: aiohttp.ClientResponse, decoder: msgspec.json.Decoder[T]) -> None:
        self._response = response
        self._decoder = decoder
        self._buffer = bytearray()

    async def __anext__(self) -> T:
        """The next value. Ends when the node ends the stream in an orderly way.

        Raises NodeUnavailable when the connection breaks, NodeAnswerMalformed.
        """
        what = _name(self._response)
        while (end := self._buffer.find(b"\n")) < 0:
            try:
                piece = await self._response.content.readany()
            except aiohttp.ClientError as error:
                raise NodeUnavailable(f"{what}: {_reason(error)}") from None
            if not piece:
                raise StopAsyncIteration
            self._buffer += piece
            if len(self._buffer) > ANSWER_BYTES_MAX:
                raise NodeAnswerMalformed(f"{what}: a line of over {ANSWER_BYTES_MAX} bytes")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            return self._decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NodeAnswerMalformed(f"{what}: {error}") from None

    async def aclose(self) -> None:
        self._response.close()


@asynccontextmanager
async def _limited(what: str, deadline: float) -> AsyncIterator[None]:
    """End what is inside at `deadline`; say in our words how the network failed."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except aiohttp.ConnectionTimeoutError:
        raise NodeUnavailable(f"{what}: not accepted within {CONNECT_S_MAX} s") from None
    except TimeoutError:
        raise NodeTimeout(f"{what}: no answer before the deadline") from None
    except (aiohttp.ClientError, OSError) as error:
        raise NodeUnavailable(f"{what}: {_reason(error)}") from None


async def _read(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The whole body, never more than `bytes_max` bytes of it."""
    body = bytearray()
    while piece := await response.content.readany():
        body += piece
        if len(body) > bytes_max:
            response.close()
            raise NodeAnswerMalformed(f"{_name(response)}: over {bytes_max} bytes")
    return bytes(body)


async def _check_status(response: aiohttp.ClientResponse) -> None:
    """Raise what a status other than 200 means: 404 is empty, 400 a text, 500 an error trace."""
    what = _name(response)
    if response.status == _NOT_FOUND:
        response.close()
        raise NotOnNode(f"{what}: unknown to the node")
    if response.status != _OK:
        body = await _read(response, ANSWER_BYTES_MAX)
        raise NodeError(f"{what}: status {response.status}: {describe_trace(body)}")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        response.close()
        raise NodeAnswerMalformed(f"{what}: compressed though we asked for plain text")


def _decode(what: str, body: bytes, answer: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NodeAnswerMalformed(f"{what}: {error}") from None


def describe_trace(body: bytes) -> str:
    """A node's error trace in one line: the ids, outermost first, and the messages.

    A body that is no trace (a 400 is plain text) is passed on as it is, cut to a length.
    """
    try:
        trace = msgspec.json.decode(body, type=list[dict[str, Any]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return " ".join(body.decode("utf-8", "replace").split())[:ERROR_TEXT_MAX]
    parts = [f"{error.get('id', '?')} {error.get('msg', '')}".strip() for error in trace]
    return " < ".join(" ".join(part.split()) for part in parts)[:ERROR_TEXT_MAX]


def _name(response: aiohttp.ClientResponse) -> str:
    """How a call is called in an error: method and path, never user or password of the URL."""
    return f"{response.method} {response.url.path}"


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
