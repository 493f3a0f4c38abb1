"""Who is a member, who of them signs, who owns a key, and who has been silent for too long."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from broker.delegate_queue import DelegateQueue
from broker.membership import FORGET_LOST_S, LEASE_S, Membership, Worker, WorkerState
from broker.messages import PROTOCOL_VERSION, WorkerHello
from broker.ring import Ring

KEYS = [f"mv1key{i}" for i in range(200)]


class PoolMembers:
    """A membership whose workers say hello by name; a worker's pid is its number."""

    def __init__(self, *names: str) -> None:
        self.now = 100.0
        self.members = Membership()
        for name in names:
            self.joins(name)

    def joins(self, name: str, *, peer: str = "", incarnation: int = 1, **other: Any) -> Worker:
        fields: dict[str, Any] = {
            "version": PROTOCOL_VERSION, "pid": int(name[1:] or 0), "store": "ours", "host": "h",
            "credit_us": 1000, "epoch": "", "held": [],
        }  # fmt: skip
        hello = WorkerHello(name=name, incarnation=incarnation, **{**fields, **other})
        return self.members.admit(peer or name, hello, self.now)

    def owners(self) -> dict[str, str | None]:
        """The owner's name of each key."""
        found = {key: self.members.owner(DelegateQueue(key)) for key in KEYS}
        return {key: worker.name if worker else None for key, worker in found.items()}

    def signing(self) -> list[str]:
        return [w.name for w in self.members if w.signs]


# -- joining and leaving --------------------------------------------------------------------------


def test_a_worker_is_found_by_its_connection_and_by_its_name() -> None:
    pool = PoolMembers()
    worker = pool.joins("w1", peer="connection")
    assert pool.members.by_peer["connection"] is worker
    assert pool.members.by_name["w1"] is worker
    assert list(pool.members) == [worker]
    assert repr(worker) == "Worker(w1#1, ready)"
    assert (worker.credit_us, worker.last_seen) == (1000, pool.now)
    assert (worker.store_wait_ms, worker.stalled_by, worker.note) == (0, 0, "")


def test_the_same_incarnation_on_a_new_connection_is_the_same_worker() -> None:
    pool = PoolMembers()
    worker = pool.joins("w1", peer="old")
    version = pool.members.ring_version
    pool.now += 1
    assert pool.joins("w1", peer="new", credit_us=7) is worker
    assert list(pool.members.by_peer) == ["new"]
    assert (worker.peer, worker.hello.credit_us, worker.last_seen) == ("new", 7, pool.now)
    assert pool.members.ring_version == version, "nobody's keys move"


def test_a_lost_worker_that_says_hello_again_signs_again() -> None:
    pool = PoolMembers("w1", "w2")
    worker = pool.members.by_name["w1"]
    pool.members.set_state(worker, WorkerState.LOST)
    assert set(pool.owners().values()) == {"w2"}
    pool.joins("w1")
    assert worker.state is WorkerState.READY
    assert set(pool.owners().values()) == {"w1", "w2"}


def test_a_leaving_worker_that_says_hello_again_is_still_leaving() -> None:
    pool = PoolMembers("w1")
    worker = pool.members.by_name["w1"]
    pool.members.set_state(worker, WorkerState.LEAVING)
    pool.joins("w1")
    assert worker.state is WorkerState.LEAVING
    assert set(pool.owners().values()) == {None}


def test_a_newer_incarnation_is_another_worker_of_that_name() -> None:
    pool = PoolMembers()
    old = pool.joins("w1", peer="old")
    new = pool.joins("w1", peer="new", incarnation=2)
    assert list(pool.members) == [old, new]
    assert pool.members.by_name["w1"] is new
    pool.members.remove(old)
    assert pool.members.by_name["w1"] is new, "the older one's end does not end the newer"
    pool.members.remove(new)
    assert list(pool.members) == []
    assert pool.members.by_name == {}
    assert pool.members.by_peer == {}
    assert set(pool.owners().values()) == {None}


# -- who signs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        ({"version": PROTOCOL_VERSION + 1}, f"speaks protocol {PROTOCOL_VERSION + 1}"),
        ({"store": ""}, "has no watermark store"),
        ({"can_sign": False}, "has no watermark store"),
        ({"store": "theirs"}, "its watermark store is theirs, the pool's is ours"),
    ],
)
def test_a_worker_that_may_not_sign_owns_nothing_and_says_why(
    hello: dict[str, object], why: str
) -> None:
    pool = PoolMembers("w1")
    worker = pool.joins("w2", **hello)
    assert not worker.signs
    assert why in worker.why_not
    assert set(pool.owners().values()) == {"w1"}
    assert pool.members.by_name["w1"].why_not == ""


def test_without_a_supervisor_the_store_of_the_first_is_the_pools() -> None:
    pool = PoolMembers()
    pool.joins("w1", store="")
    pool.joins("w2", store="first")
    pool.joins("w3", store="second")
    assert pool.members.store == "first"
    assert pool.signing() == ["w2"]


@pytest.mark.parametrize(
    "order", [["w9", "w1", "named"], ["w9", "named", "w1"], ["named", "w9", "w1"]]
)
def test_the_store_of_the_supervisors_workers_is_the_pools(order: list[str]) -> None:
    pool = PoolMembers()
    for what in order:
        if what == "named":
            pool.members.name_supervised(frozenset({1, 2}))
        else:
            pool.joins(what, store="theirs" if what == "w9" else "ours")
    assert pool.members.store == "ours"
    assert pool.signing() == ["w1"]
    assert set(pool.owners().values()) == {"w1"}


def test_while_all_of_the_supervisors_workers_are_gone_nobody_elses_store_is_the_pools() -> None:
    pool = PoolMembers()
    pool.members.name_supervised(frozenset({1}))
    ours = pool.joins("w1")
    pool.joins("w9", store="theirs")
    pool.members.remove(ours)
    pool.members.name_supervised(frozenset({2}))
    pool.joins("w8", store="theirs")
    assert pool.members.store == "ours"
    assert pool.signing() == []
    pool.joins("w2")
    assert pool.signing() == ["w2"]


def test_a_supervised_worker_without_a_store_settles_nothing() -> None:
    pool = PoolMembers()
    pool.members.name_supervised(frozenset({1, 2}))
    pool.joins("w2", store="")
    pool.joins("w1")
    assert pool.signing() == ["w1"]


def test_a_supervised_worker_with_another_store_does_not_change_the_pools() -> None:
    pool = PoolMembers()
    pool.members.name_supervised(frozenset({1, 2}))
    pool.joins("w1")
    pool.joins("w2", store="theirs")
    pool.members.remove(pool.joins("w3", store=""))
    assert pool.signing() == ["w1"]
    pool.members.remove(pool.members.by_name["w1"])
    pool.joins("w1", incarnation=2)
    assert pool.signing() == ["w1"]


# -- keys -----------------------------------------------------------------------------------------


def test_until_a_worker_has_told_its_keys_it_may_have_any() -> None:
    assert set(PoolMembers("w1", "w2").owners().values()) == {"w1", "w2"}


def test_a_key_is_owned_by_the_first_on_the_ring_that_has_it() -> None:
    pool = PoolMembers("w1", "w2", "w3")
    half, rest = frozenset(KEYS[:100]), frozenset(KEYS[100:])
    everybodys = pool.owners()
    pool.members.keys_known(pool.members.by_name["w1"], half)
    pool.members.keys_known(pool.members.by_name["w2"], rest)
    owners = pool.owners()
    ring = Ring(["w1", "w2", "w3"])
    for key in KEYS:
        has = {"w1": key in half, "w2": key in rest, "w3": True}
        assert owners[key] == next(name for name in ring.owners(key) if has[name])
    for key in half:
        if everybodys[key] != "w2":
            assert owners[key] == everybodys[key], "whoever has his keys keeps them"


def test_a_key_that_nobody_has_goes_to_its_place_on_the_ring_which_will_say_so() -> None:
    pool = PoolMembers("w1", "w2")
    before = pool.owners()
    for name in ("w1", "w2"):
        pool.members.keys_known(pool.members.by_name[name], frozenset({"another"}))
    assert pool.owners() == before


def test_a_queues_owner_is_looked_up_anew_when_keys_or_workers_change() -> None:
    pool = PoolMembers("w1")
    queue = DelegateQueue("a")
    w1 = pool.members.by_name["w1"]
    assert pool.members.owner(queue) is w1
    w2 = pool.joins("w2")
    pool.members.set_state(w1, WorkerState.LEAVING)
    assert pool.members.owner(queue) is w2
    pool.members.remove(w2)
    assert pool.members.owner(queue) is None
    pool.joins("w3")
    pool.joins("w4")
    first = pool.members.owner(queue)
    assert first is not None
    pool.members.keys_known(first, frozenset({"b"}))
    other = pool.members.owner(queue)
    assert {first.name, other.name if other else ""} == {"w3", "w4"}


def test_the_same_keys_again_move_nothing() -> None:
    pool = PoolMembers("w1")
    pool.members.keys_known(pool.members.by_name["w1"], frozenset(KEYS))
    version = pool.members.ring_version
    pool.members.keys_known(pool.members.by_name["w1"], frozenset(KEYS))
    assert pool.members.ring_version == version


def test_a_worker_without_keys_owns_nothing_and_says_why_until_it_has_some() -> None:
    pool = PoolMembers("w1", "w2")
    w1 = pool.members.by_name["w1"]
    pool.members.keys_known(w1, frozenset())
    assert set(pool.owners().values()) == {"w2"}
    assert not w1.signs
    assert "--base-dir" in w1.why_not
    pool.joins("w3")
    assert "--base-dir" in w1.why_not, "another's hello changes nothing"
    pool.members.keys_known(w1, frozenset(KEYS))
    assert (w1.signs, w1.why_not) == (True, "")
    assert set(pool.owners().values()) == {"w1", "w2", "w3"}


def test_who_has_not_told_its_keys_is_undecided() -> None:
    pool = PoolMembers("w1")
    assert pool.members.undecided() is None, "nobody has said who is to come"
    pool.members.name_supervised(frozenset({1, 2, 3}))
    pool.joins("w4")
    assert pool.members.undecided() == 3
    pool.members.keys_known(pool.members.by_name["w1"], frozenset(KEYS))
    pool.joins("w2", store="another")
    assert pool.members.undecided() == 1
    pool.joins("w3")
    pool.members.keys_known(pool.members.by_name["w3"], frozenset())
    assert pool.members.undecided() == 0


# -- who shares its keys with whom -----------------------------------------------------------------


def told(pool: PoolMembers) -> dict[str, list[str]]:
    """Who is told anew with whom it shares its keys."""
    return {worker.name: names for worker, names in pool.members.new_shares()}


def test_workers_with_the_same_keys_are_told_of_each_other_once() -> None:
    pool = PoolMembers("w1", "w2")
    w1, w2 = pool.members
    assert told(pool) == {}, "neither has said which keys it has"
    pool.members.keys_known(w1, frozenset(KEYS))
    assert told(pool) == {"w1": ["w1"]}
    pool.members.keys_known(w2, frozenset(KEYS))
    assert told(pool) == {"w1": ["w1", "w2"], "w2": ["w1", "w2"]}
    assert told(pool) == {}
    pool.members.set_state(w2, WorkerState.LOST)
    assert told(pool) == {"w1": ["w1"], "w2": []}


def test_a_worker_with_other_keys_or_another_store_shares_with_nobody() -> None:
    pool = PoolMembers("w1", "w2")
    pool.joins("w3", store="another")
    w1, w2, w3 = pool.members
    pool.members.keys_known(w1, frozenset(KEYS))
    pool.members.keys_known(w2, frozenset(KEYS[:-1]))
    pool.members.keys_known(w3, frozenset(KEYS))
    assert told(pool) == {"w1": ["w1"], "w2": ["w2"]}


def test_who_owns_a_key_is_who_opens_it() -> None:
    """The ring over those that were told gives a key to its owner, whatever keys others have."""
    pool = PoolMembers("w1", "w2", "w3")
    keys = dict(zip(pool.members, (KEYS, KEYS, KEYS[50:]), strict=True))
    for worker, its in keys.items():
        pool.members.keys_known(worker, frozenset(its))
    shares = told(pool)
    for key, owner in pool.owners().items():
        assert owner is not None
        assert Ring(shares[owner]).owner(key) == owner


def test_after_a_new_connection_a_worker_is_told_again() -> None:
    pool = PoolMembers("w1")
    [w1] = pool.members
    pool.members.keys_known(w1, frozenset(KEYS))
    assert told(pool) == {"w1": ["w1"]}
    pool.joins("w1", peer="again")
    assert told(pool) == {"w1": ["w1"]}


# -- leases ---------------------------------------------------------------------------------------


def test_who_is_silent_for_a_lease_is_found_once() -> None:
    pool = PoolMembers("w1", "w2")
    w1, w2 = pool.members
    w2.last_seen += 0.5
    assert pool.members.deadline() == pool.now + LEASE_S
    assert pool.members.lease_over(pool.now + LEASE_S - 0.01) == []
    assert pool.members.lease_over(pool.now + LEASE_S) == [w1]
    pool.members.set_state(w1, WorkerState.LOST)
    assert pool.members.lease_over(pool.now + LEASE_S) == []
    assert pool.members.lease_over(pool.now + LEASE_S + 0.5) == [w2]


def test_a_leaving_worker_has_a_lease_too() -> None:
    pool = PoolMembers("w1")
    [w1] = pool.members
    pool.members.set_state(w1, WorkerState.LEAVING)
    assert pool.members.lease_over(pool.now + LEASE_S) == [w1]


def test_who_is_lost_for_long_is_forgotten() -> None:
    pool = PoolMembers("w1")
    [w1] = pool.members
    assert pool.members.long_lost(pool.now + FORGET_LOST_S) == [], "it was not lost"
    pool.members.set_state(w1, WorkerState.LOST)
    assert pool.members.deadline() == pool.now + FORGET_LOST_S
    assert pool.members.long_lost(pool.now + FORGET_LOST_S - 1) == []
    assert pool.members.long_lost(pool.now + FORGET_LOST_S) == [w1]


def test_without_workers_nothing_is_waited_for() -> None:
    assert PoolMembers().members.deadline() == inf
    assert set(PoolMembers().owners().values()) == {None}
