"""Blocks on their predecessors: right ones of a sandbox chain, and each rule broken by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import real_objects
from bakery import ACCOUNTS, BAKERS, STRANGERS, Bakery, genesis_of
from sandbox_context import Checker, item_of, other_hash

from broker.verification import (
    Ancestor,
    BlockVote,
    CheckItem,
    Judgement,
    Verdict,
    VoteFacts,
)
from signers.curves import bls
from signers.formats import block_header
from signers.formats.anonymous_operation import DRAIN_DELEGATE, SEED_NONCE_REVELATION
from signers.formats.block_header import Fitness
from signers.formats.consensus_operation import ATTESTATIONS_AGGREGATE, DAL_ATTESTATION
from signers.formats.hashes import blake2b_32, operations_hash, payload_hash
from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.operation import Content, Operation, decode_operation, encode, signing_bytes
from signers.formats.signable import Kind
from signers.formats.vote import VoteTemplate
from signers.keyring.curve import Curve
from workers.sandbox.accounts import SandboxKey, sign_operation
from workers.sandbox.chain import Chain
from workers.verification import block_votes
from workers.verification.block_check import block_steps, check_block
from workers.verification.evidence_check import make_evidence
from workers.verification.known_chain import LEVELS_KEPT
from workers.verification.node_questions import IncludedWanted, RightsTold, RightsWanted
from workers.verification.verdicts import Reason
from workers.verification.vote_check import check_vote, statement


def new_bakery(network: Any = MAVRYK, bakers: Any = BAKERS, level: int = 4, **other: Any) -> Bakery:
    bakery = Bakery(Chain(genesis_of(network, bakers=bakers, **other)), bakers=bakers)
    bakery.bake_to(level)
    return bakery


class Case:
    """The next block of a chain, which a test may change before it is checked."""

    def __init__(self, bakery: Bakery, checker: Checker | None = None) -> None:
        self.bakery = bakery
        self.checker = checker or Checker(bakery)
        self.predecessor = bakery.head

    def passes(self, managers: Any = (), **other: Any) -> list[list[bytes]]:
        votes = other.get("votes", self.bakery.attestations(self.predecessor))
        return [list(votes), [], list(other.get("anonymous", ())), list(managers)]

    def judge(
        self,
        passes: Any,
        change: Callable[[Any], Any] = lambda header: header,
        *,
        item: Callable[[CheckItem], CheckItem] = lambda item: item,
        **where: Any,
    ) -> Verdict:
        """Sign a block of these operations, changed in its header, and judge it."""
        header = change(self.bakery.header(passes, predecessor=self.predecessor, **where))
        raw = self.bakery.signed(header)
        given = item(item_of(self.bakery, raw, passes, self.predecessor))
        return self.check(given, header.timestamp)

    def check(self, item: CheckItem, now_s: float, **standing: Any) -> Verdict:
        position = self.checker.position(self.bakery.head, now_s)
        position = msgspec.structs.replace(position, **standing)
        verdict = self.checker.learn(
            lambda chain: (
                rules and check_block(item, rules, chain, position)
                if (rules := chain.rules)
                else None
            )
        )
        assert isinstance(verdict, Verdict)
        return verdict


@pytest.fixture
def case() -> Case:
    return Case(new_bakery())


@pytest.mark.parametrize("network", [MAVRYK, TEZOS], ids=lambda n: n.name)
def test_right_blocks_are_valid(network: Any) -> None:
    bakery = new_bakery(network, level=1)
    checker = Checker(bakery)
    for level in range(2, 7):
        case = Case(bakery, checker)
        passes = case.passes([bakery.transfer_of(1), bakery.transfer_of(2)])
        header = bakery.header(passes)
        raw = bakery.signed(header)
        verdict = case.check(item_of(bakery, raw, passes, bakery.head), header.timestamp)
        assert verdict.judgement == Judgement.VALID, (level, verdict)
        assert bakery.inject(raw, passes).refusal is None


@pytest.mark.parametrize("network", [MAVRYK, TEZOS], ids=lambda n: n.name)
def test_a_valid_block_says_of_its_votes_what_the_check_of_each_vote_says(network: Any) -> None:
    case = Case(new_bakery(network))
    lock, passes = locked_passes(case)
    passes = [[*lock, *passes[0]], *passes[1:]]
    verdict = case.judge(passes, **LOCKED)
    assert verdict.judgement == Judgement.VALID
    assert len(verdict.votes) == len(passes[0]) > len(lock) > 1
    chain, head = case.checker.chain, case.bakery.head
    assert chain.rules is not None
    for place, (raw, said) in enumerate(zip(passes[0], verdict.votes, strict=True)):
        position = case.checker.position(head)
        facts = check_vote(0, raw, chain.rules, chain.rights, position).facts
        assert isinstance(facts, VoteFacts)
        assert said == BlockVote(
            place, facts.kind, facts.level, facts.round, facts.delegate, facts.statement
        )
        assert said.delegate
    assert not case.judge([lock, *passes[1:]], **LOCKED).votes, "of none that is not valid"


HEADER_CHANGES: list[tuple[Reason, Callable[[Any], Any]]] = [
    (Reason.WRONG_TIMESTAMP, lambda h: replace(h, timestamp=h.timestamp - 1)),
    (Reason.WRONG_PROTO, lambda h: replace(h, proto=(h.proto + 2) % 256)),
    (
        Reason.WRONG_PREDECESSOR_ROUND,
        lambda h: replace(
            h, fitness=Fitness.tenderbake(level=h.level, round=h.round, predecessor_round=3)
        ),
    ),
    (Reason.WRONG_PAYLOAD_HASH, lambda h: replace(h, payload_hash=other_hash(h.payload_hash))),
    (
        Reason.NO_LOCKED_QUORUM,
        lambda h: replace(
            h,
            fitness=Fitness.tenderbake(
                level=h.level, round=h.round, predecessor_round=0, locked_round=0
            ),
        ),
    ),
]


@pytest.mark.parametrize(
    ("reason", "change"), HEADER_CHANGES, ids=lambda x: x if isinstance(x, Reason) else "change"
)
def test_a_header_that_is_wrong_in_one_field(case: Case, reason: Reason, change: Any) -> None:
    where = {"round": 1} if reason is Reason.NO_LOCKED_QUORUM else {}
    verdict = case.judge(case.passes(), change, **where)
    assert (verdict.judgement, verdict.reason) == (Judgement.INVALID, reason), verdict


def test_a_wrong_body_is_not_the_headers_fault(case: Case) -> None:
    passes = case.passes([case.bakery.transfer_of(1)])
    header = case.bakery.header(passes)
    raw = case.bakery.signed(header)
    for wrong in (
        [*passes[:3], []],
        [passes[0][:-1], *passes[1:]],
        passes[:3],
        [],
        [*passes[:3], [passes[3][0][:-1] + b"\0"]],
        [*passes[:2], passes[3], []],
    ):
        item = item_of(case.bakery, raw, wrong, case.predecessor)
        verdict = case.check(item, header.timestamp)
        expected = (Judgement.BODY_INVALID, Reason.WRONG_OPERATIONS_HASH)
        assert (verdict.judgement, verdict.reason) == expected
        assert verdict.facts is not None
    right = item_of(case.bakery, raw, passes, case.predecessor)
    assert case.check(right, header.timestamp).judgement == Judgement.VALID


@pytest.mark.parametrize(("place", "count"), [(0, 5), (3, 3)], ids=["votes", "transfers"])
def test_a_body_that_only_repeats_its_last_operation_is_not_the_bakers(
    case: Case, place: int, count: int
) -> None:
    passes = case.passes([case.bakery.transfer_of(i) for i in range(1, 4)])
    assert len(passes[place]) == count, "the row of its hashes is filled up"
    header = case.bakery.header(passes)
    raw = case.bakery.signed(header)
    padded = [list(one_pass) for one_pass in passes]
    padded[place].append(padded[place][-1])
    verdict = case.check(item_of(case.bakery, raw, padded, case.predecessor), header.timestamp)
    expected = (Judgement.BODY_INVALID, Reason.WRONG_OPERATIONS_HASH)
    assert (verdict.judgement, verdict.reason) == expected, "else its hash would be bad for ever"
    right = item_of(case.bakery, raw, passes, case.predecessor)
    assert case.check(right, header.timestamp).judgement == Judgement.VALID


def test_a_body_of_more_operations_than_any_block_holds_is_not_hashed(case: Case) -> None:
    passes = case.passes()
    header = case.bakery.header(passes)
    raw = case.bakery.signed(header)
    for place in range(4):
        junk = [*passes[:place], [b""] * 16_384, *passes[place + 1 :]]
        item = item_of(case.bakery, raw, junk, case.predecessor)
        verdict = case.check(item, header.timestamp)
        expected = (Judgement.BODY_INVALID, Reason.WRONG_OPERATIONS_HASH)
        assert (verdict.judgement, verdict.reason) == expected
        chain = case.checker.chain
        assert chain.rules is not None
        position = case.checker.position(case.bakery.head, header.timestamp)
        steps = list(block_steps(item, chain.rules, chain, position))
        assert len(steps) == 2, "the header, and the end"


def test_every_byte_of_a_body_is_covered(case: Case) -> None:
    passes = case.passes([case.bakery.transfer_of(1)])
    header = case.bakery.header(passes)
    raw = case.bakery.signed(header)
    for place, signed in ((0, passes[0][0]), (3, passes[3][0])):
        for offset in range(0, len(signed), 7):
            wrong = [list(one_pass) for one_pass in passes]
            wrong[place][0] = signed[:offset] + bytes([signed[offset] ^ 1]) + signed[offset + 1 :]
            item = item_of(case.bakery, raw, wrong, case.predecessor)
            assert case.check(item, header.timestamp).judgement == Judgement.BODY_INVALID


def test_attestations_that_are_missing_twice_or_for_something_else(case: Case) -> None:
    votes = case.bakery.attestations(case.predecessor)
    slots = case.bakery.chain.rules.rights.committee(case.predecessor.level).slots
    second = next(owned[1] for owned in slots.values() if len(owned) > 1)
    attest = lambda **other: case.bakery.attestations(case.predecessor, **other)  # noqa: E731
    preattest = case.bakery.preattestations(case.predecessor)
    stranger = attest()
    stranger[0] = stranger[0][:-64] + STRANGERS[0].sign(b"x")
    for wrong, reason in (
        (votes[:1], Reason.NO_QUORUM),
        ([], Reason.NO_QUORUM),
        ([*votes, votes[0]], Reason.VOTE_TWICE),
        (attest(round=1), Reason.WRONG_VOTE),
        (attest(level=3), Reason.WRONG_VOTE),
        (attest(payload_hash=bytes(32)), Reason.WRONG_VOTE),
        (attest(branch=bytes(32)), Reason.OUTDATED_OPERATION),
        ([*votes, *attest(slots=[second])], Reason.NOT_LOWEST_SLOT),
        ([*votes, preattest[0]], Reason.WRONG_VOTE),
        (stranger, Reason.BAD_SIGNATURE),
    ):
        verdict = case.judge(case.passes(votes=wrong))
        assert (verdict.judgement, verdict.reason) == (Judgement.INVALID, reason), verdict


LOCKED = {"round": 1, "payload_round": 0, "locked_round": 0}


def locked_passes(case: Case) -> tuple[list[bytes], list[list[bytes]]]:
    """The preattestations that lock a proposal, and its operations."""
    bakery, passes = case.bakery, case.passes()
    bakery.inject(bakery.signed(bakery.header(passes)), passes)
    return bakery.preattestations(bakery.head), passes


def test_a_locked_payload_is_proposed_again(case: Case) -> None:
    lock, passes = locked_passes(case)
    again = [[*lock, *passes[0]], *passes[1:]]
    where = LOCKED
    assert case.judge(again, **where).judgement == Judgement.VALID
    assert case.predecessor.level == case.bakery.head.level - 1
    reasons = [
        case.judge([[*lock[:1], *passes[0]], *passes[1:]], **where).reason,
        case.judge(again, round=1, payload_round=0).reason,
        case.judge(again, round=2, payload_round=0, locked_round=1).reason,
    ]
    assert reasons == [Reason.NO_LOCKED_QUORUM, Reason.WRONG_VOTE, Reason.WRONG_VOTE]


def test_operations_that_are_not_valid(case: Case) -> None:
    bakery = case.bakery
    one = bakery.transfer_of(1)
    counter = bakery.account(ACCOUNTS[1]).counter
    forged = bakery.transfer(ACCOUNTS[2])
    forged = forged[:-64] + one[-64:]
    fee = bakery.account(ACCOUNTS[3]).balance + 1
    for managers, reason in (
        ([one, one], Reason.OPERATION_TWICE),
        ([one, bakery.transfer(ACCOUNTS[1], amount=7)], Reason.OPERATION_NOT_VALID),
        ([bakery.transfer(ACCOUNTS[1], counter=counter)], Reason.OPERATION_NOT_VALID),
        ([bakery.transfer(ACCOUNTS[1], counter=counter + 2)], Reason.OPERATION_NOT_VALID),
        ([forged], Reason.OPERATION_NOT_VALID),
        ([bakery.transfer(ACCOUNTS[3], fee=fee)], Reason.OPERATION_NOT_VALID),
        ([bakery.transfer(ACCOUNTS[6])], Reason.OPERATION_NOT_VALID),  # not revealed
        ([bakery.transfer(ACCOUNTS[1], branch=bytes(32))], Reason.OUTDATED_OPERATION),
        ([bakery.transfer(ACCOUNTS[1], gas_limit=10**8)], Reason.TOO_MUCH_GAS),
        ([b"junk" * 30], Reason.WRONG_OPERATION),
        ([one[:33] + b"\x04" + one[34:]], Reason.WRONG_OPERATION),  # a source of no curve here
        ([bakery.attestations(case.predecessor)[0]], Reason.WRONG_PASS),
        ([b"\0" * (520 * 1024)], Reason.TOO_MUCH_IN_PASS),
    ):
        verdict = case.judge(case.passes(managers))
        assert (verdict.judgement, verdict.reason) == (Judgement.INVALID, reason), verdict
    revealed = bakery.transfer(ACCOUNTS[6], reveal=True)
    assert case.judge(case.passes([revealed])).judgement == Judgement.VALID


def test_an_operation_that_an_ancestor_holds(case: Case) -> None:
    transfer = case.bakery.transfer_of(1)
    case.bakery.bake([transfer])
    case.bakery.bake()
    later = Case(case.bakery, case.checker)
    verdict = later.judge(later.passes([transfer]))
    assert verdict.reason == Reason.OPERATION_NOT_VALID, "its counter tells"


def test_a_key_that_is_revealed_again_is_no_fault_of_the_block(case: Case) -> None:
    again = case.bakery.transfer(ACCOUNTS[1], reveal=True)  # it fails, and pays for that
    assert case.judge(case.passes([again])).judgement == Judgement.VALID


def test_a_consensus_key_that_its_account_has_not_revealed_may_drain_its_delegate(
    case: Case,
) -> None:
    key, delegate = ACCOUNTS[6], ACCOUNTS[1]  # not revealed, revealed
    fields = {
        "consensus_key": key.address, "delegate": delegate.address, "destination": key.address,
    }  # fmt: skip
    content = Content(9, DRAIN_DELEGATE, fields)
    drain = sign_operation(key, Operation(case.predecessor.hash, (content,), None))
    assert case.judge(case.passes(anonymous=[drain])).judgement == Judgement.VALID
    other = Content(9, DRAIN_DELEGATE, fields | {"consensus_key": delegate.address})
    forged = sign_operation(key, Operation(case.predecessor.hash, (other,), None))
    verdict = case.judge(case.passes(anonymous=[forged]))
    assert (verdict.judgement, verdict.reason) == (Judgement.INVALID, Reason.OPERATION_NOT_VALID)


def test_an_anonymous_operation_that_an_ancestor_holds(case: Case) -> None:
    """Nothing but the blocks since its branch tells: it has no counter and no level."""
    bakery, node = case.bakery, case.checker.node
    branch = [block.hash for block in bakery.chain.tree.ancestors(case.predecessor)]
    content = Content(1, SEED_NONCE_REVELATION, {"level": 1, "nonce": bytes(32)})
    revelation = encode(Operation(branch[2], (content,), bytes(64)))
    passes = case.passes(anonymous=[revelation])
    assert case.judge(passes).judgement == Judgement.VALID
    [asked] = [each for each in node.asked if isinstance(each, IncludedWanted)]
    assert list(asked.blocks) == branch[:2], "it cannot be in its branch or below"
    node.holds[branch[1]] = [blake2b_32(revelation)]
    again = Case(bakery)
    again.checker.node.holds = node.holds
    verdict = again.judge(passes)
    assert (verdict.judgement, verdict.reason) == (Judgement.INVALID, Reason.OPERATION_TWICE)


def test_each_anonymous_operation_is_a_step(case: Case) -> None:
    bakery = case.bakery
    branch = [block.hash for block in bakery.chain.tree.ancestors(case.predecessor)]

    def steps(count: int) -> int:
        revelations = [
            encode(
                Operation(
                    branch[2],
                    (Content(1, SEED_NONCE_REVELATION, {"level": i, "nonce": bytes(32)}),),
                    bytes(64),
                )
            )
            for i in range(count)
        ]
        passes = case.passes(anonymous=revelations)
        header = bakery.header(passes, predecessor=case.predecessor)
        item = item_of(bakery, bakery.signed(header), passes, case.predecessor)
        assert case.check(item, header.timestamp).judgement == Judgement.VALID
        chain = case.checker.chain
        assert chain.rules is not None
        position = case.checker.position(bakery.head, header.timestamp)
        return sum(1 for _ in block_steps(item, chain.rules, chain, position))

    assert steps(8) - steps(0) >= 2 * 8, "one to read it, one to look for it in the ancestors"


def test_a_place_on_the_chain_that_is_not(case: Case) -> None:
    bakery = case.bakery
    passes = case.passes()
    header = bakery.header(passes)
    item = item_of(bakery, bakery.signed(header), passes, case.predecessor)
    without = CheckItem(1, item.raw, item.operations, [])
    swapped = CheckItem(1, item.raw, item.operations, item.ancestors[::-1])
    for wrong in (without, swapped):
        verdict = case.check(wrong, header.timestamp)
        assert (verdict.judgement, verdict.reason) == (
            Judgement.UNCHECKED,
            Reason.WRONG_ANCESTORS,
        )
    skipped = replace(
        header, level=header.level + 1,
        fitness=Fitness.tenderbake(level=header.level + 1, round=0, predecessor_round=0),
    )  # fmt: skip
    verdict = case.judge(passes, lambda _: skipped)
    assert verdict.reason == Reason.WRONG_LEVEL
    for _ in range(4):
        bakery.bake()
    late = CheckItem(1, item.raw, item.operations, item.ancestors)
    assert case.check(late, header.timestamp).judgement == Judgement.STALE
    on_final = case.check(late, header.timestamp, final_level=header.level - 1)
    assert on_final.judgement == Judgement.VALID


@pytest.mark.parametrize("keys_per_step", [2, 16])
def test_votes_of_tz4_keys_come_added_up(
    keys_per_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_votes, "KEYS_PER_STEP", keys_per_step)
    keys = [SandboxKey(blake2b_32(b"tz4 %d" % n), Curve.BLS) for n in range(3)]
    bakery = new_bakery(TEZOS, bakers=keys, level=3)
    case = Case(bakery)
    block = case.predecessor
    committee = bakery.chain.rules.rights.committee(block.level)
    template = VoteTemplate(
        Kind.ATTESTATION, bakery.chain.rules.chain_id, block.header.predecessor,
        block.level, block.round, block.header.payload_hash,
    )  # fmt: skip
    owners = {slots[0]: bakery.key_of(owner) for owner, slots in committee.slots.items()}
    signatures = [key.sign(template.bls_signable()) for key in owners.values()]

    def aggregate(slots: list[int], signatures: list[bytes]) -> bytes:
        fields = {
            "consensus_content": {
                "level": block.level, "round": block.round,
                "block_payload_hash": block.header.payload_hash,
            },
            "committee": [{"slot": slot, "dal_attestation": None} for slot in slots],
        }  # fmt: skip
        content = Content(0x1F, ATTESTATIONS_AGGREGATE, fields)
        total = bls.add_signatures(signatures)
        return encode(Operation(block.header.predecessor, (content,), total))

    slots = list(owners)
    added_up = aggregate(slots, signatures)
    verdict = case.judge(case.passes(votes=[added_up]))
    assert verdict.judgement == Judgement.VALID
    single = bakery.attestations(block)
    rules = case.checker.chain.rules
    assert rules is not None
    voters = {slot: bakery.chain.rules.names.address(owner) for owner, (slot, *_) in
              committee.slots.items()}  # fmt: skip
    said = statement(block.header.predecessor, block.header.payload_hash, None)
    assert verdict.votes == [
        BlockVote(0, "attestation", block.level, block.round, voters[slot], said, slot)
        for slot in slots
    ]
    # Each of them may be denounced by it, together with another vote of that slot.
    for slot in slots:
        other_template = replace(template, payload_hash=b"o" * 32)
        signature = owners[slot].sign(other_template.bls_signable())
        other = other_template.operation(slot, signature)
        evidence = make_evidence(0, added_up, other, b"B" * 32, rules.protocol, slot)
        assert evidence.judgement == Judgement.VALID
        assert decode_operation(evidence.made, TEZOS).contents[0].fields["slot"] == slot
    for votes, reason in (
        ([aggregate(slots, signatures[1:])], Reason.BAD_SIGNATURE),
        ([aggregate([*slots, slots[0]], signatures)], Reason.VOTE_TWICE),
        ([aggregate(slots, signatures), single[0]], Reason.VOTE_TWICE),
        ([aggregate(slots[:1], signatures[:1])], Reason.NO_QUORUM),
        ([aggregate([], [])], Reason.BAD_SIGNATURE),
    ):
        assert case.judge(case.passes(votes=votes)).reason == reason


def test_a_branch_that_finality_has_left_behind(case: Case) -> None:
    bakery = case.bakery
    passes = case.passes()
    header = bakery.header(passes)
    item = item_of(bakery, bakery.signed(header), passes, case.predecessor)
    level, hash_ = case.predecessor.level - 1, case.predecessor.header.predecessor
    on = case.check(item, header.timestamp, final_level=level, final=hash_)
    off = case.check(item, header.timestamp, final_level=level, final=other_hash(hash_))
    assert on.judgement == Judgement.VALID
    assert (off.judgement, off.reason) == (Judgement.UNVIABLE, Reason.OFF_FINAL_BRANCH)


def test_votes_on_data_availability_of_atlas_count_for_no_quorum() -> None:
    bakery = Bakery(Chain(genesis_of(MAVRYK, 1)))
    bakery.bake_to(4)
    case = Case(bakery)
    block, chain_id = case.predecessor, bakery.chain.rules.chain_id
    committee = bakery.chain.rules.rights.committee(block.level)
    slot = next(owned[0] for owned in committee.slots.values())

    def vote(level: int = block.level, key: SandboxKey | None = None) -> bytes:
        fields = {"attestation": 5, "level": level, "slot": slot}
        content = Content(0x16, DAL_ATTESTATION, fields)
        bare = Operation(block.header.predecessor, (content,), None)
        key = key or bakery.key_of(committee.owners[slot])
        signature = key.sign(signing_bytes(bare, chain_id, bls_votes=False))
        return encode(replace(bare, signature=signature))

    votes = bakery.attestations(block)
    for consensus, reason in (
        ([*votes, vote()], ""),
        ([vote()], Reason.NO_QUORUM),
        ([vote(), *votes, vote()], Reason.VOTE_TWICE),
        ([*votes, vote(level=3)], Reason.WRONG_VOTE),
        ([*votes, vote(key=STRANGERS[0])], Reason.BAD_SIGNATURE),
    ):
        assert case.judge(case.passes(votes=consensus)).reason == reason
    boreas = Case(new_bakery())
    held = boreas.passes(votes=[*boreas.bakery.attestations(boreas.predecessor), vote()])
    assert boreas.judge(held).reason in (Reason.WRONG_OPERATION, Reason.OUTDATED_OPERATION)


# -- predecessors that the node does not have ------------------------------------------------------


def test_a_predecessor_that_the_node_does_not_have_yet(case: Case) -> None:
    """The rewinder: counters, keys and balances go on from the block that the node knows."""
    bakery, checker = case.bakery, case.checker
    checker.node.lacks = set()
    bakery.bake([bakery.transfer_of(1), bakery.transfer(ACCOUNTS[6], reveal=True)])
    checker.node.lacks.add(bakery.head.hash)
    bakery.bake([bakery.transfer_of(1)])
    checker.node.lacks.add(bakery.head.hash)
    later = Case(bakery, checker)
    passes = later.passes([bakery.transfer_of(1), bakery.transfer(ACCOUNTS[6])])
    header = bakery.header(passes)
    raw = bakery.signed(header)
    bare = item_of(bakery, raw, passes, bakery.head)
    verdict = later.check(bare, header.timestamp)
    assert verdict.judgement == Judgement.ANCESTORS_WANTED
    assert set(verdict.wanted) == checker.node.lacks
    whole = item_of(bakery, raw, passes, bakery.head, operations=True)
    first, *others = whole.ancestors
    assert first.operations is not None
    portion = [Ancestor(first.header, [[], *first.operations[1:]])]
    portion += [Ancestor(each.header) for each in others]
    verdict = later.check(msgspec.structs.replace(bare, ancestors=portion), header.timestamp)
    assert set(verdict.wanted) == checker.node.lacks - {bakery.head.hash}, "votes are not missed"
    assert later.check(whole, header.timestamp).judgement == Judgement.VALID
    assert later.check(bare, header.timestamp).judgement == Judgement.VALID, "they are remembered"
    again = bakery.account(ACCOUNTS[1]).counter
    old = bakery.transfer(ACCOUNTS[1], counter=again)
    assert later.judge(later.passes([old])).reason == Reason.OPERATION_NOT_VALID
    poor = bakery.transfer(ACCOUNTS[6], fee=10**12)
    assert later.judge(later.passes([poor])).reason == Reason.OPERATION_NOT_VALID


def test_a_fork_beside_the_head(case: Case) -> None:
    """Any cleared block above the final one can be the predecessor: nothing is rolled back."""
    bakery = case.bakery
    fork = bakery.head
    for _ in range(2):
        bakery.bake()
    beside = Case(bakery, case.checker)
    beside.predecessor = fork
    passes = beside.passes(votes=bakery.attestations(fork))
    assert beside.judge(passes, round=2).judgement == Judgement.VALID


def test_a_node_that_tells_nothing(case: Case) -> None:
    case.checker.node.lacks = {b.hash for b in case.bakery.chain.tree.ancestors(case.predecessor)}
    verdict = case.judge(case.passes())
    assert (verdict.judgement, verdict.reason) == (Judgement.UNCHECKED, Reason.STATE_UNKNOWN)


def test_real_bodies_belong_to_their_headers() -> None:
    """Operations hash and payload hash of whole real blocks, as the check computes them."""
    path = real_objects.TESTS / "signers" / "vectors" / "blocks.jsonl"
    checked = 0
    for line in path.read_text().splitlines():
        record = json.loads(line)
        header = block_header.decode(bytes.fromhex(record["header"]))
        if not header.fitness.is_tenderbake:
            continue
        hashes = [
            [blake2b_32(bytes.fromhex(signed)) for signed in one_pass]
            for one_pass in record["operations"]
        ]
        assert operations_hash(hashes) == header.operations_hash
        flat = [each for one_pass in hashes[1:] for each in one_pass]
        assert payload_hash(header.predecessor, header.payload_round, flat) == header.payload_hash
        checked += 1
    assert checked >= 3


def test_rights_that_are_forgotten_during_a_check_make_no_block_invalid(case: Case) -> None:
    lock, passes = locked_passes(case)
    again = [[*lock, *passes[0]], *passes[1:]]
    header = case.bakery.header(again, predecessor=case.predecessor, **LOCKED)
    raw = case.bakery.signed(header)
    bare = item_of(case.bakery, raw, again, case.predecessor)
    # To read what its ancestors held takes steps of its own.
    ancestors = [Ancestor(each.header, [[], [b"any"], [], []]) for each in bare.ancestors]
    full = msgspec.structs.replace(bare, ancestors=ancestors)
    position = case.checker.position(case.bakery.head, header.timestamp)
    told = case.checker.node.answer(RightsWanted(4))
    assert isinstance(told, RightsTold)
    found = []
    for forgotten_after in range(40):
        case.checker = Checker(case.bakery)  # which has read no ancestor's operations yet
        assert case.check(bare, header.timestamp).judgement == Judgement.VALID
        chain = case.checker.chain
        assert chain.rules is not None
        for place, verdict in enumerate(block_steps(full, chain.rules, chain, position)):
            if verdict is not None:
                found.append(verdict.judgement)
            if place == forgotten_after:
                for level in range(1_000, 1_000 + LEVELS_KEPT):
                    chain.told(RightsWanted(level), RightsTold(level, told.voters))
    assert set(found) == {Judgement.RIGHTS_UNKNOWN, Judgement.VALID}


def test_rights_in_use_are_not_pushed_out_by_those_of_levels_that_anybody_names() -> None:
    checker = Checker(new_bakery())
    checker.learn(lambda chain: chain.rules and chain.rights(4))
    told = checker.node.answer(RightsWanted(4))
    assert isinstance(told, RightsTold)
    for level in range(1_000, 1_000 + 2 * LEVELS_KEPT):
        checker.chain.told(RightsWanted(level), RightsTold(level, told.voters))
        assert checker.chain.rights(4) is not None
