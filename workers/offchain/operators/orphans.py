"""Ends what runs of operators have left behind: processes that nobody waits for any more.

They are known by the token of their run, which every descendant of an operator inherits in its
environment, wherever it is: with another parent, in another group, in a session of its own. What
has emptied its environment is found by the process group in which it still is.

Nothing else is ever touched. A process is signalled through a pidfd that was opened before it was
looked at: if its number passes to another one in the meantime, the signal reaches nobody.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Collection

from workers.offchain.operators.process_table import (
    ProcessIdentity,
    ProcessRow,
    process_row,
    process_rows,
    variable_of,
)
from workers.offchain.operators.run_environment import RUN_VARIABLE

# After SIGKILL. What takes longer hangs in the kernel (a disk or a network that is gone).
GONE_S = 5.0


def end_orphans(
    tokens: Collection[str],
    leaders: Collection[ProcessIdentity] = (),
    *,
    grace_s: float = 0.0,
) -> list[int]:
    """End all processes of some runs, and return the numbers of those that did not end.

    Blocks until they are gone, for at most `grace_s` and 5 s.

    Args:
        tokens: of the runs.
        leaders: the operators themselves, as far as they are known.
        grace_s: between SIGTERM and SIGKILL; 0: SIGKILL at once.
    """
    kill_at = time.monotonic() + grace_s
    give_up_at = kill_at + GONE_S
    while found := processes_of_runs(tokens, leaders):
        now = time.monotonic()
        if now >= give_up_at:
            return sorted(row.pid for row in found)
        if now < kill_at:
            _signal_and_wait(found, (signal.SIGTERM, signal.SIGCONT), kill_at)
        else:
            _signal_and_wait(found, (signal.SIGKILL,), give_up_at)
    return []


def processes_of_runs(
    tokens: Collection[str], leaders: Collection[ProcessIdentity] = ()
) -> list[ProcessRow]:
    """All living processes that some runs have started."""
    rows = {row.pid: row for row in process_rows()}
    marked = {
        pid
        for pid, row in rows.items()
        if row.identity in leaders or variable_of(pid, RUN_VARIABLE) in tokens
    }
    ours = os.getpgrp()
    groups = {
        group
        for group in {rows[pid].group for pid in marked}
        if group != ours and _is_a_runs(group, rows, marked)
    }
    return [
        row
        for pid, row in rows.items()
        if (pid in marked or row.group in groups) and not row.has_ended and pid != os.getpid()
    ]


def _is_a_runs(group: int, rows: dict[int, ProcessRow], marked: set[int]) -> bool:
    """Whether a group in which a marked process is was begun by the run.

    Somebody may start a program with the token by hand, in a group that is his.
    """
    leader = rows.get(group)
    return leader is None or leader.has_ended or group in marked


def _signal_and_wait(found: list[ProcessRow], numbers: tuple[int, ...], until: float) -> None:
    """Send signals to processes, and wait until all have ended, or until that time."""
    with contextlib.ExitStack() as stack:
        waiting = select.poll()
        left = set()
        for row in found:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(row.pid)
                stack.callback(os.close, pidfd)
                seen = process_row(row.pid)
                if seen is None or seen.identity != row.identity:
                    continue
                waiting.register(pidfd, select.POLLIN)
                left.add(pidfd)
                for number in numbers:
                    with contextlib.suppress(PermissionError):  # has taken another user's rights
                        signal.pidfd_send_signal(pidfd, number)
        while left and (rest_s := until - time.monotonic()) > 0:
            for pidfd, _ in waiting.poll(rest_s * 1000):
                waiting.unregister(pidfd)
                left.discard(pidfd)
