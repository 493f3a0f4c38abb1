"""The chains and applications of a sandbox: queries are answered, operations make blocks."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import msgspec
from graphql import graphql_sync

from workers.sandbox_apps.application_kind import ApplicationKind, ApplicationTrapped, Message
from workers.sandbox_apps.sandbox_chain import Notification, SandboxChain

# Messages that one block sets off. Only a loop between chains would send more.
CASCADE_MAX = 100


class Answer(NamedTuple):
    """What an application says, and what it wants to be executed for it."""

    reply: dict[str, Any]  # of GraphQL: `data` and, if there are any, `errors`
    operations: list[msgspec.Struct]


class SandboxNetwork:
    """Chains by id, and applications by id; every application is on every chain.

    What listeners are to be told is kept in `untold` until somebody takes it.
    """

    def __init__(self, chain_ids: list[str], applications: dict[str, ApplicationKind]) -> None:
        self.chains = {chain_id: SandboxChain(chain_id) for chain_id in chain_ids}
        self.applications = applications
        self._untold: list[Notification] = []

    def query(
        self, chain_id: str, application_id: str, text: str, variables: Any, name: Any
    ) -> Answer:
        """Let an application answer a query or a mutation; nothing is executed yet."""
        application = self.applications[application_id]
        operations: list[msgspec.Struct] = []
        result = graphql_sync(
            application.schema,
            text,
            application.fields(chain_id, operations.append),
            variable_values=variables if isinstance(variables, dict) else None,
            operation_name=name if isinstance(name, str) else None,
        )
        if result.errors:
            errors = [error.formatted for error in result.errors]
            return Answer({"data": None, "errors": errors}, [])
        return Answer({"data": result.data}, operations)

    def execute(self, chain_id: str, application_id: str, operations: list[msgspec.Struct]) -> str:
        """Make a block of operations, and the blocks that their messages set off.

        Returns:
            The hash of the first block, which is its certificate's too.

        Raises:
            ApplicationTrapped: no block was made.
        """
        application = self.applications[application_id]
        messages: deque[Message] = deque()
        for operation in operations:
            messages += self._apply(application, chain_id, operation)
        certificate = self.add_block(chain_id)
        for _ in range(CASCADE_MAX):
            if not messages:
                break
            target, carried = messages.popleft()
            self._untold.append(_incoming(target, chain_id))
            messages += self._apply(application, target, carried)
            self.add_block(target)
        return certificate

    def add_block(self, chain_id: str) -> str:
        """Make a block; without anything in it when nothing was executed before."""
        block_hash, notification = self.chains[chain_id].add_block()
        self._untold.append(notification)
        return block_hash

    def take_untold(self) -> list[Notification]:
        """What has happened and nobody was told of."""
        untold, self._untold = self._untold, []
        return untold

    def _apply(
        self, application: ApplicationKind, chain_id: str, operation: msgspec.Struct
    ) -> list[Message]:
        messages = application.execute(chain_id, operation, self.chains[chain_id].next_height)
        strangers = [each.chain_id for each in messages if each.chain_id not in self.chains]
        if strangers:
            raise ApplicationTrapped(f"there is no chain {strangers[0]}")
        return messages


def _incoming(chain_id: str, origin: str) -> Notification:
    return Notification(chain_id, {"NewIncomingBundle": {"origin": origin, "height": 0}})
