"""The broker's loop with its real sockets and log, turned by the test."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import zmq
from log_records import a_record

from broker import server, wire
from broker.config import Settings, resolve_endpoints
from broker.event_log import SCAN_RECORDS, EventLog
from broker.messages import (
    SIGN,
    Assign,
    Assignment,
    Outcome,
    Push,
    Replay,
    Replayed,
    Request,
    Result,
    Results,
    ResultsAck,
    WorkerHello,
)
from broker.server import Broker
from broker.sockets import connect
from broker.topics import LogRecord


@pytest.fixture
def state_dir() -> Iterator[Path]:
    # Not pytest's own directory: its name may be too long for a socket's path.
    with tempfile.TemporaryDirectory(prefix="forgepool-") as name:
        yield Path(name)


@pytest.fixture
def broker(state_dir: Path) -> Iterator[Broker]:
    settings = Settings()
    old = EventLog(state_dir / "events", "old")
    list(old.load())
    for number in range(1, 10 * SCAN_RECORDS):
        old.append(a_record(number))
    old.close()
    with closing(
        Broker(state_dir, resolve_endpoints(state_dir, settings.endpoints), settings)
    ) as b:
        yield b


@pytest.fixture
def peer() -> Iterator[Callable[[int, str], zmq.Socket[bytes]]]:
    """Makes sockets that are connected to an address."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with ExitStack() as opened:
        yield lambda kind, address: opened.enter_context(
            closing(connect(context, kind, address, None))
        )
    context.term()


@pytest.fixture
def client(broker: Broker, peer: Callable[[int, str], zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    return peer(zmq.DEALER, broker.endpoints.requests)


def test_what_happened_is_logged_before_it_is_published_and_a_worker_may_forget_it(
    broker: Broker,
    peer: Callable[[int, str], zmq.Socket[bytes]],
    client: zmq.Socket[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[str] = []

    def append(log: EventLog, record: LogRecord) -> None:
        order.append("logged")
        append_to(log, record)

    def send(socket: zmq.Socket[bytes], frames: list[bytes]) -> bool:
        if socket.type == zmq.XPUB and wire.decode_events(frames[1]).events:
            order.append("published")
        if frames[1] == wire.encode(ResultsAck(1)):
            order.append("acknowledged")
        return send_on(socket, frames)

    append_to, send_on = EventLog.append, server.send
    monkeypatch.setattr(EventLog, "append", append)
    monkeypatch.setattr(server, "send", send)
    watcher = peer(zmq.SUB, broker.endpoints.events)
    watcher.subscribe("all")
    worker = peer(zmq.DEALER, broker.endpoints.workers)
    worker.send(wire.encode(WorkerHello(1, "w", 1, 1, "store", "host", 1000, "", [])))
    client.send(wire.encode(Push("baker", [Request(bytes(16), SIGN, b"bytes", "mv1a")])))
    while not watcher.poll(0):  # the first head: it is heard
        broker.turn()
    while "acknowledged" not in order:
        broker.turn()
        while worker.poll(0):
            match wire.decode_broker_message(worker.recv()):
                case Assign(assignments=[Assignment(items=[item])]):
                    result = Result(item.task, item.attempt, Outcome.READY, b"signature")
                    worker.send(wire.encode(Results(1, [result])))
    assert order == ["logged", "published", "acknowledged"]


def test_the_same_question_again_and_again_is_answered_a_few_times(
    broker: Broker, client: zmq.Socket[bytes]
) -> None:
    asked = 50
    for _ in range(asked):
        client.send(wire.encode(Replay("c/nobody", "old", 1)))
    client.send(wire.encode(Replay("c/last", "old", 1)))
    topics: list[str] = []
    while "c/last" not in topics:
        broker.turn()
        while client.poll(0):
            answer = wire.decode_reply(client.recv())
            assert isinstance(answer, Replayed)
            topics.append(answer.topic)
    assert len(topics) < asked / 2, "each looks through the whole log"


def test_a_question_that_is_repeated_meanwhile_is_answered_all_the_same(
    broker: Broker, client: zmq.Socket[bytes]
) -> None:
    turns = 0
    while not client.poll(0):
        client.send(wire.encode(Replay("c/nobody", "old", 1)))
        broker._requests.poll()  # it has arrived: each turn hears the question again
        broker.turn()
        turns += 1
        assert turns < 100, "it begins again each time"
    assert isinstance(wire.decode_reply(client.recv()), Replayed)


def test_two_questions_are_answered_side_by_side(broker: Broker, client: zmq.Socket[bytes]) -> None:
    client.send(wire.encode(Replay("c/nobody", "old", 1)))
    client.send(wire.encode(Replay("c/baker", "old", 10 * SCAN_RECORDS - 3)))
    answers: list[object] = []
    while len(answers) < 2:
        broker.turn()
        while client.poll(0):
            answers.append(wire.decode_reply(client.recv()))
    short, long = answers  # the log is read from its end: the second question is soon answered
    assert isinstance(short, Replayed)
    assert isinstance(long, Replayed)
    assert (short.topic, len(short.events)) == ("c/baker", 3)
    assert (long.topic, len(long.events)) == ("c/nobody", 0)
