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
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

PRIVATE = 0o700
# Times of files advance with the system's ticks, which are 10 ms at most: a directory that was last
# changed longer ago than that cannot be changed without showing another time.
SETTLED_NS = 20_000_000


class DirectoryMark(Struct, frozen=True):
    """What tells a directory from one that was changed, or put in its place."""

    inode: int
    mode: int
    changed_ns: int  # Unix time, set by the system alone


class RunDirectory(Struct, frozen=True):
    """An empty directory, and how it is known to be empty still."""

    path: str
    mark: DirectoryMark
    is_settled: bool  # no change can hide in the time of the mark


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
        self._empty: list[tuple[str, DirectoryMark]] = []
        self._made = 0

    def take(self) -> RunDirectory:
        """An empty directory for a run. Raises OSError."""
        if not self._empty:
            self._made += 1
            path = f"{self.path}/run-{self._made}"
            os.mkdir(path, PRIVATE)
            self._empty.append((path, _mark(path)))
        path, mark = self._empty.pop()
        return RunDirectory(path, mark, time.time_ns() - mark.changed_ns > SETTLED_NS)

    def take_back(self, directory: RunDirectory) -> bool:
        """Keep a directory for another run, if it is empty and as it was."""
        try:
            mark = _mark(directory.path)
            if not (directory.is_settled and mark == directory.mark):
                known = directory.mark
                if (mark.inode, mark.mode) != (known.inode, known.mode):
                    return False
                with os.scandir(directory.path) as entries:
                    if next(entries, None) is not None:
                        return False
        except OSError:
            return False
        self._empty.append((directory.path, mark))
        return True

    async def give_back(self, directory: RunDirectory) -> None:
        """The run is over: what it has left there goes."""
        if not self.take_back(directory):
            await asyncio.to_thread(_remove, directory.path)

    def close(self) -> None:
        """Remove everything of ours."""
        _remove(self.path)
        os.close(self._lock)


def _mark(path: str) -> DirectoryMark:
    found = os.lstat(path)
    return DirectoryMark(found.st_ino, found.st_mode, found.st_ctime_ns)


def _remove(path: str) -> None:
    """Remove a directory with all that can be removed of it; links are not followed."""
    if os.path.islink(path):
        os.unlink(path)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for path in parent.iterdir():
        # It is in use; or it is none of these; or it has just been removed.
        with contextlib.suppress(OSError), _locked(path, fcntl.LOCK_NB):
            _remove(str(path))


@contextlib.contextmanager
def _locked(directory: Path, flags: int = 0) -> Iterator[None]:
    """Hold the lock of a directory. Raises OSError if it cannot be had."""
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(opened)
