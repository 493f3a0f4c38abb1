"""What the tests of the quarantine share."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# `scripted_chain` and `quarantine_script` are shared by this folder's tests, which pytest imports
# without a package.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full-numbers",
        action="store_true",
        help="floods of thousands in tests/quarantine, where a tenth shows as much",
    )


@pytest.fixture
def many(request: pytest.FixtureRequest) -> Callable[[int], int]:
    """How many make a flood: as many as the scenario says, or a tenth in a tenth of the time."""
    full = request.config.getoption("--full-numbers", default=False)
    return lambda count: count if full else count // 10
