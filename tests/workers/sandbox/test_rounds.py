"""The clock of rounds, against the arithmetic of the protocol's documentation."""

import pytest

from workers.sandbox.rounds import RoundDurations

ATLAS = RoundDurations(minimal_block_delay_s=15, delay_increment_per_round_s=8)


def test_timestamp_of_the_documented_example() -> None:
    # Predecessor at round 1 lasts 15 + 8; rounds 0 and 1 of the next level last 15 + 23.
    assert ATLAS.timestamp(1000, predecessor_round=1, round=2) == 1000 + 23 + 38


@pytest.mark.parametrize("durations", [ATLAS, RoundDurations(1, 1), RoundDurations(1, 0)])
def test_the_running_round_is_the_one_that_has_begun_last(durations: RoundDurations) -> None:
    for round_ in (0, 1, 2, 17, 400):
        begins = durations.timestamp(1000, 3, round_)
        ends = begins + durations.duration_s(round_)
        assert durations.round_at(1000, 3, begins) == round_
        assert durations.round_at(1000, 3, ends - 0.001) == round_
        assert durations.round_at(1000, 3, ends) == round_ + 1


def test_no_round_runs_before_the_first() -> None:
    assert ATLAS.round_at(1000, 0, 1014.9) is None
