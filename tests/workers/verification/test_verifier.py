"""The verifier as a process: kills, stops, garbage; each slice is answered exactly once."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf

import msgspec
import psutil
import pytest
from made_votes import CHAIN, POSITION, Delegate

from broker import wire
from broker.messages import CheckSlices, ReloadAsked, SlicesChecked
from broker.verification import Check, CheckAnswer, CheckBody, CheckItem, CheckSlice, VerdictBody
from signers.formats import base58
from tests.workers.preparation.scripted_node import ScriptedNode
from workers.frames import frame_of, take_frames
from workers.give_way import NICENESS
from workers.verification import verifier as verifier_module
from workers.verification.verdicts import Reason
from workers.verification.verifier import SLICES_MAX, UNSENT_BYTES_MAX, Verifier
from workers.verification.verifier_setup import VerifierSetup, setup_frame

pytestmark = pytest.mark.process
CHAIN_ID = base58.encode(base58.CHAIN_ID, CHAIN)
VOTE = Delegate().vote()
SETUP = VerifierSetup("w", "tezos")
CHILD = [sys.executable, "-m", "workers.verification.verifier_process"]


def no_process(*_: object, **__: object) -> None:
    raise OSError(11, "no process for you")


@contextmanager
def verifying(node: str = "") -> Iterator[Verifier]:
    """A verifier; whatever it has started must be gone afterwards."""
    verifier = Verifier(msgspec.structs.replace(SETUP, node=node))
    try:
        yield verifier
    finally:
        pid = verifier.pid
        verifier.close()
        assert pid is None or not psutil.pid_exists(pid)


def slices(*numbers: int, votes: int = 2, ttl_ms: int = 20_000) -> CheckSlices:
    items = [CheckItem(number, VOTE) for number in range(votes)]
    body = msgspec.msgpack.encode(CheckBody(Check.VOTE, CHAIN_ID, POSITION, items))
    return CheckSlices([CheckSlice(number, 100, body, ttl_ms) for number in numbers])


def answers(verifier: Verifier, count: int, *, within_s: float = 30.0) -> list[CheckAnswer]:
    """Wait as a worker's loop waits: for the descriptor or the deadline."""
    got: list[CheckAnswer] = []
    end = time.monotonic() + within_s
    while len(got) < count and time.monotonic() < end:
        wait = max(0.0, min(verifier.deadline(), end) - time.monotonic())
        select.select([verifier.fileno()], [], [], wait)
        got += verifier.exchange()
    return got


def reasons(answer: CheckAnswer) -> list[str]:
    assert not answer.problem
    return [v.reason for v in msgspec.msgpack.decode(answer.body, type=VerdictBody).verdicts]


def test_the_first_slice_starts_a_nice_child_and_each_is_answered_once(monkeypatch) -> None:
    for secret in ("FORGEPOOL_PASSWORD", "FORGEPOOL_PKCS11_PIN", "TEZOS_SIGNER_HTTP_HEADERS"):
        monkeypatch.setenv(secret, "a secret of tests")
    with verifying() as verifier:
        assert verifier.pid is None
        assert verifier.deadline() == inf
        verifier.take(slices(*range(SLICES_MAX)))
        got = answers(verifier, SLICES_MAX)
        assert sorted(each.number for each in got) == list(range(SLICES_MAX))
        assert {reason for each in got for reason in reasons(each)} == {Reason.CHAIN_UNKNOWN}
        assert verifier.deadline() == inf, "nothing is left to wait for"
        child = psutil.Process(verifier.pid)
        assert child.nice() == psutil.Process().nice() + NICENESS
        assert os.sched_getscheduler(child.pid) == os.SCHED_BATCH
        assert "a secret of tests" not in child.environ().values()
        assert child.environ().keys() >= {"PATH"}


def test_more_slices_than_anybody_gives_are_refused() -> None:
    with verifying() as verifier:
        verifier.take(slices(*range(SLICES_MAX + 1)))
        [refused] = verifier.exchange()
        assert (refused.number, refused.problem) == (SLICES_MAX, "busy")
        assert len(answers(verifier, SLICES_MAX)) == SLICES_MAX


def test_an_answer_does_not_wait_until_a_long_check_is_over() -> None:
    with verifying() as verifier:
        verifier.take(CheckSlices([*slices(0).slices, *slices(1, votes=40_000).slices]))
        assert [each.number for each in answers(verifier, 1)] == [0]
        assert [each.number for each in answers(verifier, 1)] == [1]


def test_what_no_child_reads_fills_no_memory(monkeypatch) -> None:
    with verifying() as verifier:
        verifier.take(slices(0))
        answers(verifier, 1)
        os.kill(verifier.pid, signal.SIGSTOP)
        for is_stopped in (True, False):  # and then there is none
            if not is_stopped:
                monkeypatch.setattr("workers.child.subprocess.Popen", no_process)
                os.kill(verifier.pid, signal.SIGKILL)
                assert {each.problem for each in answers(verifier, 6)} == {"worker_lost"}
            for number in range(6):
                body = bytes(7 * 1024 * 1024)
                verifier.take(CheckSlices([CheckSlice(number, 100, body, 60_000)]))
            assert verifier.exchange() == []
            assert verifier.unsent_bytes <= UNSENT_BYTES_MAX


def test_a_killed_child_loses_its_slices_and_is_replaced() -> None:
    with ScriptedNode() as node, verifying(node.url) as verifier:
        node.hanging.add("chains")
        descriptor = verifier.fileno()
        verifier.take(slices(0))
        assert answers(verifier, 1, within_s=0.5) == [], "it waits for the node"
        killed = verifier.pid
        os.kill(killed, signal.SIGKILL)
        verifier.take(slices(1))
        lost = answers(verifier, 2)
        assert {each.number: each.problem for each in lost} == {0: "worker_lost", 1: "worker_lost"}
        node.hanging.clear()
        verifier.take(slices(2))  # while there is no child
        [answer] = answers(verifier, 1)
        assert set(reasons(answer)) == {Reason.CHAIN_UNKNOWN}
        assert verifier.pid not in (killed, None)
        assert verifier.fileno() == descriptor, "the poll loop need not know"


def test_a_child_that_stands_still_is_replaced(monkeypatch) -> None:
    monkeypatch.setattr(verifier_module, "SILENCE_S_MAX", 0.3)
    monkeypatch.setattr(verifier_module, "GRACE_S", 0.1)
    with verifying() as verifier:
        verifier.take(slices(0))
        answers(verifier, 1)
        stopped = verifier.pid
        os.kill(stopped, signal.SIGSTOP)
        verifier.take(slices(1, ttl_ms=100))
        verifier.take(slices(2, ttl_ms=60_000))
        first, second = answers(verifier, 2)
        assert (first.number, first.problem) == (1, "worker_lost")
        assert (second.number, second.problem) == (2, "worker_lost")
        verifier.take(slices(3))
        [third] = answers(verifier, 1)
        assert (third.number, third.problem) == (3, "")
        assert not psutil.pid_exists(stopped)


def test_an_answer_that_comes_too_late_is_none(monkeypatch) -> None:
    monkeypatch.setattr(verifier_module, "GRACE_S", 0.1)
    with verifying() as verifier:
        verifier.take(slices(0))
        answers(verifier, 1)
        os.kill(verifier.pid, signal.SIGSTOP)
        verifier.take(slices(1, ttl_ms=100))
        [late] = answers(verifier, 1)
        assert (late.number, late.problem) == (1, "worker_lost")
        os.kill(verifier.pid, signal.SIGCONT)
        verifier.take(slices(2))
        assert [each.number for each in answers(verifier, 2, within_s=2.0)] == [2]


def test_what_waits_for_a_child_until_nobody_wants_it_is_lost(monkeypatch) -> None:
    monkeypatch.setattr(verifier_module, "GRACE_S", 0.1)
    monkeypatch.setattr(verifier_module, "SILENCE_S_MAX", 0.0)  # of a child that runs
    monkeypatch.setattr("workers.child.subprocess.Popen", no_process)
    with verifying() as verifier:
        verifier.take(slices(1, ttl_ms=300))
        [lost] = answers(verifier, 1)
        assert (lost.number, lost.problem) == (1, "worker_lost")
        monkeypatch.undo()
        verifier.take(slices(2))
        assert [(a.number, a.problem) for a in answers(verifier, 1)] == [(2, "")]


@contextmanager
def alone() -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """A child without a worker: the test has the other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = subprocess.Popen(
            [*CHILD, str(theirs.fileno())], pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE
        )
        theirs.close()
        with child:
            try:
                ours.settimeout(30)
                yield ours, child
            finally:
                child.kill()


@pytest.mark.parametrize(
    "said",
    [
        frame_of(b"\xc1"),
        setup_frame(SETUP) + frame_of(b"\xc1"),
        setup_frame(SETUP) + frame_of(wire.encode(ReloadAsked(1, 0))),
        setup_frame(SETUP) + b"\xff\xff\xff\xff",
    ],
    ids=["no setup", "no message", "another message", "no frame"],
)
def test_a_child_that_hears_garbage_ends(said: bytes) -> None:
    with alone() as (ours, child):
        ours.sendall(said)
        assert child.wait(30) == 1


def test_a_child_ends_with_its_worker_and_with_nothing_else() -> None:
    with alone() as (ours, child):
        ours.sendall(setup_frame(SETUP) + frame_of(wire.encode(slices(7))))
        received = bytearray()
        while not (bodies := list(take_frames(received))):
            received += ours.recv(65536)
        [body] = bodies
        checked = wire.decode_worker_message(body)
        assert isinstance(checked, SlicesChecked)
        assert [each.number for each in checked.answers] == [7]
        for number in (signal.SIGINT, signal.SIGTERM):
            child.send_signal(number)
        ours.sendall(frame_of(wire.encode(slices(8))))
        assert ours.recv(65536), "signals to the whole group mean its worker"
        ours.shutdown(socket.SHUT_WR)
        assert child.wait(30) == 0


def test_a_flood_of_slices_keeps_none_back() -> None:
    with verifying() as verifier:
        found: Counter[str] = Counter()
        for start in range(0, 12 * SLICES_MAX, SLICES_MAX):
            verifier.take(slices(*range(start, start + SLICES_MAX), votes=20))
            found.update(each.problem for each in answers(verifier, SLICES_MAX))
        assert found == {"": 12 * SLICES_MAX}
