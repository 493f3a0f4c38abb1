"""Whether a block may stand on its predecessor: its place, its operations, its quorums.

    header (as by itself) ──► place ──► operations hash ──► payload hash ──► branch, sizes
        ──► votes and quorums ──► each other operation's signature, counter, balance

Whoever relays a good header can put any operations beside it, so up to the operations hash what is
wrong is the body's fault alone; from there on the baker has signed for all of it. What applying an
operation does is known to a node alone and not looked at; the node that takes the block does.

A block is checked in steps, for it may hold thousands of signatures: `block_steps` yields None
where others may go on. Source: protocol ``validate.ml``, Octez ``block_validation.ml``.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

from broker.verification import (
    BlockVote,
    CheckItem,
    HeaderFacts,
    Judgement,
    Position,
    Verdict,
)
from signers.errors import MalformedBytes
from signers.formats.anonymous_operation import DRAIN_DELEGATE
from signers.formats.block_header import BlockHeader
from signers.formats.content_kind import CONSENSUS_PASS
from signers.formats.hashes import (
    blake2b_32,
    operation_list_hash,
    payload_hash,
)
from signers.formats.operation import signing_bytes
from signers.keyring.keys import PublicKey, UnsupportedCurve
from workers.preparation.operation_validation import NotValid, check_manager_operation
from workers.preparation.rounds import block_timestamp
from workers.preparation.selection import QUOTAS
from workers.preparation.submitted_operation import SubmittedOperation, read_operation
from workers.verification.ancestor_block import AncestorBlock, read_ancestor
from workers.verification.block_operations import BlockOperations, signer_of
from workers.verification.block_state import BlockState
from workers.verification.block_votes import BlockVotes, Target, WrongVote
from workers.verification.chain_rules import ChainRules
from workers.verification.header_check import check_header, read_header
from workers.verification.known_chain import KnownChain
from workers.verification.level_rights import LevelRights
from workers.verification.verdicts import (
    Reason,
    body_invalid,
    invalid,
    rights_unknown,
    unchecked,
)

Steps = Iterator[Verdict | None]

_BRANCH_BYTES = 32
_OPERATION_BYTES_MIN = _BRANCH_BYTES + 64  # and a signature


class _Wrong(Exception):
    """A rule that a block breaks."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def block_steps(
    item: CheckItem, rules: ChainRules, context: KnownChain, position: Position
) -> Steps:
    """Judge a block in steps: None where others may go on, the verdict last."""
    number = item.number
    by_itself = check_header(number, item.raw, rules, context.rights, position)
    facts = by_itself.facts
    if by_itself.judgement != Judgement.VALID or not isinstance(facts, HeaderFacts):
        yield by_itself
        return
    yield None
    header = read_header(item.raw)
    try:
        ancestors = _ancestors(item, header)
    except MalformedBytes as error:
        yield unchecked(number, Reason.WRONG_ANCESTORS, str(error), facts)
        return
    predecessor = ancestors[0]
    if _is_off_final_branch(ancestors, position):
        text = f"it does not stand on the final block of level {position.final_level}"
        yield Verdict(number, Judgement.UNVIABLE, Reason.OFF_FINAL_BRANCH, text, facts)
        return
    try:
        _check_place(header, predecessor, rules)
    except _Wrong as wrong:
        yield invalid(number, wrong.reason, str(wrong), facts)
        return
    hashes: list[list[bytes]] = []
    roots: list[bytes] = []
    # Anybody can have put anything here: is it worth hashing? If so, in steps.
    for one_pass in item.operations if _may_fit(item.operations) else ():
        hashes.append([blake2b_32(signed) for signed in one_pass])
        yield None
        roots.append(operation_list_hash(hashes[-1]))
        yield None
    if not roots or operation_list_hash(roots) != header.operations_hash:
        text = "these operations are not those that the header was signed for"
        yield body_invalid(number, Reason.WRONG_OPERATIONS_HASH, text, facts)
        return
    if any(_is_padded(one_pass) for one_pass in hashes):
        text = "a pass ends with one operation twice, which the header's hash does not show"
        yield body_invalid(number, Reason.WRONG_OPERATIONS_HASH, text, facts)
        return
    try:
        yield from _check_body(item, header, ancestors, hashes, rules, context, facts)
    except _Wrong as wrong:
        judge = unchecked if wrong.reason is Reason.UNSUPPORTED_KEY else invalid
        yield judge(number, wrong.reason, str(wrong), facts)


def check_block(
    item: CheckItem, rules: ChainRules, context: KnownChain, position: Position
) -> Verdict:
    """Judge a block at once."""
    steps = block_steps(item, rules, context, position)
    return next(verdict for verdict in steps if verdict is not None)


def _ancestors(item: CheckItem, header: BlockHeader) -> list[AncestorBlock]:
    """The blocks below, which were cleared before. Raises MalformedBytes."""
    ancestors = [read_ancestor(each.header) for each in item.ancestors]
    wanted = header.predecessor
    for ancestor in ancestors:
        if ancestor.hash != wanted:
            raise MalformedBytes("the ancestors that came along are not those of this block")
        wanted = ancestor.predecessor
    if not ancestors:
        raise MalformedBytes("the predecessor has not come along")
    return ancestors


def _is_off_final_branch(ancestors: Sequence[AncestorBlock], position: Position) -> bool:
    """Whether another block than the final one is at its level below this block."""
    settled = (each.hash for each in ancestors if each.level == position.final_level)
    return bool(position.final) and any(hash_ != position.final for hash_ in settled)


def _check_place(header: BlockHeader, predecessor: AncestorBlock, rules: ChainRules) -> None:
    """Level, protocol, rounds, time and fitness on top of the predecessor. Raises _Wrong."""
    if header.level != predecessor.level + 1:
        text = f"level {header.level} on top of level {predecessor.level}"
        raise _Wrong(Reason.WRONG_LEVEL, text)
    # The next one if the protocol ended with the predecessor, which its header does not tell.
    if header.proto not in (predecessor.proto, (predecessor.proto + 1) % 256):
        text = f"protocol number {header.proto} on top of {predecessor.proto}"
        raise _Wrong(Reason.WRONG_PROTO, text)
    if header.fitness.predecessor_round != predecessor.round:
        text = f"its predecessor is of round {predecessor.round}"
        raise _Wrong(Reason.WRONG_PREDECESSOR_ROUND, text)
    expected = block_timestamp(
        rules.constants,
        predecessor_timestamp=predecessor.timestamp,
        predecessor_round=predecessor.round,
        round_=header.round,
    )
    if header.timestamp != expected:
        text = f"its time is {header.timestamp}, that of its round is {expected}"
        raise _Wrong(Reason.WRONG_TIMESTAMP, text)
    if not predecessor.fitness < header.fitness:
        raise _Wrong(Reason.WRONG_FITNESS, "its fitness is not above its predecessor's")


def _check_body(
    item: CheckItem,
    header: BlockHeader,
    ancestors: Sequence[AncestorBlock],
    hashes: Sequence[Sequence[bytes]],
    rules: ChainRules,
    context: KnownChain,
    facts: HeaderFacts,
) -> Steps:
    number, predecessor = item.number, ancestors[0]
    of_payload = [each for one_pass in hashes[CONSENSUS_PASS + 1 :] for each in one_pass]
    expected = payload_hash(header.predecessor, header.payload_round, of_payload)
    if header.payload_hash != expected:
        raise _Wrong(Reason.WRONG_PAYLOAD_HASH, "its payload hash is not that of its operations")
    if len(set(of_payload)) != len(of_payload):
        raise _Wrong(Reason.OPERATION_TWICE, "it holds one operation twice")
    _check_quotas(item.operations, rules)
    operations = BlockOperations()
    for place, one_pass in enumerate(item.operations):
        for signed in one_pass:
            operations.passes[place].append(_read(signed, place, rules))
            yield None
    for signer in operations.signers():
        if signer[0] >= len(rules.network.key_hash_prefixes):
            text = f"{rules.network.name} has no keys of tag {signer[0]:02x}"
            raise _Wrong(Reason.WRONG_OPERATION, text)
    attested = context.rights(predecessor.level) if operations.passes[CONSENSUS_PASS] else None
    if attested is None and operations.passes[CONSENSUS_PASS]:
        yield rights_unknown(number, predecessor.level, facts)
        return
    # Taken now: other checks may push these levels out before the votes are looked at.
    is_locked = header.fitness.locked_round is not None
    preattested = context.rights(header.level) if is_locked else None
    if preattested is None and is_locked:
        yield rights_unknown(number, header.level, facts)
        return
    yield from context.read_operations(item.ancestors, ancestors)
    state = context.state(ancestors, operations)
    if isinstance(state, list):
        text = "the operations of these ancestors are needed"
        yield Verdict(
            number, Judgement.ANCESTORS_WANTED, Reason.ANCESTORS_WANTED, text, facts, wanted=state
        )
        return
    if state is None:
        text = "the node does not tell what its predecessor left behind"
        yield unchecked(number, Reason.STATE_UNKNOWN, text, facts)
        return
    _check_branches(operations, state)
    for operation in (*operations.voting, *operations.anonymous):
        included = context.included_since(state, operation.branch)
        if included is None:
            text = "the node does not tell which operations its ancestors hold"
            yield unchecked(number, Reason.STATE_UNKNOWN, text, facts)
            return
        if operation.hash in included:
            text = f"the operation {operation.hash.hex()} is in an ancestor already"
            raise _Wrong(Reason.OPERATION_TWICE, text)
        yield None  # a branch may be 360 blocks back: 0.2 ms
    votes = yield from _check_votes(header, predecessor, operations, attested, preattested, rules)
    yield from _check_others(operations, state, rules)
    yield Verdict(number, Judgement.VALID, facts=facts, votes=votes)


def _may_fit(passes: Sequence[Sequence[bytes]]) -> bool:
    """Whether there are as few operations as a block can hold, by their number alone."""
    return len(passes) == len(QUOTAS) and all(
        len(one_pass) <= (quota.operations_max or quota.bytes_max // _OPERATION_BYTES_MIN)
        for one_pass, quota in zip(passes, QUOTAS, strict=True)
    )


def _is_padded(one_pass: Sequence[bytes]) -> bool:
    """Whether a pass hashes like the same one without its last operation.

    A Merkle row is filled up with its last leaf, so anybody can repeat that; the baker has signed
    for the shorter list, which may be good.
    """
    if len(one_pass) < 2 or one_pass[-1] != one_pass[-2]:
        return False
    return operation_list_hash(one_pass) == operation_list_hash(one_pass[:-1])


def _check_quotas(passes: Sequence[Sequence[bytes]], rules: ChainRules) -> None:
    for place, (one_pass, quota) in enumerate(zip(passes, QUOTAS, strict=True)):
        sizes = [len(signed) for signed in one_pass]
        longest = max(sizes, default=0) - _BRANCH_BYTES
        is_vote = place == CONSENSUS_PASS  # aggregates are bounded by their pass
        if sum(sizes) > quota.bytes_max or (longest > rules.operation_bytes_max and not is_vote):
            text = f"{sum(sizes)} bytes in pass {place}, {longest} in one operation"
            raise _Wrong(Reason.TOO_MUCH_IN_PASS, text)


def _read(signed: bytes, place: int, rules: ChainRules) -> SubmittedOperation:
    try:
        operation = read_operation(signed, rules.network)
    except MalformedBytes as error:
        raise _Wrong(Reason.WRONG_OPERATION, f"an operation of pass {place}: {error}") from None
    if operation.validation_pass != place:
        text = f"an operation of pass {operation.validation_pass} in pass {place}"
        raise _Wrong(Reason.WRONG_PASS, text)
    return operation


def _check_branches(operations: BlockOperations, state: BlockState) -> None:
    live = set(state.branch)
    for operation in operations.all():
        if operation.branch not in live:
            text = f"the operation {operation.hash.hex()} is not of a live branch"
            raise _Wrong(Reason.OUTDATED_OPERATION, text)
        if operation.hash in state.included:
            text = f"the operation {operation.hash.hex()} is in an ancestor already"
            raise _Wrong(Reason.OPERATION_TWICE, text)


def _check_votes(
    header: BlockHeader,
    predecessor: AncestorBlock,
    operations: BlockOperations,
    attested: LevelRights | None,
    preattested: LevelRights | None,
    rules: ChainRules,
) -> Generator[None, None, list[BlockVote]]:
    """Each vote, then whether they are enough; gives what they say. Raises _Wrong."""
    of_predecessor = None
    if predecessor.payload_hash is not None:
        of_predecessor = Target(predecessor.level, predecessor.round, predecessor.payload_hash)
    locked_round = header.fitness.locked_round
    of_lock = None
    if locked_round is not None:
        of_lock = Target(header.level, locked_round, header.payload_hash)
    votes = BlockVotes(rules, of_predecessor, attested, of_lock, preattested)
    for operation in operations.passes[CONSENSUS_PASS]:
        try:
            yield from votes.add_steps(operation.decoded)
        except WrongVote as error:
            raise _Wrong(error.reason, str(error)) from None
    threshold = rules.consensus_threshold
    if of_predecessor is not None and votes.attesting_power < threshold:
        text = f"attestations of {votes.attesting_power} slots, {threshold} are a quorum"
        raise _Wrong(Reason.NO_QUORUM, text)
    if of_lock is not None and votes.preattesting_power < max(threshold, 1):
        text = f"preattestations of {votes.preattesting_power} slots, {threshold} are a quorum"
        raise _Wrong(Reason.NO_LOCKED_QUORUM, text)
    return votes.votes


def _check_others(operations: BlockOperations, state: BlockState, rules: ChainRules) -> Steps:
    """The operations that an account signs. Raises _Wrong."""
    gas, sources = 0, set[bytes]()
    for operation in operations.managers:
        gas += sum(fields["gas_limit"] for fields in operation.manager_fields)
        if gas > rules.constants.gas_per_block:
            raise _Wrong(Reason.TOO_MUCH_GAS, f"{gas} gas and more")
        if operation.source in sources:
            raise _Wrong(Reason.OPERATION_NOT_VALID, "two operations of one source")
        sources.add(operation.source)
        account = state.accounts[operation.source]
        if account is not None:
            try:
                scheme = rules.protocol.bls_scheme
                check_manager_operation(operation, account, rules.constants, scheme)
            except NotValid as error:
                text = f"{operation.hash.hex()}: {error}"
                raise _Wrong(Reason.OPERATION_NOT_VALID, text) from None
        yield None
    for operation in (*operations.voting, *operations.anonymous):
        signer = signer_of(operation)
        if signer is not None and (account := state.accounts[signer]) is not None:
            if not _is_signed(operation, account.public_key, rules):
                text = f"{operation.hash.hex()}: the signature is wrong"
                raise _Wrong(Reason.OPERATION_NOT_VALID, text)
            yield None


def _is_signed(operation: SubmittedOperation, key: bytes | None, rules: ChainRules) -> bool:
    if key is None:
        # A consensus key signs for its delegate, also when its own account has never revealed it.
        return operation.decoded.contents[0].name == DRAIN_DELEGATE.name
    message = signing_bytes(operation.decoded, None, bls_votes=False)
    signature = operation.decoded.signature or b""
    try:
        return PublicKey.from_tagged(key).verify(message, signature, rules.protocol.bls_scheme)
    except UnsupportedCurve:
        return True  # left to the node, as with operations of accounts
