"""The node service, reached by HTTP: questions, and what makes blocks.

One client serves every application. A question that fails may simply be asked again. What makes a
block may not: so a submission that got no reply says whether it has *surely* not been sent. It has
not as long as nothing of its body was given to the network, for a node service reads a body whole
before it does anything.

What the bytes mean is in `node_queries` and `node_replies`.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import lru_cache
from typing import Any, NamedTuple

import httpx

from workers.offchain.actions import ProcessorActions, TaskOutcome
from workers.offchain.application import Application
from workers.offchain.ends import SubmitEnd, SubmitResult
from workers.offchain.node_service import node_queries, node_replies
from workers.offchain.node_service.connection_pools import CONNECTIONS_PER_POOL, ConnectionPools
from workers.offchain.node_service.node_replies import LocalWorkerState
from workers.offchain.offchain_errors import NodeServiceAway, UnreadableReply

# A node service that does not accept a connection within this time is down.
CONNECT_S_MAX = 5.0
# Calls at once: an application has one question and a chain one submission under way. More wait.
CONNECTIONS_MAX = 256
# Questions at once, of those that end in time; submissions need not wait for them.
QUESTIONS_MAX = 128
# The node service takes no more; what it would refuse while we still write looks like a break.
REQUEST_BYTES_MAX = 2 * 1024 * 1024
# An answer lists every pending task with its input; inputs have a bound of their own.
ANSWER_BYTES_MAX = 16 * 1024 * 1024

URLS_MAX = 1024  # kept, of the applications that were used last

_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
}


class _Reply(NamedTuple):
    status: int
    body: bytes


class _Sending:
    """Whether a request may have reached the other side; hears of each step of httpcore's."""

    def __init__(self) -> None:
        self.has_begun = False

    async def __call__(self, step: str, _: dict[str, Any]) -> None:
        if step.endswith("send_request_body.started"):
            self.has_begun = True


class NodeService:
    """A node service at `url`. Make it inside an event loop, and call `aclose` at the end.

    With `seed_text` applications are asked in the words of the source system, arguments in the
    query's text. Limits are seconds for a whole call; None sets none.
    """

    def __init__(
        self, url: str, *, seed_text: bool = False, answer_bytes_max: int = ANSWER_BYTES_MAX
    ) -> None:
        base = httpx.URL(url.rstrip("/"))
        # To take a URL apart and join it again is a tenth of a request.
        self._url_of = lru_cache(URLS_MAX)(lambda path: _below(base, path))
        self._shown_url = str(base.copy_with(userinfo=b""))  # for people: no password
        self._answer_bytes_max = answer_bytes_max
        self._next_actions = (
            node_queries.seed_next_actions if seed_text else node_queries.next_actions
        )
        self._task_outcome = (
            node_queries.seed_task_outcome if seed_text else node_queries.task_outcome
        )
        # Reading the system's certificates takes longer than most calls.
        verify = ssl.create_default_context() if base.scheme == "https" else False

        def pool(limits: httpx.Limits) -> httpx.AsyncClient:
            return httpx.AsyncClient(
                verify=verify,
                trust_env=False,
                follow_redirects=False,
                headers=_HEADERS,
                timeout=httpx.Timeout(None, connect=CONNECT_S_MAX),
                limits=limits,
            )

        self._pools = ConnectionPools(pool, pools_max=CONNECTIONS_MAX // CONNECTIONS_PER_POOL)
        self._questions = asyncio.Semaphore(QUESTIONS_MAX)

    async def aclose(self) -> None:
        await self._pools.aclose()

    async def next_actions(
        self, application: Application, cursor: str | None, now_unix_us: int, limit_s: float | None
    ) -> ProcessorActions:
        """Ask an application what it wants done.

        Raises:
            NodeServiceAway, NodeServiceFailed, ApplicationRefused, UnreadableReply,
            MalformedActions.
        """
        body = self._next_actions(cursor, now_unix_us)
        reply = await self._ask(_path(application), body, limit_s)
        return node_replies.read_next_actions(*reply)

    async def submit_outcome(
        self, application: Application, outcome: TaskOutcome, limit_s: float | None
    ) -> SubmitResult:
        """Give an application what an operator has said."""
        return await self.submit(application, self._task_outcome(outcome), limit_s)

    async def submit(
        self, application: Application, body: bytes, limit_s: float | None
    ) -> SubmitResult:
        """Send what makes a block, once. However it ends, the result says what is known of it."""
        if len(body) > REQUEST_BYTES_MAX:
            text = f"{len(body)} bytes, and a node service takes {REQUEST_BYTES_MAX}"
            return SubmitResult(SubmitEnd.OUTCOME_TOO_LARGE, text=text)
        sending = _Sending()
        try:
            return node_replies.read_submission(
                *await self._post(_path(application), body, limit_s, sending)
            )
        except (NodeServiceAway, UnreadableReply) as error:
            end = SubmitEnd.AMBIGUOUS if sending.has_begun else SubmitEnd.TRANSIENT
            return SubmitResult(end, text=str(error))

    async def local_worker_state(
        self, controller: Application, limit_s: float | None
    ) -> LocalWorkerState:
        """Ask the controller application what is assigned to us. Raises as `next_actions`."""
        body = node_queries.local_worker_state()
        return node_replies.read_local_worker_state(
            *await self._ask(_path(controller), body, limit_s)
        )

    async def chain_tip(self, chain_id: str, limit_s: float | None) -> int:
        """Ask for the height of a chain's next block. Raises as `next_actions`."""
        return node_replies.read_chain_tip(
            *await self._ask("/", node_queries.chain_tip(chain_id), limit_s)
        )

    async def chain_owners(self, chain_id: str, limit_s: float | None) -> list[str]:
        """Ask who may make blocks of a chain. Raises as `next_actions`."""
        return node_replies.read_chain_owners(
            *await self._ask("/", node_queries.chain_owners(chain_id), limit_s)
        )

    async def _ask(self, path: str, body: bytes, limit_s: float | None) -> _Reply:
        """Ask; the time for an answer begins when the question leaves."""
        if limit_s is None:  # it might hold its place for ever
            return await self._post(path, body, limit_s, _Sending())
        async with self._questions:
            return await self._post(path, body, limit_s, _Sending())

    async def _post(
        self, path: str, body: bytes, limit_s: float | None, sending: _Sending
    ) -> _Reply:
        try:
            with self._pools.taken() as pool:
                async with (
                    asyncio.timeout(limit_s),
                    pool.stream(
                        "POST",
                        self._url_of(path),
                        content=body,
                        extensions={"trace": sending},
                    ) as response,
                ):
                    return _Reply(response.status_code, await self._read(response))
        except TimeoutError:
            raise NodeServiceAway(f"{self._named(path)}: no answer within {limit_s} s") from None
        except httpx.HTTPError as error:
            raise NodeServiceAway(f"{self._named(path)}: {_reason(error)}") from None

    def _named(self, path: str) -> str:
        return f"POST {self._shown_url}{path}"

    async def _read(self, response: httpx.Response) -> bytes:
        """The whole body, as it came and never more than the bound."""
        body = bytearray()
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > self._answer_bytes_max:
                raise UnreadableReply(f"an answer of over {self._answer_bytes_max} bytes")
        return bytes(body)


def _below(base: httpx.URL, path: str) -> httpx.URL:
    return base.copy_with(path=base.path.rstrip("/") + path)


def _path(application: Application) -> str:
    return f"/chains/{application.chain_id}/applications/{application.application_id}"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__} {error}".rstrip()
