"""What holds for every test of off-chain tasks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.offchain.processor_script import Script


@pytest.fixture(autouse=True)
def nothing_more_is_wanted() -> Iterator[None]:
    """The last line of a transcript is checked too, though nothing comes after it."""
    Script.played.clear()
    yield
    for played in Script.played:
        played.nothing_more()
