"""What the pool's hops cost without the pool: about the best that code of ours could reach.

A client, a broker and workers as processes of their own, joined by sockets with the pool's options.
What passes is a list of number and digest, in batches as large as the pool's. The broker only deals
them out; a worker signs each with libsodium, then writes one row for all and waits for the disk.
There are no keys to find, no marks, queues, deadlines, policy, retries, log or restarts, and each
worker has a file of its own.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from multiprocessing.context import SpawnContext
from pathlib import Path

import msgspec
import psutil
import zmq
from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_seed_keypair

from broker.collector import tune_collector
from broker.sockets import bind, connect, make_socket, receive, send

Votes = list[tuple[int, bytes]]  # number, and digest or signature

BATCH_VOTES = 256
BATCHES_PER_WORKER = 3  # under way at once, as in the pool
ROW_BYTES = 48  # of a vote in the store's journal
FILE_BYTES = 16 * 1024 * 1024  # written over and over, like the store's WAL
WAIT_MS = 10_000  # a hop that takes longer is broken

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Votes).decode


def _address(directory: Path, name: str) -> str:
    return f"ipc://{directory / name}"


def serve(directory: Path, workers: int) -> None:
    """Deal out what clients push, publish what workers have signed; until the process is ended."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    requests, hands = make_socket(context, zmq.ROUTER), make_socket(context, zmq.ROUTER)
    events = make_socket(context, zmq.XPUB)
    for socket, name in ((requests, "requests"), (hands, "workers"), (events, "events")):
        bind(socket, _address(directory, name), authenticated=False)
    poller = zmq.Poller()
    for socket in (requests, hands):
        poller.register(socket, zmq.POLLIN)
    tune_collector()
    waiting: deque[tuple[int, bytes]] = deque()
    under_way: dict[bytes, int] = {}
    while True:
        readable = {socket for socket, _ in poller.poll()}
        signed: Votes = []
        while hands in readable and (frames := receive(hands)) is not None:
            known = under_way.get(frames[0])
            under_way[frames[0]] = 0 if known is None else known - 1
            signed += _decode(frames[1])
        while requests in readable and (frames := receive(requests)) is not None:
            waiting += _decode(frames[1])
        if signed:
            send(events, [b"c", _encode(signed)])
        if len(under_way) < workers:
            continue
        for peer in sorted(under_way, key=lambda peer: under_way[peer]):
            while waiting and under_way[peer] < BATCHES_PER_WORKER:
                batch = [waiting.popleft() for _ in range(min(BATCH_VOTES, len(waiting)))]
                send(hands, [peer, _encode(batch)])
                under_way[peer] += 1


def work(directory: Path, number: int) -> None:
    """Sign, make durable, answer; until the process is ended."""
    _, secret = crypto_sign_seed_keypair(bytes(32))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    broker = connect(context, zmq.DEALER, _address(directory, "workers"), None)
    fd = os.open(directory / f"store-{number}", os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(fd, bytes(FILE_BYTES), 0)
    os.fsync(fd)
    tune_collector()
    broker.send(_encode([]))  # hello
    at = 0
    while True:
        votes = _decode(broker.recv())
        row = bytes(ROW_BYTES * len(votes))
        at = at + len(row) if at + 2 * len(row) <= FILE_BYTES else 0
        signed = [(n, crypto_sign(digest, secret)[:crypto_sign_BYTES]) for n, digest in votes]
        os.pwrite(fd, row, at)
        os.fdatasync(fd)
        broker.send(_encode(signed))


class Hops:
    """The client's side of a broker and its workers that know nothing but hops."""

    def __init__(self, directory: Path, others: list[psutil.Process]) -> None:
        self.directory = directory  # of their files
        self._others = others
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._requests = connect(self._context, zmq.DEALER, _address(directory, "requests"), None)
        self._events = connect(self._context, zmq.SUB, _address(directory, "events"), None)
        self._events.subscribe(b"c")
        self._next = 0

    def wait_live(self) -> None:
        """Push until an answer is heard: from then on nothing is missed."""
        while not self._events.poll(100):
            self._push(1)
        while self._events.poll(100):
            self._events.recv_multipart()

    def _push(self, count: int) -> None:
        digest = bytes(32)
        votes = [(number, digest) for number in range(self._next, self._next + count)]
        self._next += count
        self._requests.send(_encode(votes))

    def _signed(self) -> int:
        if not self._events.poll(WAIT_MS):
            raise SystemExit("nothing came back through the hops")
        signed = 0
        while (frames := receive(self._events)) is not None:
            signed += len(_decode(frames[1]))
        return signed

    def cpu_s(self) -> float:
        """CPU seconds so far of client, broker and workers together."""
        return sum(os.times()[:2]) + sum(sum(p.cpu_times()[:2]) for p in self._others)

    def votes_per_s(self, batch: int, seconds: float, *, outstanding: int) -> float:
        """Push batches of votes, `outstanding` votes under way, and count the signed ones."""
        under_way = done = 0
        start = time.perf_counter()
        while (taken := time.perf_counter() - start) < seconds or under_way:
            while taken < seconds and under_way + batch <= outstanding:
                self._push(batch)
                under_way += batch
            signed = self._signed()
            under_way -= signed
            done += signed
        return done / (time.perf_counter() - start)

    def latencies_s(self, count: int) -> list[float]:
        """One vote at a time, from push to event."""
        found = []
        for _ in range(count):
            start = time.perf_counter()
            self._push(1)
            self._signed()
            found.append(time.perf_counter() - start)
        return found

    def close(self) -> None:
        self._requests.close()
        self._events.close()
        self._context.term()


@contextlib.contextmanager
def running_hops(spawn: SpawnContext, workers: int) -> Iterator[Hops]:
    """A running broker and workers that know nothing but hops, and their client."""
    with tempfile.TemporaryDirectory(prefix="forgepool-bench-") as name:
        directory = Path(name)
        started = [spawn.Process(target=serve, args=(directory, workers))]
        started += [spawn.Process(target=work, args=(directory, n)) for n in range(workers)]
        for process in started:
            process.start()
        hops = Hops(directory, [psutil.Process(process.pid) for process in started])
        try:
            hops.wait_live()
            yield hops
        finally:
            hops.close()
            for process in started:
                process.terminate()
                process.join()
