"""Services that try an operation without putting it anywhere: simulate, run, preapply.

What validation refuses is an error of the call; what fails when applied is a result like any
other, for such an operation can be in a block and pays its fees. Source: protocol plugin
``RPC.ml`` (``Scripts.run_operation``), Octez ``block_directory.ml`` (``preapply``).
"""

from __future__ import annotations

from dataclasses import replace

from msgspec import Struct

from signers.formats import operation as codec
from signers.formats.content_kind import ANONYMOUS_PASS
from signers.formats.hashes import blake2b_32
from workers.sandbox.block_draft import BlockDraft
from workers.sandbox.directory import BadCall, Call, Directory, NotFound
from workers.sandbox.ledger import Ledger
from workers.sandbox.manager_operations import Receipt, Status
from workers.sandbox.node import Json, SandboxNode
from workers.sandbox.operation_json import signature_json
from workers.sandbox.operations import SignedOperation
from workers.sandbox.refusal import ErrorKind, Refusal, protocol_error
from workers.sandbox.rules import Rules
from workers.sandbox.services.operation_reader import SignedJson, read_unsigned, signature_of

_HELPERS = "/chains/{chain}/blocks/{block}/helpers"
# A preapplied list is a batch of a wallet, not a block.
_OPERATIONS_MAX = 1000


class SentOperation(Struct):
    """The operation of a simulation; its signature must be there and is not looked at."""

    branch: str
    contents: list[Json]
    signature: str


class Simulation(Struct):
    """Body of `run_operation` and `simulate_operation`."""

    operation: SentOperation
    chain_id: str


class SimulationServices:
    """Operations tried on the state after a block."""

    def __init__(self, node: SandboxNode) -> None:
        self._node = node

    def add_to(self, directory: Directory) -> None:
        directory.serve("POST", f"{_HELPERS}/scripts/run_operation", self.run_operation)
        directory.serve("POST", f"{_HELPERS}/scripts/simulate_operation", self.run_operation)
        directory.serve("POST", f"{_HELPERS}/preapply/operations", self.preapply_operations)

    def run_operation(self, call: Call) -> Json:
        _, context = self._node.context_of(call)
        old_names = self._node.old_names(call)
        sent = call.json(Simulation).operation
        rules = self._node.rules
        signed = SignedJson(sent.branch, sent.contents, sent.signature)
        operation = replace(read_unsigned(signed, rules), signature=signature_of(signed))
        first = operation.contents[0]
        if first.kind.validation_pass == 0:
            raise Refusal(
                protocol_error(
                    ErrorKind.PERMANENT,
                    "run_operation_does_not_support_consensus_operations",
                    "The run_operation RPC does not support consensus operations.",
                )
            )
        ledger = Ledger(context)
        if first.kind.validation_pass == ANONYMOUS_PASS:
            receipts: tuple[Receipt, ...] = (Receipt(Status.APPLIED, 0),)
        else:
            rules.managers.validate(operation.contents, ledger)
            receipts = rules.managers.apply(operation.contents, Ledger(ledger))
        contents = self._node.operations.contents(operation, receipts, old_names=old_names)
        return {"contents": contents, **signature_json(operation)}

    def preapply_operations(self, call: Call) -> list[Json]:
        block, _ = self._node.context_of(call)
        old_names = self._node.old_names(call)
        sent = call.json(list[SignedJson])
        if len(sent) > _OPERATIONS_MAX:
            raise BadCall("Failed to parse the request body: too many operations")
        if block is self._node.chain.tree.genesis:
            raise NotFound
        draft = BlockDraft(self._node.rules, block, 0, payload=None)
        applied = []
        for each in sent:
            operation = assembled(each, self._node.rules, self._node.protocol_hash)
            receipts = draft.add(operation)
            contents = self._node.operations.contents(
                operation.operation, receipts, old_names=old_names
            )
            applied.append({"contents": contents, **signature_json(operation.operation)})
        return applied


def assembled(sent: SignedJson, rules: Rules, protocol_hash: str) -> SignedOperation:
    """Return the signed operation that JSON describes. Raises BadCall, Refusal."""
    if sent.protocol != protocol_hash:
        raise BadCall(f"Failed to parse the request body: protocol: {protocol_hash} is due")
    operation = replace(read_unsigned(sent, rules), signature=signature_of(sent))
    signed = codec.encode(operation)
    return SignedOperation(blake2b_32(signed), signed, operation)
