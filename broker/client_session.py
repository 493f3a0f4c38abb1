"""What a client must remember so that no crash loses a request or an event it still wants.

Each request is kept until its last event has come, and pushed again under the same id: when no
acknowledgement came (`ACK_S`, doubling), when the connection was made anew, when the broker's
epoch changed, and when events were lost. docs/protocol.md tells the same rules to people who
write their own client.

Pure: replies, events and the time go in; messages to send, and news for the user, come out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from contextlib import suppress
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
from broker.quarantine.offers import (
    UNDECODABLE,
    VERIFY_VOTES,
    VotesOffer,
    decode_votes_offer,
    id_of_all,
    vote_ids,
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

    __slots__ = (
        "accepted",
        "deadline",
        "is_in_parts",
        "pushed",
        "request",
        "wait_s",
        "waiting",
    )

    def __init__(self, request: Request, now: float) -> None:
        ttl_ms = request.ttl_ms or (TTL_MS_MAX if request.deadline_unix_ms else TTL_MS_DEFAULT)
        self.request = request
        self.deadline = now + ttl_ms / 1000
        # What has not ended of several: votes by their delegates, parts by ids of their own.
        self.waiting: set[str | bytes] | None = None
        self.is_in_parts = request.kind == VERIFY_VOTES
        if self.is_in_parts:
            self.waiting = set(_ids_of(request))
        elif request.votes:
            self.waiting = {vote.delegate for vote in request.votes}
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
        self._in_parts: dict[bytes, _Pending] = {}  # those that have parts, by what these share
        self._due: list[bytes] = []
        self._retry: dict[bytes, float] = {}  # id -> when to push again unless acknowledged
        self._next_look = 0.0

    @property
    def open(self) -> int:
        """How many requests wait for an event."""
        return len(self._pending)

    def wants(self, id: bytes) -> bool:
        """Whether a request, or a vote of a `verify_votes` request, still waits for an event."""
        pending = self._waiting_for(id)
        if pending is None or not pending.is_in_parts:
            return pending is not None
        if id in (pending.waiting or ()):
            return True
        return id == pending.request.id and id not in _ids_of(pending.request)

    def push(self, request: Request, now: float) -> None:
        """Want a request; one that the broker could not even read is refused here.

        The broker's answer to it would name no request, and would stand for all of its message.
        """
        try:
            decode_client_message(encode(Push(self.name, [request])))
        except MalformedMessage as e:
            self._tell_refused(_ids_of(request), Ack(request.id, REFUSED, e.code, str(e)))
            return
        pending = _Pending(request, now)
        if pending.is_in_parts:
            shared = id_of_all(request.id)
            other = self._in_parts.get(shared)
            if other is not None and other.request.id != request.id:
                text = f"votes of {other.request.id.hex()} have the ids of its votes"
                ack = Ack(request.id, REFUSED, "id_reused", text)
                self._tell_refused(_ids_of(request), ack)
                return
            self._in_parts[shared] = pending
        self._pending[request.id] = pending
        self._due.append(request.id)

    def forget(self, id: bytes) -> None:
        """Stop wanting a request; its events are dropped."""
        pending = self._pending.pop(id, None)
        self._retry.pop(id, None)
        if pending is not None and pending.is_in_parts:
            self._in_parts.pop(id_of_all(id), None)

    def _waiting_for(self, id: bytes) -> _Pending | None:
        """The request that may wait for an event with this id."""
        pending = self._pending.get(id)
        if pending is None and self._in_parts:
            pending = self._in_parts.get(id_of_all(id))
        return pending

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
            self._refused(ack)

    def _refused(self, ack: Ack) -> None:
        """Nobody takes a request: say so, of each of its parts if it has several."""
        pending = self._pending[ack.id]
        ids = _ids_of(pending.request)
        if pending.is_in_parts:
            ids = [id for id in ids if id in (pending.waiting or ())]
        self._tell_refused(ids, ack)
        self.forget(ack.id)

    def _tell_refused(self, ids: list[bytes], ack: Ack) -> None:
        self.news += [Refused(Ack(id, ack.status, ack.code, ack.text)) for id in ids]

    def _deliver(self, events: list[Event]) -> None:
        """Pass each event on once; those of forgotten or finished requests are dropped."""
        for event in events:
            pending = self._waiting_for(event.id)
            if pending is None:
                continue
            waiting, is_end = pending.waiting, event.event != HELD
            if waiting is not None:
                what = event.id if pending.is_in_parts else event.delegate
                if what not in waiting:
                    continue  # it was published again
                if is_end:
                    waiting.remove(what)
            if is_end and not waiting:
                self.forget(pending.request.id)
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
        payload = request.payload
        if pending.is_in_parts and pending.pushed:
            payload = _without_ended(request, pending.waiting or ())
        pending.pushed = True
        self._retry[id] = now + pending.wait_s
        pending.wait_s = min(ACK_S_MAX, pending.wait_s * 2)
        is_by_clock = request.ttl_ms is None and bool(request.deadline_unix_ms)
        if payload is request.payload and (is_by_clock or request.ttl_ms == left_ms):
            return request
        return Request(
            request.id,
            request.kind,
            payload,
            request.delegate,
            request.votes,
            None if is_by_clock else max(1, left_ms),
            request.deadline_unix_ms if is_by_clock else None,
        )

    def _give_up(self, now: float) -> None:
        for id, pending in list(self._pending.items()):
            if not pending.pushed and now >= pending.deadline:
                self._was_taken_by_nobody(id)
            elif now >= pending.deadline + SILENCE_AFTER_DEADLINE_S:
                text = "its deadline is long past and its end was not heard of; ask the store"
                self._refused(Ack(id, REFUSED, "outcome_unknown", text))

    def _was_taken_by_nobody(self, id: bytes) -> None:
        text = "no broker took it before its deadline"
        self._refused(Ack(id, REFUSED, "no_answer", text))


def _ids_of(request: Request) -> list[bytes]:
    """The ids under which a request ends: its own, or those of its votes."""
    ids: list[bytes] = []
    if request.kind == VERIFY_VOTES:
        with suppress(*UNDECODABLE):
            raws = decode_votes_offer(request.payload).raws
            named = zip(vote_ids(request.id, len(raws)), raws, strict=True)
            ids = [id for id, raw in named if raw]
    return ids or [request.id]


def _without_ended(request: Request, waiting: Container[object]) -> bytes:
    """The payload of a `verify_votes` request without the votes that have ended.

    The quarantine remembers an end for a while only, and would judge them again.
    """
    try:
        offer = decode_votes_offer(request.payload)
    except UNDECODABLE:
        return request.payload
    ids = vote_ids(request.id, len(offer.raws))
    if all(id in waiting for id in ids):
        return request.payload
    raws = [raw if id in waiting else b"" for id, raw in zip(ids, offer.raws, strict=True)]
    return encode(VotesOffer(offer.peer, raws))


def _weight(request: Request) -> int:
    """About how many bytes a request has on the wire."""
    return len(request.payload) + VOTE_BYTES * len(request.votes or ())
