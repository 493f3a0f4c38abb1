"""The directories of runs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workers.offchain.operators.scratch import RunDirectory, Scratch


def give_back(scratch: Scratch, directory: RunDirectory) -> None:
    asyncio.run(scratch.give_back(directory))


def settle(scratch: Scratch) -> RunDirectory:
    """A directory that was changed long ago, by the clock of its file system."""
    while not (directory := scratch.take()).is_settled:
        give_back(scratch, directory)
    return directory


def test_a_change_in_the_tick_of_its_making_is_seen(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    for _ in range(20):
        directory = scratch.take()
        Path(directory.path, "left").touch()
        assert not scratch.take_back(directory)
    scratch.close()


def test_a_file_that_was_removed_again_does_no_harm(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    directory = settle(scratch)
    Path(directory.path, "left").touch()
    Path(directory.path, "left").unlink()
    assert scratch.take_back(directory)
    again = scratch.take()
    assert (again.path, again.is_settled) == (directory.path, False)
    scratch.close()


def test_an_untouched_directory_serves_again(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    first, second = scratch.take(), scratch.take()
    assert first != second
    assert os.listdir(first.path) == []
    assert os.stat(first.path).st_mode & 0o777 == 0o700
    give_back(scratch, first)
    assert scratch.take().path == first.path
    scratch.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "touch",
    [
        lambda path: (path / ".left").touch(),
        lambda path: (path / "deep" / "er").mkdir(parents=True),
        lambda path: path.chmod(0o755),
        lambda path: path.rmdir(),
        lambda path: (path.rename(path.with_name("moved")), path.mkdir(0o700)),
        lambda path: (path.rmdir(), path.symlink_to("/")),
    ],
)
def test_a_touched_directory_is_removed(tmp_path: Path, touch: Callable[[Path], object]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    scratch = Scratch(tmp_path / "scratch")
    directory = settle(scratch)
    touch(Path(directory.path))
    give_back(scratch, directory)
    assert not os.path.lexists(directory.path)
    assert scratch.take().path != directory.path
    scratch.close()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    scratch = Scratch(tmp_path / "scratch")
    directory = scratch.take()
    os.symlink(kept, f"{directory.path}/link")
    give_back(scratch, directory)
    assert (kept / "file").exists()
    scratch.close()


def test_directories_of_dead_processors_are_removed_and_of_living_ones_kept(tmp_path: Path) -> None:
    living, dead = Scratch(tmp_path), Scratch(tmp_path)
    taken = living.take()
    left = Path(dead.take().path)
    (left / "file").touch()
    os.close(dead._lock)  # the system does it when a processor ends
    third = Scratch(tmp_path)
    assert not left.exists()
    assert os.path.exists(taken.path)
    third.close()
    living.close()
    assert list(tmp_path.iterdir()) == []
