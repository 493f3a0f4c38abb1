"""The client of a node service against the sandbox, over real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.offchain.served_applications import LOOPBACK, NOW_US, Served, served, until
from workers.offchain.actions import Task, TaskOutcome
from workers.offchain.application import Application
from workers.offchain.ends import SubmitEnd
from workers.offchain.node_service.node_service import REQUEST_BYTES_MAX, NodeService
from workers.offchain.offchain_errors import (
    ApplicationRefused,
    MalformedActions,
    NodeServiceAway,
    NodeServiceFailed,
    OffchainError,
    UnreadableReply,
)
from workers.sandbox_apps.faults import FaultKind
from workers.sandbox_apps.plan import Plan

PLAN = Plan.of(applications=2)
APPLICATION = Application(PLAN.chains[0], PLAN.applications[0])
OUTCOME = TaskOutcome("echo", "hello", "0")
LIMIT_S = 10.0
# What must not get through a query's text, and does through its variables.
AWKWARD = '\x1b[31mred\x1b[0m \x00 \x7f \u2028 "quoted" back\\slash 😀\nline\ttab\r'


def scenario(steps: Callable[[Served], Awaitable[None]], **options: object) -> None:
    async def run() -> None:
        async with served(**options) as each:
            await steps(each)

    asyncio.run(run())


async def ask(each: Served, *, cursor: str | None = None, limit_s: float | None = LIMIT_S):
    return await each.node.next_actions(each.application, cursor, NOW_US, limit_s)


async def submit(each: Served, outcome: TaskOutcome = OUTCOME, limit_s: float | None = LIMIT_S):
    return await each.node.submit_outcome(each.application, outcome, limit_s)


def test_a_task_is_asked_for_and_its_outcome_makes_a_block() -> None:
    async def steps(each: Served) -> None:
        each.request_task("echo", "hello")
        actions = await ask(each)
        assert actions.execute_tasks == [Task("echo", "hello", "0")]
        result = await submit(each)
        assert result.end is SubmitEnd.COMMITTED
        assert len(result.certificate) == 64
        assert each.results == ["hello"]
        assert (await ask(each)).execute_tasks == []
        assert await each.node.chain_tip(each.chain, LIMIT_S) == 2
        [outcome] = each.host.requests.asking("processTaskOutcome")
        assert outcome.status == 200

    scenario(steps)


@pytest.mark.parametrize("ids", [True, False])
def test_every_character_arrives_through_variables(ids: bool) -> None:
    async def steps(each: Served) -> None:
        each.request_task(AWKWARD, AWKWARD)
        [task] = (await ask(each)).execute_tasks
        assert (task.operator, task.input) == (AWKWARD, AWKWARD)
        outcome = TaskOutcome("echo", AWKWARD, "0") if ids else TaskOutcome("echo", AWKWARD)
        assert (await submit(each, outcome)).end is SubmitEnd.COMMITTED
        assert each.results == [AWKWARD]

    scenario(steps, ids=ids)


@pytest.mark.parametrize("ids", [True, False])
def test_the_words_of_the_source_system_damage_control_characters(ids: bool) -> None:
    async def steps(each: Served) -> None:
        each.request_task("echo", "x")
        await ask(each, cursor='page "7"\n')
        outcome = TaskOutcome("echo", AWKWARD, "0") if ids else TaskOutcome("echo", AWKWARD)
        assert (await submit(each, outcome)).end is SubmitEnd.COMMITTED
        damaged = AWKWARD.replace("\x1b", "'").replace("\x7f", "ħ")
        assert each.results == [damaged]

    scenario(steps, ids=ids, seed_text=True)


def test_an_answer_carries_cursor_and_callback_of_64_bits() -> None:
    async def steps(each: Served) -> None:
        application = each.host.network.applications[APPLICATION.application_id]
        application.answers.append({"request_callback": 2**64 - 1, "set_cursor": "", "new": 1})
        actions = await ask(each, cursor="a")
        assert (actions.request_callback, actions.set_cursor) == (2**64 - 1, "")
        assert each.host.requests.asking("nextActions")[-1].variables == {
            "cursor": "a",
            "now": NOW_US,
        }

    scenario(steps)


@pytest.mark.parametrize(
    ("kind", "details", "end", "words"),
    [
        (FaultKind.CONFLICT, {}, SubmitEnd.CONFLICT, "already committed"),
        (FaultKind.READ_ONLY, {}, SubmitEnd.CONFIGURATION, "read-only mode"),
        (FaultKind.TOO_LARGE, {}, SubmitEnd.OUTCOME_TOO_LARGE, "length limit"),
        (FaultKind.REFUSE, {"text": "no such task"}, SubmitEnd.REJECTED, "no such task"),
        (FaultKind.NO_EFFECT, {}, SubmitEnd.NO_EFFECT, '{"processTaskOutcome":true}'),
        (FaultKind.ERROR, {"text": "no quorum"}, SubmitEnd.AMBIGUOUS, "status 500: no quorum"),
        (FaultKind.ERROR, {"status": 503}, SubmitEnd.TRANSIENT, "status 503"),
        (FaultKind.ERROR, {"status": 504}, SubmitEnd.AMBIGUOUS, "status 504"),
        (FaultKind.ANSWER, {"text": "<html>"}, SubmitEnd.AMBIGUOUS, "<html>"),
        (FaultKind.ANSWER, {"text": "{}"}, SubmitEnd.AMBIGUOUS, "neither data nor errors"),
    ],
)
def test_what_goes_wrong_with_a_submission_has_its_class(
    kind: FaultKind, details: dict[str, object], end: SubmitEnd, words: str
) -> None:
    async def steps(each: Served) -> None:
        each.request_task("echo", "hello")
        each.fault(kind, field="processTaskOutcome", **details)
        result = await submit(each)
        assert result.end is end
        assert words in result.text
        assert each.results == []
        assert (await submit(each)).end is SubmitEnd.COMMITTED

    scenario(steps)


def test_an_id_that_is_no_number_has_no_effect() -> None:
    async def steps(each: Served) -> None:
        result = await submit(each, TaskOutcome("echo", "hello", "x"))
        assert result.end is SubmitEnd.NO_EFFECT
        assert '"processTaskOutcome":false' in result.text

    scenario(steps)


@pytest.mark.parametrize(
    ("kind", "details", "error", "words"),
    [
        (FaultKind.ERROR, {"text": "out of fuel"}, NodeServiceFailed, "out of fuel"),
        (FaultKind.REFUSE, {"text": "not today"}, ApplicationRefused, "not today"),
        (FaultKind.ANSWER, {"text": '{"data":{}}'}, UnreadableReply, "nextActions"),
        (FaultKind.ANSWER, {"text": "ready!"}, UnreadableReply, "ready!"),
        (FaultKind.ANSWER, {"text": '{"data":{"nextActions":{}}}'}, MalformedActions, "tasks"),
        (FaultKind.DROP, {}, NodeServiceAway, "POST http://127.0.0.1:"),
    ],
)
def test_what_goes_wrong_with_a_question_keeps_the_words_of_who_says_so(
    kind: FaultKind, details: dict[str, object], error: type[OffchainError], words: str
) -> None:
    async def steps(each: Served) -> None:
        each.fault(kind, **details)
        with pytest.raises(error, match=words):
            await ask(each)
        assert (await ask(each)).execute_tasks == []

    scenario(steps)


def test_an_argument_that_the_application_does_not_know_is_its_own_error() -> None:
    async def steps(each: Served) -> None:
        body = b'{"query":"query { nextActions(lastRequestedCallback: null, now: 0) }"}'
        result = await each.node.submit(each.application, body, LIMIT_S)
        assert result.end is SubmitEnd.REJECTED
        assert "lastRequestedCallback" in result.text

    scenario(steps)


def test_a_read_only_node_service_answers_and_takes_nothing() -> None:
    async def steps(each: Served) -> None:
        assert (await ask(each)).execute_tasks == []
        assert (await submit(each)).end is SubmitEnd.CONFIGURATION

    scenario(steps, read_only=True)


def test_a_block_behind_a_cut_connection_is_ambiguous_and_only_asking_tells() -> None:
    async def steps(each: Served) -> None:
        each.request_task("echo", "hello")
        each.fault(FaultKind.COMMIT_AND_DROP, field="processTaskOutcome")
        assert (await submit(each)).end is SubmitEnd.AMBIGUOUS
        assert (await ask(each)).execute_tasks == []
        assert each.results == ["hello"]
        assert len(each.host.requests.asking("processTaskOutcome")) == 1

    scenario(steps)


def test_a_cut_before_anything_was_done_is_ambiguous_too() -> None:
    async def steps(each: Served) -> None:
        each.request_task("echo", "hello")
        each.fault(FaultKind.DROP, field="processTaskOutcome")
        assert (await submit(each)).end is SubmitEnd.AMBIGUOUS
        assert len((await ask(each)).execute_tasks) == 1

    scenario(steps)


def test_a_submission_that_is_not_answered_in_time_is_ambiguous() -> None:
    async def steps(each: Served) -> None:
        each.request_task("echo", "hello")
        each.fault(FaultKind.COMMIT_AND_HANG, field="processTaskOutcome")
        assert (await submit(each, limit_s=0.1)).end is SubmitEnd.AMBIGUOUS
        assert each.results == ["hello"]

    scenario(steps)


def test_a_submission_may_wait_for_its_round() -> None:
    async def steps(each: Served) -> None:
        each.request_task("echo", "hello")
        each.fault(FaultKind.DELAY, field="processTaskOutcome", seconds=0.05)
        submission = asyncio.create_task(submit(each))
        await until(lambda: each.host.requests.asking("processTaskOutcome"))
        assert len((await ask(each)).execute_tasks) == 1, "questions are answered meanwhile"
        assert (await submission).end is SubmitEnd.COMMITTED

    scenario(steps)


def test_an_application_that_hangs_holds_up_no_other() -> None:
    async def steps(each: Served) -> None:
        each.fault(FaultKind.HANG, application_id=each.plan.applications[0])
        hanging = asyncio.create_task(ask(each, limit_s=None))
        await until(lambda: each.host.requests.since())
        other = Application(each.chain, each.plan.applications[1])
        assert (await each.node.next_actions(other, None, NOW_US, LIMIT_S)).execute_tasks == []
        assert not hanging.done()
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging

    scenario(steps, applications=2)


def test_a_question_has_its_own_time_limit() -> None:
    async def steps(each: Served) -> None:
        each.fault(FaultKind.HANG, field="nextActions")
        with pytest.raises(NodeServiceAway, match=r"no answer within 0\.05 s"):
            await ask(each, limit_s=0.05)

    scenario(steps)


def test_an_outcome_that_no_node_service_takes_is_not_sent() -> None:
    async def steps(each: Served) -> None:
        result = await submit(each, TaskOutcome("echo", "x" * REQUEST_BYTES_MAX, "0"))
        assert result.end is SubmitEnd.OUTCOME_TOO_LARGE
        assert each.host.requests.since() == []

    scenario(steps)


def test_an_answer_beyond_the_bound_is_not_read() -> None:
    async def steps(each: Served) -> None:
        node = NodeService(each.url, answer_bytes_max=1000)
        each.request_task("echo", "x" * 2000)
        with pytest.raises(UnreadableReply, match="over 1000 bytes"):
            await node.next_actions(each.application, None, NOW_US, LIMIT_S)
        await node.aclose()

    scenario(steps)


@pytest.fixture
def deaf() -> Iterator[tuple[socket.socket, str]]:
    """A bound socket that does not listen, so that connections to it are refused, and its URL."""
    with socket.socket() as bound:
        bound.bind((LOOPBACK, 0))
        yield bound, f"http://{LOOPBACK}:{bound.getsockname()[1]}"


def test_nobody_there_means_surely_not_sent(deaf: tuple[socket.socket, str]) -> None:
    async def steps() -> None:
        node = NodeService(deaf[1])
        result = await node.submit_outcome(APPLICATION, OUTCOME, LIMIT_S)
        assert result.end is SubmitEnd.TRANSIENT
        with pytest.raises(NodeServiceAway, match="ConnectError"):
            await node.next_actions(APPLICATION, None, NOW_US, LIMIT_S)
        await node.aclose()

    asyncio.run(steps())


def test_a_connection_that_is_not_accepted_in_time_means_surely_not_sent(
    deaf: tuple[socket.socket, str],
) -> None:
    async def steps() -> None:
        bound, url = deaf
        bound.listen(0)
        waiting = [socket.socket() for _ in range(3)]  # the system queues no more than this
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(bound.getsockname())
        node = NodeService(url)
        result = await node.submit_outcome(APPLICATION, OUTCOME, 0.1)
        assert result.end is SubmitEnd.TRANSIENT
        assert "no answer within 0.1 s" in result.text
        await node.aclose()
        for each in waiting:
            each.close()

    asyncio.run(steps())


def test_a_node_service_that_went_away_and_came_back_is_found_again() -> None:
    async def steps() -> None:
        async with served() as each:
            assert (await ask(each)).execute_tasks == []
            await each.server.stop()  # the kept connection is closed with it
            assert (await submit(each)).end is SubmitEnd.TRANSIENT
            port = int(each.url.rpartition(":")[2])
            async with served(port=port) as again:
                again.request_task("echo", "hello")
                assert (await submit(each)).end is SubmitEnd.COMMITTED
                assert again.results == ["hello"]

    asyncio.run(steps())


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "image/png"])
def test_replies_are_read_by_what_they_hold(content_type: str) -> None:
    async def reply(_: web.Request) -> web.Response:
        return web.Response(body=b'{"data":"' + b"ab" * 32 + b'"}', content_type=content_type)

    async def steps() -> None:
        async with _serving(reply) as node:
            result = await node.submit_outcome(APPLICATION, OUTCOME, LIMIT_S)
            assert (result.end, result.certificate) == (SubmitEnd.COMMITTED, "ab" * 32)

    asyncio.run(steps())


def test_a_redirection_is_not_followed() -> None:
    seen: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.Response(status=307, headers={"Location": "/elsewhere"})

    async def steps() -> None:
        async with _serving(redirect) as node:
            result = await node.submit_outcome(APPLICATION, OUTCOME, LIMIT_S)
            assert result.end is SubmitEnd.AMBIGUOUS

    asyncio.run(steps())
    assert len(seen) == 1


@asynccontextmanager
async def _serving(handler: Callable[[web.Request], Awaitable[web.Response]]):
    """A client of a server that answers everything with `handler`."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as server:
        node = NodeService(str(server.make_url("")))
        try:
            yield node
        finally:
            await node.aclose()
