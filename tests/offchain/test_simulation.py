"""Whatever happens, every task is done once and in its order; each seed is another day."""

from __future__ import annotations

import pytest

from tests.offchain.simulation import Simulation


@pytest.mark.parametrize("seed", range(12))
def test_every_task_is_done_once_and_in_order(seed: int) -> None:
    simulation = Simulation(seed)
    simulation.run(troubles=80)
    assert simulation.commits > 20, "a day without work shows nothing"
