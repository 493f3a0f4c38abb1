"""Ten thousand seeded items of a hostile network; scripts/quarantine_fuzz has the million."""

from __future__ import annotations

import pytest
from storm import storm


@pytest.mark.parametrize("seed", range(4))
def test_a_storm_leaves_nothing_behind_and_the_honest_one_unharmed(seed: int) -> None:
    run = storm(seed, 2_500)
    reached = run.script.core.accounting.by_reason
    assert run.script.slashable
    for reason in ("shed third_conflict", "rejected bad_signature", "expired target"):
        assert reached.of(reason), f"the storm no longer reaches: {reason}"
