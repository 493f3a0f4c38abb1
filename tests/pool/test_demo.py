"""The demo, as its README types it: a chain baked by a pool, one of whose workers is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "scripts" / "demo.py"
pytestmark = pytest.mark.process


def test_the_chain_goes_on_when_a_worker_is_killed() -> None:
    options = ["--blocks", "6", "--delegates", "4", "--kill-a-worker", "--json"]
    command = [sys.executable, str(DEMO), *options]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout.splitlines()[-1])
    assert said["blocks"] >= 6
    assert said["conflicting_signatures"] == said["refused"] == 0
    assert said["attestations"] >= 4 * 5
    assert said["operations_included"] > 0
    for key in ("rounds_over_zero", "preattestations", "failed", "vote_p50_ms", "vote_p99_ms",
                "block_p50_ms"):  # fmt: skip
        assert key in said
