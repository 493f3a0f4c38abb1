"""The processes of this machine, as /proc lists them (proc(5))."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from msgspec import Struct

ENDED = frozenset("ZX")  # has ended, and its parent does not know yet


class ProcessIdentity(Struct, frozen=True):
    """A process, and no other one that gets its number later (of the same boot)."""

    pid: int
    started: int  # clock ticks after boot


class ProcessRow(Struct, frozen=True):
    """A line of the table."""

    identity: ProcessIdentity
    state: str  # one letter
    group: int

    @property
    def pid(self) -> int:
        return self.identity.pid

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


def process_row(pid: int) -> ProcessRow | None:
    """The line of one process; None when there is none of that number."""
    content = _content(pid, "stat")
    if not content:
        return None
    # The name, in brackets, may hold anything, brackets and blanks too.
    fields = content[content.rindex(b")") + 2 :].split()
    return ProcessRow(ProcessIdentity(pid, int(fields[19])), fields[0].decode(), int(fields[2]))


def process_rows() -> Iterator[ProcessRow]:
    """All that there are, each as it was at some moment of the walk."""
    for name in os.listdir("/proc"):
        if name.isdecimal() and (row := process_row(int(name))) is not None:
            yield row


def living_members(group: int) -> list[int]:
    """The processes of a process group that have not ended."""
    return [row.pid for row in process_rows() if row.group == group and not row.has_ended]


def variable_of(pid: int, name: str) -> str | None:
    """A variable of the environment that a process was started with.

    None when it has none of that name, when it has ended, and when its memory is not ours to read.
    """
    prefix = name.encode() + b"="
    for entry in _content(pid, "environ").split(b"\0"):
        if entry.startswith(prefix):
            return os.fsdecode(entry.removeprefix(prefix))
    return None


def _content(pid: int, name: str) -> bytes:
    with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.readall()
    return b""
