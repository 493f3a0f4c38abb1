"""The node client against a real HTTP server that behaves well, badly and not at all."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from workers.node.transport import ERROR_TEXT_MAX, Node, describe_trace
from workers.preparation.preparation_errors import (
    NodeAnswerMalformed,
    NodeError,
    NodeTimeout,
    NodeUnavailable,
    NotOnNode,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def node_that(handler: Handler):
    """A node whose every path is served by `handler`, and a client of it."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as server:
        node = Node(str(server.make_url("")))
        try:
            yield node
        finally:
            await node.aclose()


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def answering(body: bytes, *, status: int = 200, content_type: str = "application/json") -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers={"Content-Type": content_type})

    return handler


def test_connections_are_kept_and_used_again() -> None:
    peers = []

    async def handler(request: web.Request) -> web.Response:
        peers.append(request.transport.get_extra_info("peername"))
        return web.json_response(len(peers))

    async def scenario() -> None:
        async with node_that(handler) as node:
            for expected in range(1, 21):
                assert await node.get("/count", int, deadline=soon()) == expected
            await asyncio.gather(*(node.get("/count", int, deadline=soon()) for _ in range(40)))
            await asyncio.gather(*(node.get("/count", int, deadline=soon()) for _ in range(40)))

    asyncio.run(scenario())
    assert len(set(peers[:20])) == 1
    assert len(set(peers)) <= 40, "the second forty went over the connections of the first"


def test_a_connection_that_the_node_closed_meanwhile_is_replaced() -> None:
    seen = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.path)
        if len(seen) == 2:
            # Accepted, read, and dropped without an answer: what a restarting node does.
            request.transport.close()
        return web.json_response("ok")

    async def scenario() -> None:
        async with node_that(handler) as node:
            assert await node.get("/first", str, deadline=soon()) == "ok"
            assert await node.get("/second", str, deadline=soon()) == "ok"

    asyncio.run(scenario())
    assert seen == ["/first", "/second", "/second"]


def test_a_node_that_hangs_costs_exactly_the_time_that_there_is() -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def scenario() -> float:
        async with node_that(handler) as node:
            begun = soon(0)
            with pytest.raises(NodeTimeout, match=r"GET /slow: no answer before the deadline"):
                await node.get("/slow", str, deadline=soon(0.2))
            return soon(0) - begun

    assert 0.2 <= asyncio.run(scenario()) < 1.0


def test_a_node_that_drips_cannot_stretch_the_time() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b" ")
            await asyncio.sleep(0.02)
        return response

    async def scenario() -> float:
        async with node_that(handler) as node:
            begun = soon(0)
            with pytest.raises(NodeTimeout):
                await node.get("/drip", str, deadline=soon(0.3))
            return soon(0) - begun

    assert asyncio.run(scenario()) < 1.0


def test_one_hanging_path_leaves_the_others_alone() -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/hang":
            await asyncio.Event().wait()
        return web.json_response("ok")

    async def scenario() -> None:
        async with node_that(handler) as node:
            hanging = [
                asyncio.create_task(node.get("/hang", str, deadline=soon(2))) for _ in range(30)
            ]
            await asyncio.sleep(0.05)
            assert await node.get("/fine", str, deadline=soon(1)) == "ok"
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
            # Cancelled calls give their places in the pool back.
            await asyncio.gather(*(node.get("/fine", str, deadline=soon(2)) for _ in range(100)))

    asyncio.run(scenario())


def test_a_node_that_is_not_there_is_unavailable() -> None:
    async def scenario() -> None:
        node = Node("http://127.0.0.1:9")
        try:
            with pytest.raises(NodeUnavailable, match="GET /version"):
                await node.get("/version", str, deadline=soon())
        finally:
            await node.aclose()

    asyncio.run(scenario())


def test_unknown_paths_and_blocks_have_their_own_error() -> None:
    async def scenario() -> None:
        async with node_that(answering(b"", status=404)) as node:
            with pytest.raises(NotOnNode, match="/chains/main/blocks/head~9/hash"):
                await node.get("/chains/main/blocks/head~9/hash", str, deadline=soon())

    asyncio.run(scenario())


def test_an_error_trace_names_every_cause_in_order() -> None:
    trace = (
        b'[{"kind":"permanent","id":"validator.invalid_block","invalid_block":"BL"},'
        b'{"kind":"temporary","id":"failure","msg":"Error while\\nvalidating"}]\n'
    )

    async def scenario() -> None:
        async with node_that(answering(trace, status=500)) as node:
            with pytest.raises(
                NodeError,
                match=r"POST /injection/block: status 500: validator\.invalid_block < "
                r"failure Error while validating",
            ):
                await node.post("/injection/block", {}, str, deadline=soon())

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'[{"id":"a"},{"id":"b","msg":"m"}]', "a < b m"),
        (b"Failed to parse the query string: x", "Failed to parse the query string: x"),
        (b'{"not":"a trace"}', '{"not":"a trace"}'),
        (b"\xff\xfe", "��"),
        (b"", ""),
        (b"x" * 10_000, "x" * ERROR_TEXT_MAX),
    ],
)
def test_any_error_body_has_a_text(body: bytes, expected: str) -> None:
    assert describe_trace(body) == expected


@pytest.mark.parametrize(
    "body", [b"", b"not json", b'{"a":1}', b"\xff\xff", b"[" * 100_000, b'"unfinished']
)
def test_an_answer_that_is_not_what_was_asked_for_is_malformed(body: bytes) -> None:
    async def scenario() -> None:
        async with node_that(answering(body)) as node:
            with pytest.raises(NodeAnswerMalformed, match="GET /hash"):
                await node.get("/hash", str, deadline=soon())

    asyncio.run(scenario())


def test_no_more_of_an_answer_is_read_than_is_allowed() -> None:
    sent = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)
            sent += 65_536

    async def scenario() -> None:
        async with node_that(handler) as node:
            with pytest.raises(NodeAnswerMalformed, match="over 100000 bytes"):
                await node.get("/endless", str, deadline=soon(), bytes_max=100_000)

    asyncio.run(scenario())
    assert sent < 20_000_000, "what the sockets' buffers hold, not gigabytes"


def test_a_compressed_answer_is_refused_before_it_is_unpacked() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.headers["Accept-Encoding"] == "identity"
        bomb = gzip.compress(b'"' + b"x" * 50_000_000 + b'"')
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async def scenario() -> None:
        async with node_that(handler) as node:
            with pytest.raises(NodeAnswerMalformed, match="compressed"):
                await node.get("/bomb", str, deadline=soon())

    asyncio.run(scenario())


def test_a_post_carries_json_and_the_query() -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.headers["Content-Type"] == "application/json"
        assert request.query == {"timestamp": "12"}
        return web.json_response(await request.json())

    async def scenario() -> None:
        async with node_that(handler) as node:
            answer = await node.post(
                "/echo", {"a": [1, "2"]}, dict, deadline=soon(), query={"timestamp": 12}
            )
            assert answer == {"a": [1, "2"]}

    asyncio.run(scenario())


def test_secrets_in_the_url_stay_out_of_errors() -> None:
    async def scenario() -> None:
        node = Node("http://someone:secret@127.0.0.1:9/prefix/")
        try:
            with pytest.raises(NodeUnavailable) as raised:
                await node.get("/version", str, deadline=soon())
            assert "secret" not in str(raised.value)
            assert "GET /version" in str(raised.value)
        finally:
            await node.aclose()

    asyncio.run(scenario())


def test_a_stream_is_read_line_by_line_however_it_is_cut() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for piece in (b"1\n2", b"2\n", b"3", b"33\n4\n"):
            await response.write(piece)
            await asyncio.sleep(0.01)
        return response

    async def scenario() -> list[int]:
        async with node_that(handler) as node:
            stream = await node.lines("/monitor/heads/main", int)
            try:
                return [number async for number in stream]
            finally:
                await stream.aclose()

    assert asyncio.run(scenario()) == [1, 22, 333, 4]


def test_a_stream_that_breaks_or_lies_says_so() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"1\n" if request.path == "/breaks" else b"no\n")
        request.transport.abort()
        return response

    async def scenario() -> None:
        async with node_that(handler) as node:
            breaking = await node.lines("/breaks", int)
            assert await anext(breaking) == 1
            with pytest.raises(NodeUnavailable, match="GET /breaks"):
                await anext(breaking)
            await breaking.aclose()
            lying = await node.lines("/lies", int)
            with pytest.raises(NodeAnswerMalformed, match="GET /lies"):
                await anext(lying)
            await lying.aclose()

    asyncio.run(scenario())
