"""Two different things signed for one position are noticed, whatever else becomes of them."""

from dataclasses import replace
from typing import Any

from signers.formats.signable import Kind
from workers.sandbox.chain import DoubleSigned
from workers.sandbox.double_signing import (
    CONFLICTS_KEPT,
    POSITIONS_PER_LEVEL_MAX,
    DoubleSigning,
    Position,
)

DELEGATE = b"\x00" + b"d" * 20


def test_one_position_gives_one_conflict() -> None:
    signing = DoubleSigning()
    position = Position(Kind.ATTESTATION, DELEGATE, 7, 0)
    assert signing.observe(position, b"one") is None
    assert signing.observe(position, b"one") is None
    conflict = signing.observe(position, b"two")
    assert conflict is not None
    assert (conflict.first, conflict.second) == (b"one", b"two")
    assert signing.observe(position, b"three") is None
    assert signing.observe(position._replace(round=1), b"two") is None
    assert signing.observe(position._replace(kind=Kind.PREATTESTATION), b"two") is None
    assert signing.conflicts_total == 1


def test_what_is_kept_is_bounded_and_the_count_goes_on() -> None:
    signing = DoubleSigning()
    for level in range(CONFLICTS_KEPT + 5):
        for signed in (b"one", b"two"):
            signing.observe(Position(Kind.BLOCK, DELEGATE, level, 0), signed)
    assert signing.conflicts_total == CONFLICTS_KEPT + 5
    assert len(signing.conflicts) == CONFLICTS_KEPT
    for round in range(POSITIONS_PER_LEVEL_MAX):
        signing.observe(Position(Kind.BLOCK, DELEGATE, 1000, round), b"one")
    last = Position(Kind.BLOCK, DELEGATE, 1000, POSITIONS_PER_LEVEL_MAX)
    assert signing.observe(last, b"one") is None
    assert signing.observe(last, b"two") is None
    signing.forget_below(1001)
    assert signing.observe(Position(Kind.BLOCK, DELEGATE, 1000, 0), b"two") is None


def conflicts_in(outcome: Any) -> list[Any]:
    return [event.conflict for event in outcome.events if isinstance(event, DoubleSigned)]


def test_double_baking(bakery: Any) -> None:
    predecessor = bakery.bake_to(4)
    passes = bakery.passes(bakery.attestations(predecessor))
    header = bakery.header(passes)
    assert bakery.inject(bakery.signed(header), passes).refusal is None
    other = replace(header, per_block_votes=0)
    outcome = bakery.inject(bakery.signed(other), passes)
    assert outcome.refusal is None
    (conflict,) = conflicts_in(outcome)
    assert conflict.position == Position(Kind.BLOCK, bakery.baker(5, 0).address, 5, 0)


def test_a_block_that_is_refused_counts_when_its_baker_signed_it(bakery: Any) -> None:
    predecessor = bakery.bake_to(4)
    passes = bakery.passes(bakery.attestations(predecessor))
    header = bakery.header(passes)
    wrong = replace(header, payload_hash=b"x" * 32)
    assert bakery.inject(bakery.signed(wrong), passes).refusal is not None
    assert len(conflicts_in(bakery.inject(bakery.signed(header), passes))) == 1


def test_a_block_that_somebody_else_signed_is_no_evidence(bakery: Any, strangers: Any) -> None:
    predecessor = bakery.bake_to(4)
    passes = bakery.passes(bakery.attestations(predecessor))
    header = bakery.header(passes)
    bakery.inject(bakery.signed(header), passes)
    forged = replace(header, per_block_votes=0)
    outcome = bakery.inject(bakery.signed(forged, strangers[0]), passes)
    assert outcome.refusal is not None
    assert not conflicts_in(outcome)


def test_double_attesting_and_preattesting(bakery: Any) -> None:
    block = bakery.bake_to(4)
    for kind in (Kind.ATTESTATION, Kind.PREATTESTATION):
        (vote,) = bakery.votes(kind, block, slots=[0])
        (other,) = bakery.votes(kind, block, slots=[0], payload_hash=b"y" * 32)
        assert not conflicts_in(bakery.inject_operation(vote))
        outcome = bakery.inject_operation(other)
        assert outcome.refusal is not None
        assert outcome.refusal.reason == "prevalidation.operation_conflict"
        (conflict,) = conflicts_in(outcome)
        assert conflict.position.kind is kind
        # The same two again, and a vote of the next round, are no news.
        assert not conflicts_in(bakery.inject_operation(vote))
        assert not conflicts_in(bakery.inject_operation(other))
        (later,) = bakery.votes(kind, block, slots=[0], round=1, payload_hash=b"y" * 32)
        assert not conflicts_in(bakery.inject_operation(later))
    assert bakery.chain.double_signing.conflicts_total == 2


def test_another_branch_or_slot_is_a_different_vote(bakery: Any) -> None:
    block = bakery.bake_to(4)
    committee = bakery.chain.rules.rights.committee(4)
    first, second = next(slots for slots in committee.slots.values() if len(slots) > 1)[:2]
    votes = [
        bakery.votes(Kind.ATTESTATION, block, slots=[first])[0],
        bakery.votes(Kind.ATTESTATION, block, slots=[second])[0],
    ]
    outcomes = [bakery.inject_operation(vote) for vote in votes]
    assert [len(conflicts_in(outcome)) for outcome in outcomes] == [0, 1]
    (elsewhere,) = bakery.votes(Kind.PREATTESTATION, block, slots=[first], branch=block.hash)
    (here,) = bakery.votes(Kind.PREATTESTATION, block, slots=[first])
    assert [len(conflicts_in(bakery.inject_operation(v))) for v in (here, elsewhere)] == [0, 1]


def test_votes_hidden_in_a_block_are_seen_too(bakery: Any) -> None:
    block = bakery.bake_to(4)
    (vote,) = bakery.votes(Kind.ATTESTATION, block, slots=[0], payload_hash=b"y" * 32)
    bakery.inject_operation(vote)
    passes = bakery.passes(bakery.attestations(block))
    # A block that is refused shows them as well as a good one.
    bad = replace(bakery.header(passes), context=bytes(32))
    outcome = bakery.inject(bakery.signed(bad), passes)
    assert outcome.refusal is not None
    assert len(conflicts_in(outcome)) == 1
    outcome = bakery.inject(bakery.signed(bakery.header(passes)), passes)
    assert outcome.refusal is None
    (conflict,) = conflicts_in(outcome)
    assert conflict.position.kind is Kind.BLOCK
