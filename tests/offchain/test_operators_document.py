"""docs/operators.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config import OperatorSettings
from workers.offchain.ends import RunEnd

TEXT = (Path(__file__).parents[2] / "docs" / "operators.md").read_text()
NOT_OF_A_RUN = {RunEnd.UNKNOWN_OPERATOR, RunEnd.NOT_ALLOWED}  # those never begin


@pytest.mark.parametrize("name", OperatorSettings.__struct_fields__)
def test_every_setting_is_described(name: str) -> None:
    settings = TEXT.partition("## Settings")[2].partition("## ")[0]
    assert f"`{name}`" in settings


@pytest.mark.parametrize("end", sorted(set(RunEnd) - NOT_OF_A_RUN))
def test_every_end_of_a_run_is_described(end: RunEnd) -> None:
    assert f"| `{end}` |" in TEXT
