"""The benchmarks are not run here, but what plays a part of a pool or of a chain must fit it."""

from __future__ import annotations

import asyncio
import importlib
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def script(name: str) -> Any:
    return importlib.import_module(name)


def test_the_steps_of_a_vote_are_those_of_the_pool() -> None:
    measured = script("bench_steps").measure_steps(rounds=2)
    assert {"broker", "worker", "store", "client", "signature"} <= measured["us_per_vote"].keys()


def test_the_steps_of_a_check_are_those_of_quarantine_and_lane() -> None:
    steps = script("bench_quarantine_steps")
    measured = steps.measure_quarantine_steps(rounds=2, delegates=8, slots=32)
    assert {"service: take", "service: judge", "store: commit"} <= measured["steps"].keys()
    assert measured["service_us_per_vote"] > 0


def test_a_hostile_supply_has_votes_of_delegates_forged_ones_and_junk() -> None:
    chain = script("bench_chain").BenchChain("test", 4, 16, age_s=60)
    kinds = script("bench_chain").VOTE_KINDS
    good = [vote for kind in kinds for vote in chain.votes_for(kind, bytes(32), 2, 0, bytes(32))]
    assert all(is_signed(chain, vote) for vote in good)
    items = [
        item for item, _ in islice(script("bench_hostile").Hostile(chain, good, 1).items(), 300)
    ]
    votes = [item for item in items if isinstance(item, bytes) and len(item) == len(good[0])]
    signed = [vote for vote in votes if is_signed(chain, vote)]
    assert len(items) - len(votes) > 30, "junk and blocks"
    assert len(votes) - len(signed) > 50, "forged"
    assert len(signed) > 50, "orphaned, copied and equivocating"


@pytest.mark.process
def test_the_processor_that_is_measured_runs_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = script("bench_tasks")
    monkeypatch.setattr(tasks, "BLOCK", 2)
    measured = asyncio.run(tasks.measure_overhead("/bin/cat", 1, rounds=1))
    assert measured["dispatch_ms"] > 0
    assert measured["ratio_to_subprocess"] == measured["dispatch_ms"] / measured["plain_ms"]


@pytest.mark.process
def test_each_step_of_a_run_is_measured() -> None:
    steps = script("task_steps")
    found = steps.task_steps("/bin/cat", "x", steps.RUNS_A_PLAY + 1)
    assert found.keys() == {"core", "journal", "start", "operator", "reap", "run"}
    assert all(0 < each["cpu_us"] < each["wall_us"] * 2 for each in found.values())


def is_signed(chain: Any, vote: bytes) -> bool:
    key, digest, signature = chain.signed_message(vote)
    try:
        VerifyKey(key).verify(digest, signature)
    except BadSignatureError:
        return False
    return True


def test_a_plateau_is_what_grows_no_more() -> None:
    grown = script("bench_quarantine").grown
    flat = [{"rss.broker": 30_000_000, "seen": 60_000 + n % 3} for n in range(40)]
    assert grown(flat) == {}
    leaking = [look | {"rss.broker": 30_000_000 + 1_000_000 * n} for n, look in enumerate(flat)]
    assert grown(leaking) == {"rss.broker": [49_000_000, 69_000_000]}
    filling = [look | {"seen": 100 * n} for n, look in enumerate(flat)]
    assert grown(filling) == {"seen": [1900, 3900]}
