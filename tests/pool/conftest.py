import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# `simulation` and `pool_process` are shared by this folder's tests, which pytest imports
# without a package.
sys.path.insert(0, str(Path(__file__).parent))

from pool_process import PoolProcess, a_pool, an_empty_pool


@pytest.fixture(scope="session")
def template() -> Iterator[PoolProcess]:
    """A pool with six delegates that is never started; others are copies of it."""
    with an_empty_pool() as pool:
        pool.make(6)
        yield pool


@pytest.fixture
def pool(template: PoolProcess) -> Iterator[PoolProcess]:
    """A pool with six delegates, not started yet."""
    with a_pool(template) as pool:
        yield pool


@pytest.fixture(scope="module")
def running(template: PoolProcess) -> Iterator[PoolProcess]:
    """A running pool for tests that leave it as it was; levels come from `next_level`."""
    with a_pool(template) as pool:
        pool.serve()
        yield pool
