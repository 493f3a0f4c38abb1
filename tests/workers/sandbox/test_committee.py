"""Rights: deterministic, complete, and in proportion to stake."""

import pytest

from workers.sandbox.committee import COMMITTEES_KEPT, Rights

POOR, RICH = b"\x00" + b"p" * 20, b"\x00" + b"r" * 20


def test_the_same_seed_gives_the_same_committee_and_another_one_another() -> None:
    stakes = {POOR: 1, RICH: 1}
    first = Rights(b"seed", stakes, 64).committee(5)
    assert first.owners == Rights(b"seed", stakes, 64).committee(5).owners
    assert first.owners != Rights(b"other", stakes, 64).committee(5).owners
    assert first.owners != Rights(b"seed", stakes, 64).committee(6).owners


def test_slots_follow_stake() -> None:
    rights = Rights(b"seed", {POOR: 1_000, RICH: 3_000}, 256)
    share = sum(rights.committee(level).owners.count(RICH) for level in range(100)) / 25_600
    assert 0.73 < share < 0.77


def test_a_vote_counts_in_the_first_slot_alone() -> None:
    committee = Rights(b"seed", {POOR: 1, RICH: 2}, 32).committee(9)
    assert sum(map(committee.power, range(32))) == 32
    for slots in committee.slots.values():
        assert committee.power(slots[0]) == len(slots)
        assert all(committee.power(slot) == 0 for slot in slots[1:])
    assert committee.power(32) == 0
    assert committee.owner(32) is None


def test_the_baker_of_a_round_owns_the_slot_of_that_number() -> None:
    committee = Rights(b"seed", {POOR: 1, RICH: 2}, 32).committee(9)
    assert [committee.baker(r) for r in range(64)] == [*committee.owners, *committee.owners]


def test_committees_are_forgotten_at_the_bound_and_drawn_again_alike() -> None:
    rights = Rights(b"seed", {POOR: 1, RICH: 2}, 32)
    first = rights.committee(0).owners
    for level in range(COMMITTEES_KEPT + 1):
        rights.committee(level)
    assert rights.committee(0).owners == first


@pytest.mark.parametrize("stakes", [{}, {POOR: 0}])
def test_there_is_no_committee_without_stake(stakes: dict[bytes, int]) -> None:
    with pytest.raises(ValueError, match="stake"):
        Rights(b"seed", stakes, 32)
