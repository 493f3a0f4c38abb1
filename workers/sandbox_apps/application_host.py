"""The sandbox application host: one node service with its chains, applications and faults.

What a request gets is decided here, as a value; `host_server` has the sockets. Tests use the same
object that `/sandbox/…` controls over HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec
from graphql import GraphQLSchema, build_schema, graphql_sync

from workers.sandbox_apps.application_kind import ApplicationKind, ApplicationTrapped
from workers.sandbox_apps.faults import Fault, FaultKind, Faults, Switches
from workers.sandbox_apps.requests_log import KEPT_BYTES_MAX, RecordedRequest, RequestsLog
from workers.sandbox_apps.sandbox_chain import Notification, Reason
from workers.sandbox_apps.sandbox_network import SandboxNetwork

_ID = re.compile(r"[0-9a-f]{64}\Z")

# The owner of the other chains.
EVERYBODY = "0x" + "00" * 32

# Types as the real service has them: successes of applications are raw bytes, errors are text.
OCTETS = "application/octet-stream"
GRAPHQL = "application/graphql-response+json"
TEXT = "text/plain; charset=utf-8"

_NODE_SCHEMA = """
    scalar BlockHeight
    scalar ChainId
    type TipState { nextBlockHeight: BlockHeight! }
    scalar ChainOwnership
    type System { ownership: ChainOwnership! }
    type ExecutionState { system: System! }
    type Chain { chainId: ChainId! tipState: TipState! executionState: ExecutionState! }
    type Chains { list: [ChainId!]! default: ChainId }
    type Query { chain(chainId: ChainId!): Chain! chains: Chains! }
"""


@cache
def _node_schema() -> GraphQLSchema:
    return build_schema(_NODE_SCHEMA)


class Reply(NamedTuple):
    """What a request gets."""

    status: int
    body: bytes
    content_type: str


class Cut(NamedTuple):
    """The connection is cut instead."""


class Hang(NamedTuple):
    """Nothing is answered while the fault is there."""


Outcome = Reply | Cut | Hang


class _Question(NamedTuple):
    query: str
    variables: Any
    name: Any


class Received(NamedTuple):
    """A request that has come, and the fault that it meets."""

    record: RecordedRequest
    question: _Question
    fault: Fault | None


class ApplicationHost:
    """A node service. `tell` is called with everything that listeners to a chain should know.

    `owners` are the owners of chains that have some of their own.
    """

    def __init__(
        self,
        chain_ids: list[str],
        applications: dict[str, ApplicationKind],
        *,
        owners: Mapping[str, str] | None = None,
        read_only: bool = False,
    ) -> None:
        self.network = SandboxNetwork(chain_ids, applications)
        self.faults = Faults()
        self.switches = Switches()
        self.requests = RequestsLog()
        self.tell: Callable[[Notification], None] = _tell_nobody
        self._read_only = read_only
        self._owners = dict(owners or {})

    def receive(
        self, body: bytes, unix_us: int, chain_id: str = "", application_id: str = ""
    ) -> Received:
        """Write down a request that has come; without ids it is to the node service itself."""
        question = _read_question(body)
        variables = question.variables if len(body) <= KEPT_BYTES_MAX else None
        record = self.requests.add(
            unix_us, chain_id, application_id, question.query[:KEPT_BYTES_MAX], variables
        )
        fault = self.faults.take(application_id, question.query)
        record.fault = "" if fault is None else fault.kind
        return Received(record, question, fault)

    def answer_application(self, received: Received) -> Outcome:
        """Answer a request to an application: its words, or the hash of the block that it made."""
        chain_id, application_id = received.record.chain_id, received.record.application_id
        refusal = self._refusal(chain_id, application_id) or _instead(received.fault)
        if refusal is not None:
            return refusal
        kind = None if received.fault is None else received.fault.kind
        answer = self.network.query(chain_id, application_id, *received.question)
        if not answer.operations or kind is FaultKind.NO_EFFECT:
            return Reply(200, msgspec.json.encode(answer.reply), OCTETS)
        if self._read_only:
            return _read_only()
        try:
            certificate = self.network.execute(chain_id, application_id, answer.operations)
        except ApplicationTrapped as error:
            return _error(500, f"the application has trapped: {error}")
        if kind is FaultKind.COMMIT_AND_DROP:
            return Cut()
        if kind is FaultKind.COMMIT_AND_HANG:
            return Hang()
        return Reply(200, msgspec.json.encode({"data": certificate}), OCTETS)

    def answer_node(self, received: Received) -> Outcome:
        """Answer a request to the node service itself."""
        instead = _instead(received.fault)
        if instead is not None:
            return instead
        query, variables, _ = received.question
        result = graphql_sync(
            _node_schema(),
            query,
            {"chain": self._chain, "chains": self._chains},
            variable_values=variables if isinstance(variables, dict) else None,
        )
        reply: dict[str, Any] = {"data": result.data}
        if result.errors:
            reply = {"data": None, "errors": [error.formatted for error in result.errors]}
        return Reply(200, msgspec.json.encode(reply), GRAPHQL)

    def add_blocks(self, chain_id: str, count: int = 1) -> None:
        """Make blocks with nothing in them, and tell of them."""
        for _ in range(count):
            self.network.add_block(chain_id)
        self.tell_news()

    def notify(self, chain_id: str, reasons: list[Reason]) -> None:
        """Tell the listeners to a chain of something that has not happened."""
        for reason in reasons:
            self.tell(Notification(chain_id, reason))

    def tell_news(self) -> None:
        """Tell of what has happened."""
        for notification in self.network.take_untold():
            is_block = "NewBlock" in notification.reason
            for _ in range(self.switches.copies_of_new_block if is_block else 1):
                self.tell(notification)

    def state(self) -> dict[str, Any]:
        """Everything at a glance."""
        return {
            "chains": {
                chain_id: {
                    "next_height": chain.next_height,
                    "applications": {
                        application_id: application.summary(chain_id)
                        for application_id, application in self.network.applications.items()
                    },
                }
                for chain_id, chain in self.network.chains.items()
            },
            "faults": self.faults.due(),
            "switches": self.switches,
        }

    def _refusal(self, chain_id: str, application_id: str) -> Reply | None:
        """The error for ids that are none, or of nothing that is here."""
        for what, text in (("chain", chain_id), ("application", application_id)):
            if _ID.match(text) is None:
                return _error(400, f"malformed {what} ID: 64 hexadecimal digits are due")
        if chain_id not in self.network.chains:
            return _error(500, f"chain {chain_id} is not in the wallet")
        if application_id not in self.network.applications:
            return _error(500, f"application {application_id} is not registered on the chain")
        return None

    def _chain(self, _: Any, chainId: str) -> dict[str, Any]:
        chain = self.network.chains.get(chainId)
        if chain is None:
            raise ValueError(f"chain {chainId} is not in the wallet")
        owner = self._owners.get(chainId, EVERYBODY)
        ownership = {"super_owners": [], "owners": {owner: 100}}
        return {
            "chainId": chainId,
            "tipState": {"nextBlockHeight": chain.next_height},
            "executionState": {"system": {"ownership": ownership}},
        }

    def _chains(self, _: Any) -> dict[str, Any]:
        chain_ids = list(self.network.chains)
        return {"list": chain_ids, "default": chain_ids[0]}


def _instead(fault: Fault | None) -> Outcome | None:
    """What a fault gives in place of the answer; None: the request is worked on."""
    if fault is None:
        return None
    match fault.kind:
        case FaultKind.DROP:
            return Cut()
        case FaultKind.HANG:
            return Hang()
        case FaultKind.ERROR:
            return _error(fault.status, fault.text)
        case FaultKind.CONFLICT:
            return _error(
                500,
                "A different block was already committed at this height. "
                f"The committed certificate hash is {'c0' * 32}",
            )
        case FaultKind.READ_ONLY:
            return _read_only()
        case FaultKind.TOO_LARGE:
            return Reply(413, b"length limit exceeded", TEXT)
        case FaultKind.REFUSE:
            errors = [{"message": fault.text, "locations": [], "path": []}]
            return Reply(200, msgspec.json.encode({"data": None, "errors": errors}), OCTETS)
        case FaultKind.ANSWER:
            return Reply(200, fault.text.encode(), OCTETS)
    return None


def _read_question(body: bytes) -> _Question:
    """A body as GraphQL over HTTP; what is none has no query, and gets GraphQL's complaint."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Question("", None, None)
    if not isinstance(value, dict) or not isinstance(value.get("query"), str):
        return _Question("", None, None)
    return _Question(value["query"], value.get("variables"), value.get("operationName"))


def _error(status: int, text: str) -> Reply:
    return Reply(status, msgspec.json.encode({"error": text}), TEXT)


def _read_only() -> Reply:
    return _error(403, "scheduling operations from queries is disabled in read-only mode")


def _tell_nobody(_: Notification) -> None:
    pass
