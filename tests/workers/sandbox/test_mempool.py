"""Where operations wait, and for how long."""

from collections.abc import Callable
from typing import Any

import pytest

from signers.formats.anonymous_operation import SEED_NONCE_REVELATION
from signers.formats.operation import Content, Operation, encode
from signers.formats.signable import Kind
from workers.sandbox import mempool
from workers.sandbox.chain import OperationClassified
from workers.sandbox.mempool import Class


def classes(bakery: Any) -> dict[str, list[bytes]]:
    """The signed operations of every class that has some."""
    found = {
        class_.value: [each.operation.signed for each in bakery.chain.mempool.of_class(class_)]
        for class_ in Class
    }
    return {name: operations for name, operations in found.items() if operations}


def revelation(bakery: Any, level: int, nonce: bytes | None = None) -> bytes:
    fields = {"level": level, "nonce": nonce or bakery.nonces[level]}
    content = Content(1, SEED_NONCE_REVELATION, fields)
    return encode(Operation(bakery.head.hash, (content,), bytes(64)))


@pytest.mark.parametrize(
    ("other", "class_", "reason"),
    [
        ({"counter": 0}, "branch_refused", "contract.counter_in_the_past"),
        ({"counter": 9}, "branch_delayed", "contract.counter_in_the_future"),
        ({"fee": 20_000_000_000}, "branch_delayed", "mav.subtraction_underflow"),
        ({"fee": 99}, "refused", "prefilter.fees_too_low"),
        ({"gas_limit": 5000}, "refused", "prefilter.fees_too_low"),
        ({"gas_limit": 1_040_001, "fee": 1_000_000}, "refused", "gas_limit_too_high"),
    ],
)
def test_a_class_follows_the_kind_of_the_error(
    bakery: Any, accounts: list[Any], other: dict[str, int], class_: str, reason: str
) -> None:
    signed = bakery.transfer(accounts[1], **other)
    outcome = bakery.inject_operation(signed)
    assert outcome.refusal is not None
    assert outcome.refusal.reason == reason
    assert classes(bakery) == {class_: [signed]}
    assert bakery.chain.statistics.refused_operations == {reason: 1}
    # The same again meets the same verdict and is not counted again.
    assert bakery.inject_operation(signed) == outcome._replace(events=())
    assert bakery.chain.statistics.refused_operations == {reason: 1}


def test_what_is_no_operation_of_this_chain_is_not_kept(bakery: Any, accounts: list[Any]) -> None:
    for signed, text in (
        (b"", "Can't parse the operation"),
        (b"x" * 200, "Can't parse the operation"),
        (bakery.transfer(accounts[1], branch=bytes(32)), "Unknown branch (BKiH"),
    ):
        outcome = bakery.inject_operation(signed)
        assert text in str(outcome.refusal)
        assert outcome.refusal is not None
        assert outcome.refusal.reason == "failure"
    assert classes(bakery) == {}


def test_a_branch_that_is_too_old(new_bakery: Callable[..., Any], accounts: list[Any]) -> None:
    bakery = new_bakery(max_operations_time_to_live=8)
    old = bakery.bake()
    bakery.bake_to(old.level + 8)
    last = bakery.transfer(accounts[1], branch=old.hash)
    assert bakery.inject_operation(last).refusal is None
    bakery.bake()
    assert classes(bakery) == {"outdated": [last]}
    late = bakery.transfer(accounts[2], branch=old.hash)
    outcome = bakery.inject_operation(late)
    assert outcome.refusal is not None
    assert outcome.refusal.kind.value == "outdated"


def test_operations_leave_with_the_block_that_includes_them(
    bakery: Any, accounts: list[Any]
) -> None:
    included, other = bakery.transfer(accounts[1]), bakery.transfer(accounts[2])
    for signed in (included, other):
        assert bakery.inject_operation(signed).refusal is None
    bakery.bake([included])
    assert classes(bakery) == {"validated": [other]}
    # What is in the chain already is welcome and goes nowhere.
    outcome = bakery.inject_operation(included)
    assert (outcome.refusal, outcome.events) == (None, ())


def test_a_delayed_operation_gets_its_turn(bakery: Any, accounts: list[Any]) -> None:
    first, second = (bakery.transfer(accounts[1], counter=counter) for counter in (1, 2))
    assert bakery.inject_operation(second).refusal is not None
    assert classes(bakery) == {"branch_delayed": [second]}
    bakery.bake([first])
    assert classes(bakery) == {"validated": [second]}


def test_a_source_waits_with_one_operation(bakery: Any, accounts: list[Any]) -> None:
    first = bakery.transfer(accounts[1], fee=1000)
    second = bakery.transfer(accounts[1], fee=1049)
    bakery.inject_operation(first)
    outcome = bakery.inject_operation(second)
    assert outcome.refusal is not None
    error = outcome.refusal.trace[-1].to_json("")
    assert error["id"] == "prevalidation.operation_conflict"
    assert error["needed_fee_in_mumav"] == "1050"
    assert classes(bakery) == {"validated": [first], "branch_delayed": [second]}


def test_who_pays_a_twentieth_more_takes_the_place(bakery: Any, accounts: list[Any]) -> None:
    first = bakery.transfer(accounts[1], fee=1000)
    second = bakery.transfer(accounts[1], fee=1050)
    bakery.inject_operation(first)
    outcome = bakery.inject_operation(second)
    assert outcome.refusal is None
    added, replaced = (event.classified for event in outcome.events)
    assert added.operation.signed == second
    assert replaced.refusal.reason == "prevalidation.operation_replacement"
    assert classes(bakery) == {"validated": [second], "branch_delayed": [first]}
    bakery.bake([second])
    assert classes(bakery) == {"branch_refused": [first]}


def test_more_gas_must_be_paid_for(bakery: Any, accounts: list[Any]) -> None:
    bakery.inject_operation(bakery.transfer(accounts[1], fee=1000, gas_limit=200))
    outcome = bakery.inject_operation(bakery.transfer(accounts[1], fee=2099, gas_limit=400))
    assert outcome.refusal is not None
    assert outcome.refusal.trace[-1].fields["needed_fee_in_mumav"] == "2100"


def test_votes_are_taken_around_the_head(bakery: Any) -> None:
    block = bakery.bake_to(6)
    for level, ok in ((4, False), (5, True), (6, True), (7, True), (8, False)):
        committee = bakery.chain.rules.rights.committee(level)
        slot = next(s for s, owner in enumerate(committee.owners) if owner == committee.baker(0))
        key = bakery.key_of(committee.owners[slot])
        from signers.formats.vote import VoteTemplate

        template = VoteTemplate(
            Kind.ATTESTATION, bakery.chain.rules.chain_id, block.hash, level, 3, bytes(32)
        )
        signed = template.operation(slot, key.sign(template.signable(slot)))
        assert (bakery.inject_operation(signed).refusal is None) is ok
    assert bakery.chain.statistics.refused_operations == {
        "validate.consensus_operation_for_old_level": 1,
        "validate.consensus_operation_for_future_level": 1,
    }
    assert {name: len(found) for name, found in classes(bakery).items()} == {
        "validated": 3,
        "outdated": 1,
        "branch_delayed": 1,
    }
    bakery.bake()
    bakery.bake()
    # Level 8 has come into reach meanwhile, 5 and 6 are out of it.
    assert {name: len(found) for name, found in classes(bakery).items()} == {
        "validated": 2,
        "outdated": 3,
    }


def test_a_vote_that_its_delegate_did_not_sign(bakery: Any, strangers: list[Any]) -> None:
    block = bakery.bake_to(6)
    (vote,) = bakery.attestations(block, slots=[0])
    forged = vote[:-64] + strangers[0].sign(vote[:-64])
    for signed, reason in (
        (forged, "operation.invalid_signature"),
        (vote[:-64] + bytes(64), "operation.missing_signature"),
    ):
        outcome = bakery.inject_operation(signed)
        assert outcome.refusal is not None
        assert outcome.refusal.reason == reason
    assert bakery.chain.statistics.attestations_seen == 5 * 4


def test_a_slot_that_does_not_exist(bakery: Any) -> None:
    block = bakery.bake_to(6)
    (vote,) = bakery.attestations(block, slots=[0])
    outside = vote[:33] + (256).to_bytes(2) + vote[35:]
    outcome = bakery.inject_operation(outside)
    assert outcome.refusal is not None
    assert outcome.refusal.reason == "validate.wrong_slot_for_consensus_operation"


def test_the_mempool_is_bounded(
    bakery: Any, accounts: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mempool, "OPERATIONS_MAX", 2)
    monkeypatch.setattr(mempool, "KEPT_ASIDE_MAX", 1)
    block = bakery.bake_to(3)
    assert bakery.inject_operation(bakery.transfer(accounts[1])).refusal is None
    assert bakery.inject_operation(bakery.transfer(accounts[2])).refusal is None
    for key in accounts[3:5]:
        outcome = bakery.inject_operation(bakery.transfer(key))
        assert outcome.refusal is not None
        assert outcome.refusal.reason == "node.mempool.rejected_by_full_mempool"
    # The oldest of those kept aside made room; votes have room of their own.
    assert [len(found) for found in classes(bakery).values()] == [2, 1]
    for vote in bakery.attestations(block)[:2]:
        assert bakery.inject_operation(vote).refusal is None
    assert bakery.inject_operation(bakery.attestations(block)[2]).refusal is not None


# -- seed nonces --


def test_a_nonce_is_revealed_in_the_next_cycle(bakery: Any) -> None:
    bakery.bake_to(8)
    assert set(bakery.nonces) == {4, 8}
    early = revelation(bakery, 4)
    outcome = bakery.inject_operation(early)
    assert outcome.refusal is None, "the next block is the first of the next cycle"
    bakery.bake_to(9)
    revealed = revelation(bakery, 8)
    assert bakery.inject_operation(revealed).refusal is None
    passes = (bakery.attestations(bakery.head), (), [early, revealed], ())
    before = bakery.account(bakery.baker(10, 0)).balance
    outcome = bakery.inject(bakery.signed(bakery.header(passes)), passes)
    assert outcome.refusal is None
    constants = bakery.chain.rules.constants
    assert constants.nonce_revelation_tip > 0
    assert bakery.head.reward == constants.baking_reward + 2 * constants.nonce_revelation_tip
    assert bakery.account(bakery.baker(10, 0)).balance > before
    again = bakery.inject_operation(revelation(bakery, 4))
    assert again.refusal is not None
    assert again.refusal.reason == "nonce.previously_revealed_nonce"
    assert bakery.chain.statistics.operations_by_kind() == {"seed_nonce_revelation": 2}


def test_a_revelation_that_is_early_wrong_or_late(bakery: Any) -> None:
    bakery.bake_to(5)
    for make, level, reason in (
        (lambda: revelation(bakery, 4), 9, "nonce.too_early_revelation"),
        (lambda: revelation(bakery, 4, b"n" * 32), 11, "nonce.inconsistent"),
        (lambda: revelation(bakery, 3, b"n" * 32), 12, "nonce.inconsistent"),
        (lambda: revelation(bakery, 4), 13, "nonce.too_late_revelation"),
    ):
        outcome = bakery.inject_operation(make())
        assert outcome.refusal is not None
        assert outcome.refusal.reason == reason
        assert outcome.refusal.kind.value == "branch"
        bakery.bake_to(level)


def test_two_revelations_of_one_nonce_in_one_block(bakery: Any) -> None:
    bakery.bake_to(9)
    twice = [revelation(bakery, 4)]
    bakery.bake()
    twice.append(revelation(bakery, 4))
    passes = (bakery.attestations(bakery.head), (), twice, ())
    outcome = bakery.inject(bakery.signed(bakery.header(passes)), passes)
    assert outcome.refusal is not None
    assert outcome.refusal.reason == "nonce.previously_revealed_nonce"


def test_old_commitments_are_forgotten(bakery: Any) -> None:
    from workers.sandbox.ledger import Ledger

    bakery.bake_to(16)
    assert Ledger(bakery.head.context).nonce(4) is not None
    bakery.bake()
    assert Ledger(bakery.head.context).nonce(4) is None
    assert Ledger(bakery.head.context).nonce(12) is not None


def test_each_classification_is_told(bakery: Any, accounts: list[Any]) -> None:
    outcome = bakery.inject_operation(bakery.transfer(accounts[1]))
    (event,) = outcome.events
    assert isinstance(event, OperationClassified)
    assert event.classified.class_ is Class.VALIDATED
