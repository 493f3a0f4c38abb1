"""The quarantine's event stream: the same topics, log and replay as the broker's.

Events wait here until what they tell of is on disk, in their order: so no client hears of an item
that a crash would take back.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import zmq
from msgspec import Struct

from broker import wire
from broker.event_log import EventLog
from broker.messages import LIVE_TOPIC, TOPIC_LETTERS_MAX, Event
from broker.quarantine.notices import NOTICES
from broker.quarantine.store_thread import Forget
from broker.server import subscriptions
from broker.sockets import send
from broker.topics import TOPICS, EndedOfClient, Topics

log = logging.getLogger("forgepool.quarantine")


# With events since the start. Only who has rights has events, so that no chain comes near; those
# beyond have their events on the other topics only.
DELEGATES_MAX = 65_536
# With a disk that takes nothing events pile up here: from this on no request is taken, which would
# end in one more. About 300 bytes each; a good disk is behind by some thousand.
WAITING_MAX = 65_536


class Told(Struct):
    """The events of a turn, and what may be forgotten when they are in the log."""

    batch: int  # number of the batch that must be on disk before; 0: none
    events: list[tuple[str, Event, bytes]]  # client ("": nobody asked), event, fingerprint
    forget: Forget


class _DelegateEvents:
    """How many events a delegate's topic had."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events = 0


class EventStream:
    """Log and socket around the topics of one epoch."""

    def __init__(self, epoch: str, events: EventLog, socket: zmq.Socket[bytes]) -> None:
        self._log = events
        self._socket = socket
        self._topics = Topics(epoch)
        self._delegates: dict[str, _DelegateEvents] = {}
        self._nobody = _DelegateEvents()
        self._waiting: deque[Told] = deque()
        self.waiting = 0  # events in it
        self._stored = 0

    def tell(self, told: Told) -> None:
        """Publish events when what they tell of is on disk, and what was told before is out."""
        self._waiting.append(told)
        self.waiting += len(told.events)

    def stored(self, numbers: list[int]) -> None:
        """These batches are on disk; they come in the order of their numbers."""
        self._stored = numbers[-1]

    @property
    def full(self) -> bool:
        """Whether no more requests may be taken until the store has caught up."""
        return self.waiting >= WAITING_MAX

    def flush(self, unix_now: float, forget: Callable[[Forget], None]) -> None:
        """Log and publish what may go out as one record, then let what it ends be forgotten."""
        ended: dict[str, EndedOfClient] = {}
        forgotten: list[Forget] = []
        while self._waiting and self._waiting[0].batch <= self._stored:
            told = self._waiting.popleft()
            self.waiting -= len(told.events)
            for client, event, fingerprint in told.events:
                name = client or NOTICES
                group = ended.get(name)
                if group is None:
                    group = ended[name] = EndedOfClient()
                group.add(event, self._counter(event.delegate))
                if event.id:
                    group.requests[event.id] = fingerprint
            if told.forget.held or told.forget.told:
                forgotten.append(told.forget)
        if ended:
            self._publish(ended, unix_now)
        for each in forgotten:
            forget(each)

    def _publish(self, ended: dict[str, EndedOfClient], unix_now: float) -> None:
        record, published = self._topics.number(ended, int(unix_now * 1000))
        before = self._log.failure
        self._log.append(record)
        if self._log.failure != before:
            log.critical("event_log %s", self._log.failure or "can be written again")
        for topic, events in published:
            send(self._socket, [topic.encode(), wire.encode(events)])

    def _counter(self, delegate: str) -> _DelegateEvents:
        if not delegate:
            return self._nobody
        counter = self._delegates.get(delegate)
        if counter is None:
            if len(self._delegates) >= DELEGATES_MAX:
                return self._nobody
            counter = self._delegates[delegate] = _DelegateEvents()
        return counter

    # -- subscribers ------------------------------------------------------------------------------

    def read_subscriptions(self) -> None:
        for topic, wanted in subscriptions(self._socket):
            if not wanted:
                self._topics.unsubscribed(topic)
            elif topic.startswith(LIVE_TOPIC) and len(topic) <= 2 * TOPIC_LETTERS_MAX:
                about = topic[len(LIVE_TOPIC) :].partition("/")[2]
                head = self._topics.head(about, self._delegates)
                send(self._socket, [topic.encode(), wire.encode(head)])
            elif len(topic) <= TOPIC_LETTERS_MAX and topic.startswith(TOPICS):
                self._topics.subscribed(topic)

    def send_heads(self, now: float) -> None:
        for topic, head in self._topics.heads_due(self._delegates, now):
            send(self._socket, [topic.encode(), wire.encode(head)])

    def next_number(self, topic: str) -> int:
        """The number of a topic's next event."""
        return self._topics.head(topic, self._delegates).first

    def deadline(self) -> float:
        """When the heads are due."""
        return self._topics.deadline()
