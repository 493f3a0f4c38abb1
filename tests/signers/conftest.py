import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Modules that several test files share; pytest imports these files without a package.
sys.path.insert(0, str(Path(__file__).parent))

from watermark_cases import ALICE, BOB, make_store

from signers.marks.watermark_store import WatermarkStore


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """A store with the fresh keys of Alice and Bob."""
    path = tmp_path / "watermarks.db"
    make_store(path, ALICE, BOB)
    return path


@pytest.fixture
def store(store_path: Path) -> Iterator[WatermarkStore]:
    with WatermarkStore.open(store_path, wal_bytes=0) as store:
        yield store
