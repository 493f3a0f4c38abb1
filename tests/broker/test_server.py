"""The broker's loop with its real sockets and log, turned by the test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zmq
from log_records import a_record

from broker import wire
from broker.config import Settings, resolve_endpoints
from broker.event_log import SCAN_RECORDS, EventLog
from broker.messages import Replay, Replayed
from broker.server import Broker
from broker.sockets import connect


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
def client(broker: Broker) -> Iterator[zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = connect(context, zmq.DEALER, broker.endpoints.requests, None)
    yield socket
    socket.close()
    context.term()


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
