"""Directories for runs: each run has an empty one of its own, and nothing of it stays.

<parent>/<number>-<8 letters>/     of one processor, which holds a lock on it (flock(2))
<parent>/…/run-<number>/           current and home directory of a run

To remove a directory costs some file systems as much as two runs, and most runs leave theirs as
they found it. Such a directory serves again; any other is removed, in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

PRIVATE = 0o700


class RunDirectory(Struct, frozen=True):
    """An empty directory, and how it is known to be the same afterwards."""

    path: str
    inode: int
    mode: int


class Scratch:
    """Where the runs of one processor have their directories."""

    def __init__(self, parent: Path) -> None:
        """Make ours, and remove those whose processors are no more."""
        parent.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        with _locked(parent):  # or another one might remove ours before we have locked it
            _remove_abandoned(parent)
            self.path = tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent)
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._empty: list[RunDirectory] = []
        self._made = 0

    def take(self) -> RunDirectory:
        """An empty directory for a run. Raises OSError."""
        if self._empty:
            return self._empty.pop()
        self._made += 1
        path = f"{self.path}/run-{self._made}"
        os.mkdir(path, PRIVATE)
        made = os.lstat(path)
        return RunDirectory(path, made.st_ino, made.st_mode)

    def take_back(self, directory: RunDirectory) -> bool:
        """Keep a directory for another run, if it is as it was."""
        if _is_untouched(directory):
            self._empty.append(directory)
            return True
        return False

    async def give_back(self, directory: RunDirectory) -> None:
        """The run is over: what it has left there goes."""
        if not self.take_back(directory):
            await asyncio.to_thread(_remove, directory.path)

    def close(self) -> None:
        """Remove everything of ours."""
        _remove(self.path)
        os.close(self._lock)


def _is_untouched(directory: RunDirectory) -> bool:
    try:
        found = os.lstat(directory.path)
        if (found.st_ino, found.st_mode) != (directory.inode, directory.mode):
            return False
        with os.scandir(directory.path) as entries:
            return next(entries, None) is None
    except OSError:
        return False


def _remove(path: str) -> None:
    """Remove a directory with all that can be removed of it; links are not followed."""
    if os.path.islink(path):
        os.unlink(path)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for path in parent.iterdir():
        with contextlib.suppress(BlockingIOError), _locked(path, fcntl.LOCK_NB):
            _remove(str(path))


@contextlib.contextmanager
def _locked(directory: Path, flags: int = 0) -> Iterator[None]:
    """Hold the lock of a directory. Raises BlockingIOError, with LOCK_NB, if another one does."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(opened)
