"""Which encrypted keys a worker opens ahead, as the ring gives them, and what it tells of it."""

from __future__ import annotations

from broker.messages import EncryptedKeys
from broker.ring import Ring
from workers.warm_up import FAILED_LOGGED_MAX, FAILED_TOLD_MAX, NEWS_KEYS, NEWS_S, WarmUp

KEYS = frozenset(f"mv1key{number}" for number in range(40))
WORKERS = ["w0", "w1", "w2"]


class Opener:
    """A worker's warm-up whose keys the test opens."""

    def __init__(self, name: str = "w0", keys: frozenset[str] = KEYS) -> None:
        self.now = 100.0
        self.keys, self.locked = keys, set(keys)
        self.warm_up = WarmUp(name)
        self.warm_up.take_keys(keys, self.locked, self.now)

    def shares_with(self, *workers: str) -> None:
        self.warm_up.take_sharers(workers, self.locked, self.now)

    def opens(self, *keys: str) -> None:
        for key in keys:
            self.locked.discard(key)
            self.warm_up.opened(key, self.now)

    def fails(self, *keys: str) -> None:
        for key in keys:
            self.warm_up.failed(key, "wrong_password", f"{key} has another", self.now)

    @property
    def progress(self) -> tuple[int, int, int]:
        told = self.warm_up.progress
        assert told is not None
        return told.total, told.opened, told.failed


def test_nothing_is_opened_before_the_broker_has_said_whose_keys_they_are() -> None:
    opener = Opener()
    assert (opener.warm_up.waiting, opener.warm_up.progress) == ([], None)
    opener.shares_with("w0")
    assert opener.warm_up.waiting == sorted(KEYS)


def test_workers_divide_the_keys_as_the_ring_does() -> None:
    shares = {}
    for name in WORKERS:
        opener = Opener(name)
        opener.shares_with(*WORKERS)
        shares[name] = opener.warm_up.waiting
    assert sorted(key for share in shares.values() for key in share) == sorted(KEYS), "each once"
    assert all(Ring(WORKERS).owner(key) == name for name, its in shares.items() for key in its)


def test_a_worker_that_goes_leaves_its_keys_to_the_others_and_takes_them_back() -> None:
    opener = Opener()
    opener.shares_with(*WORKERS)
    own = opener.warm_up.waiting
    opener.opens(*own)
    opener.shares_with("w0")
    assert opener.warm_up.waiting == sorted(KEYS - set(own)), "what is open is not opened again"
    assert opener.progress == (len(KEYS), len(own), 0)
    opener.shares_with(*WORKERS)
    assert (opener.warm_up.waiting, opener.progress) == ([], (len(own), len(own), 0))


def test_a_worker_that_signs_nothing_opens_nothing() -> None:
    opener = Opener()
    opener.shares_with("w0")
    opener.shares_with()
    assert (opener.warm_up.waiting, opener.warm_up.progress) == ([], None)


def test_a_key_that_a_job_opened_counts_and_a_strangers_does_not() -> None:
    opener = Opener()
    opener.shares_with(*WORKERS)
    own, total = opener.warm_up.waiting, len(opener.warm_up.waiting)
    stranger = next(iter(KEYS - set(own)))
    opener.opens(own[3], stranger)
    opener.fails(stranger)
    assert opener.progress == (total, 1, 0)
    assert own[3] not in opener.warm_up.waiting
    assert opener.warm_up.alarms == []


def test_a_key_that_no_password_opens_is_named_at_once_and_tried_again_with_a_new_list() -> None:
    opener = Opener()
    opener.shares_with("w0")
    wrong, *others = opener.warm_up.waiting
    opener.fails(wrong, wrong)
    assert opener.warm_up.alarms == [
        f"key_not_opened key={wrong} code=wrong_password why='{wrong} has another'"
    ]
    opener.opens(*others)
    assert opener.warm_up.progress == EncryptedKeys(
        40, 39, 1, [f"wrong_password: {wrong} has another"]
    )
    assert opener.warm_up.notes[-1] == "keys_opened opened=39 total=40 failed=1 seconds=0.0"
    opener.shares_with("w0")
    assert opener.warm_up.waiting == [], "another ring brings no other password"
    opener.warm_up.take_keys(KEYS, opener.locked, opener.now)
    assert opener.warm_up.waiting == [wrong]
    opener.opens(wrong)
    assert opener.progress == (40, 40, 0)


def test_a_key_that_opens_after_all_is_no_trouble_any_more() -> None:
    opener = Opener(keys=frozenset({"a"}))
    opener.shares_with("w0")
    opener.fails("a")
    opener.opens("a")
    assert opener.warm_up.progress == EncryptedKeys(1, 1, 0)


def test_of_many_wrong_passwords_the_first_are_named_and_all_are_counted() -> None:
    keys = frozenset(f"mv1key{number}" for number in range(100))
    opener = Opener(keys=keys)
    opener.shares_with("w0")
    opener.fails(*opener.warm_up.waiting)
    assert len(opener.warm_up.alarms) == FAILED_LOGGED_MAX
    told = opener.warm_up.progress
    assert told is not None
    assert (told.failed, len(told.problems)) == (100, FAILED_TOLD_MAX)
    assert opener.warm_up.notes[-1].startswith("keys_opened opened=0 total=100 failed=100")


def test_progress_is_told_after_some_keys_or_some_time_and_at_the_end() -> None:
    keys = frozenset(f"mv1key{number}" for number in range(2 * NEWS_KEYS))
    opener = Opener(keys=keys)
    opener.shares_with("w0")
    first, *rest = opener.warm_up.waiting
    opener.now += NEWS_S
    opener.opens(first)
    opener.opens(*rest)
    total = 2 * NEWS_KEYS
    assert opener.warm_up.notes == [
        f"keys_opening opened=0 total={total} failed=0",
        f"keys_opening opened=1 total={total} failed=0",
        f"keys_opening opened={NEWS_KEYS + 2} total={total} failed=0",
        f"keys_opened opened={total} total={total} failed=0 seconds=5.0",
    ]


def test_keys_that_are_removed_are_not_waited_for() -> None:
    opener = Opener()
    opener.shares_with("w0")
    left = frozenset(sorted(KEYS)[:3])
    opener.warm_up.take_keys(left, set(left), opener.now)
    assert opener.warm_up.waiting == sorted(left)
    opener.warm_up.take_keys(frozenset(), set(), opener.now)
    assert opener.warm_up.progress is None
