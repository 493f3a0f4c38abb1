"""The demo, as its README types it: a chain baked by a pool, one of whose workers is killed.

And the same among outsiders, with a network between the nodes that does whatever may harm.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

DEMO = Path(__file__).parents[2] / "scripts" / "demo.py"
pytestmark = pytest.mark.process


def demo(*options: str) -> dict[str, Any]:
    """Run it; its summary."""
    command = [sys.executable, str(DEMO), *options, "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    return said


def test_the_chain_goes_on_when_a_worker_is_killed() -> None:
    said = demo("--blocks", "6", "--delegates", "4", "--kill-a-worker")
    assert said["blocks"] >= 6
    assert said["conflicting_signatures"] == said["refused"] == 0
    assert said["attestations"] >= 4 * 5
    assert said["operations_included"] > 0
    for key in ("rounds_over_zero", "preattestations", "failed", "vote_p50_ms", "vote_p99_ms",
                "block_p50_ms"):  # fmt: skip
        assert key in said


def test_a_hostile_network_stops_no_chain_and_is_found_out() -> None:
    said = demo("--hostile", "--blocks", "3", "--delegates", "3", "--workers", "1")
    assert said["blocks"] >= 3
    assert said["blocks_by_outsiders"] >= 1, "the quarantine let their blocks through"
    assert said["conflicting_signatures"] == said["refused"] == said["lost"] == 0
    assert said["cleared"] > 0
    assert said["duplicate"] > 0
    assert said["held_for_a_while"]["target"] > 0, "votes came before their block"
    assert said["rejected"] > 0, "each block is followed by two lies about it"
    assert said["rejected"] == sum(
        count for reason, count in said["reasons"].items() if reason.startswith("rejected ")
    )
    assert set(said["slashable"]) >= {"preattestation", "attestation"}
    assert said["evidence_accepted"] > 0
    assert said["evidence_refused"] == 0
    assert said["peers_banned"]
    assert all(name.startswith("liar") for name in said["peers_banned"])
