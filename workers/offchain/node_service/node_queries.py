"""The questions to a node service, as bytes.

Arguments travel as GraphQL variables: nothing that an operator has written is ever part of a
query's text. The source system writes them into the text instead, and damages control characters
on the way; `seed_next_actions` and `seed_task_outcome` do the same for the `compat` mode.

Sources: Linera, `linera-service/src/task_processor.rs` (`query_actions`, `submit_task_outcome`),
`linera-sdk/src/abis/controller.rs`, `linera-service/src/node_service.rs`; async-graphql,
`value/src/lib.rs` (`write_quoted`).
"""

from __future__ import annotations

from collections.abc import Sequence
from unicodedata import category

import msgspec
from msgspec import UNSET

from workers.offchain.actions import TaskOutcome

_NEXT_ACTIONS = (
    "query($cursor: String, $now: Timestamp!) { nextActions(cursor: $cursor, now: $now) }"
)
_TASK_OUTCOME = "query($outcome: TaskOutcome!) { processTaskOutcome(outcome: $outcome) }"
_LOCAL_WORKER_STATE = "query { localWorkerState }"
_EXECUTE_WORKER_COMMAND = (
    "mutation($owner: AccountOwner!, $command: WorkerCommand!) "
    "{ executeWorkerCommand(owner: $owner, command: $command) }"
)
_START_LOCAL_SERVICE = (
    "mutation($serviceId: DataBlobHash!) { startLocalService(serviceId: $serviceId) }"
)
_CHAIN_OWNERS = (
    "query($chainId: ChainId!) "
    "{ chain(chainId: $chainId) { executionState { system { ownership } } } }"
)
_CHAIN_TIP = (
    "query($chainId: ChainId!) { chain(chainId: $chainId) { tipState { nextBlockHeight } } }"
)

_SHORT_ESCAPES = {"\r": "\\r", "\n": "\\n", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


def next_actions(cursor: str | None, now_unix_us: int) -> bytes:
    """Ask an application what it wants done."""
    return _with_variables(_NEXT_ACTIONS, cursor=cursor, now=now_unix_us)


def task_outcome(outcome: TaskOutcome) -> bytes:
    """Give an application what an operator has said. It is a query, and makes a block."""
    return _with_variables(_TASK_OUTCOME, outcome=outcome)


def local_worker_state() -> bytes:
    """Ask the controller application what it has assigned to the worker of this chain."""
    return msgspec.json.encode({"query": _LOCAL_WORKER_STATE})


def register_worker(owner: str, capabilities: Sequence[str]) -> bytes:
    """Tell the controller application that we work here, and with which operators."""
    command = {"RegisterWorker": {"capabilities": capabilities}}
    return _with_variables(_EXECUTE_WORKER_COMMAND, owner=owner, command=command)


def start_local_service(service_id: str) -> bytes:
    """Tell the controller application that we take over a service that is pending."""
    return _with_variables(_START_LOCAL_SERVICE, serviceId=service_id)


def chain_tip(chain_id: str) -> bytes:
    """Ask the node service itself how far a chain is."""
    return _with_variables(_CHAIN_TIP, chainId=chain_id)


def chain_owners(chain_id: str) -> bytes:
    """Ask the node service itself who may make blocks of a chain."""
    return _with_variables(_CHAIN_OWNERS, chainId=chain_id)


def seed_next_actions(cursor: str | None, now_unix_us: int) -> bytes:
    """Ask as the source system does, with the arguments in the text."""
    text = "null" if cursor is None else seed_literal(cursor)
    query = f"query {{ nextActions(cursor: {text}, now: {now_unix_us}) }}"
    return msgspec.json.encode({"query": query})


def seed_task_outcome(outcome: TaskOutcome) -> bytes:
    """Give an outcome as the source system does; with an id as its first version with ids."""
    operator, output = seed_literal(outcome.operator), seed_literal(outcome.output)
    if outcome.id is UNSET:
        fields = f"{{ operator: {operator}, output: {output} }}"
    else:
        fields = f"{{id: {seed_literal(outcome.id)}, operator: {operator}, output: {output}}}"
    return msgspec.json.encode({"query": f"query {{ processTaskOutcome(outcome: {fields}) }}"})


def seed_literal(text: str) -> str:
    """A string as async-graphql writes it into a query.

    Control characters without a letter of their own are escaped with their *decimal* number, which
    readers take for hexadecimal: ESC (27) becomes an apostrophe (0x27).
    """
    return '"' + "".join(map(_seed_character, text)) + '"'


def _seed_character(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    return f"\\u{ord(character):04}" if category(character) == "Cc" else character


def _with_variables(query: str, **variables: object) -> bytes:
    return msgspec.json.encode({"query": query, "variables": variables})
