"""Keys and policy while a worker runs: looked at each second, or read when asked."""

from __future__ import annotations

import gc
import json
import logging
import os
import tracemalloc
from pathlib import Path

import pytest

from broker.messages import ReloadAnswer, ReloadAsked, ReloadStep
from signers.formats.networks import MAVRYK
from signers.keyring.keys import SecretKey
from signers.keyring.keystore import Keystore, UnknownKey
from signers.keyring.passwords import Passwords
from signers.policy.policy_file import PolicyFile
from workers.key_ring import KeyRing
from workers.live_files import LOOK_S, LiveFiles

ALICE, BOB = (SecretKey(bytes([i]) * 32) for i in (1, 2))
A, B = (key.public_key.hash(MAVRYK) for key in (ALICE, BOB))
READ, TAKE, DROP = (int(step) for step in ReloadStep)
NOTHING = "[default]\nkinds = []\n"


class Place:
    """A key directory and a policy file, and a worker's view of both."""

    def __init__(
        self, directory: Path, *, watched: bool, passwords: Passwords | None = None
    ) -> None:
        self.base_dir, self.path = directory / "keys", directory / "policy.toml"
        Keystore(self.base_dir).add({"alice": ALICE}, MAVRYK)
        self.ring = KeyRing(self.base_dir, {}, passwords=passwords)
        self.files = LiveFiles(self.ring, PolicyFile(self.path, must_exist=False), watched=watched)
        self.now = 100.0

    def looks(self) -> bool:
        self.now += LOOK_S
        return self.files.look(self.now)

    def put(self, policy: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(policy)
        new.replace(self.path)

    @property
    def kinds(self) -> int:
        return len(self.files.policy.default.kinds)

    def step(self, step: int, number: int = 1) -> ReloadAnswer:
        answer, _ = self.files.reload(ReloadAsked(number, step))
        assert answer is not None
        assert (answer.number, answer.step) == (number, step)
        return answer


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Files that are watched."""
    return Place(tmp_path, watched=True)


@pytest.fixture
def asked(tmp_path: Path) -> Place:
    """Files whose changes wait to be asked for; looked at once."""
    place = Place(tmp_path, watched=False)
    assert place.looks(), "the keys at the start"
    return place


def test_the_files_are_looked_at_once_in_a_while(place: Place) -> None:
    assert place.looks()
    assert place.files.next_look == place.now + LOOK_S
    Keystore(place.base_dir).add({"bob": BOB}, MAVRYK)
    assert not place.files.look(place.now + LOOK_S / 2)
    assert place.looks()
    assert place.ring.hashes == sorted([A, B])


def test_a_changed_policy_comes_into_force(place: Place) -> None:
    place.put(NOTHING)
    place.looks()
    place.looks()
    assert place.kinds == 0


def test_a_broken_policy_is_told_once_and_changes_nothing(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.put("[default]\nkinds = ['blok']\n")
    with caplog.at_level(logging.ERROR, "forgepool.worker"):
        for _ in range(5):
            place.looks()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "policy_unreadable" in line
    assert "line 1, [default]: `kinds`: 'blok' is unknown" in line
    assert place.kinds == 4


def test_nothing_changes_unasked(asked: Place) -> None:
    asked.put(NOTHING)
    Keystore(asked.base_dir).add({"bob": BOB}, MAVRYK)
    assert [asked.looks() for _ in range(3)] == [False] * 3
    assert (asked.kinds, asked.ring.hashes) == (4, [A])


def test_what_is_read_tells_its_changes_and_waits(asked: Place) -> None:
    asked.put(NOTHING)
    Keystore(asked.base_dir).add({"bob": BOB}, MAVRYK)
    answer = asked.step(READ)
    assert answer.changes == [
        f"keys added: {B}", "rule 'default': kinds consensus -> none",
    ]  # fmt: skip
    assert (asked.kinds, asked.ring.holds(B)) == (4, False)
    assert asked.step(TAKE).problem == ""
    assert (asked.kinds, asked.ring.holds(B)) == (0, True)


def test_a_removed_key_signs_no_more_and_is_forgotten(asked: Place) -> None:
    asked.ring.signer(A)
    (asked.base_dir / "public_key_hashs").write_text("[]")
    (asked.base_dir / "secret_keys").write_text("[]")
    assert asked.step(READ).changes == [f"keys removed: {A}"]
    answer, keys_changed = asked.files.reload(ReloadAsked(1, TAKE))
    assert keys_changed
    assert answer is not None
    assert not asked.ring.holds(A)
    with pytest.raises(UnknownKey, match="no secret key"):
        asked.ring.signer(A)


def test_another_password_file_is_a_change(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    file.write_text("one\n")
    passwords = Passwords.from_surroundings(file)
    place = Place(tmp_path, watched=False, passwords=passwords)
    assert place.looks()
    assert place.step(READ).changes == []
    file.write_text("one\ntwo\n")
    assert place.step(READ).changes == ["passwords: read again from their file"]
    assert place.ring.passwords is passwords
    place.step(TAKE)
    assert place.ring.passwords is not passwords
    file.unlink()
    assert "passwords" in place.step(READ).problem


def test_what_is_dropped_is_not_taken_later(asked: Place) -> None:
    asked.put(NOTHING)
    asked.step(READ)
    assert asked.files.reload(ReloadAsked(1, DROP)) == (None, False)
    assert "not here any more" in asked.step(TAKE).problem
    assert asked.kinds == 4


def test_only_what_was_read_for_this_reload_is_taken(asked: Place) -> None:
    asked.put(NOTHING)
    asked.step(READ, number=1)
    assert "not here any more" in asked.step(TAKE, number=2).problem
    assert asked.kinds == 4


@pytest.mark.parametrize("what", ["policy", "keys"])
def test_what_cannot_be_read_is_told(asked: Place, what: str) -> None:
    if what == "policy":
        asked.put("[default")
    else:
        (asked.base_dir / "secret_keys").write_text("[")
    assert asked.step(READ).problem != ""
    assert "not here any more" in asked.step(TAKE).problem
    assert (asked.kinds, asked.ring.hashes) == (4, [A])


def test_a_reload_takes_a_file_that_is_gone_for_meant(tmp_path: Path) -> None:
    place = Place(tmp_path, watched=True)
    place.put(NOTHING)
    place.looks()
    place.looks()
    place.path.unlink()
    place.looks()
    assert place.kinds == 0
    assert place.step(READ).changes == ["rule 'default': kinds none -> consensus"]
    place.step(TAKE)
    assert place.kinds == 4


def test_a_thousand_reloads_leave_nothing_behind(
    asked: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys and rules come and go; memory and descriptors are as after the first hundred."""
    caplog.set_level(logging.CRITICAL, "forgepool")  # pytest would keep each line of the log
    whole = (asked.base_dir / "public_key_hashs").read_text()
    policies = [NOTHING, f'[[rule]]\nname = "x"\nkeys = ["{A}"]\nkinds = ["block"]\n']

    def reload(number: int) -> None:
        asked.put(policies[number % 2])
        hashes = json.loads(whole) if number % 2 else []
        (asked.base_dir / "public_key_hashs").write_text(json.dumps(hashes))
        assert asked.step(READ, number).changes
        asked.step(TAKE, number)
        if hashes:
            asked.ring.signer(A)

    def held() -> tuple[int, int]:
        gc.collect()
        return tracemalloc.get_traced_memory()[0], len(os.listdir("/proc/self/fd"))

    tracemalloc.start()
    try:
        for number in range(100):
            reload(number)
        memory, descriptors = held()
        for number in range(100, 1100):
            reload(number)
        memory_then, descriptors_then = held()
    finally:
        tracemalloc.stop()
    assert descriptors_then == descriptors
    assert memory_then - memory < 20_000, "less than 20 bytes a reload"
