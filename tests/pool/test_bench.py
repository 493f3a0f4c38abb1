"""The benchmarks are not run here, but one that plays the parts of a pool must fit these parts."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_steps.py"


def test_the_steps_of_a_vote_are_those_of_the_pool() -> None:
    spec = importlib.util.spec_from_file_location("bench_steps", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    bench_steps = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench_steps)
    measured = bench_steps.measure_steps(rounds=2)
    assert {"broker", "worker", "store", "client", "signature"} <= measured["us_per_vote"].keys()
