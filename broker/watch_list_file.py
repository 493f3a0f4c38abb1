"""The watch list on the disk: `<state-dir>/applications.json`, replaced as a whole.

It is written in a thread: a slow disk must keep no duty waiting. A file that cannot be read is
never taken for an empty one, since the epochs that workers' journals know would begin again.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from broker.errors import UnreadableWatchList
from broker.watch_list import KeptList

FILE_NAME = "applications.json"


def read_watch_list(state_dir: Path) -> KeptList:
    """What was kept last; an empty list when nothing ever was.

    Raises:
        UnreadableWatchList: the file is there and is not what we have written.
    """
    path = state_dir / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=KeptList)
    except FileNotFoundError:
        return KeptList()
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as e:
        raise UnreadableWatchList(f"{path}: {e}. {UnreadableWatchList.advice}") from None


def write_watch_list(state_dir: Path, kept: KeptList) -> None:
    """Replace the file; when this returns, it survives a power cut. Raises OSError."""
    path = state_dir / FILE_NAME
    text = msgspec.json.format(msgspec.json.encode(kept), indent=1)
    new = path.with_suffix(".json.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(text + b"\n")
        file.flush()
        os.fsync(fd)
    os.rename(new, path)
    directory = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class WatchListWriter:
    """Writes one list at a time, beside the loop."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._thread = ThreadPoolExecutor(1, "watch-list")  # starts with the first list
        self._written: Future[None] | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Readable when a list is written, or could not be."""
        return self._wake

    def write(self, kept: KeptList) -> None:
        assert self._written is None, "one at a time"
        self._written = self._thread.submit(write_watch_list, self._state_dir, kept)
        self._written.add_done_callback(lambda _: os.eventfd_write(self._wake, 1))

    def result(self) -> str:
        """How the write has ended that made us readable: why not, or empty."""
        os.eventfd_read(self._wake)
        assert self._written is not None
        failure, self._written = self._written.exception(), None
        if failure is not None and not isinstance(failure, OSError):
            raise failure
        return f"cannot write {FILE_NAME}: {failure.strerror}" if failure is not None else ""

    def close(self) -> None:
        """Wait for a write that is under way."""
        self._thread.shutdown()
        os.close(self._wake)
