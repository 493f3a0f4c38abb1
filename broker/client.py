"""The client library: push work, hear how it ends, and lose nothing when a process dies.

    with Client(endpoints, "baker-1") as client:
        id = client.push_votes(FORGE_AND_SIGN_ATTESTATIONS, batch, votes, ttl_ms=4000)
        for event in client.wait(id, timeout_s=5):
            inject(event.body)

Synchronous and single-threaded: everything happens inside the calls. What must survive crashes is
in `client_session` (requests) and `topic_reader` (events); this file is their sockets and clock.
"""

from __future__ import annotations

import os
import re
import socket as sockets_of_the_system
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from struct import Struct
from types import TracebackType
from typing import Self, TypeVar

import zmq

from broker import wire
from broker.applications import ApplicationInPool, Watched
from broker.client_session import ClientSession, News, Refused
from broker.config import Endpoints
from broker.errors import BrokerError, FixRequest, MalformedMessage, NoAnswer
from broker.messages import (
    LIVE_TOPIC,
    REQUEST_ID_BYTES,
    AdminMessage,
    ApplicationList,
    ApplicationsWanted,
    AwaitWorkers,
    Cancel,
    Cancelled,
    ClientMessage,
    Done,
    Event,
    Gone,
    Problem,
    Reload,
    Reloaded,
    Replayed,
    ReplyMessage,
    Report,
    Request,
    Shutdown,
    Status,
    StatusWanted,
    TasksChanged,
    UnwatchApplications,
    Vote,
    VoteBatch,
    WatchApplications,
    WorkerEnded,
)
from broker.sockets import CurveIdentity, connect, receive, send
from broker.topic_reader import EventsLost, TopicReader

CALL_S = 5.0  # how long a question may take
ANSWERS_MAX = 16  # only the answer to the present question is wanted
RELOAD_CALL_S = 25.0  # two steps of a reload, with workers that answer late
LIVE_AGAIN_S = 0.5  # a subscription that was not answered is tried again

# What happened to a connection and a value of it, as zmq_socket_monitor(3) has them. pyzmq has a
# reader too, but it brings asyncio along: a third of the start of each command.
_MONITOR_EVENT = Struct("=HI")

T = TypeVar("T")


def new_id() -> bytes:
    """A fresh random request id."""
    return os.urandom(REQUEST_ID_BYTES)


def default_name() -> str:
    """A client name that no other process of this host uses."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", sockets_of_the_system.gethostname())[:40]
    return f"{host}-{os.getpid()}"


class RequestRefused(BrokerError):
    """The broker did not accept a request; `ack.code` says why."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(f"{refused.ack.code}: {refused.ack.text}")
        self.ack = refused.ack


class _Subscription:
    """A SUB socket that knows when it is live: its one-time topic was answered."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        topic: str,
        curve: CurveIdentity | None,
    ) -> None:
        self.socket = connect(context, zmq.SUB, address, curve)
        self.socket.subscribe(topic)
        self._topic = topic.encode()
        self._live_topic = b""
        self._ask_at = 0.0
        self.live = False
        self._monitor = self.socket.get_monitor_socket(
            zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED
        )

    @property
    def monitor(self) -> zmq.Socket[bytes]:
        return self._monitor

    def deadline(self) -> float | None:
        return None if self.live else self._ask_at

    def notice_connections(self) -> None:
        """Take what the monitor has: a new connection has not been asked yet."""
        while self._monitor.poll(0):
            description, _address = self._monitor.recv_multipart()
            event, _value = _MONITOR_EVENT.unpack(description)
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self.live, self._ask_at = False, 0.0
            elif event == zmq.EVENT_DISCONNECTED:
                self.live = False

    def ask(self, now: float) -> None:
        """Ask whether we are heard, until we know."""
        if not self.live and now >= self._ask_at:
            self._ask_at = now + LIVE_AGAIN_S
            if self._live_topic:
                self.socket.unsubscribe(self._live_topic)
            self._live_topic = LIVE_TOPIC.encode() + os.urandom(8).hex().encode() + b"/"
            self._live_topic += self._topic
            self.socket.subscribe(self._live_topic)

    def receive(self) -> bytes | None:
        """The next message of the topic (or the answer that we are live), without waiting."""
        frames = receive(self.socket)
        while frames is not None:
            if frames[0] == self._live_topic:
                self.socket.unsubscribe(self._live_topic)
                self._live_topic = b""
                self.live = True
                return frames[1]
            if frames[0] == self._topic and len(frames) == 2:
                return frames[1]
            frames = receive(self.socket)
        return None

    def close(self) -> None:
        self.socket.disable_monitor()
        self._monitor.close()
        self.socket.close()


class Client:
    """A connection to a pool: pushes requests and hears of their ends.

    Args:
        endpoints: where the broker listens (`config.resolve_endpoints`).
        name: scope of this client's request ids and its topic; keep it over restarts of your
            program if you push the same ids again.
    """

    def __init__(
        self, endpoints: Endpoints, name: str | None = None, *, curve: CurveIdentity | None = None
    ) -> None:
        self.session = ClientSession(name or default_name())
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._requests = connect(self._context, zmq.DEALER, endpoints.requests, curve)
        self._events = _Subscription(
            self._context, endpoints.events, self.session.reader.topic, curve
        )
        self._poller = zmq.Poller()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        for source in (
            self._requests,
            self._events.socket,
            self._events.monitor,
            self._wakeup,
        ):
            self._poller.register(source, zmq.POLLIN)
        self._answers: deque[ReplyMessage] = deque(maxlen=ANSWERS_MAX)
        self._was_live = False
        self._woken = False

    @property
    def name(self) -> str:
        return self.session.name

    @property
    def live(self) -> bool:
        """Whether a broker has heard our subscription on this connection."""
        return self._events.live

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- pushing ----------------------------------------------------------------------------------

    def push(self, request: Request) -> bytes:
        """Ask for work; returns the request's id. Its events come from `poll` and `wait`."""
        self.session.push(request, time.monotonic())
        self._step(0.0)
        return request.id

    def push_all(self, requests: Sequence[Request]) -> None:
        """Ask for many things in one message."""
        now = time.monotonic()
        for request in requests:
            self.session.push(request, now)
        self._step(0.0)

    def push_votes(
        self,
        kind: str,
        batch: VoteBatch,
        votes: list[Vote],
        *,
        ttl_ms: int | None = None,
        id: bytes | None = None,
    ) -> bytes:
        """Ask for the votes of many delegates; each has its own event."""
        return self.push(
            Request(id or new_id(), kind, wire.encode(batch), votes=votes, ttl_ms=ttl_ms)
        )

    def push_one(
        self,
        kind: str,
        delegate: str,
        payload: bytes,
        *,
        ttl_ms: int | None = None,
        id: bytes | None = None,
    ) -> bytes:
        """Ask for a block (`forge_and_sign_block`) or a signature (`sign`) of one delegate."""
        return self.push(Request(id or new_id(), kind, payload, delegate, ttl_ms=ttl_ms))

    # -- hearing ----------------------------------------------------------------------------------

    def report(self, numbers: Mapping[str, int]) -> None:
        """Say how this service is, for `status`; what cannot be sent now is not sent."""
        send(self._requests, [wire.encode(Report(self.session.name, dict(numbers)))])

    def poll(self, timeout_s: float = 0.0) -> list[News]:
        """What has happened since the last call; waits for the first news at most `timeout_s`."""
        until = time.monotonic() + timeout_s
        self._step(0.0)
        while not (self.session.news or self._woken) and (left := until - time.monotonic()) > 0:
            self._step(left)
        self._woken = False
        news = list(self.session.news)
        self.session.news.clear()
        return news

    def wait(self, id: bytes, timeout_s: float = 60.0) -> list[Event]:
        """All events of one request, or of one vote of a `verify_votes` request, which has an id of
        its own; news of others stays for `poll`.

        Raises:
            RequestRefused: the broker did not take it.
            NoAnswer: it has not ended in time.
        """
        until = time.monotonic() + timeout_s
        found: list[Event] = []
        while True:
            others: list[News] = []
            for news in self.session.news:
                if isinstance(news, Refused) and news.ack.id == id:
                    raise RequestRefused(news)
                if isinstance(news, Event) and news.id == id:
                    found.append(news)
                else:
                    others.append(news)
            self.session.news.clear()
            self.session.news.extend(others)
            if not self.session.wants(id):
                return found
            if (left := until - time.monotonic()) <= 0:
                raise NoAnswer(f"request {id.hex()} has not ended in {timeout_s} s")
            self._step(left)

    def wake(self) -> None:
        """End a `poll` that waits in another thread; the only call that other threads may make."""
        os.eventfd_write(self._wakeup, 1)

    def wait_live(self, timeout_s: float = CALL_S) -> None:
        """Wait until the broker hears our subscription.

        Raises:
            NoAnswer: it did not in time.
        """
        until = time.monotonic() + timeout_s
        while not self._events.live:
            if (left := until - time.monotonic()) <= 0:
                raise NoAnswer.at_all()
            self._step(left)

    # -- questions --------------------------------------------------------------------------------

    def cancel(
        self, *, id: bytes | None = None, delegate: str | None = None, timeout_s: float = CALL_S
    ) -> Cancelled:
        """Cancel what this client has pending: one request, one delegate's, or everything."""
        return self._ask(Cancel(self.name, id, delegate), Cancelled, timeout_s)

    def status(self, timeout_s: float = CALL_S) -> dict[str, object]:
        """How the pool is."""
        return self._ask(StatusWanted(), Status, timeout_s).status

    def _ask(self, question: ClientMessage, kind: type[T], timeout_s: float) -> T:
        until = time.monotonic() + timeout_s
        self._answers.clear()  # of a question that was given up, or a complaint about a push
        sent = False
        while True:
            sent = sent or send(self._requests, [wire.encode(question)])
            for i, answer in enumerate(self._answers):
                if isinstance(answer, kind):
                    del self._answers[i]
                    return answer
                if isinstance(answer, Problem):
                    del self._answers[i]
                    raise FixRequest(f"{answer.code}: {answer.text}")
            left = until - time.monotonic()
            if left <= 0:
                raise NoAnswer.at_all()
            self._step(min(left, 0.05) if not sent else left)

    # -- sockets ----------------------------------------------------------------------------------

    def _step(self, timeout_s: float) -> None:
        """Send what is due, wait for something to arrive, take it."""
        now = time.monotonic()
        self._events.ask(now)
        self._send_due(now)
        # Until we are heard nothing is sent, whatever is due.
        at = self.session.deadline() if self._events.live else self.session.next_look
        deadlines = [d for d in (at, self._events.deadline()) if d is not None]
        until = min([now + timeout_s, *deadlines])
        wait_ms = max(0, int((until - now) * 1000) + (timeout_s > 0))
        readable = [source for source, _ in self._poller.poll(wait_ms)]
        if self._wakeup in readable:
            os.eventfd_read(self._wakeup)
            self._woken = True
        if self._events.monitor in readable:
            self._events.notice_connections()
        now = time.monotonic()
        self._events.ask(now)
        if self._requests in readable:
            self._take_replies(now)
        if self._events.socket in readable:
            self._take_events(now)
        self._send_due(now)

    def _take_replies(self, now: float) -> None:
        while (frames := receive(self._requests)) is not None:
            try:
                reply = wire.decode_reply(frames[-1])
            except MalformedMessage:
                continue  # not of our protocol; what is missing will be asked for again
            self.session.reply(reply, now)
            if isinstance(reply, Cancelled | Status | Problem):
                self._answers.append(reply)

    def _take_events(self, now: float) -> None:
        while (data := self._events.receive()) is not None:
            try:
                self.session.events(wire.decode_events(data), now)
            except MalformedMessage:
                continue

    def _send_due(self, now: float) -> None:
        if not self._events.live:
            self.session.look(now)
            return  # events of what we push now could be missed
        if not self._was_live:
            self._was_live = True
            self.session.push_all_again()
        for message in self.session.to_send(now):
            if not send(self._requests, [wire.encode(message)]):
                break  # not connected: it is pushed again when no acknowledgement comes

    def close(self) -> None:
        self._events.close()
        self._requests.close()
        self._context.term()
        os.close(self._wakeup)


class Watcher:
    """Reads any topic: `all`, `d/<delegate>`, `c/<client>`; in order, with gaps replayed."""

    def __init__(
        self, endpoints: Endpoints, topic: str, *, curve: CurveIdentity | None = None
    ) -> None:
        self.reader = TopicReader(topic)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._requests = connect(self._context, zmq.DEALER, endpoints.requests, curve)
        self._events = _Subscription(self._context, endpoints.events, topic, curve)
        self._poller = zmq.Poller()
        for socket in (self._requests, self._events.socket, self._events.monitor):
            self._poller.register(socket, zmq.POLLIN)

    def __iter__(self) -> Iterator[Event | EventsLost]:
        while True:
            yield from self.poll(1.0)

    @property
    def live(self) -> bool:
        return self._events.live

    def poll(self, timeout_s: float) -> list[Event | EventsLost]:
        """What has arrived; waits at most `timeout_s` for it."""
        now = time.monotonic()
        self._events.notice_connections()
        self._events.ask(now)
        replay = self.reader.replay_due(now)
        if replay is not None:
            send(self._requests, [wire.encode(replay)])
        deadlines = [d for d in (self.reader.deadline(), self._events.deadline()) if d is not None]
        until = min([now + timeout_s, *deadlines])
        self._poller.poll(max(0, int((until - now) * 1000) + 1))
        now = time.monotonic()
        found: list[Event | EventsLost] = []
        while (data := self._events.receive()) is not None:
            found += self.reader.events(wire.decode_events(data), now)[0]
        while (frames := receive(self._requests)) is not None:
            match wire.decode_reply(frames[-1]):
                case Replayed() as part:
                    found += self.reader.replayed(part, now)
                case Gone() as gone:
                    events, lost = self.reader.gone(gone, now)
                    found += [lost, *events] if lost is not None else events
        return found

    def close(self) -> None:
        self._events.close()
        self._requests.close()
        self._context.term()


class Admin:
    """The admin socket: cancel anybody's work, shut down, and what the supervisor says."""

    def __init__(self, endpoints: Endpoints, *, curve: CurveIdentity | None = None) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = connect(self._context, zmq.DEALER, endpoints.admin, curve)

    def cancel(
        self,
        *,
        client: str | None = None,
        id: bytes | None = None,
        delegate: str | None = None,
        timeout_s: float = CALL_S,
    ) -> Cancelled:
        return self._ask(Cancel(client, id, delegate), Cancelled, timeout_s)

    def status(self, timeout_s: float = CALL_S) -> dict[str, object]:
        return self._ask(StatusWanted(), Status, timeout_s).status

    def shutdown(self, *, now: bool = False, timeout_s: float = CALL_S) -> None:
        self._ask(Shutdown(now), Done, timeout_s)

    def reload(self, *, dry_run: bool = False, timeout_s: float = RELOAD_CALL_S) -> Reloaded:
        """Have all workers read keys and policy again, and go by them if all can."""
        return self._ask(Reload(dry_run), Reloaded, timeout_s)

    def watch_applications(
        self,
        applications: Sequence[Watched],
        *,
        replace: bool = False,
        timeout_s: float = CALL_S,
    ) -> None:
        """Have the off-chain tasks of these processed too; with `replace`, of these only."""
        self._ask(WatchApplications(list(applications), replace), Done, timeout_s)

    def unwatch_applications(self, keys: Sequence[str], timeout_s: float = CALL_S) -> None:
        self._ask(UnwatchApplications(list(keys)), Done, timeout_s)

    def applications(self, timeout_s: float = CALL_S) -> list[ApplicationInPool]:
        """Which applications are processed, and by whom."""
        return self._ask(ApplicationsWanted(), ApplicationList, timeout_s).applications

    def tasks_changed(self, keys: Sequence[str], timeout_s: float = CALL_S) -> None:
        """Have the owners look into the journal for what is to be done with tasks of these."""
        self._ask(TasksChanged(list(keys)), Done, timeout_s)

    def worker_ended(self, pid: int, how: str, timeout_s: float = CALL_S) -> None:
        self._ask(WorkerEnded(pid, how), Done, timeout_s)

    def await_workers(self, pids: list[int], timeout_s: float = CALL_S) -> None:
        self._ask(AwaitWorkers(pids), Done, timeout_s)

    def _ask(self, question: AdminMessage, kind: type[T], timeout_s: float) -> T:
        until = time.monotonic() + timeout_s
        # IMMEDIATE: until the connection stands there is nobody to send to.
        if self._socket.poll(int(timeout_s * 1000), zmq.POLLOUT):
            send(self._socket, [wire.encode(question)])
        while (left := until - time.monotonic()) > 0 and self._socket.poll(int(left * 1000) + 1):
            frames = receive(self._socket)
            answer = wire.decode_reply(frames[-1]) if frames else None
            if isinstance(answer, kind):
                return answer
            if isinstance(answer, Problem):
                raise FixRequest(f"{answer.code}: {answer.text}")
        raise NoAnswer.at_all()

    def close(self) -> None:
        self._socket.close()
        self._context.term()
