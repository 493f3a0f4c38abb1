"""What the body of a task's event says, for people."""

from __future__ import annotations

from typing import Any, get_args

import msgspec

from broker.applications import TaskEventName
from broker.messages import Event

_TASK_EVENTS = frozenset(get_args(TaskEventName))


def read_body(event: Event) -> dict[str, object]:
    """The fields of an event's body by name, bytes as hex; of a body that has none, its bytes."""
    if not event.body:
        return {}
    fields = _fields(event.body) if event.event in _TASK_EVENTS else None
    if fields is None:
        return {"body": event.body.hex()}
    return {n: value.hex() if isinstance(value, bytes) else value for n, value in fields.items()}


def _fields(body: bytes) -> dict[str, Any] | None:
    # Which fields there are is for the workers to say: none of them is left out here.
    try:
        fields = msgspec.msgpack.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    plain = all(isinstance(each, str | int | float | bytes | None) for each in fields.values())
    return fields if plain else None
