"""The rules of selection one by one, then that no selection ever breaks a quota."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.formats.content_kind import ANONYMOUS_PASS, CONSENSUS_PASS, MANAGER_PASS, VOTING_PASS
from signers.formats.hashes import blake2b_32
from workers.preparation.selection import (
    QUOTAS,
    Candidate,
    Quota,
    in_order_of_bytes,
    in_order_of_worth,
    pays_enough,
    select,
    take,
    take_managers,
)

GAS_PER_BLOCK = 1_733_333


def manager(
    name: str = "a",
    *,
    fee: int = 1_000,
    gas: int = 1_000,
    size: int = 200,
    source: str | None = None,
    counter: int = 1,
    priority: int = 0,
) -> Candidate:
    """A manager operation; its bytes are made of its name, source and counter."""
    source = source or name
    operation = (f"{name} {source} {counter} ".encode() * size)[:size]
    return Candidate(
        operation,
        blake2b_32(operation),
        MANAGER_PASS,
        priority,
        source.encode(),
        fee,
        gas,
        counter,
    )


def other(name: bytes, validation_pass: int = ANONYMOUS_PASS, *, priority: int = 0) -> Candidate:
    return Candidate(name, blake2b_32(name), validation_pass, priority)


def names(candidates: list[Candidate]) -> str:
    return "".join(candidate.source.decode() for candidate in candidates)


# -- fees -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fee", "gas", "size", "enough"),
    [
        (99, 10, 50, False),
        (100, 10, 50, True),
        (100, 1_000, 50, True),  # 100,000 nano units of fee for 1,000 of gas
        (100, 1_001, 50, False),
        (199, 10, 200, False),
        (200, 10, 200, True),
    ],
)
def test_an_operation_must_pay_in_all_and_for_gas_and_for_bytes(
    fee: int, gas: int, size: int, enough: bool
) -> None:
    assert pays_enough(manager(fee=fee, gas=gas, size=size)) is enough


def test_what_pays_too_little_is_no_candidate_whatever_its_priority() -> None:
    assert in_order_of_worth([manager(fee=1, priority=9)], gas_per_block=GAS_PER_BLOCK) == []


# -- order ----------------------------------------------------------------------------------------


def ordered(*candidates: Candidate) -> str:
    return names(in_order_of_worth(candidates, gas_per_block=GAS_PER_BLOCK))


def test_who_pays_more_goes_first() -> None:
    assert ordered(manager("a", fee=500), manager("b", fee=900), manager("c", fee=700)) == "bca"


def test_the_scarcer_of_space_and_gas_counts() -> None:
    # "a" is large, "b" burns gas; the share of the block that each takes is what it pays for.
    large = manager("a", fee=30_000, size=20_000, gas=1_000)  # 3.8 % of the space
    hungry = manager("b", fee=30_000, size=200, gas=150_000)  # 8.7 % of the gas
    assert ordered(hungry, large) == "ab"
    assert ordered(hungry, manager("a", fee=30_000, size=29_000, gas=290_000)) == "ba"


def test_priority_beats_fees() -> None:
    assert ordered(manager("a", fee=9_000), manager("b", fee=500, priority=1)) == "ba"
    assert ordered(manager("a", priority=1), manager("b", priority=2)) == "ba"


def test_operations_of_one_source_go_by_counter_in_the_places_they_earned() -> None:
    first = manager("a", fee=400, source="s", counter=5)
    second = manager("b", fee=9_000, source="s", counter=6)
    between = manager("c", fee=1_000)
    order = in_order_of_worth([first, second, between], gas_per_block=GAS_PER_BLOCK)
    assert [candidate.counter for candidate in order] == [5, 1, 6]


def test_equal_worth_has_one_order() -> None:
    candidates = [manager(name) for name in "abcdef"]
    forwards = in_order_of_worth(candidates, gas_per_block=GAS_PER_BLOCK)
    backwards = in_order_of_worth(candidates[::-1], gas_per_block=GAS_PER_BLOCK)
    assert forwards == backwards


@given(
    st.lists(
        st.tuples(st.integers(100, 10**9), st.integers(1, GAS_PER_BLOCK), st.integers(100, 32_768)),
        max_size=8,
    )
)
def test_the_order_is_that_of_the_exact_fractions(terms: list[tuple[int, int, int]]) -> None:
    candidates = [
        manager(f"{number:02}", fee=fee + 10**6, gas=gas, size=size)
        for number, (fee, gas, size) in enumerate(terms)
    ]

    def weight(each: Candidate) -> Fraction:
        space = Fraction(each.size, QUOTAS[MANAGER_PASS].bytes_max)
        return each.fee / max(space, Fraction(each.gas, GAS_PER_BLOCK))

    order = in_order_of_worth(candidates, gas_per_block=GAS_PER_BLOCK)
    expected = sorted(filter(pays_enough, candidates), key=lambda each: (-weight(each), each.hash))
    assert order == expected


def test_the_other_passes_go_by_bytes_and_the_mempool_before_the_bakers_own() -> None:
    own = other(b"a", priority=1)
    assert in_order_of_bytes([other(b"c"), own, other(b"b")]) == [other(b"b"), other(b"c"), own]


# -- quotas ---------------------------------------------------------------------------------------


def test_the_quotas_are_those_of_the_protocols() -> None:
    # As `max_operation_list_length` of a block's metadata says them.
    assert [(quota.bytes_max, quota.operations_max) for quota in QUOTAS] == [
        (4_194_304, 2048),
        (32_768, None),
        (135_168, 132),
        (524_288, None),
    ]


def test_a_block_may_be_exactly_full() -> None:
    full = [manager("a", size=100, gas=600), manager("b", size=100, gas=400)]
    assert names(take_managers(full, Quota(200, None), gas_per_block=1_000)) == "ab"
    assert names(take_managers(full, Quota(199, None), gas_per_block=1_000)) == "a"
    assert names(take_managers(full, Quota(200, None), gas_per_block=999)) == "a"


def test_what_does_not_fit_is_passed_over_not_the_end() -> None:
    candidates = [other(b"x" * 60), other(b"y" * 60), other(b"z" * 40)]
    assert take(candidates, Quota(100, None)) == [candidates[0], candidates[2]]


def test_the_last_place_of_a_pass_stays_empty() -> None:
    candidates = [other(bytes([number])) for number in range(10)]
    assert take(candidates, Quota(100, 4)) == candidates[:3]


def test_a_source_has_one_operation_in_a_block() -> None:
    candidates = [manager("a", source="s", counter=1), manager("b", source="s", counter=2)]
    taken = take_managers(candidates, QUOTAS[MANAGER_PASS], gas_per_block=GAS_PER_BLOCK)
    assert taken == candidates[:1]


def test_gas_runs_out_as_space_does() -> None:
    candidates = [manager("a", gas=600), manager("b", gas=600), manager("c", gas=400)]
    taken = take_managers(candidates, Quota(10_000, None), gas_per_block=1_000)
    assert names(taken) == "ac"
    taken = take_managers(candidates, Quota(450, None), gas_per_block=10_000)
    assert names(taken) == "ab"


def test_an_operation_that_comes_twice_is_taken_once_with_its_higher_priority() -> None:
    passes = select(
        [manager("a", priority=0), manager("a", priority=3), manager("b", fee=90_000)],
        gas_per_block=GAS_PER_BLOCK,
    )
    assert passes[MANAGER_PASS] == (manager("a").operation, manager("b").operation)


def test_each_operation_goes_into_its_pass() -> None:
    passes = select(
        [other(b"consensus", CONSENSUS_PASS), other(b"vote", VOTING_PASS), other(b"anon")],
        gas_per_block=GAS_PER_BLOCK,
    )
    assert passes == ((b"consensus",), (b"vote",), (b"anon",), ())


managers = st.builds(
    manager,
    st.text("abcdefgh", min_size=1, max_size=3),
    fee=st.integers(0, 10**6),
    gas=st.integers(0, 10**6),
    size=st.integers(100, 64 * 1024),
    source=st.sampled_from(["s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10"]),
    counter=st.integers(1, 20),
    priority=st.integers(0, 2),
)
others = st.builds(
    other,
    st.binary(min_size=1, max_size=20).map(lambda name: name * 2_000),
    st.sampled_from([CONSENSUS_PASS, VOTING_PASS, ANONYMOUS_PASS]),
    priority=st.integers(0, 1),
)


@given(st.lists(managers | others, max_size=60))
def test_no_selection_exceeds_a_quota_or_repeats_itself(candidates: list[Candidate]) -> None:
    by_bytes = {candidate.operation: candidate for candidate in candidates}
    passes = select(candidates, gas_per_block=GAS_PER_BLOCK)
    assert len(passes) == len(QUOTAS)
    for taken, quota in zip(passes, QUOTAS, strict=True):
        assert sum(map(len, taken)) <= quota.bytes_max
        assert quota.operations_max is None or len(taken) < quota.operations_max
    chosen = [by_bytes[operation] for operation in passes[MANAGER_PASS]]
    assert len({candidate.source for candidate in chosen}) == len(chosen)
    assert all(candidate.validation_pass == MANAGER_PASS for candidate in chosen)
    for number in (CONSENSUS_PASS, VOTING_PASS, ANONYMOUS_PASS):
        assert len(set(passes[number])) == len(passes[number])


@given(st.lists(managers, max_size=40), st.randoms())
def test_the_selection_does_not_depend_on_the_order_of_arrival(
    candidates: list[Candidate], shuffler
) -> None:
    once = list({candidate.hash: candidate for candidate in candidates}.values())
    expected = select(once, gas_per_block=GAS_PER_BLOCK)
    shuffler.shuffle(once)
    assert select(once, gas_per_block=GAS_PER_BLOCK) == expected
