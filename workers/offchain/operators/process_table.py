"""The processes of this machine, as /proc lists them (proc(5))."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Self

from msgspec import Struct

ENDED = frozenset("ZX")  # has ended, and its parent does not know yet


class ProcessIdentity(Struct, frozen=True, array_like=True):
    """A process, and no other one that gets its number later."""

    pid: int
    started: int  # clock ticks after boot
    boot: str

    @classmethod
    def own(cls) -> Self:
        """This process. Raises OSError where /proc does not show it."""
        row = process_row(os.getpid())
        if row is None:
            raise OSError("/proc does not show this process: is it mounted?")
        return cls(row.pid, row.identity.started, boot_id())

    def is_alive(self) -> bool:
        """Whether it runs; one that has ended and was not waited for yet does not."""
        row = process_row(self.pid)
        return row is not None and row.identity == self and not row.has_ended


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
    identity = ProcessIdentity(pid, int(fields[19]), boot_id())
    return ProcessRow(identity, fields[0].decode(), int(fields[2]))


@cache
def boot_id() -> str:
    """Since when this machine runs, as a word that no other boot has (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


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
