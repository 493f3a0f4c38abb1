"""The server's side of the notification stream, without its connection.

A connection must begin with `connection_init`; it then has subscriptions by name. As the server
library of the source system, this takes the old words `start` and `stop` too, whichever protocol
was agreed on, and sends `data` for `next` to those that speak the old one.

Source: async-graphql, `src/http/websocket.rs`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Struct

from workers.sandbox_apps.sandbox_chain import Notification

CLOSE_MALFORMED = 1002
CLOSE_NOT_INITIALISED = 1011
CLOSE_INITIALISED_TWICE = 4429

ACKNOWLEDGED = '{"type":"connection_ack"}'
PONG = '{"type":"pong"}'

# A client of ours has one for each chain.
SUBSCRIPTIONS_MAX = 1000

_LITERAL = re.compile(r'notifications\s*\(\s*chainId\s*:\s*"([^"]*)"\s*\)')
_VARIABLE = re.compile(r"notifications\s*\(\s*chainId\s*:\s*\$(\w+)\s*\)")


class Close(Exception):
    """The connection ends here, with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Payload(Struct):
    query: str = ""
    variables: dict[str, Any] | None = None


class _Frame(Struct):
    type: str
    id: str = ""
    payload: _Payload | None = None


class StreamDesk:
    """One listener: what it has subscribed to."""

    def __init__(self, chain_ids: Collection[str], *, legacy: bool) -> None:
        self._chain_ids = chain_ids
        self._news = "data" if legacy else "next"
        self._is_initialised = False
        self._subscriptions: dict[str, str] = {}  # name to chain

    def handle(self, text: str) -> list[str]:
        """What is answered to a frame. Raises Close."""
        try:
            frame = msgspec.json.decode(text, type=_Frame)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise Close(CLOSE_MALFORMED, f"malformed: {error}"[:100]) from None
        match frame.type:
            case "connection_init":
                if self._is_initialised:
                    raise Close(CLOSE_INITIALISED_TWICE, "Too many initialisation requests.")
                self._is_initialised = True
                return [ACKNOWLEDGED]
            case "subscribe" | "start":
                if not self._is_initialised:
                    raise Close(CLOSE_NOT_INITIALISED, "The handshake is not completed.")
                return self._subscribe(frame.id, frame.payload or _Payload())
            case "complete" | "stop":
                self._subscriptions.pop(frame.id, None)
                return []
            case "ping":
                return [PONG]
            case "pong" | "connection_terminate":
                return []
        raise Close(CLOSE_MALFORMED, f"malformed: {frame.type[:80]}")

    def tell(self, notification: Notification) -> list[str]:
        """What the listener is told of something, once for each of its subscriptions."""
        chain_id, reason = notification
        notifications = {"notifications": {"chain_id": chain_id, "reason": reason}}
        return [
            self._frame(self._news, name, {"data": notifications})
            for name, subscribed in self._subscriptions.items()
            if subscribed == chain_id
        ]

    def _subscribe(self, name: str, payload: _Payload) -> list[str]:
        chain_id = _chain_of(payload)
        if chain_id not in self._chain_ids or len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            errors = [{"message": f"cannot listen to chain {chain_id}"}]
            return [
                self._frame(self._news, name, {"data": None, "errors": errors}),
                msgspec.json.encode({"type": "complete", "id": name}).decode(),
            ]
        self._subscriptions[name] = chain_id
        return []

    def _frame(self, kind: str, name: str, payload: Any) -> str:
        return msgspec.json.encode({"type": kind, "id": name, "payload": payload}).decode()


def _chain_of(payload: _Payload) -> str:
    """The chain that a subscription is about; empty: it is about none."""
    literal = _LITERAL.search(payload.query)
    if literal is not None:
        return literal[1]
    variable = _VARIABLE.search(payload.query)
    chain_id = (payload.variables or {}).get(variable[1]) if variable is not None else None
    return chain_id if isinstance(chain_id, str) else ""
