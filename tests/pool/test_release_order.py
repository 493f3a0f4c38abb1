"""Below the process: a worker sends a signature after the WAL with its mark is on the disk.

The kernel's own record (strace) of a real worker is read: for each signature that a client got,
the write of its digest to the WAL, the fdatasync after it that returned, and the send with the
signature, in this order. The same reading must object to a worker that commits without fsync.
"""

from __future__ import annotations

import re
import shutil
import signal
import sys
from collections import Counter
from typing import NamedTuple

import pytest
from pool_process import CHAIN, PoolProcess, forgepool, names

from broker.messages import ATTESTATION_READY
from signers.formats.hashes import blake2b_32
from workers.store_thread import JOBS_SIGNED_MEANWHILE

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

STRACE = (
    *("strace", "-f", "-y", "-xx", "-s", "65536"),
    *("-e", "trace=pwrite64,pwritev,fsync,fdatasync,write,writev,sendto,sendmsg"),
)
# A worker as it is, but for one setting of its store.
UNSYNCED = (
    "from signers.marks import store_file; from broker.command import main;"
    "store_file.SETTINGS = tuple((n, 0 if n == 'synchronous' else v)"
    " for n, v in store_file.SETTINGS); main()"
)

# 4242  fdatasync(5</dir/watermarks.db-wal>) = 0
_SYNCED = re.compile(r"^(\d+) +f(?:data)?sync\(\d+<[^>]*-wal>\) += 0")
_SYNC_BEGUN = re.compile(r"^(\d+) +f(?:data)?sync\(\d+<[^>]*-wal> <unfinished")
_SYNC_ENDED = re.compile(r"^(\d+) +<\.\.\. f(?:data)?sync resumed>\) += 0")
_WAL_WRITE = re.compile(r"^\d+ +pwritev?(?:64)?\(\d+<[^>]*-wal>")
# -xx writes names in hexadecimal too
_BYTE = "\\x"
_FILE_NAME = re.compile(r"<((?:\\x[0-9a-f]{2})+)>")
_SEND = re.compile(r"^\d+ +(?:write|writev|sendto|sendmsg)\(\d+<[^>]*(?:socket|UNIX|TCP)")


class Trace(NamedTuple):
    """What a worker did, by the number of its line: lines are read once, not for each vote."""

    wal_writes: list[tuple[int, str]]
    syncs: list[tuple[int, int]]  # each successful sync of the WAL: where it began and returned
    sends: list[tuple[int, str]]

    def recorded_at(self, operation: bytes) -> int:
        """The line at which a vote's digest was first written to the WAL."""
        digest = in_strace(blake2b_32(b"\x13" + CHAIN + operation[:-64]))
        return next(at for at, line in self.wal_writes if digest in line)

    def sent_too_early(self, operation: bytes) -> bool:
        """Whether a vote's signature was sent before a sync of the WAL with its mark returned."""
        signature = in_strace(operation[-64:])
        sent = next(at for at, line in self.sends if signature in line)
        recorded = self.recorded_at(operation)
        return not any(recorded < begun and ended < sent for begun, ended in self.syncs)


def read_trace(text: str) -> Trace:
    """A trace, with the names of files as people read them."""
    lines = [_FILE_NAME.sub(_readable, line) for line in text.splitlines()]
    return Trace(
        [(at, line) for at, line in enumerate(lines) if _WAL_WRITE.match(line)],
        syncs(lines),
        [(at, line) for at, line in enumerate(lines) if _SEND.match(line)],
    )


def _readable(name: re.Match[str]) -> str:
    return f"<{bytes.fromhex(name[1].replace(_BYTE, '')).decode()}>"


def in_strace(data: bytes) -> str:
    """Bytes as strace -xx writes them."""
    return "".join(f"\\x{byte:02x}" for byte in data)


def syncs(lines: list[str]) -> list[tuple[int, int]]:
    """The lines at which each successful sync of the WAL began and returned."""
    found, begun = [], {}
    for at, line in enumerate(lines):
        if _SYNCED.match(line):
            found.append((at, at))
        elif match := _SYNC_BEGUN.match(line):
            begun[match[1]] = at
        elif (match := _SYNC_ENDED.match(line)) and match[1] in begun:
            found.append((begun.pop(match[1]), at))
    return found


def traced_votes(pool: PoolProcess, *worker: str) -> tuple[Trace, list[bytes]]:
    """Let a worker under strace sign for all delegates: its trace, and the signed operations.

    They are so many that they are signed while their commit is under way, and once fewer.
    """
    pool.on_files("keys", "generate", "more", "--count", str(JOBS_SIGNED_MEANWHILE))
    pool.read_keys()
    trace = pool.directory / "trace"
    pool.start_command("broker")
    traced = pool.start(
        *worker, "worker", "--name", "traced", "--state-dir", str(pool.state_dir),
        under=(*STRACE, "-o", str(trace)),
    )  # fmt: skip
    pool.wait_for_signing(1)
    with pool.client() as client:
        votes = [vote for level in (10, 11, 12) for vote in client.wait(pool.attest(client, level))]
        votes += client.wait(pool.attest(client, 13, pool.delegates[:1]))
    assert names(votes) == [ATTESTATION_READY] * (3 * len(pool.delegates) + 1)
    pool.signal(pool.signing_pids()["traced"], signal.SIGTERM)  # strace ends with it
    assert traced.wait(20.0) == 0
    return read_trace(trace.read_text()), [vote.body for vote in votes]


def test_a_signature_is_sent_after_its_mark_is_on_the_disk(pool: PoolProcess) -> None:
    trace, operations = traced_votes(pool, *forgepool())
    assert [op for op in operations if trace.sent_too_early(op)] == []
    together = Counter(trace.recorded_at(operation) for operation in operations)
    assert max(together.values()) > JOBS_SIGNED_MEANWHILE
    assert min(together.values()) == 1


def test_the_same_reading_objects_to_commits_without_fsync(pool: PoolProcess) -> None:
    trace, operations = traced_votes(pool, sys.executable, "-c", UNSYNCED)
    assert all(trace.sent_too_early(operation) for operation in operations)
