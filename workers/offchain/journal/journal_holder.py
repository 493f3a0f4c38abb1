"""Who holds the journal's lock for too long: a processor that was stopped in the middle of a turn.

The others wait for it, and its own worker, which would end it, may be stopped as well. Killing it
is safe at any moment: the kernel frees the lock, and its transaction is then whole or absent.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import msgspec

from signers.marks.store_lock import STALL_S, lock_holder
from workers.offchain.journal import journal_tables
from workers.offchain.offchain_errors import JournalHeld, JournalUnusable
from workers.offchain.operators.process_table import ProcessIdentity

LOOK_S = STALL_S  # a turn takes some milliseconds
# Then it is killed. Longer than a disk under load takes, shorter than the silence for which a
# worker gives up a processor that cannot even open the journal.
HELD_S_MAX = 10.0

_decode_owner = msgspec.msgpack.Decoder(ProcessIdentity).decode


def look_at_holder(path: Path) -> JournalHeld | None:
    """Kill the processor that holds the journal's lock for too long; what to say of any holder."""
    holder = lock_holder(path)
    held_s = 0.0 if holder is None else time.monotonic() - holder.since
    if holder is None or held_s < LOOK_S:
        return None
    if held_s > HELD_S_MAX and (owner := _owner_of_pid(path, holder.pid)) is not None:
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(owner.pid)
            try:
                if owner.is_alive():  # else the number is another one's by now
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            finally:
                os.close(pidfd)
    return JournalHeld(f"process {holder.pid} has held the lock of {path} for over {LOOK_S:g} s")


def _owner_of_pid(path: Path, pid: int) -> ProcessIdentity | None:
    """The processor of that number, as the journal knows it: another program is none of ours."""
    with suppress(JournalUnusable), closing(journal_tables.open_to_read(path)) as db:
        rows = db.execute("SELECT owner FROM applications UNION SELECT owner FROM runs").fetchall()
        for (encoded,) in rows:
            owner = _decode_owner(encoded)
            if owner.pid == pid and owner.is_alive():
                return owner
    return None


@contextmanager
def looking_at_holder(path: Path) -> Iterator[None]:
    """Do so now and then while the block waits for the lock, which no event loop can."""
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(LOOK_S):
            look_at_holder(path)

    threading.Thread(target=look, name="journal-holder", daemon=True).start()
    try:
        yield
    finally:
        is_over.set()
