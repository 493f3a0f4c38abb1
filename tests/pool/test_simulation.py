"""The seeded simulation, short; scripts/soak runs it for as many seeds as one likes."""

import pytest
from simulation import simulate

SEEDS = 50


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_conflict_is_signed_and_every_request_has_one_end(seed: int) -> None:
    world = simulate(seed)
    assert world.releases > 0
