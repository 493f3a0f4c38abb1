"""Frames of the notification stream, as text and as values.

The protocol is `graphql-transport-ws`; a server that only knows its predecessor `graphql-ws` says
`data` for `next`, and has other words for the end of a subscription and for a sign of life. Text of
either gives a frame or MalformedFrame.

Sources: https://github.com/enisdenjo/graphql-ws (PROTOCOL.md); async-graphql,
`src/http/websocket.rs`; Linera, `linera-core/src/worker.rs` (`Notification`, `Reason`).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from workers.offchain.offchain_errors import MalformedFrame

SUBPROTOCOL = "graphql-transport-ws"
LEGACY_SUBPROTOCOL = "graphql-ws"
NEW_BLOCK = "NewBlock"

# How much of a server's complaint is passed on.
TEXT_MAX = 500  # characters

CONNECTION_INIT = '{"type":"connection_init","payload":{}}'
PING = '{"type":"ping"}'
PONG = '{"type":"pong"}'

_QUERY = "subscription($chainId: ChainId!) { notifications(chainId: $chainId) }"


class Acknowledged(Struct, frozen=True):
    """The server has taken our connection."""


class ConnectionRefused(Struct, frozen=True):
    """The server has not taken our connection (legacy protocol)."""

    text: str


class Told(Struct, frozen=True):
    """Something has happened on a chain."""

    subscription: str
    chain_id: str
    reason: str  # by its name, also when we know nothing else of it
    height: int | None  # of the block, where the reason tells one


class SubscriptionRefused(Struct, frozen=True):
    """The server has errors instead of news."""

    subscription: str
    text: str


class SubscriptionEnded(Struct, frozen=True):
    """There will be no more news of a subscription."""

    subscription: str


class Pinged(Struct, frozen=True):
    """The server wants a sign of life."""


class Ponged(Struct, frozen=True):
    """The server has answered a sign of life, and everything that was sent before it is read."""


class KeptAlive(Struct, frozen=True):
    """The server is alive, and says so by itself (legacy protocol)."""


Frame = (
    Acknowledged
    | ConnectionRefused
    | Told
    | SubscriptionRefused
    | SubscriptionEnded
    | Pinged
    | Ponged
    | KeptAlive
)


class _Frame(Struct):
    type: str
    id: str = ""
    payload: Any = None


class _Notification(Struct):
    chain_id: str
    reason: dict[str, Any] | str  # a reason without fields is only its name


class _Notifications(Struct):
    notifications: _Notification


class _Payload(Struct):
    data: _Notifications


def subscribe(subscription: str, chain_id: str, *, legacy: bool) -> str:
    """Text that asks for the news of a chain."""
    return _text(
        {
            "id": subscription,
            "type": "start" if legacy else "subscribe",
            "payload": {
                "query": _QUERY,
                "variables": {"chainId": chain_id},
                "operationName": None,
            },
        }
    )


def unsubscribe(subscription: str, *, legacy: bool) -> str:
    """Text that ends a subscription."""
    return _text({"id": subscription, "type": "stop" if legacy else "complete"})


def read_frame(text: str | bytes) -> Frame:
    """Read a frame of the server. Raises MalformedFrame."""
    frame = _decoded(text, _Frame)
    match frame.type:
        case "connection_ack":
            return Acknowledged()
        case "connection_error":
            return ConnectionRefused(_shown(frame.payload))
        case "next" | "data":
            return _news(frame)
        case "error":
            return SubscriptionRefused(frame.id, _shown(frame.payload))
        case "complete":
            return SubscriptionEnded(frame.id)
        case "ping":
            return Pinged()
        case "pong":
            return Ponged()
        case "ka":
            return KeptAlive()
    raise MalformedFrame(f"a frame of type {_cut(frame.type)}")


def _news(frame: _Frame) -> Told | SubscriptionRefused:
    payload = frame.payload
    if isinstance(payload, dict) and payload.get("errors"):
        return SubscriptionRefused(frame.id, _shown(payload["errors"]))
    try:
        told = msgspec.convert(payload, _Payload).data.notifications
    except msgspec.ValidationError as error:
        raise MalformedFrame(f"a notification: {error}") from None
    if isinstance(told.reason, str):
        return Told(frame.id, told.chain_id, told.reason, None)
    if len(told.reason) != 1:
        raise MalformedFrame(f"a notification with {len(told.reason)} reasons")
    [(reason, fields)] = told.reason.items()
    height = fields.get("height") if isinstance(fields, dict) else None
    is_height = isinstance(height, int) and not isinstance(height, bool) and height >= 0
    return Told(frame.id, told.chain_id, reason, height if is_height else None)


def _decoded(text: str | bytes, shape: type[_Frame]) -> _Frame:
    try:
        return msgspec.json.decode(text, type=shape)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise MalformedFrame(f"no frame ({error})") from None


def _text(frame: dict[str, object]) -> str:
    return msgspec.json.encode(frame).decode()


def _shown(errors: Any) -> str:
    """What a server complains of, in its words where they are found."""
    listed = errors if isinstance(errors, list) else [errors]
    texts = [each["message"] for each in listed if isinstance(each, dict) and "message" in each]
    return _cut("; ".join(text for text in texts if isinstance(text, str)) or "no reason given")


def _cut(text: str) -> str:
    return text[:TEXT_MAX]
