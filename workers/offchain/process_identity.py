"""Which process one is, so that another can tell later whether it still runs.

A process id alone is given out again; with the time of its start and the boot it is one process.
Source: proc(5), `/proc/[pid]/stat` field 22 and `/proc/sys/kernel/random/boot_id`.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from msgspec import Struct

_FIELDS_BEFORE_START = 19  # of the fields behind the name, whose text may hold anything


class ProcessIdentity(Struct, frozen=True, array_like=True):
    """One process of one boot of this host."""

    pid: int
    started: int  # clock ticks since the boot
    boot: str

    @classmethod
    def own(cls) -> ProcessIdentity:
        started = _start_of(os.getpid())
        if started is None:
            raise OSError("/proc does not show this process: is it mounted?")
        return cls(os.getpid(), started, boot_id())

    def is_alive(self) -> bool:
        """Whether it still runs; one that has ended and was not waited for yet does not."""
        return self.boot == boot_id() and _start_of(self.pid) == self.started


@cache
def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _start_of(pid: int) -> int | None:
    """When the process was started; None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[_FIELDS_BEFORE_START])
