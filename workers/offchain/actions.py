"""What an application asks for, and what is given back to it, as values and as JSON.

Source: Linera, `linera-base/src/task_processor.rs` (`ProcessorActions`, `Task`, `TaskOutcome`).
Keys are in snake case inside these scalars. An `id` that is absent stays absent in both
directions: an application that knows no ids gets the ordered semantics of the first version.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from workers.offchain.offchain_errors import MalformedActions

TIMESTAMP_MAX = 2**64 - 1  # microseconds since the Unix epoch, in 64 bits

Timestamp = Annotated[int, Meta(ge=0)]  # msgspec knows no bounds beyond 63 bits


class Task(Struct, frozen=True):
    """One run of an operator that the application wants."""

    operator: str
    input: str
    id: str | None = None


class ProcessorActions(Struct, frozen=True):
    """The answer to `nextActions`; unknown keys are ignored."""

    execute_tasks: list[Task]
    request_callback: Timestamp | None = None
    set_cursor: str | None = None


class TaskOutcome(Struct, frozen=True):
    """What an operator has said, for `processTaskOutcome`."""

    operator: str
    output: str
    id: str | UnsetType = UNSET


class TaskGroup(Struct, frozen=True):
    """Tasks of one id, or all without one: their outcomes keep the order of the requests."""

    id: str | None
    tasks: Sequence[Task]


def read_actions(value: object) -> ProcessorActions:
    """Read the JSON value of `nextActions`.

    Raises:
        MalformedActions: it has another shape; the text says where.
    """
    try:
        actions = msgspec.convert(value, ProcessorActions)
    except msgspec.ValidationError as e:
        raise MalformedActions(f"nextActions: {e}") from None
    if (actions.request_callback or 0) > TIMESTAMP_MAX:
        raise MalformedActions("nextActions: request_callback has more than 64 bits")
    return actions


def group_tasks(tasks: Sequence[Task]) -> list[TaskGroup]:
    """Gather the tasks of each id, those without one first.

    Within a group the order stays; between groups there is none to keep (#6697, #6705).
    """
    groups: dict[str | None, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.id, []).append(task)
    order = sorted(groups, key=lambda group: (group is not None, group or ""))
    return [TaskGroup(group, groups[group]) for group in order]
