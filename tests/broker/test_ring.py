"""The ring spreads keys evenly and moves no more than it must."""

from collections import Counter

import pytest

from broker.ring import Ring

KEYS = [f"mv1key{i}" for i in range(20_000)]


@pytest.mark.parametrize("workers", range(2, 17))
def test_every_worker_owns_its_share_within_ten_percent(workers: int) -> None:
    ring = Ring(f"w{i}" for i in range(workers))
    owned = Counter(ring.owner(k) for k in KEYS)
    share = len(KEYS) / workers
    assert len(owned) == workers
    assert min(owned.values()) >= 0.9 * share
    assert max(owned.values()) <= 1.1 * share


@pytest.mark.parametrize("workers", [1, 2, 5, 15])
def test_a_new_worker_takes_keys_and_no_other_key_moves(workers: int) -> None:
    before = Ring(f"w{i}" for i in range(workers))
    after = Ring(f"w{i}" for i in range(workers + 1))
    moved = [k for k in KEYS if before.owner(k) != after.owner(k)]
    assert {after.owner(k) for k in moved} == {f"w{workers}"}
    assert len(moved) <= 1.15 * len(KEYS) / (workers + 1)


def test_the_order_of_workers_does_not_matter() -> None:
    one, other = Ring(["a", "b", "c"]), Ring(["c", "a", "b"])
    assert [one.owner(k) for k in KEYS[:1000]] == [other.owner(k) for k in KEYS[:1000]]


def test_an_empty_ring_owns_nothing() -> None:
    assert Ring(()).owner("a") is None
