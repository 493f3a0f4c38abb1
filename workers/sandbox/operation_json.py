"""Operations as the RPC prints them.

Shapes: protocol ``operation_repr.ml``, ``apply_results.ml``. Fields that have their default are
left out, never written: a wallet takes ``"allocated_destination_contract": false`` for true.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from signers.formats import base58
from signers.formats.content_kind import ANONYMOUS_PASS
from signers.formats.operation import Content, Operation
from workers.sandbox.manager_operations import Receipt, Status
from workers.sandbox.names import text
from workers.sandbox.operations import SignedOperation
from workers.sandbox.refusal import Refusal
from workers.sandbox.rules import Rules
from workers.sandbox.votes import vote_of

Json = dict[str, Any]

# What version 0 of Mavryk's encodings calls votes.
OLD_NAMES = {
    "preattestation": "preendorsement",
    "attestation": "endorsement",
    "attestation_with_dal": "endorsement_with_dal",
}


class OperationJson:
    """Prints and reads the operations of one chain."""

    def __init__(self, rules: Rules, protocol_hash: str) -> None:
        self._rules = rules
        self._names = rules.names
        self._protocol_hash = protocol_hash
        self._chain_id = text(base58.CHAIN_ID, rules.chain_id)

    def in_block(
        self, operation: SignedOperation, receipts: Sequence[Receipt] | None, *, old_names: bool
    ) -> Json:
        """Return an operation of a block; without receipts it has no metadata."""
        contents = self.contents(operation.operation, receipts, old_names=old_names)
        return {
            "protocol": self._protocol_hash,
            "chain_id": self._chain_id,
            "hash": text(base58.OPERATION_HASH, operation.hash),
            "branch": text(base58.BLOCK_HASH, operation.operation.branch),
            "contents": contents,
            **signature_json(operation.operation),
        }

    def waiting(
        self, operation: SignedOperation, refusal: Refusal | None, *, old_names: bool
    ) -> Json:
        """Return an operation of the mempool. Only what is not validated names its protocol."""
        body = {
            "branch": text(base58.BLOCK_HASH, operation.operation.branch),
            "contents": self.contents(operation.operation, None, old_names=old_names),
            **signature_json(operation.operation),
        }
        hash = {"hash": text(base58.OPERATION_HASH, operation.hash)}
        if refusal is None:
            return {**hash, **body}
        error = refusal.to_json(self._rules.dialect.protocol_prefix)
        return {**hash, "protocol": self._protocol_hash, **body, "error": error}

    def streamed(self, operation: SignedOperation, refusal: Refusal | None) -> Json:
        """Return an operation as `monitor_operations` sends it: always with its protocol."""
        waiting = self.waiting(operation, refusal, old_names=False)
        return {"hash": waiting.pop("hash"), "protocol": self._protocol_hash, **waiting}

    def parsed(self, operation: Operation, *, old_names: bool) -> Json:
        """Return an operation that was only taken apart."""
        return {
            "branch": text(base58.BLOCK_HASH, operation.branch),
            "contents": self.contents(operation, old_names=old_names),
            **signature_json(operation),
        }

    def contents(
        self,
        operation: Operation,
        receipts: Sequence[Receipt] | None = None,
        *,
        old_names: bool = False,
    ) -> list[Json]:
        """Return the contents of an operation, each with what became of it if that is known."""
        shown = []
        for position, content in enumerate(operation.contents):
            name = OLD_NAMES.get(content.name, content.name) if old_names else content.name
            fields = content.kind.layout.show(content.fields, self._rules.network)
            one: Json = {"kind": name, **fields}
            if receipts is not None:
                one["metadata"] = self._metadata(content, receipts[position])
            shown.append(one)
        return shown

    def _metadata(self, content: Content, receipt: Receipt) -> Json:
        if content.kind.validation_pass == 0:
            return _vote_metadata(content, self._rules)
        if content.kind.validation_pass == ANONYMOUS_PASS:
            return {"balance_updates": []}
        source = self._names.address(content.fields["source"])
        fee = content.fields["fee"]
        fees = _moved(
            {"kind": "contract", "contract": source},
            {"kind": "accumulator", "category": "block fees"},
            fee,
        )
        result: Json = {"status": receipt.status.value}
        if receipt.errors:
            prefix = self._rules.dialect.protocol_prefix
            result["errors"] = [error.to_json(prefix) for error in receipt.errors]
        if receipt.status in (Status.APPLIED, Status.BACKTRACKED):
            result |= self._effects(content, receipt, source)
        return {**({"balance_updates": fees} if fees else {}), "operation_result": result}

    def _effects(self, content: Content, receipt: Receipt, source: str) -> Json:
        consumed = {"consumed_milligas": str(receipt.milligas)}
        if content.name != "transaction":
            return consumed
        payer = {"kind": "contract", "contract": source}
        payee = {
            "kind": "contract",
            "contract": self._names.contract(content.fields["destination"]),
        }
        updates = _moved(payer, payee, content.fields["amount"])
        if not receipt.allocated:
            return {"balance_updates": updates, **consumed}
        constants = self._rules.constants
        burnt = constants.account_bytes * constants.cost_per_byte
        updates += _moved(payer, {"kind": "burned", "category": "storage fees"}, burnt)
        return {"balance_updates": updates, **consumed, "allocated_destination_contract": True}


def signature_json(operation: Operation) -> Json:
    """Return the signature of an operation under its name; nothing for one that needs none."""
    signature = operation.signature
    return {"signature": base58.signature_text(signature)} if signature and any(signature) else {}


def _vote_metadata(content: Content, rules: Rules) -> Json:
    vote = vote_of(content)
    committee = rules.rights.committee(vote.level)
    delegate = rules.names.address(committee.owners[vote.slot])
    return {
        "delegate": delegate,
        "consensus_power": committee.power(vote.slot),
        "consensus_key": delegate,
    }


def _moved(payer: Json, payee: Json, amount: int) -> list[Json]:
    """Return the two balance updates of a payment, which sum to zero."""
    if amount == 0:
        return []
    return [
        {**payer, "change": str(-amount), "origin": "block"},
        {**payee, "change": str(amount), "origin": "block"},
    ]
