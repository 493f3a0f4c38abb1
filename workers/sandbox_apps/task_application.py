"""An application that asks for tasks and keeps their outcomes.

It behaves as the example of the source system does, its oddities included: an outcome whose id is
not a number is accepted and schedules nothing, and an outcome of a task that is no longer pending
is stored a second time. Without ids it is the example of the first version: an outcome takes the
task at the front of the queue away, whichever it belongs to.

Source: Linera, `examples/task-processor`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import msgspec
from graphql import GraphQLError, GraphQLSchema, build_schema
from msgspec import UNSET, Struct

from workers.offchain.actions import TIMESTAMP_MAX, TaskOutcome
from workers.sandbox_apps.application_kind import ApplicationTrapped, Message

# Tasks, and outcomes, of one chain: what a runaway may do to the memory.
TASKS_MAX = 10_000
KEPT_CHARACTERS_MAX = 256 * 1024 * 1024

_SCHEMA = """
    scalar ChainId
    scalar ProcessorActions
    scalar TaskOutcome
    scalar Timestamp
    type Query {
        taskCount: Int!
        results: [String!]!
        nextActions(cursor: String, now: Timestamp!): ProcessorActions!
        processTaskOutcome(outcome: TaskOutcome!): Boolean!
    }
    type Mutation {
        requestTask(operator: String!, input: String!): [Int!]!
        requestTaskOn(chainId: ChainId!, operator: String!, input: String!): [Int!]!
    }
"""


@cache
def _schema() -> GraphQLSchema:
    return build_schema(_SCHEMA)


class RequestTask(Struct, frozen=True):
    """Operation: put a task into the queue."""

    operator: str
    input: str


class RequestTaskOn(Struct, frozen=True):
    """Operation: put a task into the queue of another chain."""

    chain_id: str
    operator: str
    input: str


class StoreResult(Struct, frozen=True):
    """Operation: keep an outcome, and take its task away; without an id, the oldest task."""

    id: int | None
    result: str


class _Pending(Struct, frozen=True):
    id: int
    operator: str
    input: str


class _State:
    """What a chain keeps of the application."""

    def __init__(self) -> None:
        self.pending: list[_Pending] = []
        self.results: list[str] = []
        self.next_id = 0
        self._characters = 0  # of pending inputs and of results

    def request(self, operator: str, input: str) -> None:
        """Put a task into the queue. Raises ApplicationTrapped."""
        self._make_room(len(self.pending), input)
        self.pending.append(_Pending(self.next_id, operator, input))
        self.next_id += 1

    def store(self, task_id: int | None, result: str) -> None:
        """Keep an outcome and take its task away. Raises ApplicationTrapped."""
        self._make_room(len(self.results), result)
        self.results.append(result)
        if task_id is None:
            gone = self.pending[:1]
        else:
            gone = [each for each in self.pending if each.id == task_id]
        for each in gone:
            self.pending.remove(each)
            self._characters -= len(each.input)

    def _make_room(self, count: int, text: str) -> None:
        if count >= TASKS_MAX or self._characters + len(text) > KEPT_CHARACTERS_MAX:
            raise ApplicationTrapped(
                f"the sandbox is full: {count} tasks, {self._characters} characters"
            )
        self._characters += len(text)


class TaskApplication:
    """The application; with `ids` its tasks have some.

    `answers` change what `nextActions` says, one answer each, and `every_answer` what it says
    otherwise: keys of ProcessorActions, and `callback_in_us` for a callback so long after `now`.
    """

    def __init__(self, *, ids: bool) -> None:
        self.schema = _schema()
        self.answers: deque[Mapping[str, Any]] = deque()
        self.every_answer: Mapping[str, Any] = {}
        self._ids = ids
        self._states: dict[str, _State] = {}

    def fields(
        self, chain_id: str, schedule: Callable[[Struct], None]
    ) -> Mapping[str, Callable[..., Any]]:
        state = self._state(chain_id)

        def next_actions(_: Any, now: Any, cursor: str | None = None) -> dict[str, Any]:
            return self._next_actions(state, now)

        def process_task_outcome(_: Any, outcome: Any) -> bool:
            return self._process_task_outcome(outcome, schedule)

        def request_task(_: Any, operator: str, input: str) -> list[int]:
            schedule(RequestTask(operator, input))
            return []

        def request_task_on(_: Any, chainId: str, operator: str, input: str) -> list[int]:
            schedule(RequestTaskOn(chainId, operator, input))
            return []

        return {
            "taskCount": lambda _: len(state.results),
            "results": lambda _: list(state.results),
            "nextActions": next_actions,
            "processTaskOutcome": process_task_outcome,
            "requestTask": request_task,
            "requestTaskOn": request_task_on,
        }

    def execute(self, chain_id: str, operation: Any, height: int) -> list[Message]:
        state = self._state(chain_id)
        match operation:
            case RequestTask():
                state.request(operation.operator, operation.input)
            case RequestTaskOn():
                task = RequestTask(operation.operator, operation.input)
                return [Message(operation.chain_id, task)]
            case StoreResult():
                state.store(operation.id, operation.result)
            case _:
                raise ApplicationTrapped("not an operation of this application")
        return []

    def summary(self, chain_id: str) -> dict[str, Any]:
        state = self._state(chain_id)
        return {
            "pending": [msgspec.structs.asdict(each) for each in state.pending],
            "results": list(state.results),
        }

    def _state(self, chain_id: str) -> _State:
        return self._states.setdefault(chain_id, _State())

    def _next_actions(self, state: _State, now: Any) -> dict[str, Any]:
        if not isinstance(now, int) or isinstance(now, bool) or not 0 <= now <= TIMESTAMP_MAX:
            raise GraphQLError('Failed to parse "Timestamp": microseconds are due, as a number')
        tasks = [
            ({"id": str(each.id)} if self._ids else {})
            | {"operator": each.operator, "input": each.input}
            for each in state.pending
        ]
        actions: dict[str, Any] = {
            "request_callback": None,
            "set_cursor": None,
            "execute_tasks": tasks,
        }
        change = dict(self.answers.popleft() if self.answers else self.every_answer)
        delay_us = change.pop("callback_in_us", None)
        if delay_us is not None:
            actions["request_callback"] = now + delay_us
        return actions | change

    def _process_task_outcome(self, value: Any, schedule: Callable[[Struct], None]) -> bool:
        try:
            outcome = msgspec.convert(value, TaskOutcome)
        except msgspec.ValidationError as error:
            raise GraphQLError(f'Failed to parse "TaskOutcome": {error}') from None
        if not self._ids:
            schedule(StoreResult(None, outcome.output))
            return True
        if outcome.id is UNSET or not (outcome.id.isascii() and outcome.id.isdecimal()):
            return False
        schedule(StoreResult(int(outcome.id), outcome.output))
        return True
