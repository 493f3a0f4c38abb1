"""`preapply/block`: the node builds, on top of a block, the block that a baker drafts.

The draft's proof of work and signature are not looked at. An operation that does not fit is put
into the list of its class, and the block goes without it. Source: Octez
``block_validation.ml`` (``preapply``), ``block_directory.ml``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import UNSET, Struct, UnsetType

from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.block_header import Fitness
from signers.formats.hashes import operations_hash
from workers.sandbox.block_draft import BlockDraft
from workers.sandbox.block_json import VALIDATION_PASSES, fitness_json, raw_operation_json
from workers.sandbox.block_tree import Block, Era
from workers.sandbox.directory import BadCall, Call, Directory
from workers.sandbox.mempool import CLASS_OF_ERROR, Class
from workers.sandbox.names import text, time_text
from workers.sandbox.node import Json, SandboxNode
from workers.sandbox.operations import SignedOperation
from workers.sandbox.refusal import ErrorKind, Refusal, failure, protocol_error, shell_error
from workers.sandbox.services.operation_reader import SignedJson
from workers.sandbox.services.simulation import assembled

_PATH = "/chains/{chain}/blocks/{block}/helpers/preapply/block"
_NO_PAYLOAD_YET = bytes(32)
_TIMESTAMP_MAX = 253_402_300_799  # the end of the year 9999
_ASIDE = (Class.REFUSED, Class.OUTDATED, Class.BRANCH_REFUSED, Class.BRANCH_DELAYED)


class ProtocolData(Struct):
    """The header that a baker drafts, as far as building its block needs it."""

    protocol: str
    payload_hash: str
    payload_round: int
    proof_of_work_nonce: str
    liquidity_baking_toggle_vote: str
    signature: str
    seed_nonce_hash: str | UnsetType = UNSET


class Draft(Struct):
    """Body of the call."""

    protocol_data: ProtocolData
    operations: list[list[SignedJson]]


class PreapplyBlock:
    """The service."""

    def __init__(self, node: SandboxNode) -> None:
        self._node = node
        self._rules = node.rules

    def add_to(self, directory: Directory) -> None:
        directory.serve("POST", _PATH, self.preapply)

    def preapply(self, call: Call) -> Json:
        predecessor, _ = self._node.context_of(call)
        if predecessor.era is Era.GENESIS:
            raise failure("The block on top of genesis activates the protocol.")
        draft = call.json(Draft)
        self._check(draft)
        round = self._round(call, predecessor)
        building = BlockDraft(
            self._rules, predecessor, round, _payload_of(draft.protocol_data.payload_hash)
        )
        passes = [
            self._add_pass(building, predecessor, self._read(one_pass, index, call))
            for index, one_pass in enumerate(draft.operations)
        ]
        building.check_quorums()
        hashes = [applied for applied, _ in passes]
        return {
            "shell_header": self._shell(predecessor, building, round, hashes),
            "operations": [shown for _, shown in passes],
        }

    def _check(self, draft: Draft) -> None:
        if draft.protocol_data.protocol != self._node.protocol_hash:
            raise BadCall(
                f"Failed to parse the request body: protocol: {self._node.protocol_hash} is due"
            )
        if len(draft.operations) != VALIDATION_PASSES:
            raise BadCall(
                f"Failed to parse the request body: operations: {VALIDATION_PASSES} lists are due"
            )

    def _round(self, call: Call, predecessor: Block) -> int:
        """Return the round that begins at the timestamp asked for, or the one that runs now."""
        asked = call.query.number("timestamp")
        if asked is not None and not 0 <= asked <= _TIMESTAMP_MAX:
            raise BadCall("Failed to parse the query string: timestamp: out of range")
        moment = call.now if asked is None else asked
        durations, below = self._rules.durations, predecessor.header.timestamp
        round = durations.round_at(below, predecessor.round, moment)
        if round is None:
            raise failure("No round of this level has begun at that time.")
        begins = durations.timestamp(below, predecessor.round, round)
        if asked is not None and begins != asked:
            raise Refusal(
                protocol_error(
                    ErrorKind.PERMANENT,
                    "block_header.wrong_timestamp",
                    "Wrong timestamp: no round begins at that time.",
                    block_timestamp=time_text(asked),
                    expected_timestamp=time_text(begins),
                )
            )
        return round

    def _read(
        self, one_pass: Sequence[SignedJson], index: int, call: Call
    ) -> list[SignedOperation]:
        operations = [assembled(each, self._rules, self._node.protocol_hash) for each in one_pass]
        if any(each.validation_pass != index for each in operations):
            raise failure(f"An operation of another validation pass is in list {index}.")
        if call.query.flag("sort") and index == VALIDATION_PASSES - 1:
            operations.sort(key=_fee, reverse=True)
        return operations

    def _add_pass(
        self, building: BlockDraft, predecessor: Block, operations: Sequence[SignedOperation]
    ) -> tuple[list[bytes], Mapping[str, list[Json]]]:
        """Add the operations that fit; return their hashes, and all of them by class."""
        added: list[bytes] = []
        shown: dict[str, list[Json]] = {"applied": [], **{each.value: [] for each in _ASIDE}}
        for operation in operations:
            raw = {
                "hash": text(base58.OPERATION_HASH, operation.hash),
                **raw_operation_json(operation.signed),
            }
            try:
                self._check_live(operation, predecessor)
                building.add(operation)
            except Refusal as refusal:
                error = refusal.to_json(self._node.dialect.protocol_prefix)
                shown[CLASS_OF_ERROR[refusal.kind].value].append({**raw, "error": error})
            else:
                added.append(operation.hash)
                shown["applied"].append(raw)
        return added, shown

    def _check_live(self, operation: SignedOperation, predecessor: Block) -> None:
        tree = self._node.chain.tree
        if tree.is_included(operation.hash, predecessor):
            words = "The operation is in a block already."
        elif not tree.is_live(operation.operation.branch, predecessor):
            words = "The operation's branch is not live."
        else:
            return
        raise Refusal(shell_error(ErrorKind.OUTDATED, "failure", words, msg=words))

    def _shell(
        self, predecessor: Block, building: BlockDraft, round: int, hashes: list[list[bytes]]
    ) -> Json:
        below = predecessor.header.timestamp
        fitness = Fitness.tenderbake(
            level=building.level,
            round=round,
            predecessor_round=predecessor.round,
            locked_round=building.locked_round if building.has_preattestations else None,
        )
        timestamp = self._rules.durations.timestamp(below, predecessor.round, round)
        return {
            "level": building.level,
            "proto": self._node.chain.tree.activation.header.proto,
            "predecessor": text(base58.BLOCK_HASH, predecessor.hash),
            "timestamp": time_text(timestamp),
            "validation_pass": VALIDATION_PASSES,
            "operations_hash": text(base58.OPERATIONS_HASH, operations_hash(hashes)),
            "fitness": fitness_json(fitness),
            "context": text(base58.CONTEXT_HASH, predecessor.resulting_context_hash),
        }


def _payload_of(payload_hash: str) -> bytes | None:
    try:
        payload = base58.decode(base58.PAYLOAD_HASH, payload_hash)
    except MalformedBytes as error:
        raise BadCall(f"Failed to parse the request body: payload_hash: {error}") from None
    return None if payload == _NO_PAYLOAD_YET else payload


def _fee(operation: SignedOperation) -> int:
    return sum(content.fields["fee"] for content in operation.operation.contents)
