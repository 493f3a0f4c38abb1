"""The policy file while a process runs: a change is taken whole, or nothing changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from signers.policy.policy_file import NO_FILE, PolicyFile
from signers.policy.policy_toml import UnreadablePolicy

NOTHING = "[default]\nkinds = []\n"
BLOCKS = '[default]\nkinds = ["block"]\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.toml"


def put(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def kinds(file: PolicyFile) -> int:
    """How many kinds the default rule allows: 4 without a file."""
    return len(file.policy.default.kinds)


def test_no_file_is_the_default_policy_unless_it_was_named(path: Path) -> None:
    assert kinds(PolicyFile(path, must_exist=False)) == 4
    with pytest.raises(UnreadablePolicy, match=r"policy\.toml: No such file"):
        PolicyFile(path, must_exist=True)


@pytest.mark.parametrize("content", [b"[default", b"\xff\xfe", b"kinds = []"])
def test_an_unreadable_file_is_an_error_at_the_start(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(UnreadablePolicy, match=r"policy\.toml: "):
        PolicyFile(path, must_exist=False)


def test_a_directory_is_no_policy(path: Path) -> None:
    path.mkdir()
    with pytest.raises(UnreadablePolicy, match="Is a directory"):
        PolicyFile(path, must_exist=False)


def test_a_change_is_taken_when_it_was_seen_twice(path: Path) -> None:
    put(path, NOTHING)
    file = PolicyFile(path, must_exist=True)
    assert not file.look()
    put(path, BLOCKS)
    assert not file.look(), "it may still be in the making"
    assert file.look()
    assert kinds(file) == 1
    assert not file.look()


def test_a_file_that_appears_is_taken(path: Path) -> None:
    file = PolicyFile(path, must_exist=False)
    assert not file.look()
    put(path, NOTHING)
    assert [file.look(), file.look()] == [False, True]
    assert kinds(file) == 0


def test_an_unreadable_change_is_told_once_and_changes_nothing(path: Path) -> None:
    put(path, BLOCKS)
    file = PolicyFile(path, must_exist=True)
    put(path, BLOCKS + "\n[[rule]]\nname = 'x'\nkinds = ['blok']\n")
    assert [file.look(), file.look(), file.look()] == [False, False, False]
    assert "line 4, [[rule]] 'x'" in file.problem
    assert kinds(file) == 1
    put(path, NOTHING)
    assert [file.look(), file.look()] == [False, True]
    assert (kinds(file), file.problem) == (0, "")


def test_a_file_that_is_gone_is_told_and_changes_nothing(path: Path) -> None:
    put(path, NOTHING)
    file = PolicyFile(path, must_exist=False)
    path.rename(path.with_suffix(".away"))
    assert not file.look()
    assert "gone" in file.problem
    assert kinds(file) == 0, "less would be allowed with the file than without"
    path.with_suffix(".away").rename(path)
    assert not file.look()
    assert file.problem == ""


def test_half_a_file_is_not_taken_while_it_grows(path: Path) -> None:
    """Half a policy can be one; a writer that takes his time touches the file again and again."""
    put(path, NOTHING)
    file = PolicyFile(path, must_exist=True)
    with path.open("w") as writer:
        for line in BLOCKS.splitlines(keepends=True):
            writer.write(line)
            writer.flush()
            assert not file.look()
    assert file.look()
    assert kinds(file) == 1


def test_what_is_read_is_not_in_force_before_it_is_taken(path: Path) -> None:
    put(path, NOTHING)
    file = PolicyFile(path, must_exist=False)
    path.unlink()
    reading = file.read()
    assert (reading.version, kinds(file)) == (NO_FILE, 0)
    file.take(reading)
    assert (kinds(file), file.problem) == (4, "")
    assert not file.look()
    assert file.problem == "", "a reload has said that no file is meant"


def test_the_same_bytes_have_the_same_version(path: Path) -> None:
    put(path, NOTHING)
    file = PolicyFile(path, must_exist=True)
    first = file.read()
    put(path, BLOCKS)
    assert file.read().version != first.version
    put(path, NOTHING)
    again = file.read()
    assert again.version == first.version
    assert again.stamp != first.stamp


def test_reading_leaves_no_descriptor_open(path: Path) -> None:
    put(path, NOTHING)
    file = PolicyFile(path, must_exist=True)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        file.take(file.read())
    assert len(os.listdir("/proc/self/fd")) == before
