"""A block while its operations are added: the same rules for checking and for building one.

Operations are validated against the state before the block, as in the protocol, and applied
one after the other; one that is refused leaves no trace. Source: protocol ``validate.ml``,
``apply.ml``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from signers.formats import base58
from signers.formats.hashes import payload_hash
from signers.formats.signable import Kind
from workers.sandbox import nonces
from workers.sandbox.block_tree import Block, Era
from workers.sandbox.context import Context
from workers.sandbox.denunciations import check_evidence, first_denounced_level
from workers.sandbox.ledger import Ledger, NonceCommitment
from workers.sandbox.levels import FIRST_LEVEL, level_info
from workers.sandbox.manager_operations import Receipt, Status
from workers.sandbox.names import text
from workers.sandbox.operations import EVIDENCE, SignedOperation
from workers.sandbox.refusal import ErrorKind, Refusal, protocol_error
from workers.sandbox.rules import Rules
from workers.sandbox.votes import (
    Target,
    Vote,
    check_in_block,
    double_inclusion,
    unexpected_in_block,
    vote_of,
)

Receipts = tuple[Receipt, ...]
_DONE: Receipts = (Receipt(Status.APPLIED, 0),)


class BlockDraft:
    """A block of one round on top of a predecessor whose state is at hand.

    `payload` is the payload hash that preattestations must be for, None when there is no payload
    yet (so no preattestation either). `locked_round` is what the fitness says; a draft that is
    being built has none yet and takes that of its first preattestation.
    """

    def __init__(
        self,
        rules: Rules,
        predecessor: Block,
        round: int,
        payload: bytes | None,
        *,
        locked_round: int | None = None,
    ) -> None:
        assert predecessor.context is not None
        self.level = predecessor.level + 1
        self.round = round
        self.kinds: Counter[str] = Counter()
        self.fees = 0
        self.milligas = 0
        self.attesting_power = 0
        self.preattesting_power = 0
        self.locked_round = locked_round
        self._rules = rules
        self._predecessor = predecessor
        self._payload = payload
        self._before = Ledger(predecessor.context)
        self._after = Ledger(predecessor.context)
        self._gas_left = rules.constants.hard_gas_limit_per_block
        self._payload_hashes: list[bytes] = []
        self._seen: dict[tuple[str, int | bytes], bytes] = {}
        self._revelations = 0

    def add(self, operation: SignedOperation) -> Receipts:
        """Validate an operation, apply it, and return what became of its contents.

        Raises Refusal when it cannot be in this block.
        """
        if operation.validation_pass == 0:
            receipts = self._add_vote(operation)
        elif operation.kind.name == "seed_nonce_revelation":
            receipts = self._add_revelation(operation)
        elif operation.kind.name in EVIDENCE:
            receipts = self._add_evidence(operation)
        else:
            receipts = self._add_manager(operation)
        self.kinds[operation.kind.name] += 1
        if operation.validation_pass > 0:
            self._payload_hashes.append(operation.hash)
        return receipts

    def payload_hash(self, payload_round: int) -> bytes:
        """Return the payload hash of the operations added so far."""
        return payload_hash(self._predecessor.hash, payload_round, self._payload_hashes)

    def check_quorums(self) -> None:
        """Check that votes have enough power for a block to end here. Raises Refusal."""
        threshold = self._rules.constants.consensus_threshold
        # Nobody attests the activation block, so the block on top holds no attestation.
        attested = self.level - FIRST_LEVEL > 1
        if attested and self.attesting_power < threshold:
            raise Refusal(
                protocol_error(
                    ErrorKind.PERMANENT,
                    "validate.block.not_enough_attestations",
                    f"Wrong number of attestations ({self.attesting_power}), "
                    f"at least {threshold} are expected",
                    required=threshold,
                    provided=self.attesting_power,
                )
            )
        if self.has_preattestations and self.preattesting_power < threshold:
            raise Refusal(
                protocol_error(
                    ErrorKind.PERMANENT,
                    "validate.block.insufficient_locked_round_evidence",
                    f"The provided locked round evidence is not sufficient: provided "
                    f"{self.preattesting_power} voting power but was expecting {threshold}",
                    voting_power=self.preattesting_power,
                    consensus_threshold=threshold,
                )
            )

    @property
    def has_preattestations(self) -> bool:
        return self.kinds["preattestation"] > 0

    @property
    def bonus(self) -> int:
        """What the baker earns for attestations above the threshold."""
        constants = self._rules.constants
        above = max(0, self.attesting_power - constants.consensus_threshold)
        return above * constants.bonus_per_slot

    @property
    def reward(self) -> int:
        """What the payload's proposer earns: the fixed part, and a tip for each revelation."""
        constants = self._rules.constants
        return constants.baking_reward + self._revelations * constants.nonce_revelation_tip

    def finish(self, baker: bytes, proposer: bytes, nonce_hash: bytes | None) -> Context:
        """Pay fees and rewards, keep the commitment, and return the state after the block."""
        ledger = self._after
        ledger.credit(proposer, self.fees + self.reward)
        ledger.credit(baker, self.bonus)
        nonces.forget_old(self.level, ledger, self._rules.constants)
        if level_info(self._rules.constants, self.level).cycle_position == 0:
            ledger.forget_denounced(first_denounced_level(self.level, self._rules))
        if nonce_hash is not None:
            ledger.put_nonce(self.level, NonceCommitment(nonce_hash, proposer))
        ledger.put_progress(replace(ledger.progress, level=self.level))
        return ledger.context()

    # -- votes ----------------------------------------------------------------------------------

    def _add_vote(self, operation: SignedOperation) -> Receipts:
        vote = vote_of(operation.operation.contents[0])
        target = self._target(vote)
        committee = self._rules.rights.committee(target.level)
        power = check_in_block(vote, target, committee)
        owner = committee.owners[vote.slot]
        check_signature(self._rules, operation, self._rules.consensus_keys[owner], vote.kind)
        existing = self._seen.get((vote.title, vote.slot))
        if existing is not None:
            raise double_inclusion(vote, existing, operation.hash)
        self._seen[vote.title, vote.slot] = operation.hash
        if vote.kind is Kind.PREATTESTATION:
            self.preattesting_power += power
            self.locked_round = vote.round
        else:
            self.attesting_power += power
        return _DONE

    def _target(self, vote: Vote) -> Target:
        """Return what a vote of this kind must be for. Raises Refusal when none may be in."""
        if vote.kind is Kind.ATTESTATION:
            predecessor = self._predecessor
            if predecessor.era is not Era.BAKED:
                raise unexpected_in_block(vote.kind)
            return Target(predecessor.level, predecessor.round, predecessor.header.payload_hash)
        if self._payload is None:
            raise unexpected_in_block(vote.kind)
        if vote.round >= self.round:
            raise Refusal(
                protocol_error(
                    ErrorKind.PERMANENT,
                    "validate.preattestation_round_too_high",
                    f"Preattestation round too high (block_round: {self.round}, "
                    f"provided: {vote.round}).",
                    block_round=self.round,
                    provided=vote.round,
                )
            )
        locked_round = vote.round if self.locked_round is None else self.locked_round
        return Target(self.level, locked_round, self._payload)

    # -- revelations ----------------------------------------------------------------------------

    def _add_revelation(self, operation: SignedOperation) -> Receipts:
        fields = operation.operation.contents[0].fields
        level, nonce = fields["level"], fields["nonce"]
        constants = self._rules.constants
        # Against the draft: a second revelation of one nonce finds it revealed.
        commitment = nonces.check_revelation(level, nonce, self.level, self._after, constants)
        self._after.put_nonce(level, replace(commitment, nonce=nonce))
        self._revelations += 1
        return _DONE

    # -- denunciations --------------------------------------------------------------------------

    def _add_evidence(self, operation: SignedOperation) -> Receipts:
        # Against the draft: a second denunciation of one offence finds it denounced.
        content = operation.operation.contents[0]
        offence = check_evidence(content, self.level, self._after, self._rules)
        self._after.denounce(offence, operation.hash)
        return _DONE

    # -- manager operations ---------------------------------------------------------------------

    def _add_manager(self, operation: SignedOperation) -> Receipts:
        contents = operation.operation.contents
        admitted = self._rules.managers.validate(contents, self._before)
        if admitted.gas_limit > self._gas_left:
            text_ = "The sum of the gas limits exceeds the gas of the block."
            raise Refusal(protocol_error(ErrorKind.TEMPORARY, "gas_exhausted.block", text_))
        check_signature(self._rules, operation, admitted.public_key, Kind.GENERIC)
        existing = self._seen.get(("manager", admitted.source))
        if existing is not None:
            raise self._manager_restriction(admitted.source, existing, operation.hash)
        self._seen["manager", admitted.source] = operation.hash
        receipts = self._rules.managers.apply(contents, self._after)
        self._gas_left -= admitted.gas_limit
        self.fees += admitted.fee
        self.milligas += sum(receipt.milligas for receipt in receipts)
        return receipts

    def _manager_restriction(self, source: bytes, existing: bytes, new: bytes) -> Refusal:
        address = self._rules.names.address(source)
        existing_text, new_text = (text(base58.OPERATION_HASH, hash) for hash in (existing, new))
        return Refusal(
            protocol_error(
                ErrorKind.TEMPORARY,
                "validate.operation.manager_restriction",
                f"Manager {address} already has the operation {existing_text} in the current "
                "block.",
                source=address,
                conflict={"existing": existing_text, "new_operation": new_text},
            )
        )

    def _check_signature(self, operation: SignedOperation, public_key: bytes, kind: Kind) -> None:
        check_signature(self._rules, operation, public_key, kind)


def check_signature(
    rules: Rules, operation: SignedOperation, public_key: bytes, kind: Kind
) -> None:
    """Check who signed an operation: a vote under its watermark and chain. Raises Refusal."""
    if not any(operation.operation.signature or b""):
        missing = "The operation requires a signature."
        raise Refusal(protocol_error(ErrorKind.PERMANENT, "operation.missing_signature", missing))
    if not rules.is_signed(operation, public_key, kind):
        wrong = "The operation signature is invalid"
        raise Refusal(protocol_error(ErrorKind.PERMANENT, "operation.invalid_signature", wrong))
