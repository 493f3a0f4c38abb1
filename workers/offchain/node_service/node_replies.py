"""What the replies of a node service mean.

Replies are read by what they hold, never by their headers: the success of an application's endpoint
comes as `application/octet-stream`, errors as text that is JSON. Any bytes give a value or one of
this file's errors.

Source: Linera, `linera-service/src/node_service.rs` (`application_handler`, `NodeServiceError`).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from workers.offchain.actions import ProcessorActions, read_actions
from workers.offchain.ends import SubmitEnd, SubmitResult
from workers.offchain.offchain_errors import (
    ApplicationRefused,
    NodeServiceFailed,
    UnreadableReply,
)

T = TypeVar("T")

# How much of a text of the other side is passed on to logs, events and the journal.
TEXT_MAX = 2000  # characters

_CONFLICT = "a different block was already committed"
_SOMEBODY_MUST_ACT = {
    HTTPStatus.BAD_REQUEST,  # an id that is none
    HTTPStatus.UNAUTHORIZED,  # of a proxy before the node service
    HTTPStatus.FORBIDDEN,  # `--read-only`
    HTTPStatus.NOT_FOUND,  # not a node service
    HTTPStatus.METHOD_NOT_ALLOWED,
}
# Said before a request is worked on, by the node service or by a proxy before it. Every other error
# may come from behind a block that was proposed, and that validators accept after all.
_NOT_TAKEN = {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
}


class _Reply(Struct):
    """Every reply, good or bad: the node service's errors are a text beside GraphQL's."""

    data: Any = None
    errors: Any = None
    error: Any = None


class ChainDescription(Struct, frozen=True):
    """Where a service runs, as the controller application tells it."""

    application_id: str
    chain_id: str
    name: str = ""


class PendingService(Struct, frozen=True):
    """From which height of its chain a service may be ours."""

    start_block_height: int


class LocalWorker(Struct, frozen=True):
    """The worker of a chain as it has registered."""

    owner: str
    capabilities: list[str] = []


class LocalWorkerState(Struct, frozen=True):
    """What the controller application has assigned to the worker of its chain.

    Pending services are pairs of a service's id and (chain, from when on).
    """

    local_services: list[ChainDescription]
    local_worker: LocalWorker | None = None
    local_pending_services: list[tuple[str, tuple[str, PendingService]]] = []


class _Tip(Struct, rename="camel"):
    next_block_height: int


class _Chain(Struct, rename="camel"):
    tip_state: _Tip


class _Ownership(Struct):
    super_owners: list[str]
    owners: dict[str, Any]  # with their weights


class _System(Struct):
    ownership: _Ownership


class _ExecutionState(Struct):
    system: _System


class _OwnedChain(Struct, rename="camel"):
    execution_state: _ExecutionState


def read_next_actions(status: int, body: bytes) -> ProcessorActions:
    """Read the reply to `nextActions`.

    Raises:
        MalformedActions, ApplicationRefused, NodeServiceFailed, UnreadableReply.
    """
    return read_actions(_field(status, body, "nextActions"))


def read_local_worker_state(status: int, body: bytes) -> LocalWorkerState:
    """Read the reply to `localWorkerState`. Raises as `read_next_actions`."""
    return _converted(_field(status, body, "localWorkerState"), LocalWorkerState)


def read_chain_tip(status: int, body: bytes) -> int:
    """Read how many blocks a chain has: the height of the next one. Raises likewise."""
    return _converted(_field(status, body, "chain"), _Chain).tip_state.next_block_height


def read_chain_owners(status: int, body: bytes) -> list[str]:
    """Read who may make blocks of a chain, in order. Raises likewise."""
    chain = _converted(_field(status, body, "chain"), _OwnedChain)
    ownership = chain.execution_state.system.ownership
    return sorted({*ownership.super_owners, *ownership.owners})


def read_submission(status: int, body: bytes) -> SubmitResult:
    """Read what became of a request that was to make a block: an outcome, or an operation."""
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return SubmitResult(SubmitEnd.OUTCOME_TOO_LARGE, text=f"status {status}: {_shown(body)}")
    if status == HTTPStatus.OK:
        return _read_success(body)
    text = _complaint(status, body)
    if _CONFLICT in text.lower():
        return SubmitResult(SubmitEnd.CONFLICT, text=text)
    if status in _SOMEBODY_MUST_ACT:
        return SubmitResult(SubmitEnd.CONFIGURATION, text=text)
    end = SubmitEnd.TRANSIENT if status in _NOT_TAKEN else SubmitEnd.AMBIGUOUS
    return SubmitResult(end, text=text)


def _read_success(body: bytes) -> SubmitResult:
    try:
        reply = _decoded(body)
    except UnreadableReply as error:
        return SubmitResult(SubmitEnd.AMBIGUOUS, text=str(error))
    if reply.errors:
        return SubmitResult(SubmitEnd.REJECTED, text=_messages(reply.errors, body))
    if isinstance(reply.data, str):
        return SubmitResult(SubmitEnd.COMMITTED, certificate=reply.data[:TEXT_MAX])
    if isinstance(reply.data, dict):
        return SubmitResult(SubmitEnd.NO_EFFECT, text=f"it scheduled nothing: {_shown(body)}")
    return SubmitResult(SubmitEnd.AMBIGUOUS, text=f"neither data nor errors: {_shown(body)}")


def _field(status: int, body: bytes, name: str) -> Any:
    """The value of a query's only field."""
    if status != HTTPStatus.OK:
        raise NodeServiceFailed(_complaint(status, body))
    reply = _decoded(body)
    if reply.errors:
        raise ApplicationRefused(_messages(reply.errors, body))
    if not isinstance(reply.data, dict) or name not in reply.data:
        raise UnreadableReply(f"{name} is not in the reply: {_shown(body)}")
    return reply.data[name]


def _decoded(body: bytes) -> _Reply:
    try:
        return msgspec.json.decode(body, type=_Reply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableReply(f"no GraphQL reply ({error}): {_shown(body)}") from None


def _converted(value: Any, shape: type[T]) -> T:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise UnreadableReply(str(error)) from None


def _messages(errors: Any, body: bytes) -> str:
    """GraphQL's errors in the words of who reported them."""
    listed = errors if isinstance(errors, list) else [errors]
    texts = [each["message"] for each in listed if isinstance(each, dict) and "message" in each]
    if not texts or not all(isinstance(text, str) for text in texts):
        return _shown(body)
    return _cut("; ".join(texts))


def _complaint(status: int, body: bytes) -> str:
    """A status and the node service's own words."""
    try:
        error = _decoded(body).error
    except UnreadableReply:
        error = None
    words = _cut(error) if isinstance(error, str) else _shown(body)
    return f"status {status}: {words}" if words else f"status {status}"


def _shown(body: bytes) -> str:
    """The beginning of a body, for people."""
    return body[:TEXT_MAX].decode("utf-8", "replace")


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
