"""What a client must remember so that no crash loses a request or an event it still wants.

Each request is kept until its last event has come, and pushed again under the same id: when no
acknowledgement came (`ACK_S`, doubling), when the connection was made anew, when the broker's
epoch changed, and when events were lost. docs/protocol.md tells the same rules to people who
write their own client.

Pure: replies, events and the time go in; messages to send, and news for the user, come out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from broker.errors import MalformedMessage
from broker.messages import (
    ACCEPTED,
    CLIENT_TOPIC,
    DUPLICATE,
    HELD,
    REFUSED,
    REQUESTS_PER_PUSH_MAX,
    TTL_MS_DEFAULT,
    TTL_MS_MAX,
    Ack,
    Acks,
    Event,
    Events,
    Gone,
    Push,
    Replay,
    Replayed,
    ReplyMessage,
    Request,
)
from broker.topic_reader import EventsLost, TopicReader
from broker.wire import decode_client_message, encode, portions

ACK_S = 0.25  # without an acknowledgement for so long, push again; then twice as long, …
ACK_S_MAX = 4.0
# The broker ends each request at its deadline, or 10 s later when its signer was asked just before
# and says nothing; who hears nothing for so long gives up.
SILENCE_AFTER_DEADLINE_S = 15.0
VOTE_BYTES = 60  # on the wire, without a DAL bitset
GIVE_UP_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker did not take a request, or was not heard of until well past its deadline."""

    ack: Ack


News = Event | Refused | EventsLost


class _Pending:
    """A request that waits for an event."""

    __slots__ = ("accepted", "deadline", "pushed", "request", "wait_s", "waiting")

    def __init__(self, request: Request, now: float) -> None:
        ttl_ms = request.ttl_ms or (TTL_MS_MAX if request.deadline_unix_ms else TTL_MS_DEFAULT)
        self.request = request
        self.deadline = now + ttl_ms / 1000
        self.waiting = {v.delegate for v in request.votes} if request.votes else None
        self.pushed = False  # a broker may have it
        self.accepted = False  # a broker has it
        self.wait_s = ACK_S


class ClientSession:
    """One client's open requests and its place in the event stream."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.reader = TopicReader(CLIENT_TOPIC + name)
        self.news: deque[News] = deque()
        self._pending: dict[bytes, _Pending] = {}
        self._due: list[bytes] = []
        self._retry: dict[bytes, float] = {}  # id -> when to push again unless acknowledged
        self._next_look = 0.0

    @property
    def open(self) -> int:
        """How many requests wait for an event."""
        return len(self._pending)

    def wants(self, id: bytes) -> bool:
        """Whether a request still waits for an event."""
        return id in self._pending

    def push(self, request: Request, now: float) -> None:
        """Want a request; one that the broker could not even read is refused here.

        The broker's answer to it would name no request, and would stand for all of its message.
        """
        try:
            decode_client_message(encode(Push(self.name, [request])))
        except MalformedMessage as e:
            self.news.append(Refused(Ack(request.id, REFUSED, e.code, str(e))))
            return
        self._pending[request.id] = _Pending(request, now)
        self._due.append(request.id)

    def forget(self, id: bytes) -> None:
        """Stop wanting a request; its events are dropped."""
        self._pending.pop(id, None)
        self._retry.pop(id, None)

    # -- in ---------------------------------------------------------------------------------------

    def push_all_again(self) -> None:
        """After a new connection, or lost events: whatever is still wanted."""
        self._due = list(self._pending)

    def reply(self, reply: ReplyMessage, now: float) -> None:
        """Take what came on the request socket."""
        match reply:
            case Acks():
                if self.reader.heard_epoch(reply.epoch, now):
                    self.push_all_again()
                for ack in reply.acks:
                    self._acknowledged(ack, now)
            case Replayed() if reply.topic == self.reader.topic:
                self._deliver(self.reader.replayed(reply, now))
            case Gone() if reply.topic == self.reader.topic:
                events, lost = self.reader.gone(reply, now)
                self._deliver(events)
                if lost is not None:
                    self.news.append(lost)
                    self.push_all_again()
            case _:
                pass

    def events(self, events: Events, now: float) -> None:
        """Take a message of the client's topic."""
        ready, restarted = self.reader.events(events, now)
        if restarted:
            self.push_all_again()
        self._deliver(ready)

    def _acknowledged(self, ack: Ack, now: float) -> None:
        self._retry.pop(ack.id, None)
        pending = self._pending.get(ack.id)
        if pending is None:
            return
        if ack.status in (ACCEPTED, DUPLICATE):
            pending.accepted = True
            pending.wait_s = ACK_S
        elif ack.retry_ms and now < pending.deadline:
            self._retry[ack.id] = now + ack.retry_ms / 1000
        else:
            self.forget(ack.id)
            self.news.append(Refused(ack))

    def _deliver(self, events: list[Event]) -> None:
        """Pass each event on once; those of forgotten or finished requests are dropped."""
        for event in events:
            pending = self._pending.get(event.id)
            if pending is None:
                continue
            if event.event == HELD:
                pass  # news, but no end
            elif pending.waiting is None:
                self.forget(event.id)
            elif event.delegate in pending.waiting:
                pending.waiting.remove(event.delegate)
                if not pending.waiting:
                    self.forget(event.id)
            else:
                continue  # it was published again
            self.news.append(event)

    # -- out --------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When `to_send` must be called at the latest."""
        if self._due:
            return 0.0
        times = list(self._retry.values())
        if self._pending:
            times.append(self._next_look)
        if (at := self.reader.deadline()) is not None:
            times.append(at)
        return min(times, default=None)

    @property
    def next_look(self) -> float | None:
        """When to call `look` at the latest while nothing can be sent."""
        return self._next_look if self._pending else None

    def look(self, now: float) -> None:
        """Give up what is long overdue; `to_send` does it too."""
        if self._pending and now >= self._next_look:
            self._next_look = now + GIVE_UP_LOOK_S
            self._give_up(now)
            self._due = [id for id in self._due if id in self._pending]

    def to_send(self, now: float) -> list[Push | Replay]:
        """What goes to the broker now."""
        self.look(now)
        for id, at in list(self._retry.items()):
            if at <= now:
                del self._retry[id]
                self._due.append(id)
        messages: list[Push | Replay] = []
        if self._due:
            due, self._due = self._due, []
            again = [r for id in due if (r := self._with_time_left(id, now)) is not None]
            messages += [
                Push(self.name, portion[i : i + REQUESTS_PER_PUSH_MAX])
                for portion in portions(again, _weight)
                for i in range(0, len(portion), REQUESTS_PER_PUSH_MAX)
            ]
        replay = self.reader.replay_due(now)
        if replay is not None:
            messages.append(replay)
        return messages

    def _with_time_left(self, id: bytes, now: float) -> Request | None:
        pending = self._pending.get(id)
        if pending is None:
            return None
        request = pending.request
        left_ms = int((pending.deadline - now) * 1000)
        if left_ms <= 0 and not pending.accepted:
            # Now nobody should take it any more; if somebody has, we shall hear of its end.
            if not pending.pushed:
                self._was_taken_by_nobody(id)
            return None
        pending.pushed = True
        self._retry[id] = now + pending.wait_s
        pending.wait_s = min(ACK_S_MAX, pending.wait_s * 2)
        if request.ttl_ms == left_ms or (request.ttl_ms is None and request.deadline_unix_ms):
            return request
        return Request(
            request.id,
            request.kind,
            request.payload,
            request.delegate,
            request.votes,
            max(1, left_ms),
        )

    def _give_up(self, now: float) -> None:
        for id, pending in list(self._pending.items()):
            if not pending.pushed and now >= pending.deadline:
                self._was_taken_by_nobody(id)
            elif now >= pending.deadline + SILENCE_AFTER_DEADLINE_S:
                self.forget(id)
                text = "its deadline is long past and its end was not heard of; ask the store"
                self.news.append(Refused(Ack(id, REFUSED, "outcome_unknown", text)))

    def _was_taken_by_nobody(self, id: bytes) -> None:
        self.forget(id)
        text = "no broker took it before its deadline"
        self.news.append(Refused(Ack(id, REFUSED, "no_answer", text)))


def _weight(request: Request) -> int:
    """About how many bytes a request has on the wire."""
    return len(request.payload) + VOTE_BYTES * len(request.votes or ())
