"""Garbage on every socket: an answer or silence, never a death, and the pool goes on signing."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgpack
import pytest
import zmq
from pool_process import PoolProcess, names

from broker.messages import ATTESTATION_READY, MESSAGE_BYTES_MAX, REQUESTS_PER_PUSH_MAX

pytestmark = pytest.mark.process

TRIES = 300


def nested(depth: int) -> bytes:
    return b"\x91" * depth + b"\x00"


def push(**changes: Any) -> dict[str, Any]:
    request = {"id": bytes(16), "kind": "sign", "payload": b"", "delegate": "mv1x"}
    return {"type": "push", "client": "hostile", "requests": [request | changes]}


# Messages that are nearly right: each has one thing that must be looked at.
NEARLY = (
    {}, [], None, 0, "push", b"push", {"type": "push"}, {"type": 1},
    {"type": "push", "client": "x", "requests": []},
    {"type": "push", "client": "x" * 65, "requests": [{}]},
    {"type": "push", "client": "x y", "requests": [{}]},
    push(id=bytes(15)), push(id=bytes(17)), push(id="text"), push(kind=7), push(kind="x" * 10_000),
    push(payload="text"), push(delegate=7), push(delegate=""), push(delegate="a/b"),
    push(delegate="x" * 129), push(ttl_ms=0), push(ttl_ms=-1), push(ttl_ms=2**63),
    push(ttl_ms=1.5), push(deadline_unix_ms=-1), push(deadline_unix_ms=2**64 - 1),
    push(votes=7), push(votes=[7]), push(votes=[["mv1x"]]), push(votes=[["mv1x", -1, None]]),
    push(votes=[["mv1x", 65_536, None]]), push(votes=[["mv1x", 0, "-1"]]),
    push(kind="forge_and_sign_attestations", delegate=None, votes=[]),
    push(kind="forge_and_sign_attestations", delegate=None, votes=[["mv1x", 0], ["mv1x", 1]]),
    push(kind="forge_and_sign_attestations"), push(votes=[["mv1x", 0]]),
    {"type": "cancel"}, {"type": "cancel", "client": "x", "id": b"short"},
    {"type": "replay"}, {"type": "replay", "topic": "", "epoch": "x", "first": 1},
    {"type": "replay", "topic": "all", "epoch": "x", "first": 0},
    {"type": "replay", "topic": "x" * 161, "epoch": "x", "first": 1},
    {"type": "worker_ended", "pid": "x", "how": ""}, {"type": "await_workers", "pids": 7},
    # What workers say, with wrong numbers, types and lengths.
    [0], [0, 1, "w"], [1], [1, "x"], [2, 1, [[1, 1, 0, b"x"]]], [2, 1, [[1]]], [2, -1, 7],
    [3, 1, [["c", bytes(16), "d", b"", "sign", 9, ["a", "b"]]]], [4, [1, 2, 3]], [5, "x"],
    [6], [7, [1]], [99], ["x"], [2, 1, [[0, 0, 1, b"refused with bytes"]]],
)  # fmt: skip


def hostile_frames(chance: random.Random) -> Iterator[list[bytes]]:
    """Messages that no honest peer sends."""
    for message in NEARLY:
        yield [msgpack.packb(message)]
    for nearly in (push(), {"type": "status"}, [1, 1]):
        whole = msgpack.packb(nearly)
        yield [whole[:-1]]
        yield [whole + b"\x00"]
        for _ in range(50):  # one byte of it is another
            at = chance.randrange(len(whole))
            yield [whole[:at] + bytes([chance.randrange(256)]) + whole[at + 1 :]]
    yield [b""]
    yield [b"", b"", b""]
    yield [b"x"] * 1000
    yield [nested(100_000)]
    yield [b"\x81\xa1a" * 100_000]
    yield [b"\xdd\xff\xff\xff\xff"]  # an array of 2**32 - 1 elements, none of which follows
    yield [b"\xdf\xff\xff\xff\xff"]
    yield [b"\xc6\xff\xff\xff\xff"]
    yield [chance.randbytes(1 << 20)]
    yield [bytes(MESSAGE_BYTES_MAX)]
    for _ in range(TRIES):
        yield [chance.randbytes(chance.randrange(200)) for _ in range(chance.choice((1, 1, 1, 2)))]


@contextmanager
def peer(address: str, kind: int) -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    stranger = context.socket(kind)
    stranger.linger = 0
    stranger.sndtimeo = 10_000
    stranger.connect(address)
    try:
        yield stranger
    finally:
        stranger.close()
        context.term()


def send_all(stranger: zmq.Socket[bytes], seed: int) -> int:
    """Send all garbage; returns how many messages it was."""
    messages = list(hostile_frames(random.Random(seed)))
    for frames in messages:
        stranger.send_multipart(frames)
    return len(messages)


def assert_well(pool: PoolProcess, epoch: str) -> None:
    with pool.client() as client:
        assert names(client.wait(pool.attest(client, pool.next_level()))) == [ATTESTATION_READY] * 6
    assert pool.status()["epoch"] == epoch
    assert "died" not in pool.log()
    assert "Traceback" not in pool.log()


@pytest.mark.parametrize("name", ["requests", "admin"])
def test_garbage_is_answered_message_by_message(running: PoolProcess, name: str) -> None:
    epoch = running.status()["epoch"]
    with peer(getattr(running.endpoints, name), zmq.DEALER) as stranger:
        for _ in range(send_all(stranger, seed=1)):
            assert stranger.poll(10_000), "a message was not answered"
            assert "type" in msgpack.unpackb(stranger.recv())
    assert_well(running, epoch)


@pytest.mark.parametrize(("name", "kind"), [("workers", zmq.DEALER), ("events", zmq.XSUB)])
def test_garbage_where_no_answer_is_due_does_no_harm(
    running: PoolProcess, name: str, kind: int
) -> None:
    epoch = running.status()["epoch"]
    with peer(getattr(running.endpoints, name), kind) as stranger:
        send_all(stranger, seed=2)
        stranger.linger = 2000
    assert_well(running, epoch)


def test_a_client_that_pushes_without_end_keeps_no_other_waiting(running: PoolProcess) -> None:
    epoch = running.status()["epoch"]
    many = push(kind="forge_and_sign_attestations", votes=[["mv1x", 0]] * 8)
    many["requests"] *= REQUESTS_PER_PUSH_MAX
    message = msgpack.packb(many)
    with peer(running.endpoints.requests, zmq.DEALER) as greedy:
        for _ in range(400):
            greedy.send(message)
        with running.client() as client:
            client.wait(running.attest(client, running.next_level()))
        answered = 0
        while greedy.poll(0):
            greedy.recv()
            answered += 1
        assert answered < 300, "the vote waited for all of them"
    assert_well(running, epoch)


def test_a_message_that_is_too_long_costs_its_sender_the_connection(running: PoolProcess) -> None:
    epoch = running.status()["epoch"]
    for address in (running.endpoints.requests, running.endpoints.admin, running.endpoints.workers):
        with peer(address, zmq.DEALER) as stranger:
            monitor = stranger.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            stranger.send(bytes(MESSAGE_BYTES_MAX + 1))
            assert monitor.poll(10_000), "the broker took it"
            stranger.disable_monitor()
            monitor.close()
    assert_well(running, epoch)


def test_peers_that_do_not_speak_zeromq_are_dropped(running: PoolProcess) -> None:
    epoch = running.status()["epoch"]
    chance = random.Random(5)
    for address in (
        running.endpoints.requests,
        running.endpoints.events,
        running.endpoints.workers,
    ):
        for bytes_sent in (b"", b"GET / HTTP/1.1\r\n\r\n", chance.randbytes(4096), b"\xff" * 64):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(address.removeprefix("ipc://"))
                stranger.settimeout(10.0)
                try:
                    stranger.sendall(bytes_sent)
                except OSError:
                    continue  # it was dropped before it had said everything
    assert_well(running, epoch)


def test_any_number_of_odd_subscriptions_does_no_harm(running: PoolProcess) -> None:
    epoch = running.status()["epoch"]
    with peer(running.endpoints.events, zmq.SUB) as stranger:
        for i in range(2000):
            stranger.subscribe(f"c/{i}")
        for topic in (b"", b"live/", b"live/x", b"live/x/", b"d/", b"\xff\xfe", os.urandom(64)):
            stranger.subscribe(topic)
        stranger.subscribe("x" * 10_000)
        assert_well(running, epoch)
