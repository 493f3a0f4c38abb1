"""Numbers the events of each topic and says who gets what.

Topics are few: `c/<client>` (what this client pushed), `d/<delegate>`, `all`. Each counts its own
events within the broker's epoch. What nobody subscribed to is numbered and logged, not published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Protocol

import msgspec
from msgspec import Struct

from broker.messages import ALL_TOPIC, CLIENT_TOPIC, DELEGATE_TOPIC, LIVE_TOPIC, Event, Events
from broker.wire import portions

TOPICS = (ALL_TOPIC, CLIENT_TOPIC, DELEGATE_TOPIC)
# Each wanted topic's head is published this often, so that a lost last event is noticed.
HEADS_EVERY_S = 1.0
# More go into the following turns, so that any number of subscriptions delays no vote for long.
HEADS_PER_TURN_MAX = 256
EVENT_BYTES = 128  # without its body: id, delegate, names of fields
# Counters kept, of 150 bytes each. Of a client that none of so many others was younger than, the
# place is forgotten: its topic goes on above every forgotten number, which its reader takes for a
# hole and asks for its ends again.
CLIENTS_MAX = 65_536


class LoggedRequest(Struct, array_like=True):
    """A request that has events in the record; `fingerprint` tells a reused id."""

    id: bytes
    fingerprint: bytes


class LoggedClient(Struct, array_like=True):
    """One client's events of a turn."""

    client: str
    first: int  # number of the first one on the client's topic
    events: list[Event]
    delegate_numbers: list[int]  # each event's number on its delegate's topic
    requests: list[LoggedRequest]


class LogRecord(Struct, array_like=True):
    """All events of one turn of the broker."""

    unix_ms: int
    all_first: int  # number of the first one on `all`
    clients: list[LoggedClient]

    def of_topic(self, topic: str) -> list[tuple[int, Event]]:
        """The record's events on one topic, with their numbers there."""
        found: list[tuple[int, Event]] = []
        number = self.all_first
        for group in self.clients:
            if topic == ALL_TOPIC:
                found += enumerate(group.events, number)
                number += len(group.events)
            elif topic == CLIENT_TOPIC + group.client:
                found += enumerate(group.events, group.first)
            elif topic.startswith(DELEGATE_TOPIC):
                delegate = topic[len(DELEGATE_TOPIC) :]
                found += [
                    (n, e)
                    for n, e in zip(group.delegate_numbers, group.events, strict=True)
                    if e.delegate == delegate
                ]
        return found


class Counted(Protocol):
    """What counts the events of one delegate's topic: its queue."""

    events: int


class EndedOfClient:
    """What has ended in this turn for one client: events, and the queues they came from."""

    __slots__ = ("events", "queues", "requests")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.queues: list[Counted] = []
        self.requests: dict[bytes, bytes] = {}  # id -> fingerprint

    def add(self, event: Event, queue: Counted) -> None:
        self.events.append(event)
        self.queues.append(queue)


class Topics:
    """The counters of one epoch and the set of wanted topics."""

    def __init__(self, epoch: str) -> None:
        self.epoch = epoch
        self.wanted: dict[str, None] = {}  # in the order of subscription
        self._all = 0
        self._clients: dict[str, int] = {}  # last numbers, in the order of their last events
        self._forgotten = 0  # the highest last number of a client that is not there any more
        self._next_heads = 0.0
        self._heads_left: list[str] = []  # topics whose heads are still to be published
        self._wanted_delegates = 0  # spares the hot path a look at each delegate

    # -- subscriptions ----------------------------------------------------------------------------

    def subscribed(self, topic: str) -> None:
        if topic not in self.wanted:
            self.wanted[topic] = None
            self._wanted_delegates += topic.startswith(DELEGATE_TOPIC)

    def unsubscribed(self, topic: str) -> None:
        if topic in self.wanted:
            del self.wanted[topic]
            self._wanted_delegates -= topic.startswith(DELEGATE_TOPIC)

    def head(self, topic: str, queues: Mapping[str, Counted]) -> Events:
        """The number that comes next on a topic."""
        if topic == ALL_TOPIC:
            last = self._all
        elif topic.startswith(CLIENT_TOPIC):
            last = self._clients.get(topic[len(CLIENT_TOPIC) :], self._forgotten)
        else:
            queue = queues.get(topic[len(DELEGATE_TOPIC) :])
            last = queue.events if queue is not None else 0
        return Events(self.epoch, last + 1, [])

    def heads_due(self, queues: Mapping[str, Counted], now: float) -> list[tuple[str, Events]]:
        """Once a second: the head of each wanted topic."""
        if not self._heads_left:
            if now < self._next_heads:
                return []
            self._next_heads = now + HEADS_EVERY_S
            self._heads_left = [t for t in self.wanted if not t.startswith(LIVE_TOPIC)]
        due = self._heads_left[-HEADS_PER_TURN_MAX:]
        del self._heads_left[-HEADS_PER_TURN_MAX:]
        return [(topic, self.head(topic, queues)) for topic in due if topic in self.wanted]

    def deadline(self) -> float:
        if self._heads_left:
            return 0.0
        return self._next_heads if self.wanted else inf

    # -- numbering --------------------------------------------------------------------------------

    def number(
        self, turn: dict[str, EndedOfClient], unix_ms: int
    ) -> tuple[LogRecord, list[tuple[str, Events]]]:
        """Number a turn's events, by client: the record for the log, and what to publish."""
        all_first = self._all + 1
        record = LogRecord(unix_ms, all_first, [])
        publish: list[tuple[str, Events]] = []
        all_wanted = ALL_TOPIC in self.wanted
        everything: list[Event] = []
        for client, ended in turn.items():
            events = ended.events
            first = self._clients.pop(client, self._forgotten) + 1
            self._clients[client] = first + len(events) - 1
            if len(self._clients) > CLIENTS_MAX:
                oldest = next(iter(self._clients))
                self._forgotten = max(self._forgotten, self._clients.pop(oldest))
            self._all += len(events)
            numbers = []
            for queue in ended.queues:
                queue.events += 1
                numbers.append(queue.events)
            requests = [LoggedRequest(i, f) for i, f in ended.requests.items()]
            record.clients.append(LoggedClient(client, first, events, numbers, requests))
            topic = CLIENT_TOPIC + client
            if topic in self.wanted:
                publish += self._published(topic, first, events)
            if all_wanted:
                everything += events
            if self._wanted_delegates:
                for number, event in zip(numbers, events, strict=True):
                    topic = DELEGATE_TOPIC + event.delegate
                    if topic in self.wanted:
                        publish.append((topic, Events(self.epoch, number, [event])))
        if all_wanted:
            publish += self._published(ALL_TOPIC, all_first, everything)
        return record, publish

    def _published(
        self, topic: str, first: int, events: list[Event]
    ) -> Iterator[tuple[str, Events]]:
        """One message, or as many as big blocks need."""
        for portion in portions(events, _bytes_of):
            yield topic, Events(self.epoch, first, portion)
            first += len(portion)


def _bytes_of(event: Event) -> int:
    """About what an event has on the wire."""
    return EVENT_BYTES + len(event.body)


encode_record = msgspec.msgpack.Encoder().encode
decode_record = msgspec.msgpack.Decoder(LogRecord).decode
