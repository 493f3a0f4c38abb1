"""When blocks are due. The last rows are dates of real blocks and of the documented example."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.preparation.chain_view import ForgingConstants
from workers.preparation.rounds import block_timestamp, round_duration_s, round_offset_s


def constants(delay: int, increment: int) -> ForgingConstants:
    return ForgingConstants(
        minimal_block_delay_s=delay,
        delay_increment_per_round_s=increment,
        proof_of_work_threshold=2**62 - 1,
        gas_per_block=1_733_333,
        gas_per_operation=1_040_000,
        storage_per_operation=60_000,
    )


@pytest.mark.parametrize(
    ("delay", "increment", "predecessor_round", "round_", "seconds"),
    [
        (15, 8, 0, 0, 15),
        (15, 8, 1, 0, 23),
        (15, 8, 0, 1, 15 + 15),
        (15, 8, 1, 2, 61),  # 23 + (2 × 15 + 8)
        (10, 5, 0, 3, 10 + 10 + 15 + 20),
        (1, 0, 7, 7, 8),
    ],
)
def test_a_block_is_due_after_the_rounds_before_it(
    delay: int, increment: int, predecessor_round: int, round_: int, seconds: int
) -> None:
    due = block_timestamp(
        constants(delay, increment),
        predecessor_timestamp=1_000_000,
        predecessor_round=predecessor_round,
        round_=round_,
    )
    assert due == 1_000_000 + seconds


@given(st.integers(1, 60), st.integers(0, 30), st.integers(0, 200))
def test_rounds_follow_each_other_without_gap(delay: int, increment: int, round_: int) -> None:
    rules = constants(delay, increment)
    end = round_offset_s(rules, round_) + round_duration_s(rules, round_)
    assert round_offset_s(rules, round_ + 1) == end
