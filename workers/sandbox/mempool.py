"""Operations that wait for a block, sorted by what is known about them.

Each is in one class: validated, or one of four by the kind of error that keeps it out. At every
change of head all that may have changed is looked at again. One manager operation of a source
waits at a time; a second one takes its place if it pays at least a twentieth more, in total and
for its gas. Source: Octez ``prevalidator.ml``; protocol plugin ``mempool.ml``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from signers.formats import base58
from signers.formats.signable import Kind
from workers.sandbox import nonces
from workers.sandbox.block_draft import check_signature
from workers.sandbox.block_tree import Block, BlockTree
from workers.sandbox.denunciations import check_evidence
from workers.sandbox.ledger import Ledger
from workers.sandbox.names import text
from workers.sandbox.operations import BRANCH_BYTES, EVIDENCE, SignedOperation
from workers.sandbox.refusal import ErrorKind, Refusal, protocol_error, shell_error
from workers.sandbox.rules import Rules
from workers.sandbox.votes import check_in_mempool, vote_of

# What a node of this kind admits by default (``/mempool/filter``), amounts in mutez (mumav).
MINIMAL_FEES = 100
MINIMAL_NANO_PER_GAS_UNIT = 100
MINIMAL_NANO_PER_BYTE = 1000
REPLACE_FACTOR = (21, 20)
OPERATIONS_MAX = 10_000
BYTES_MAX = 10_000_000
# Octez keeps a thousand operations of each class that it will not put into a block.
KEPT_ASIDE_MAX = 1000


class Class(Enum):
    """What is known about an operation; the values are the names of the RPC."""

    VALIDATED = "validated"
    REFUSED = "refused"
    OUTDATED = "outdated"
    BRANCH_REFUSED = "branch_refused"
    BRANCH_DELAYED = "branch_delayed"


CLASS_OF_ERROR = {
    ErrorKind.PERMANENT: Class.REFUSED,
    ErrorKind.OUTDATED: Class.OUTDATED,
    ErrorKind.BRANCH: Class.BRANCH_REFUSED,
    ErrorKind.TEMPORARY: Class.BRANCH_DELAYED,
}


@dataclass(frozen=True)
class Classified:
    """An operation and its class; `refusal` says why it is not validated."""

    operation: SignedOperation
    class_: Class
    refusal: Refusal | None = None


class _Claim(NamedTuple):
    """What only one waiting operation may have: a source, a slot in a round, a nonce …"""

    what: str
    whose: bytes | tuple[int, ...]


class Mempool:
    """The operations that wait on top of one head."""

    def __init__(self, rules: Rules, tree: BlockTree) -> None:
        self._rules = rules
        self._tree = tree
        self._classes: dict[Class, dict[bytes, Classified]] = {each: {} for each in Class}
        self._claims: dict[_Claim, SignedOperation] = {}
        self._bytes = 0
        self._ledger = self._ledger_of(tree.head)

    def __len__(self) -> int:
        return sum(map(len, self._classes.values()))

    def of_class(self, class_: Class) -> Iterator[Classified]:
        """Return the operations of a class, oldest first."""
        return iter(self._classes[class_].values())

    def find(self, hash: bytes) -> Classified | None:
        """Return what is known about an operation, if it is here."""
        return next((known[hash] for known in self._classes.values() if hash in known), None)

    def add(self, operation: SignedOperation) -> list[Classified]:
        """Classify an operation that is not here yet.

        Returns it as classified, and behind it the one that it replaced, if it did.
        """
        try:
            replaced = self._admit(operation)
        except Refusal as refusal:
            return [self._put(Classified(operation, CLASS_OF_ERROR[refusal.kind], refusal))]
        added = self._put(Classified(operation, Class.VALIDATED))
        if replaced is None:
            return [added]
        why = _replacement(replaced.hash, operation.hash)
        return [added, self._put(Classified(replaced, Class.BRANCH_DELAYED, why))]

    def head_changed(self, left: Iterable[Block], *, reorganised: bool) -> None:
        """Look again at every operation that the new head may have changed.

        Operations of blocks that were left come back. What can never be right stays refused.
        """
        self._ledger = self._ledger_of(self._tree.head)
        again = [*self._classes[Class.VALIDATED].values()]
        again += self._classes[Class.BRANCH_DELAYED].values()
        if reorganised:
            again += self._classes[Class.BRANCH_REFUSED].values()
            self._classes[Class.BRANCH_REFUSED].clear()
        self._classes[Class.VALIDATED].clear()
        self._classes[Class.BRANCH_DELAYED].clear()
        self._claims.clear()
        self._bytes = 0
        come_back = (
            self._rules.read(each.signed)
            for block in left
            for one_pass in block.operations
            for each in one_pass
        )
        for operation in (*come_back, *(each.operation for each in again)):
            included = self._tree.is_included(operation.hash, self._tree.head)
            if not included and self.find(operation.hash) is None:
                self.add(operation)

    def _ledger_of(self, head: Block) -> Ledger:
        assert head.context is not None
        return Ledger(head.context)

    def _put(self, classified: Classified) -> Classified:
        kept = self._classes[classified.class_]
        kept[classified.operation.hash] = classified
        if classified.class_ is not Class.VALIDATED and len(kept) > KEPT_ASIDE_MAX:
            del kept[next(iter(kept))]
        return classified

    def _admit(self, operation: SignedOperation) -> SignedOperation | None:
        """Validate an operation and take what it claims; return the one it replaces.

        Raises Refusal.
        """
        self._check_branch(operation)
        claim = self._validate(operation)
        claimed_by = self._claims.get(claim)
        if claimed_by is not None:
            self._check_replaces(operation, claimed_by)
            self._drop(claimed_by)
        self._check_room(operation)
        self._claims[claim] = operation
        self._bytes += operation.size_bytes
        return claimed_by

    def _check_branch(self, operation: SignedOperation) -> None:
        if not self._tree.is_live(operation.operation.branch, self._tree.head):
            branch = text(base58.BLOCK_HASH, operation.operation.branch)
            words = f"Operation is branched on a block that is not live ({branch})"
            id = "prevalidation.operation_branch_not_live"
            raise Refusal(shell_error(ErrorKind.OUTDATED, id, words, branch=branch))

    def _validate(self, operation: SignedOperation) -> _Claim:
        """Check an operation under the protocol's rules for a mempool; return what it claims."""
        rules, content = self._rules, operation.operation.contents[0]
        next_level = self._tree.head.level + 1
        if operation.size_bytes - BRANCH_BYTES > rules.constants.max_operation_data_length:
            words = "The operation is larger than any block takes."
            raise Refusal(
                shell_error(ErrorKind.PERMANENT, "node.prevalidation.oversized_operation", words)
            )
        if operation.validation_pass == 0:
            vote = vote_of(content)
            owner = check_in_mempool(vote, self._tree.head.level, rules.rights)
            check_signature(rules, operation, rules.consensus_keys[owner], vote.kind)
            return _Claim(vote.title, (vote.level, vote.round, vote.slot))
        if content.name == "seed_nonce_revelation":
            level = content.fields["level"]
            nonce = content.fields["nonce"]
            committed = nonces.check_revelation(
                level, nonce, next_level, self._ledger, rules.constants
            )
            return _Claim("nonce", committed.nonce_hash)
        if content.name in EVIDENCE:
            offence = check_evidence(content, next_level, self._ledger, rules)
            return _Claim("denunciation", offence.key)
        check_fees(operation)
        admitted = rules.managers.validate(operation.operation.contents, self._ledger)
        if admitted.gas_limit > rules.constants.hard_gas_limit_per_block:
            words = "The sum of the gas limits exceeds the gas of a block."
            raise Refusal(
                protocol_error(ErrorKind.PERMANENT, "gas_limit_too_high", words),
                protocol_error(ErrorKind.TEMPORARY, "gas_exhausted.block", words),
            )
        check_signature(rules, operation, admitted.public_key, Kind.GENERIC)
        return _Claim("manager", admitted.source)

    def _check_replaces(self, new: SignedOperation, old: SignedOperation) -> None:
        """Check that a conflicting operation may take the place of the older. Raises Refusal."""
        fields = {"new_hash": text(base58.OPERATION_HASH, new.hash)}
        if new.validation_pass == old.validation_pass == 3:
            needed = _needed_fee(new, old)
            if _fee(new) >= needed:
                return
            fields[f"needed_fee_in_{self._rules.dialect.smallest_unit}"] = str(needed)
        existing = text(base58.OPERATION_HASH, old.hash)
        words = f"The operation conflicts with {existing}, which is in the mempool."
        raise Refusal(
            shell_error(ErrorKind.TEMPORARY, "prevalidation.operation_conflict", words, **fields)
        )

    def _check_room(self, operation: SignedOperation) -> None:
        # Votes may use as much again, so that a flood of transfers cannot stop the chain.
        share = 2 if operation.validation_pass == 0 else 1
        full = (
            len(self._classes[Class.VALIDATED]) >= share * OPERATIONS_MAX
            or self._bytes + operation.size_bytes > share * BYTES_MAX
        )
        if full:
            id = "node.mempool.rejected_by_full_mempool"
            words = "The mempool is full; try again when a block has taken something out."
            raise Refusal(shell_error(ErrorKind.TEMPORARY, id, words))

    def _drop(self, operation: SignedOperation) -> None:
        self._classes[Class.VALIDATED].pop(operation.hash, None)
        self._bytes -= operation.size_bytes


def check_fees(operation: SignedOperation) -> None:
    """Check that a manager operation pays what this node wants to see. Raises Refusal."""
    fee, gas_limit = _fee(operation), _gas_limit(operation)
    for_gas, for_bytes = MINIMAL_NANO_PER_GAS_UNIT, MINIMAL_NANO_PER_BYTE
    if (
        fee < MINIMAL_FEES
        or fee * 1000 < gas_limit * for_gas
        or fee * 1000 < operation.size_bytes * for_bytes
    ):
        words = "Operation fees are too low"
        raise Refusal(protocol_error(ErrorKind.PERMANENT, "prefilter.fees_too_low", words))


def _fee(operation: SignedOperation) -> int:
    return sum(content.fields["fee"] for content in operation.operation.contents)


def _gas_limit(operation: SignedOperation) -> int:
    return sum(content.fields["gas_limit"] for content in operation.operation.contents)


def _needed_fee(new: SignedOperation, old: SignedOperation) -> int:
    """Return the fee that replaces `old`: a twentieth more, in total and for each unit of gas."""
    numerator, denominator = REPLACE_FACTOR
    in_total = -(-_fee(old) * numerator // denominator)
    for_gas = -(-_fee(old) * _gas_limit(new) * numerator // (_gas_limit(old) * denominator))
    return max(in_total, for_gas)


def _replacement(old: bytes, new: bytes) -> Refusal:
    old_text, new_text = (text(base58.OPERATION_HASH, hash) for hash in (old, new))
    words = f"The operation {old_text} was replaced with {new_text}."
    return Refusal(
        shell_error(
            ErrorKind.TEMPORARY,
            "prevalidation.operation_replacement",
            words,
            old_hash=old_text,
            new_hash=new_text,
        )
    )
