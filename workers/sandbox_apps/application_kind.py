"""What the sandbox wants of an application: answers to GraphQL, and the effects of operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec
from graphql import GraphQLSchema


class ApplicationTrapped(Exception):
    """An operation cannot be executed: the block is not made, and nothing has changed."""


class Message(NamedTuple):
    """An operation that an application sends to itself on another chain."""

    chain_id: str
    operation: msgspec.Struct


class ApplicationKind(Protocol):
    """An application, on every chain at once: each chain has a state of its own."""

    schema: GraphQLSchema

    def fields(
        self, chain_id: str, schedule: Callable[[msgspec.Struct], None]
    ) -> Mapping[str, Callable[..., Any]]:
        """The fields of queries and mutations; `schedule` takes the operations that they want."""
        ...

    def execute(self, chain_id: str, operation: Any, height: int) -> list[Message]:
        """Change the state by an operation in the block at `height`.

        Raises:
            ApplicationTrapped: it cannot; nothing has changed.
        """
        ...

    def summary(self, chain_id: str) -> dict[str, Any]:
        """What is worth showing of a chain's state."""
        ...
