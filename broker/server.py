"""The broker process: one loop that reads its sockets, steps the dispatcher, and does its bidding.

The order of a turn's effects is the broker's promise: what happened is in the event log before it
is published, and published before a worker may forget it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import zmq

from broker import wire
from broker.access import Access
from broker.applications import OFFCHAIN_CLIENT
from broker.collector import tune_collector
from broker.config import Endpoints, Settings
from broker.dispatcher import Dispatcher, Turn
from broker.errors import AlreadyRunning, MalformedMessage, UnreadableWatchList
from broker.event_log import EventLog
from broker.known_requests import Key
from broker.messages import (
    AdminMessage,
    Cancel,
    ClientMessage,
    Push,
    ReplyMessage,
    Report,
)
from broker.replays import Replays
from broker.sockets import bind, bound_address, make_socket, receive, receive_frames, send
from broker.task_options import COMPAT, configured_applications, controller_key
from broker.task_routing import TaskPlan
from broker.watch_list import KeptList
from broker.watch_list_file import WatchListWriter, read_watch_list

log = logging.getLogger("forgepool.broker")

# One turn reads at most so many messages of a socket, so that none starves the others,
MESSAGES_PER_TURN = 256
# and no more of clients after so long: a message of 1,024 requests takes some milliseconds, and a
# flood of them must not keep workers waiting until their leases are over. ZeroMQ takes from the
# connections in turn, so the flood's neighbours wait for one of its messages each, not for all.
CLIENTS_S_MAX = 0.01
POLL_MAX_MS = 1000


Peer = tuple[zmq.Socket[bytes], bytes]  # the socket, and the connection's identity on it


class ServiceLock:
    """The exclusive lock of a service of a state directory; taken before any socket is bound.

    Binding an ipc path that is in use succeeds silently in ZeroMQ and steals it.
    """

    def __init__(self, state_dir: Path, service: str = "broker") -> None:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = state_dir / f"{service}.lock"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.pread(self._fd, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise AlreadyRunning(
                f"a pool is already running, pid {pid} is its {service} "
                f"(state directory {state_dir}). {AlreadyRunning.advice}"
            ) from None
        os.ftruncate(self._fd, 0)
        with suppress(OSError):  # a full disk costs the note, not the pool
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._fd)


class Broker:
    """Sockets, event log and clock around one Dispatcher."""

    def __init__(
        self,
        state_dir: Path,
        endpoints: Endpoints,
        settings: Settings,
        *,
        ended: Callable[[], bool] = lambda: False,
        wakers: Sequence[int] = (),
        parent_fd: int | None = None,
    ) -> None:
        """Take the directory's lock, read the log, and listen.

        Args:
            ended: asked each turn whether we should drain.
            wakers: descriptors that end the loop's wait when they become readable.
            parent_fd: one of them; when it is closed the supervisor is gone, and we drain.
        """
        self._ended = ended
        self._wakers = wakers
        self._parent_fd = parent_fd
        self._lock = ServiceLock(state_dir)
        self.epoch = os.urandom(8).hex()
        kept, unreadable = KeptList(), ""
        try:
            kept = read_watch_list(state_dir)
        except UnreadableWatchList as e:
            unreadable = str(e)
            log.critical("applications_stopped code=%s %s; signing goes on", e.code, e)
        tasks = TaskPlan(
            tuple(configured_applications(settings.tasks)),
            controller_key(settings.tasks),
            settings.tasks.submit_limit_s,
            kept,
            unreadable,
            frozenset(settings.tasks.operators),
            keeps_no_journal=settings.tasks.mode == COMPAT,
        )
        self._log = EventLog(state_dir / "events", self.epoch, settings.event_log_bytes)
        requests, task_events = self._known_from_log()
        self._core = Dispatcher(
            self.epoch,
            time.monotonic(),
            time.time(),
            next_record=self._log.next_number,
            pid=os.getpid(),
            prepares_ahead=settings.block_preparation == "ahead",
            tasks=tasks,
        )
        for key, fingerprint, record in requests:
            self._core.requests.note_logged(key, fingerprint, record)
        for id in task_events:
            self._core.tasks.known_events.is_new(id)
        self._watch_list = WatchListWriter(state_dir)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._access = Access(settings.curve, endpoints, self._context)
        self._requests = self._make("requests", zmq.ROUTER)
        self._admin = self._make("admin", zmq.ROUTER)
        self._workers = self._make("workers", zmq.ROUTER)
        self._events = self._make("events", zmq.XPUB)
        self.endpoints = Endpoints(
            requests=self._bind(self._requests, "requests", endpoints.requests),
            admin=self._bind(self._admin, "admin", endpoints.admin),
            events=self._bind(self._events, "events", endpoints.events),
            workers=self._bind(self._workers, "workers", endpoints.workers),
        )
        self._poller = zmq.Poller()
        for socket in (self._requests, self._admin, self._workers, self._events):
            self._poller.register(socket, zmq.POLLIN)
        for fd in (self._watch_list.fileno(), *wakers):
            self._poller.register(fd, zmq.POLLIN)
        self._replays: Replays[Peer] = Replays(self._log, self._send_reply)

    def _make(self, name: str, kind: int) -> zmq.Socket[bytes]:
        curve, domain = self._access.guard(name)
        return make_socket(self._context, kind, curve=curve, domain=domain)

    def _bind(self, socket: zmq.Socket[bytes], name: str, address: str) -> str:
        return bind(socket, address, authenticated=self._access.is_guarded(name))

    def _known_from_log(self) -> tuple[list[tuple[Key, bytes, int]], list[bytes]]:
        """Requests that have ended, with fingerprint and record, and ids of tasks' events."""
        requests: list[tuple[Key, bytes, int]] = []
        task_events: list[bytes] = []
        for number, record in self._log.load():
            for group in record.clients:
                client = group.client
                requests += [((client, r.id), r.fingerprint, number) for r in group.requests]
                if client == OFFCHAIN_CLIENT:
                    task_events += [event.id for event in group.events]
        return requests, task_events

    def run(self) -> None:
        """Serve until a shutdown has drained."""
        tune_collector()
        log.info("broker_started epoch=%s pid=%d requests=%s", self.epoch, os.getpid(),
                 self.endpoints.requests)  # fmt: skip
        while not self.turn():
            pass
        log.info("broker_ended epoch=%s", self.epoch)

    def turn(self) -> bool:
        """One round of the loop; True when the broker should end."""
        deadline = self._core.deadline()
        wait_ms = POLL_MAX_MS
        if self._replays:
            wait_ms = 0
        elif deadline is not None:
            wait_ms = min(wait_ms, max(0, int((deadline - time.monotonic()) * 1000) + 1))
        readable = {source for source, _ in self._poller.poll(wait_ms)}
        for fd in self._wakers:
            if fd in readable:
                self._poller.unregister(fd)
                if fd == self._parent_fd:
                    self._core.shut_down()
        now, unix_now = time.monotonic(), time.time()
        if self._watch_list.fileno() in readable:
            self._core.watch_list_kept(self._watch_list.result(), now)
        # To look into an empty socket costs 5 µs, mostly for the exception that says so.
        if self._workers in readable:
            self._read_workers(now)
        for socket in (self._requests, self._admin):
            if socket in readable:
                self._read_clients(socket, now, unix_now)
        if self._events in readable:
            self._read_subscriptions()
        if self._ended():
            self._core.shut_down()
        turn = self._core.end_turn(now, unix_now)
        self._perform(turn, now)
        if turn.reread:
            for key, numbers in turn.reread:
                self._core.events_read(key, self._log.read(numbers), now)
            self._perform(self._core.end_turn(now, unix_now), now)
        self._replays.step()
        return turn.stop

    # -- in ---------------------------------------------------------------------------------------

    def _read_workers(self, now: float) -> None:
        for _ in range(MESSAGES_PER_TURN):
            frames = receive(self._workers)
            if frames is None:
                return
            try:
                message = wire.decode_worker_message(body_of(frames))
            except MalformedMessage as e:
                log.warning("malformed_worker_message peer=%s error=%s", frames[0].hex(), e)
                continue
            self._core.worker_message(frames[0], message, now)

    def _read_clients(self, socket: zmq.Socket[bytes], now: float, unix_now: float) -> None:
        admin = socket is self._admin
        named = not admin and self._access.is_guarded("requests")
        until = time.monotonic() + CLIENTS_S_MAX
        for _ in range(MESSAGES_PER_TURN):
            if time.monotonic() > until:
                return
            frames, name = receive_named(socket, self._access) if named else (receive(socket), "")
            if frames is None:
                return
            peer = (socket, frames[0])  # a reply goes back through the same socket
            try:
                message: ClientMessage | AdminMessage = (
                    wire.decode_admin_message(body_of(frames))
                    if admin
                    else wire.decode_client_message(body_of(frames))
                )
                if not admin and isinstance(message, Push | Cancel | Report):
                    if message.client is None:
                        raise MalformedMessage(
                            "on the request socket `client` says whose work it is"
                        )
                    if name and message.client != name:
                        text = f"this connection is of client {name!r}, not of {message.client!r}"
                        if not isinstance(message, Push):
                            raise MalformedMessage(text)
                        self._core.not_theirs(peer, message, text)
                        continue
            except MalformedMessage as e:
                self._core.malformed(peer, e.code, f"{e}. {e.advice}")
                continue
            self._core.client_message(peer, message, now, unix_now)

    def _read_subscriptions(self) -> None:
        for topic, wanted in subscriptions(self._events):
            if wanted:
                self._core.subscribed(topic)
            else:
                self._core.unsubscribed(topic)

    # -- out --------------------------------------------------------------------------------------

    def _perform(self, turn: Turn, now: float) -> None:
        for note in turn.notes:
            log.info("%s", note)
        if turn.record is not None:
            before = self._log.failure
            self._log.append(turn.record)
            if self._log.failure != before:
                if self._log.failure:
                    log.critical("event_log_failed %s; signing goes on", self._log.failure)
                else:
                    log.warning("event_log_recovered")
        if turn.keep is not None:
            self._watch_list.write(turn.keep)
        for topic, events in turn.publish:
            send(self._events, [topic.encode(), wire.encode(events)])
        # Work goes out before the word that it was accepted, which nobody waits for as urgently.
        for peer, message in turn.to_workers:
            if not send(self._workers, [peer, wire.encode(message)]):
                self._core.undeliverable(peer, message, now)
        for peer, reply in turn.replies:
            self._send_reply(peer, reply)
        for peer, replay in turn.replays:
            upto = self._core.next_number(replay.topic) if replay.epoch == self.epoch else None
            self._replays.start(peer, replay, upto)

    def _send_reply(self, peer: Peer, reply: ReplyMessage) -> None:
        socket, identity = peer
        if not send(socket, [identity, wire.encode(reply)]):
            log.debug("reply_undeliverable peer=%s", identity.hex())

    def close(self) -> None:
        for socket in (self._requests, self._admin, self._workers, self._events):
            address = bound_address(socket)
            socket.close()
            if address.startswith("ipc://"):
                with suppress(OSError):
                    Path(address[len("ipc://") :]).unlink()
        self._access.close()
        self._context.term()
        self._log.close()
        self._watch_list.close()
        self._lock.release()


def receive_named(socket: zmq.Socket[bytes], access: Access) -> tuple[list[bytes] | None, str]:
    """The next message and the name of the client whose connection it came from."""
    frames = receive_frames(socket)
    if frames is None:
        return None, ""
    return [f.bytes for f in frames], access.client_name(frames[-1])


def subscriptions(events: zmq.Socket[bytes]) -> Iterator[tuple[str, bool]]:
    """What an XPUB socket has heard since the last look: a topic, and whether it is wanted."""
    for _ in range(MESSAGES_PER_TURN):
        frames = receive(events)
        if frames is None:
            return
        with suppress(UnicodeDecodeError):
            if frames[0][:1] in (b"\x00", b"\x01"):
                yield frames[0][1:].decode(), frames[0][:1] == b"\x01"


def body_of(frames: list[bytes]) -> bytes:
    """The one frame behind the peer's identity."""
    if len(frames) != 2:
        raise MalformedMessage(f"a message is one frame, this has {len(frames) - 1}")
    return frames[1]
