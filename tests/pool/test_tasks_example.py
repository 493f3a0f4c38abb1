"""The example of off-chain tasks, as its README types it, with a worker that is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "scripts" / "tasks_example.py"
pytestmark = pytest.mark.process


def test_every_outcome_comes_once_and_in_order() -> None:
    command = [sys.executable, str(EXAMPLE), "--tasks", "3", "--workers", "1", "--kill-a-worker"]
    ran = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout.splitlines()[-1])
    assert said["in_order"] is True
    assert said["outcomes"] == said["tasks"] == 6
    assert said["lost"] == said["stored_twice"] == said["ordered_twice"] == said["dead"] == 0
    assert said["operators_started"] >= 6 + said["retries"]
    assert said["retries"] <= 2, "one thing is out of luck at first, for each application"
    assert "SIGKILL" in ran.stderr
