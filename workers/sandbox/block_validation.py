"""Whether a block that somebody injects may be part of the chain.

First what any node checks of any protocol's block (place, size, which operations), then the
header under Tenderbake's rules, then each operation, then what they add up to. Source: Octez
``block_validation.ml``; protocol ``block_header_repr.ml``, ``validate.ml``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from signers.errors import MalformedBytes
from signers.formats import base58, block_header
from signers.formats.block_header import BlockHeader
from signers.formats.hashes import blake2b_32, operations_hash
from signers.formats.networks import BLOCK_WATERMARK
from workers.sandbox.block_draft import BlockDraft, Receipts
from workers.sandbox.block_json import (
    PASS_BYTES_MAX,
    PASS_OPERATIONS_MAX,
    VALIDATION_PASSES,
)
from workers.sandbox.block_tree import Block, BlockTree, Era, IncludedOperation
from workers.sandbox.levels import level_info
from workers.sandbox.names import text, time_text
from workers.sandbox.operations import BRANCH_BYTES, SignedOperation
from workers.sandbox.refusal import ErrorKind, Refusal, protocol_error, shell_error
from workers.sandbox.rules import Rules

PERMANENT = ErrorKind.PERMANENT

Passes = Sequence[Sequence[bytes]]


class BlockValidation:
    """The checks of one injected block, in the order in which a node makes them."""

    def __init__(
        self,
        rules: Rules,
        tree: BlockTree,
        predecessor: Block,
        header: BlockHeader,
        raw_header: bytes,
    ) -> None:
        self._rules = rules
        self._tree = tree
        self._predecessor = predecessor
        self._header = header
        self._raw_header = raw_header
        self._hash = blake2b_32(raw_header)

    def run(self, passes: Passes, now: float) -> Block:
        """Return the validated block. Raises Refusal."""
        self._check_shell()
        operations = self._read(passes)
        self._check_operations_hash(operations)
        for operation in (each for one_pass in operations for each in one_pass):
            self._check_live(operation)
        try:
            self._check_header()
            draft, receipts = self._apply(operations)
            self._check_sum(draft)
        except Refusal as refusal:
            raise self._economic(refusal) from None
        return self._block(operations, draft, receipts, now)

    # -- the shell's part -----------------------------------------------------------------------

    def _check_shell(self) -> None:
        header, predecessor = self._header, self._predecessor.header
        if header.level != predecessor.level + 1:
            self._invalid("invalid_level", expected=predecessor.level + 1, found=header.level)
        if header.proto != self._tree.activation.header.proto:
            expected = self._tree.activation.header.proto
            self._invalid("invalid_proto_level", expected=expected, found=header.proto)
        if header.validation_passes != VALIDATION_PASSES:
            self._invalid("unexpected_number_of_passes", found=header.validation_passes)
        if header.timestamp <= predecessor.timestamp:
            self._invalid("non_increasing_timestamp")
        if not predecessor.fitness < header.fitness:
            self._invalid("non_increasing_fitness")
        expected_context = self._predecessor.resulting_context_hash
        if header.context != expected_context:
            raise Refusal(
                shell_error(
                    PERMANENT,
                    "node.state.block.inconsistent_context_hash",
                    "The context hash is not that of the predecessor's resulting context.",
                    wrong_context_hash=text(base58.CONTEXT_HASH, header.context),
                    expected_context_hash=text(base58.CONTEXT_HASH, expected_context),
                )
            )

    def _read(self, passes: Passes) -> list[list[SignedOperation]]:
        """Read all operations and check that each is where and as large as it may be."""
        if len(passes) != VALIDATION_PASSES:
            self._invalid("unexpected_number_of_passes", found=len(passes))
        quotas = zip(passes, PASS_OPERATIONS_MAX, PASS_BYTES_MAX, strict=True)
        operations = []
        for index, (signed, operations_max, bytes_max) in enumerate(quotas):
            if operations_max is not None and len(signed) > operations_max:
                self._invalid(
                    "too_many_operations",
                    validation_pass=index,
                    found=len(signed),
                    max=operations_max,
                )
            operations.append([self._read_one(each, index) for each in signed])
            self._check_sizes(operations[-1], bytes_max)
        return operations

    def _read_one(self, signed: bytes, index: int) -> SignedOperation:
        hash_text = text(base58.OPERATION_HASH, blake2b_32(signed))
        try:
            operation = self._rules.read(signed)
        except MalformedBytes:
            self._invalid("cannot_parse_operation", operation=hash_text)
        if operation.validation_pass != index:
            allowed = [operation.validation_pass]
            self._invalid(
                "invalid_pass", operation=hash_text, allowed_pass=allowed, **{"pass": index}
            )
        return operation

    def _check_sizes(self, operations: list[SignedOperation], bytes_max: int) -> None:
        total = 0
        one_max = self._rules.constants.max_operation_data_length
        for operation in operations:
            total += operation.size_bytes
            if operation.size_bytes - BRANCH_BYTES > one_max or total > bytes_max:
                self._invalid(
                    "oversized_operation",
                    operation=text(base58.OPERATION_HASH, operation.hash),
                    found=operation.size_bytes,
                    max=min(one_max, bytes_max),
                )

    def _check_operations_hash(self, operations: list[list[SignedOperation]]) -> None:
        found = operations_hash([[each.hash for each in one_pass] for one_pass in operations])
        if found != self._header.operations_hash:
            raise Refusal(
                shell_error(
                    PERMANENT,
                    "validator.inconsistent_operations_hash",
                    "The provided list of operations is inconsistent with the block header.",
                    block=text(base58.BLOCK_HASH, self._hash),
                    expected=text(base58.OPERATIONS_HASH, self._header.operations_hash),
                    found=text(base58.OPERATIONS_HASH, found),
                )
            )

    def _check_live(self, operation: SignedOperation) -> None:
        hash_text = text(base58.OPERATION_HASH, operation.hash)
        branch = operation.operation.branch
        if not self._tree.is_live(branch, self._predecessor):
            self._invalid(
                "outdated_operation",
                operation=hash_text,
                originating_block=text(base58.BLOCK_HASH, branch),
            )
        if self._tree.is_included(operation.hash, self._predecessor):
            self._invalid("replayed_operation", operation=hash_text)

    # -- the protocol's part --------------------------------------------------------------------

    def _check_header(self) -> None:
        header, rules = self._header, self._rules
        if not header.fitness.is_tenderbake:
            raise _error("invalid_fitness", "The fitness is not one of Tenderbake.")
        stamp = block_header.pow_stamp(header)
        if not block_header.pow_is_enough(stamp, rules.constants.proof_of_work_threshold):
            raise _error("block_header.invalid_stamp", "Insufficient proof-of-work stamp")
        if baker_of_signed(rules, header) is None:
            raise self._wrong_signature()
        if header.payload_round > header.round:
            raise _error(
                "block_header.invalid_payload_round",
                f"The provided payload round ({header.payload_round}) is after the block round "
                f"({header.round}).",
                payload_round=header.payload_round,
                round=header.round,
            )
        self._check_timestamp()
        predecessor_round = self._predecessor.round
        if (header.fitness.level, header.fitness.predecessor_round) != (
            header.level,
            predecessor_round,
        ):
            raise _error("wrong_fitness", "The fitness has another level or predecessor round.")
        expected = level_info(rules.constants, header.level).expected_commitment
        if expected is not (header.seed_nonce_hash is not None):
            what = "Missing" if expected else "Unexpected"
            raise _error(
                "block_header.invalid_commitment",
                f"{what} seed's nonce commitment in block header.",
                expected=expected,
            )

    def _check_timestamp(self) -> None:
        header, predecessor = self._header, self._predecessor
        expected = self._rules.durations.timestamp(
            predecessor.header.timestamp, predecessor.round, header.round
        )
        if header.timestamp != expected:
            raise _error(
                "block_header.wrong_timestamp",
                f"Wrong timestamp: block timestamp ({header.timestamp}) not the expected one "
                f"({expected})",
                block_timestamp=_time(header.timestamp),
                expected_timestamp=_time(expected),
            )

    def _apply(
        self, operations: list[list[SignedOperation]]
    ) -> tuple[BlockDraft, list[list[Receipts]]]:
        header = self._header
        if header.fitness.locked_round is None:
            draft = BlockDraft(self._rules, self._predecessor, header.round, payload=None)
        else:
            draft = BlockDraft(
                self._rules,
                self._predecessor,
                header.round,
                header.payload_hash,
                locked_round=header.fitness.locked_round,
            )
        return draft, [[draft.add(each) for each in one_pass] for one_pass in operations]

    def _check_sum(self, draft: BlockDraft) -> None:
        header = self._header
        draft.check_quorums()
        locked = header.fitness.locked_round is not None
        if locked is not draft.has_preattestations:
            raise _error("wrong_fitness", "The fitness says another locked round than the votes.")
        expected = draft.payload_hash(header.payload_round)
        if header.payload_hash != expected:
            provided_text, expected_text = (
                text(base58.PAYLOAD_HASH, each) for each in (header.payload_hash, expected)
            )
            raise _error(
                "validate.block.invalid_payload_hash",
                f"Invalid payload hash (expected: {expected_text}, provided: {provided_text}).",
                expected=expected_text,
                provided=provided_text,
            )

    # -- results --------------------------------------------------------------------------------

    def _block(
        self,
        operations: list[list[SignedOperation]],
        draft: BlockDraft,
        receipts: list[list[Receipts]],
        now: float,
    ) -> Block:
        header, committee = self._header, self._rules.rights.committee(self._header.level)
        baker, proposer = committee.baker(header.round), committee.baker(header.payload_round)
        context = draft.finish(baker, proposer, header.seed_nonce_hash)
        return Block(
            era=Era.BAKED,
            hash=self._hash,
            header=header,
            raw_header=self._raw_header,
            protocol_data=self._raw_header[len(block_header.write_shell(header)) :],
            operations=tuple(
                tuple(IncludedOperation(each.hash, each.signed) for each in one_pass)
                for one_pass in operations
            ),
            receipts=tuple(tuple(one_pass) for one_pass in receipts),
            context=context,
            resulting_context_hash=context.hash,
            arrived=now,
            kinds=dict(draft.kinds),
            baker=baker,
            proposer=proposer,
            reward=draft.reward,
            bonus=draft.bonus,
            fees=draft.fees,
            milligas=draft.milligas,
            attesting_power=draft.attesting_power,
            preattesting_power=draft.preattesting_power if draft.has_preattestations else None,
        )

    def _invalid(self, error: str, **fields: Any) -> NoReturn:
        words = " ".join(f"{name}={value}" for name, value in fields.items())
        raise Refusal(
            shell_error(
                PERMANENT,
                "validator.invalid_block",
                f"Invalid block: {error} {words}".rstrip(),
                invalid_block=text(base58.BLOCK_HASH, self._hash),
                error=error,
                **fields,
            )
        )

    def _economic(self, refusal: Refusal) -> Refusal:
        """Put the general error in front of the protocol's own trace, as a node does."""
        outer = shell_error(
            PERMANENT,
            "validator.invalid_block",
            "Failed to validate the economic-protocol content of the block.",
            invalid_block=text(base58.BLOCK_HASH, self._hash),
            error="economic_protocol_error",
            trace=refusal.to_json(self._rules.dialect.protocol_prefix),
        )
        return Refusal(outer, *refusal.trace)

    def _wrong_signature(self) -> Refusal:
        baker = self._rules.rights.committee(self._header.level).baker(self._header.round)
        block, expected = text(base58.BLOCK_HASH, self._hash), self._rules.names.address(baker)
        return _error(
            "block_header.invalid_block_signature",
            f"Invalid signature for block {block}. Expected: {expected}.",
            block=block,
            expected=expected,
        )


def baker_of_signed(rules: Rules, header: BlockHeader) -> bytes | None:
    """Return who baked a header, None unless the baker of its round has signed it."""
    if header.signature is None or not header.fitness.is_tenderbake:
        return None
    baker = rules.rights.committee(header.level).baker(header.round)
    message = bytes([BLOCK_WATERMARK]) + rules.chain_id + block_header.unsigned(header)
    signed = rules.is_signature(header.signature, message, rules.consensus_keys[baker])
    return baker if signed else None


def _error(id: str, text: str, **fields: Any) -> Refusal:
    return Refusal(protocol_error(PERMANENT, id, text, **fields))


def _time(timestamp: int) -> str:
    """Write a time that somebody else chose: RFC 3339, or seconds where that has no year."""
    try:
        return time_text(timestamp)
    except (OverflowError, OSError, ValueError):
        return str(timestamp)
