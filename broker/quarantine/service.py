"""The quarantine's process: one loop around its state machine, a client of the broker.

Feeders push to its own sockets and hear of their items on its own event stream, in the protocol of
docs/protocol.md: so a flood of them reaches neither the broker nor a vote. Workers check what it
asks for; its store (a thread) keeps what a restart must not lose.

The order of a turn's effects: slices go out at once; a turn's batch is committed, then its events
are logged and published, then what they ended is forgotten by the store.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path

import zmq

from broker import wire
from broker.access import Access, own_identity
from broker.collector import tune_collector
from broker.config import Endpoints, QuarantineSettings, Settings
from broker.errors import MalformedMessage
from broker.event_log import EventLog
from broker.messages import (
    CHECK_SLICES_PER_MESSAGE_MAX,
    REFUSED,
    REPORT_S,
    Ack,
    Acks,
    CheckAsked,
    Checked,
    Done,
    Gone,
    Problem,
    Push,
    Replay,
    Replayed,
    Report,
    Shutdown,
    Status,
    StatusWanted,
)
from broker.quarantine.administration import (
    ANSWER_ITEMS_MAX,
    Answer,
    Changed,
    ClearedItems,
    ClearedSinceWanted,
    ClearedWanted,
    Drop,
    HeldItems,
    HeldWanted,
    Release,
    decode_question,
)
from broker.quarantine.bounds import Bounds
from broker.quarantine.cleared_since import read_cleared_since
from broker.quarantine.event_stream import EventStream, Told
from broker.quarantine.notices import NOTICES, notices
from broker.quarantine.quarantine import Quarantine
from broker.quarantine.records import Ended, EvidenceRecord, Restored
from broker.quarantine.store import (
    STORE_NAME,
    UNREADABLE,
    QuarantineStore,
    Window,
    open_store,
    read_cleared,
)
from broker.quarantine.store_thread import Forget, Job, Probed, Stored, StoreThread, Trouble
from broker.quarantine.turn import OUTCOMES, SLASHABLE, Turn
from broker.replays import Replays
from broker.server import Peer, ServiceLock, body_of, receive_named
from broker.sockets import bind, bound_address, connect, make_socket, receive, send
from broker.verification import (
    MAIN_CHAIN,
    ChainFacts,
    Check,
    CheckAnswer,
    CheckBody,
    CheckItem,
    CheckSlice,
    Position,
    VerdictBody,
)
from broker.wire import portions

log = logging.getLogger("forgepool.quarantine")

SERVICE = "quarantine"
MESSAGES_PER_TURN = 256
# A push of so many votes takes some 20 ms; verdicts and the store are looked at between them.
# Requests behind those are taken when they are pushed again.
ITEMS_PER_PUSH_MAX = 1024
TOO_MANY = f"a message with more than {ITEMS_PER_PUSH_MAX} votes is taken bit by bit"
CLIENTS_S_MAX = 0.01
POLL_MAX_MS = 1000
BUSY_RETRY_MS = 500  # until the chain is known, or the disk takes something again
NO_CHAIN = "the chain is not known yet: no worker has told it"
CHAIN_ASK_S = 0.5  # how often it is asked for at the start
CHAIN_COST_US = 1000
CHAIN_TTL_MS = 5000


class QuarantineService:
    """Sockets, store, event log and clock around one Quarantine."""

    def __init__(
        self,
        state_dir: Path,
        broker: Endpoints,
        endpoints: Endpoints,
        settings: Settings,
        bounds_for: Callable[[int], Bounds],
        *,
        ended: Callable[[], bool] = lambda: False,
        wakers: Sequence[int] = (),
        parent_fd: int | None = None,
    ) -> None:
        """Take the service's lock, read the log, and listen.

        Args:
            bounds_for: the bounds for so many delegates; 0: the chain is not known yet.
            ended, wakers, parent_fd: as those of `broker.server.Broker`.
        """
        self._ended = ended
        self._parent_fd = parent_fd
        self._wakers = wakers
        self._bounds_for = bounds_for
        self._bounds = bounds_for(0)
        self._directory = state_dir / SERVICE
        self._lock = ServiceLock(state_dir, SERVICE)
        self.epoch = os.urandom(8).hex()
        own = settings.quarantine or QuarantineSettings()
        self._log = EventLog(self._directory / "events", self.epoch, own.event_log_bytes)
        self._ends = _ends_in(self._log, self._bounds.ended_requests)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._access = Access(settings.curve, endpoints, self._context)
        self._requests = self._listen("requests", zmq.ROUTER, endpoints.requests)
        self._admin = self._listen("admin", zmq.ROUTER, endpoints.admin)
        self._events = self._listen("events", zmq.XPUB, endpoints.events)
        curve = own_identity(settings.curve)
        self._broker = connect(self._context, zmq.DEALER, broker.requests, curve)
        self._stream = EventStream(self.epoch, self._log, self._events)
        self._replays: Replays[Peer] = Replays(self._log, self._reply)
        self._core: Quarantine | None = None  # until the chain is known
        self._chain_id = ""
        self._store: StoreThread | None = None
        self._trouble = ""  # why the store cannot be written
        self._pruned_at = 0  # level of the head
        self._chain_at = self._report_at = 0.0
        self._stop = False
        self._poller = zmq.Poller()
        for socket in (self._requests, self._admin, self._events, self._broker):
            self._poller.register(socket, zmq.POLLIN)
        for fd in wakers:
            self._poller.register(fd, zmq.POLLIN)

    def _listen(self, name: str, kind: int, address: str) -> zmq.Socket[bytes]:
        curve, domain = self._access.guard(name)
        socket = make_socket(self._context, kind, curve=curve, domain=domain)
        bind(socket, address, authenticated=self._access.is_guarded(name))
        return socket

    def run(self) -> None:
        """Serve until asked to end."""
        tune_collector()
        log.info("quarantine_started epoch=%s pid=%d requests=%s", self.epoch, os.getpid(),
                 bound_address(self._requests))  # fmt: skip
        while not self._stop:
            self._turn()
        log.info("quarantine_ended epoch=%s", self.epoch)

    def _turn(self) -> None:
        readable = {source for source, _ in self._poller.poll(self._wait_ms())}
        for fd in self._wakers:
            if fd in readable:
                self._poller.unregister(fd)
                self._stop = self._stop or fd == self._parent_fd
        self._stop = self._stop or self._ended()
        now, unix_now = time.monotonic(), time.time()
        if self._broker in readable:
            self._read_broker(now, unix_now)
        if self._store is not None and self._store.fileno() in readable:
            self._read_store(now, unix_now)
        if self._requests in readable:
            self._read_feeders(now, unix_now)
        if self._admin in readable:
            self._read_admin(now)
        if self._events in readable:
            self._stream.read_subscriptions()
        if self._core is None:
            self._ask_for_chain(now, unix_now)
        else:
            self._perform(self._core.end_turn(now, unix_now), now, unix_now)
            self._stream.flush(unix_now, self._submit)
            self._prune()
        self._report(now)
        self._stream.send_heads(now)
        self._replays.step()

    def _wait_ms(self) -> int:
        if self._replays:
            return 0
        at = min(
            self._stream.deadline(),
            self._report_at,
            self._chain_at if self._core is None else self._core.deadline(),
        )
        if at == inf:
            return POLL_MAX_MS
        return min(POLL_MAX_MS, max(0, int((at - time.monotonic()) * 1000) + 1))

    # -- the start --------------------------------------------------------------------------------

    def _ask_for_chain(self, now: float, unix_now: float) -> None:
        """Which chain is it? Nothing can be held before that is known."""
        if now < self._chain_at:
            return
        self._chain_at = now + CHAIN_ASK_S
        position = Position(int(unix_now * 1000), 0, 0, 0, 0)
        body = CheckBody(Check.CHAIN, MAIN_CHAIN, position, [CheckItem(1, b"")])
        slice_ = CheckSlice(0, CHAIN_COST_US, wire.encode(body), CHAIN_TTL_MS)
        send(self._broker, [wire.encode(CheckAsked([slice_]))])

    def _chain_known(self, chain: ChainFacts, now: float, unix_now: float) -> None:
        """Open the store of this chain and go on with what it holds."""
        chain_id = chain.chain_id
        self._bounds = self._bounds_for(chain.delegates)
        path = self._directory / STORE_NAME
        try:
            store, kept, damage = open_store(path, chain_id, int(unix_now), self._restored)
        except (OSError, sqlite3.OperationalError) as e:  # a full disk: tried again
            self._store_trouble(str(e))
            return
        self._store_trouble("")
        if damage:
            log.critical("quarantine_store_damaged %s; it was put aside, what was held is lost",
                         damage)  # fmt: skip
        self._ends = deque(), set()
        core = Quarantine(chain_id, self._bounds, now, unix_now, round_ms=chain.round_ms)
        core.restored(kept, now, unix_now)
        log.info("chain_known id=%s held=%d cleared_blocks=%d bounds_for=%d", chain_id,
                 len(kept.held), len(kept.blocks), self._bounds.delegates)  # fmt: skip
        self._core, self._chain_id = core, chain_id
        self._store = StoreThread(store)
        self._poller.register(self._store.fileno(), zmq.POLLIN)

    def _restored(self, store: QuarantineStore) -> Restored:
        ends, told = self._ends
        evidence = [(each, wire.encode(each) in told) for each in store.untold()]
        # Their events are in the log, which forgets in time what it has told.
        store.commit([], told=[each for each, logged in evidence if logged])
        return Restored(
            blocks=store.cleared_blocks(),
            votes=store.cleared_votes(),
            seen=store.latest_seen(self._bounds.table),
            denounced=store.denounced(),
            untold=[each for each, logged in evidence if not logged],
            held=store.held(),
            ended=list(ends),
            untold_cleared=store.untold_cleared({(each.client, each.id) for each in ends}),
        )

    # -- in ---------------------------------------------------------------------------------------

    def _read_broker(self, now: float, unix_now: float) -> None:
        for _ in range(MESSAGES_PER_TURN):
            frames = receive(self._broker)
            if frames is None:
                return
            try:
                message = wire.decode_reply(frames[-1])
            except MalformedMessage as e:
                log.error("malformed_answer error=%s", e)
                continue
            if isinstance(message, Problem):
                log.error("refused_by_broker code=%s %s", message.code, message.text)
            elif not isinstance(message, Checked):
                continue
            elif self._core is None:
                self._learn_chain(message.answers, now, unix_now)
            else:
                self._core.answered(message.answers, now, unix_now)

    def _learn_chain(self, answers: list[CheckAnswer], now: float, unix_now: float) -> None:
        for answer in answers:
            if not answer.body:
                continue
            try:
                verdicts = wire.decode_as(VerdictBody, answer.body).verdicts
            except MalformedMessage as e:
                log.error("malformed_answer error=%s", e)
                continue
            for verdict in verdicts:
                if isinstance(verdict.facts, ChainFacts):
                    self._chain_known(verdict.facts, now, unix_now)
                    return
                log.warning("chain_unknown %s %s", verdict.reason, verdict.text)

    def _read_store(self, now: float, unix_now: float) -> None:
        assert self._store is not None
        assert self._core is not None
        for answer in self._store.receive():
            match answer:
                case Stored():
                    self._stream.stored(answer.numbers)
                    for number in answer.numbers:
                        self._core.stored(number, now, unix_now)
                case Probed():
                    self._core.probed(answer.record, answer.found, now)
                case Trouble():
                    self._store_trouble(answer.text)

    def _store_trouble(self, text: str) -> None:
        """The store cannot be opened or written, or (without a text) it can again."""
        if text == self._trouble:
            return
        self._trouble = text
        if text:
            log.critical("quarantine_store %s; nothing is cleared until it can be written", text)
        else:
            log.warning("quarantine_store can be written again")

    def _read_feeders(self, now: float, unix_now: float) -> None:
        named = self._access.is_guarded("requests")
        until = time.monotonic() + CLIENTS_S_MAX
        for _ in range(MESSAGES_PER_TURN):
            if time.monotonic() > until:
                return
            frames, name = (
                receive_named(self._requests, self._access)
                if named
                else (receive(self._requests), "")
            )
            if frames is None:
                return
            peer = (self._requests, frames[0])
            try:
                message = wire.decode_client_message(body_of(frames))
                if isinstance(message, Push):
                    self._take(peer, message, name, now, unix_now)
                elif isinstance(message, Replay):
                    known = message.epoch == self.epoch
                    upto = self._stream.next_number(message.topic) if known else None
                    self._replays.start(peer, message, upto)
                elif isinstance(message, StatusWanted):
                    self._reply(peer, Status(self.epoch, self._status()))
                else:
                    raise MalformedMessage("the quarantine takes pushes, replays and status only")
            except MalformedMessage as e:
                self._reply(peer, Problem(e.code, f"{e}. {e.advice}"))

    def _take(self, peer: Peer, push: Push, name: str, now: float, unix_now: float) -> None:
        core = self._core
        if (name and push.client != name) or push.client == NOTICES:
            text = f"this connection is not of client {push.client!r}"
            acks = [Ack(r.id, REFUSED, "wrong_client", text) for r in push.requests]
        elif core is None or self._stream.full:
            text = NO_CHAIN if core is None else "the store cannot keep up, or cannot be written"
            acks = [Ack(r.id, REFUSED, "busy", text, BUSY_RETRY_MS) for r in push.requests]
        else:
            acks, most = [], core.looked_at + ITEMS_PER_PUSH_MAX
            for each in push.requests:
                if core.looked_at < most:
                    acks.append(core.pushed(push.client, each, now, unix_now))
                else:
                    acks.append(Ack(each.id, REFUSED, "busy", TOO_MANY, BUSY_RETRY_MS))
        self._reply(peer, Acks(self.epoch, acks))

    def _read_admin(self, now: float) -> None:
        for _ in range(MESSAGES_PER_TURN):
            frames = receive(self._admin)
            if frames is None:
                return
            try:
                answer = self._answer(body_of(frames), now)
            except MalformedMessage as e:
                answer = Problem(e.code, f"{e}. {e.advice}")
            send(self._admin, [frames[0], wire.encode(answer)])

    def _answer(self, data: bytes, now: float) -> Answer:
        question = decode_question(data)
        if isinstance(question, StatusWanted):
            return Status(self.epoch, self._status())
        if isinstance(question, Shutdown):
            self._stop = True
            return Done(self.epoch)
        core = self._core
        if core is None:
            return Problem("busy", NO_CHAIN)
        match question:
            case HeldWanted():
                items = core.held()
                return HeldItems(items[:ANSWER_ITEMS_MAX], len(items) > ANSWER_ITEMS_MAX)
            case ClearedWanted():
                return self._cleared(question)
            case ClearedSinceWanted():
                return self._cleared_since(question)
            case Drop():
                return Changed(core.drop(question.hash, now))
            case Release():
                return Changed(core.release(question.hash, now))

    def _cleared(self, wanted: ClearedWanted) -> Answer:
        count = ANSWER_ITEMS_MAX
        try:
            blocks, votes = read_cleared(
                self._directory / STORE_NAME, wanted.hash, wanted.level, count
            )
        except (sqlite3.Error, *UNREADABLE) as e:
            return Problem("quarantine_store", str(e))
        portion = next(portions(blocks[:count], lambda each: len(wire.encode(each))), [])
        more = len(blocks) > len(portion) or len(votes) > count
        return ClearedItems(portion, votes[:count], more)

    def _cleared_since(self, wanted: ClearedSinceWanted) -> Answer:
        try:
            return read_cleared_since(self._directory / STORE_NAME, self.epoch, wanted)
        except (sqlite3.Error, *UNREADABLE) as e:
            return Problem("quarantine_store", str(e))

    # -- out --------------------------------------------------------------------------------------

    def _perform(self, turn: Turn, now: float, unix_now: float) -> None:
        for note in turn.notes:
            log.info("%s", note)
        for portion in portions(turn.slices, lambda each: len(each.body)):
            for i in range(0, len(portion), CHECK_SLICES_PER_MESSAGE_MAX):
                self._ask(portion[i : i + CHECK_SLICES_PER_MESSAGE_MAX], now, unix_now)
        batch = turn.batch
        if batch is not None:
            self._submit(batch)
        for record in turn.probes:
            self._submit(record)
        own = notices(turn)
        for change in turn.load:
            log.warning("load subject=%s high=%s depth=%d %s", change.subject, change.high,
                        change.depth, change.text)  # fmt: skip
        if turn.events or own or turn.forget:
            told = [
                wire.decode_as(EvidenceRecord, event.body)
                for _, event, _ in turn.events
                if event.event == SLASHABLE
            ]
            self._stream.tell(
                Told(
                    0 if batch is None else batch.number,
                    turn.events + own,
                    Forget(turn.forget, told),
                )
            )

    def _ask(self, slices: list[CheckSlice], now: float, unix_now: float) -> None:
        if not send(self._broker, [wire.encode(CheckAsked(slices))]):
            assert self._core is not None
            lost = [CheckAnswer(each.number, problem="no_worker") for each in slices]
            self._core.answered(lost, now, unix_now)

    def _prune(self) -> None:
        """Forget what is far below the head, whether or not anything becomes final."""
        assert self._core is not None
        head = self._core.chain.head
        if head is None or head.facts.level <= self._pruned_at:
            return
        level = self._pruned_at = head.facts.level
        self._submit(Window(level - self._bounds.cleared_levels, level - self._bounds.depth_levels))

    def _submit(self, job: Job) -> None:
        assert self._store is not None
        self._store.submit(job)

    def _reply(self, peer: Peer, message: Acks | Status | Replayed | Gone | Problem) -> None:
        socket, identity = peer
        if not send(socket, [identity, wire.encode(message)]):
            log.debug("reply_undeliverable peer=%s", identity.hex())

    def _report(self, now: float) -> None:
        """Tell the broker how we are, for `forgepool status`."""
        if now < self._report_at:
            return
        self._report_at = now + REPORT_S
        numbers: dict[str, int] = {}
        if self._core is not None:
            accounting = self._core.accounting
            numbers = {
                "head_level": max(0, self._core.chain.head_level),
                "final_level": max(0, self._core.chain.final_level),
                "received": accounting.received,
                **accounting.outcomes.all(),
                **self._core.gauges(),
                "high_load": int(self._core.load.high),
                "late_answers": self._core.late_answers,
                **{f"offences_{k}": count for k, count in self._core.offences.counts().items()},
                "store_in_trouble": int(bool(self._trouble)),
            }
        send(self._broker, [wire.encode(Report(NOTICES, numbers))])

    def _status(self) -> dict[str, object]:
        """How the quarantine is, for people and for `--json`."""
        core = self._core
        if core is None:
            return {
                "epoch": self.epoch,
                "pid": os.getpid(),
                "chain_id": None,
                "store_trouble": self._trouble,
            }
        head = core.chain.head
        accounting = core.accounting
        return {
            "epoch": self.epoch,
            "pid": os.getpid(),
            "chain_id": self._chain_id,
            "head_level": None if head is None else head.facts.level,
            "final_level": core.chain.final_level,
            "received": accounting.received,
            "held": accounting.held,
            "in_flight": accounting.in_flight,
            "outcomes": accounting.outcomes.all(),
            "reasons": accounting.by_reason.all(),
            "high_load": core.load.high,
            "store_trouble": self._trouble,
            "late_answers": core.late_answers,
            "offences": core.offences.counts(),
            "gauges": core.gauges(),
        }

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
        for socket in (self._requests, self._admin, self._events):
            address = bound_address(socket)
            socket.close()
            if address.startswith("ipc://"):
                with suppress(OSError):
                    Path(address[len("ipc://") :]).unlink()
        self._broker.close()
        self._access.close()
        self._context.term()
        self._log.close()
        self._lock.release()


def _ends_in(events: EventLog, count: int) -> tuple[deque[Ended], set[bytes]]:
    """How the last requests ended, and the evidence that was published, by the log."""
    ends: deque[Ended] = deque(maxlen=count)
    told: set[bytes] = set()
    for _, record in events.load():
        for group in record.clients:
            fingerprints = {request.id: request.fingerprint for request in group.requests}
            for event in group.events:
                if event.event == SLASHABLE:
                    told.add(event.body)
                elif event.event in OUTCOMES:
                    ends.append(
                        Ended(
                            group.client, event.id, fingerprints[event.id], event.event,
                            event.delegate, event.code, event.text, event.body,
                        )
                    )  # fmt: skip
    return ends, told
