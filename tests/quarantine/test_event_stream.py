"""Events leave in their order, and none before what it tells of is on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from broker import wire
from broker.event_log import EventLog
from broker.messages import Event
from broker.quarantine.event_stream import WAITING_MAX, EventStream, Told
from broker.quarantine.store_thread import Forget
from broker.sockets import make_socket

NOW = 1_700_000_000.0


def told(batch: int, id: bytes, *, client: str = "feeder", forget: bytes = b"") -> Told:
    event = Event(id, "d" if id else "", "cleared")
    return Told(batch, [(client, event, b"f" + id)], Forget([forget] if forget else [], []))


class Script:
    def __init__(self, directory: Path) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        publisher = make_socket(self._context, zmq.XPUB)
        publisher.bind("inproc://events")
        self._subscriber = make_socket(self._context, zmq.SUB)
        self._subscriber.connect("inproc://events")
        self._sockets = publisher, self._subscriber
        self.log = EventLog(directory, "e1")
        assert list(self.log.load()) == []
        self.stream = EventStream("e1", self.log, publisher)
        self.forgotten: list[bytes] = []

    def subscribe(self, topic: str) -> None:
        self._subscriber.subscribe(topic)
        assert self._sockets[0].poll(5000)
        self.stream.read_subscriptions()

    def flush(self) -> None:
        self.stream.flush(NOW, lambda forget: self.forgotten.extend(forget.held))

    def published(self) -> list[tuple[str, int, list[bytes]]]:
        """Topic, first number and ids of each message."""
        found = []
        while self._subscriber.poll(50):
            topic, body = self._subscriber.recv_multipart()
            events = wire.decode_events(body)
            found.append((topic.decode(), events.first, [e.id for e in events.events]))
        return found

    def close(self) -> None:
        for socket in self._sockets:
            socket.close(0)
        self._context.term()
        self.log.close()


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    script = Script(tmp_path)
    yield script
    script.close()


def test_an_event_waits_for_the_disk_and_later_ones_for_it(script: Script) -> None:
    script.subscribe("c/feeder")
    for each in (told(0, b"a"), told(2, b"b", forget=b"held"), told(0, b"c"), told(3, b"d")):
        script.stream.tell(each)
    script.flush()
    assert script.published() == [("c/feeder", 1, [b"a"])]
    assert script.forgotten == []
    script.stream.stored([1, 2])
    script.flush()
    assert script.published() == [("c/feeder", 2, [b"b", b"c"])]
    assert script.forgotten == [b"held"]
    script.stream.stored([3])
    script.flush()
    assert script.published() == [("c/feeder", 4, [b"d"])]


def test_with_a_disk_that_takes_nothing_it_is_full_at_some_time(script: Script) -> None:
    event = ("feeder", Event(b"a", "d", "shed"), b"f")
    script.stream.tell(Told(1, [event] * (WAITING_MAX - 1), Forget([], [])))
    script.flush()
    assert not script.stream.full
    script.stream.tell(told(0, b"b"))
    assert script.stream.full
    script.stream.stored([1])
    script.flush()
    assert not script.stream.full


def test_what_is_published_can_be_replayed(script: Script) -> None:
    script.stream.tell(told(0, b"a"))
    script.stream.tell(told(0, b"", client=""))
    script.flush()
    for topic, id in (("c/feeder", b"a"), ("c/quarantine", b""), ("d/d", b"a")):
        upto = script.stream.next_number(topic)
        [[replayed]] = script.log.replay(topic, "e1", 1, upto)
        assert [event.id for event in replayed.events] == [id]  # type: ignore[union-attr]
    [[everything]] = script.log.replay("all", "e1", 1, script.stream.next_number("all"))
    assert len(everything.events) == 2  # type: ignore[union-attr]


def test_who_asks_whether_he_is_heard_is_told_the_head(script: Script) -> None:
    script.stream.tell(told(0, b"a"))
    script.flush()
    script.subscribe("live/1/c/feeder")
    assert script.published() == [("live/1/c/feeder", 2, [])]
    script.subscribe("c/feeder")
    script.stream.send_heads(10.0)
    assert script.published() == [("c/feeder", 2, [])]
