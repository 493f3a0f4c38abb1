"""The preparer as a process: many jobs, hanging nodes, kills, stops; each job ends exactly once."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import inf

import psutil
import pytest

from signers.formats import base58
from signers.formats.block_header import decode
from tests.workers.preparation.scripted_node import CHAIN, PREDECESSOR, ScriptedNode
from tests.workers.preparation.views import CONSTANTS, VIEW, view
from tests.workers.preparation.wallet import Wallet
from workers.child import describe_exit
from workers.frames import BrokenFrame, take_frames
from workers.preparation import block_preparer
from workers.preparation.block_preparer import BlockPreparer
from workers.preparation.block_request import ForgeBlock, Fresh, encode_forge_block
from workers.preparation.preparation_job import (
    Outcome,
    PreparationFailed,
    PreparationJob,
    PreparedBlock,
    PreparerSetup,
    decode_outcome,
    encode_frame,
)

pytestmark = pytest.mark.process
ALICE = Wallet(1)
HANG = base58.encode(base58.BLOCK_HASH, bytes(32))


@contextmanager
def preparer_on(node: ScriptedNode) -> Iterator[BlockPreparer]:
    """A running preparer; it must be gone afterwards."""
    preparer = BlockPreparer(PreparerSetup("mavryk", {"main": node.url}))
    preparer.start()
    pids = {preparer.pid}
    try:
        yield preparer
    finally:
        pids.add(preparer.pid)
        preparer.close()
        assert not any(psutil.pid_exists(pid) for pid in pids if pid)


def job(number: int, *, predecessor: str = PREDECESSOR, ttl_ms: int = 20_000) -> PreparationJob:
    wanted = ForgeBlock(CHAIN, predecessor, VIEW.level + 1, 0, Fresh())
    return PreparationJob(number, encode_forge_block(wanted), ALICE.address, ttl_ms)


def outcomes(preparer: BlockPreparer, count: int, *, within_s: float = 30.0) -> list[Outcome]:
    """Wait as a worker's loop waits: for the descriptor or the deadline."""
    got: list[Outcome] = []
    end = time.monotonic() + within_s
    while len(got) < count and time.monotonic() < end:
        wake = preparer.deadline()
        wait = max(0.0, min(wake, end) - time.monotonic())
        select.select([preparer.fileno()], [], [], wait)
        got += preparer.receive()
    return got


def codes(failures: list[Outcome]) -> list[str]:
    assert all(isinstance(each, PreparationFailed) for each in failures), failures
    return [each.code for each in failures]


def test_a_job_becomes_a_block() -> None:
    with ScriptedNode() as node, preparer_on(node) as preparer:
        node.account(ALICE)
        node.pending = [ALICE.transaction(VIEW.predecessor)]
        preparer.submit(job(7))
        [prepared] = outcomes(preparer, 1)
        assert isinstance(prepared, PreparedBlock)
        assert prepared.job == 7
        assert prepared.operations[3] == node.pending
        assert decode(prepared.unsigned_header).level == prepared.level == VIEW.level + 1
        assert preparer.deadline() == inf, "nothing is left to wait for"


def test_many_jobs_come_back_once_each() -> None:
    """Not so many that a node in Python, on a busy machine, accepts some after their 2 s."""
    with ScriptedNode() as node, preparer_on(node) as preparer:
        for number in range(40):
            preparer.submit(job(number, ttl_ms=60_000))
        got = outcomes(preparer, 40, within_s=60)
        assert sorted(each.job for each in got) == list(range(40))
        assert [each for each in got if not isinstance(each, PreparedBlock)] == []
        assert preparer.receive() == []


def test_jobs_that_hang_delay_no_other() -> None:
    with ScriptedNode() as node, preparer_on(node) as preparer:
        node.hanging.add(HANG)
        preparer.submit(job(0))
        outcomes(preparer, 1)  # the child is warm
        for number in range(1, 51):
            preparer.submit(job(number, predecessor=HANG))
        preparer.submit(job(99))
        [first] = outcomes(preparer, 1)
        assert (first.job, type(first)) == (99, PreparedBlock), "the fifty others still wait"
        preparer.submit(job(51, predecessor=HANG, ttl_ms=500))
        [late] = outcomes(preparer, 1)
        assert (late.job, codes([late])) == (51, ["node_timeout"])


def test_a_search_for_proof_of_work_delays_no_other() -> None:
    impossible = replace(CONSTANTS, proof_of_work_threshold=0)
    with ScriptedNode(view(constants=impossible)) as node, preparer_on(node) as preparer:
        preparer.submit(job(1, ttl_ms=3_000))
        node_asked = time.monotonic() + 5
        while not any("pending" in path for path in node.asked) and time.monotonic() < node_asked:
            preparer.receive()
            time.sleep(0.01)
        preparer.submit(replace_request(job(2), b"garbage"))
        both = outcomes(preparer, 2)
        assert [each.job for each in both] == [2, 1]
        assert codes(both) == ["malformed", "deadline"]


def replace_request(one: PreparationJob, request: bytes) -> PreparationJob:
    return PreparationJob(one.job, request, one.delegate, one.ttl_ms)


def test_a_cancelled_job_has_no_outcome() -> None:
    with ScriptedNode() as node, preparer_on(node) as preparer:
        node.hanging.add(HANG)
        preparer.submit(job(1, predecessor=HANG, ttl_ms=400))
        preparer.cancel(1)
        preparer.cancel(2)  # never heard of
        preparer.submit(job(3, predecessor=HANG, ttl_ms=800))  # the first would have ended before
        assert [each.job for each in outcomes(preparer, 1)] == [3]
        assert preparer.receive() == []


def test_a_killed_child_fails_its_jobs_and_is_replaced() -> None:
    with ScriptedNode() as node, preparer_on(node) as preparer:
        node.hanging.add(HANG)
        descriptor, killed = preparer.fileno(), preparer.pid
        for number in range(5):
            preparer.submit(job(number, predecessor=HANG))
        os.kill(killed, signal.SIGKILL)
        failures = outcomes(preparer, 5)
        assert codes(failures) == ["preparer_died"] * 5
        assert str(killed) in failures[0].text
        preparer.submit(job(5))  # while there is no child
        [prepared] = outcomes(preparer, 1)
        assert isinstance(prepared, PreparedBlock)
        assert preparer.pid != killed
        assert preparer.fileno() == descriptor, "the poll loop need not know"
        assert preparer.last_death == "killed by signal SIGKILL"


def test_a_child_that_stands_still_is_replaced(monkeypatch) -> None:
    monkeypatch.setattr(block_preparer, "SILENCE_S_MAX", 0.3)
    with ScriptedNode() as node, preparer_on(node) as preparer:
        preparer.submit(job(0))
        outcomes(preparer, 1)
        stopped = preparer.pid
        os.kill(stopped, signal.SIGSTOP)
        preparer.submit(job(1, ttl_ms=100))
        preparer.submit(job(2, ttl_ms=60_000))
        first, second = outcomes(preparer, 2)
        assert (first.job, first.code) == (1, "deadline")
        assert (second.job, second.code) == (2, "preparer_died")
        preparer.submit(job(3))
        assert [type(each) for each in outcomes(preparer, 1)] == [PreparedBlock]
        assert not psutil.pid_exists(stopped)


def test_a_child_that_does_not_read_cannot_fill_our_memory(monkeypatch) -> None:
    monkeypatch.setattr(block_preparer, "UNSENT_BYTES_MAX", 2_000_000)
    with ScriptedNode() as node, preparer_on(node) as preparer:
        os.kill(preparer.pid, signal.SIGSTOP)
        for number in range(6):
            preparer.submit(replace_request(job(number), b"x" * 500_000))
        busy = preparer.receive()
        assert set(codes(busy)) == {"preparer_busy"}
        assert 1 <= len(busy) <= 3
        os.kill(preparer.pid, signal.SIGCONT)
        rest = outcomes(preparer, 6 - len(busy))
        assert set(codes(rest)) == {"malformed"}


def test_too_many_jobs_are_refused_at_once() -> None:
    with ScriptedNode() as node, preparer_on(node) as preparer:
        node.hanging.add(HANG)
        for number in range(block_preparer.JOBS_MAX + 1):
            preparer.submit(job(number, predecessor=HANG, ttl_ms=60_000))
        [busy] = outcomes(preparer, 1, within_s=1.0)
        assert (busy.job, busy.code) == (block_preparer.JOBS_MAX, "preparer_busy")


def test_a_request_that_is_too_long_is_malformed() -> None:
    with ScriptedNode() as node, preparer_on(node) as preparer:
        preparer.submit(replace_request(job(1), bytes(6 * 1024 * 1024 + 1)))
        assert codes(outcomes(preparer, 1)) == ["malformed"]


WORKER = """
import sys, time
from workers.preparation.block_preparer import BlockPreparer
from workers.preparation.preparation_job import PreparationJob, PreparerSetup
preparer = BlockPreparer(PreparerSetup("mavryk", {"main": sys.argv[1]}))
preparer.start()
preparer.submit(PreparationJob(1, bytes.fromhex(sys.argv[2]), "", 60_000))
print(preparer.pid, flush=True)
time.sleep(60)
"""


def test_the_child_never_outlives_its_worker() -> None:
    with ScriptedNode() as node:
        node.hanging.add(HANG)
        wanted = job(1, predecessor=HANG).request.hex()
        command = [sys.executable, "-c", WORKER, node.url, wanted]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
            child = psutil.Process(int(worker.stdout.readline()))
            hangs = time.monotonic() + 5
            while not node.asked and time.monotonic() < hangs:
                time.sleep(0.01)
            worker.kill()
            child.wait(5)


def test_the_child_ignores_signals_meant_for_its_worker() -> None:
    with ScriptedNode() as node, preparer_on(node) as preparer:
        preparer.submit(job(0))
        outcomes(preparer, 1)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(preparer.pid, number)
        preparer.submit(job(1))
        assert [type(each) for each in outcomes(preparer, 1)] == [PreparedBlock]


def test_a_child_that_cannot_start_fails_its_jobs_with_longer_and_longer_pauses() -> None:
    preparer = BlockPreparer(PreparerSetup("no such network", {"main": "http://127.0.0.1:9"}))
    preparer.start()
    try:
        preparer.submit(job(1))
        assert codes(outcomes(preparer, 1)) == ["preparer_died"]
        end = time.monotonic() + 3
        starts: set[int | None] = set()
        while time.monotonic() < end or len(starts) < 2:  # the time that five of them take at least
            outcomes(preparer, 1, within_s=0.05)
            starts |= {preparer.pid} - {None}
            assert time.monotonic() < end + 20, "it is not tried again"
        assert len(starts) <= 5, "0.1, 0.2, 0.4, 0.8, 1.6 … seconds of pause"
        # Who does not go by itself within the pause is killed: it has closed its socket before.
        assert preparer.last_death in ("exit status 1", "killed by signal SIGKILL")
    finally:
        preparer.close()


def test_frames_survive_any_cut() -> None:
    messages = [PreparationFailed(number, "code", "x" * number * 1000) for number in range(5)]
    stream = b"".join(encode_frame(each) for each in messages)
    for cut in (1, 3, 4, 5, 100, 1000):
        buffer, read = bytearray(), []
        for start in range(0, len(stream), cut):
            buffer += stream[start : start + cut]
            read += map(decode_outcome, take_frames(buffer))
        assert read == messages
        assert not buffer


@pytest.mark.parametrize("broken", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\2\x81\xa1"])
def test_a_broken_frame_is_no_outcome(broken: bytes) -> None:
    with pytest.raises(BrokenFrame):
        list(map(decode_outcome, take_frames(bytearray(broken))))


def test_exits_have_names() -> None:
    assert describe_exit(-9) == "killed by signal SIGKILL"
    assert describe_exit(3) == "exit status 3"
