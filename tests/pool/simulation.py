"""The whole pool in one process under a seeded clock: real state machines, everything else made up.

Real: the dispatcher, the workers, the client sessions, the watermark store but for its files, every
message through its bytes. Made up, and out to get them: the network (late, lost, doubled messages;
broken links), processes (killed, stopped, restarted, at any step), the disk (a commit is whole or
absent), the block preparer (another block each time, as when the mempool has changed), devices that
sign (late, or never, and those with ECDSA keys with another signature each time) or surely do not.

Checked at every step:
  * no two digests are released for one chain, key, kind, level and round, nor for a delegate;
  * nothing is released whose mark is not on disk;
  * a block that is released twice is the same block, with the same signature;
  * no device signs a block twice where its second signature is another;
  * no end is published twice, unless the request was pushed again meanwhile;
and at the end, when everything works again: each request of each client has had exactly one end,
what the last broker took has ended, and nobody was left without an answer who could have had one.
"""

from __future__ import annotations

import heapq
import itertools
import random
import sqlite3
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import msgspec

from broker import wire
from broker.client_session import ClientSession, Refused
from broker.dispatcher import Dispatcher, Turn
from broker.messages import (
    CREDIT_US_DEFAULT,
    DUPLICATE,
    FAILED,
    FORGE_AND_SIGN_ATTESTATIONS,
    FORGE_AND_SIGN_BLOCK,
    FORGE_AND_SIGN_PREATTESTATIONS,
    REFUSED,
    SIGN,
    Acks,
    AwaitWorkers,
    Event,
    Replay,
    Replayed,
    Request,
    Vote,
    VoteBatch,
    WorkerEnded,
    WorkerHello,
)
from broker.topic_reader import EventsLost
from broker.topics import decode_record, encode_record
from signers.formats import base58, block_header
from signers.formats.block_header import BlockHeader, Fitness
from signers.formats.networks import MAVRYK
from signers.formats.signable import Kind, Signable, read_signable
from signers.formats.tagged_keys import hash_text, is_deterministic
from signers.formats.vote import VoteTemplate
from signers.host import host_id
from signers.marks import store_layouts
from signers.marks.store_session import StoreSession
from signers.marks.store_tables import StoreIdentity, make_tables
from signers.marks.watermark import FRESH, SIGNATURE_LOST
from signers.marks.watermark_store import Transaction, WatermarkStore
from signers.policy.decision import Policy
from workers import store_thread
from workers.pipeline import Committed, SigningBatch
from workers.preparation.block_request import ForgeBlock, Fresh, encode_forge_block
from workers.preparation.preparation_job import PreparedBlock
from workers.signing_job import SigningJob
from workers.worker import FindDraft, KeepSignatures, WithdrawExpectations, Worker

CHAIN = b"\x01\x02\x03\x04"
CHAIN_TEXT = base58.encode(base58.CHAIN_ID, CHAIN)
HASHES = [base58.encode(base58.BLOCK_HASH, bytes([i]) * 32) for i in range(4)]
# Once client and broker hear each other for so long, a request has an answer: it is pushed again
# after 4 s at most, and once more if that is lost.
ANSWER_S = 10.0
# Of Ed25519, secp256k1 and P-256: of which curve a key is says its tag.
KEYS = [hash_text(bytes([tag, i]) + bytes(19), MAVRYK) for i, tag in enumerate((2, 0, 0, 1, 0, 0))]
DEVICE_KEYS = KEYS[0], KEYS[2], KEYS[3]
PAYLOADS = [base58.encode(base58.PAYLOAD_HASH, bytes([i]) * 32) for i in range(4)]


class Conflict(AssertionError):
    """The pool did what it must never do."""


# -- the disk and its lock ------------------------------------------------------------------------


class SimulatedStore:
    """The store's tables on a disk that forgets nothing committed, and the one lock before it."""

    def __init__(self, delegates: dict[str, str]) -> None:
        self.delegates = delegates  # key -> delegate
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.connection.execute(f"PRAGMA user_version = {store_layouts.FIRST}")
        make_tables(self.connection, StoreIdentity("store", host_id(), "mavryk", CHAIN))
        with self.open().begin() as transaction:
            for key, delegate in delegates.items():
                transaction.enable(key, delegate, floor=FRESH)
            transaction.commit()
        # What is on the disk, written down once more: of each key and delegate.
        self.marks: dict[tuple[str, Kind], Signable] = {}
        self.holder: SimulatedWorker | None = None
        self.waiting: deque[SimulatedWorker] = deque()

    def open(self) -> WatermarkStore:
        """The store as one more process sees it."""
        return WatermarkStore(cast(StoreSession, MemorySession(self.connection)))

    def note_committed(self, batch: SigningBatch) -> None:
        for job in batch.permitted:
            asked = job.signable
            if asked.kind is not Kind.GENERIC:
                for holder in (job.delegate, self.delegates[job.delegate]):
                    mark = self.marks.get((holder, asked.kind))
                    if mark is None or (mark.level, mark.round) < (asked.level, asked.round):
                        self.marks[holder, asked.kind] = asked


class MemorySession:
    """One process's turns on the tables, as a `StoreSession` has them on its file."""

    path = Path("in memory")
    lock_wait_s_max = 0.0

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.in_doubt = True
        self._turns = 0
        self._is_in_turn = False

    def begin(self) -> int:
        self.connection.execute("BEGIN")
        self._turns += 1
        self._is_in_turn = True
        return self._turns

    def is_in(self, turn: int) -> bool:
        return self._is_in_turn and turn == self._turns

    def commit(self, *, checkpoint: bool = False) -> None:
        self.connection.execute("COMMIT")
        self._is_in_turn = False

    def rollback(self) -> None:
        self.connection.execute("ROLLBACK")
        self._is_in_turn = False

    def guarded(self) -> AbstractContextManager[None]:
        return nullcontext()

    def check_usable(self) -> None:
        """Nothing ends this session but its process."""


# -- processes ------------------------------------------------------------------------------------


class Process:
    """Something that can be killed and stopped; what should happen in it waits while it is."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.alive = True
        self.stopped = False
        self._held: list[Callable[[], None]] = []

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        self.world.at(self.world.now + delay_s, lambda: self._run(action))

    def _run(self, action: Callable[[], None]) -> None:
        if self.stopped and self.alive:
            self._held.append(action)
        elif self.alive:
            action()

    def resume(self) -> None:
        self.stopped = False
        held, self._held = self._held, []
        for action in held:
            self._run(action)


class Link:
    """One side's connection to the broker: in order, and gone as a whole when it breaks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.generation = 0
        self.up = False
        self._free_at = {"in": 0.0, "out": 0.0}

    def carry(self, way: str, deliver: Callable[[], None]) -> None:
        if not self.up:
            return
        generation, rng = self.generation, self.world.rng
        delay = rng.expovariate(500) if rng.random() < 0.97 else rng.uniform(0, 0.6)
        at = max(self.world.now + delay, self._free_at[way])
        self._free_at[way] = at
        self.world.at(at, lambda: deliver() if self.generation == generation else None)

    def break_(self) -> None:
        self.up = False
        self.generation += 1


class SimulatedBroker(Process):
    """The dispatcher with its log; what is in neither is lost with the process."""

    def __init__(self, world: World, epoch: str) -> None:
        super().__init__(world)
        self.core = Dispatcher(
            epoch,
            world.now,
            world.now,
            next_record=len(world.log) + 1,
            prepares_ahead=world.prepares_ahead,
        )
        for number, data in enumerate(world.log, 1):
            for group in decode_record(data).clients:
                for request in group.requests:
                    key = (group.client, request.id)
                    self.core.requests.note_logged(key, request.fingerprint, number)
        self.peers: dict[bytes, SimulatedWorker] = {}
        # By client and request: how often it was pushed again; and with the delegate, its ends.
        self.pushed_again: Counter[tuple[str, bytes]] = Counter()
        self.ended: Counter[tuple[str, bytes, str]] = Counter()
        self._tick()

    def _tick(self) -> None:
        self.turn()
        self.later(0.05, self._tick)

    def turn(self) -> None:
        now = self.world.now
        turn = self.core.end_turn(now, now)
        self.core.validate()
        self._check_ends(turn)
        if turn.record is not None:
            self.world.log.append(encode_record(turn.record))
        for topic, events in turn.publish:
            data = wire.encode(events)
            for client in self.world.clients:
                if client.session.reader.topic == topic and self.world.rng.random() > 0.02:
                    client.link.carry("in", lambda c=client, d=data: c.take_events(d))
        for peer, message in turn.to_workers:
            worker = self.peers.get(peer)
            if worker is None or not worker.link.up or worker.peer != peer:
                self.core.undeliverable(peer, message, now)
                continue
            data = wire.encode(message)
            worker.link.carry("in", lambda w=worker, d=data: w.later(0, lambda: w.take(d)))
        for client, reply in turn.replies:
            if isinstance(client, SimulatedClient) and self.world.rng.random() > 0.02:
                data = wire.encode(reply)
                client.link.carry("in", lambda c=client, d=data: c.take_reply(d))
        for key, numbers in turn.reread:
            records = [decode_record(self.world.log[n - 1]) for n in numbers]
            self.core.events_read(key, records, now)
        if turn.reread:
            self.turn()

    def _check_ends(self, turn: Turn) -> None:
        for client, reply in turn.replies:
            if isinstance(reply, Acks):
                for ack in reply.acks:
                    if ack.status != REFUSED:
                        again = ack.status == DUPLICATE
                        self.pushed_again[client.session.name, ack.id] += again
        for group in turn.record.clients if turn.record is not None else ():
            for event in group.events:
                self.ended[group.client, event.id, event.delegate] += 1
                ends = self.ended[group.client, event.id, event.delegate]
                asked = 1 + self.pushed_again[group.client, event.id]
                if ends > asked:
                    raise Conflict(f"{event} was published {ends} times and asked for {asked}")


class SimulatedWorker(Process):
    """A worker's state machine with its store thread, its signer and its block preparer."""

    def __init__(self, world: World, name: str, incarnation: int) -> None:
        super().__init__(world)
        self.name = name
        self.pid = next(world.pids)
        self.incarnation = incarnation
        self.link = Link(world)
        self.peer = b""
        self.holds_since = 0.0
        self._jobs: deque[SigningBatch | FindDraft | KeepSignatures | WithdrawExpectations]
        self._jobs = deque()
        self._store_busy = False
        self._store = world.store.open()
        self._transaction: Transaction | None = None  # while it has the lock
        hello = WorkerHello(
            1, name, incarnation, self.pid, "store", "host", CREDIT_US_DEFAULT, "", []
        )
        self.core = Worker(
            hello,
            holds_key=world.store.delegates.__contains__,
            is_elsewhere=DEVICE_KEYS.__contains__,
            policy=Policy(),
        )
        self.core.keys_known(sorted(world.store.delegates))
        self.later(0, self._tick)

    def connect(self) -> None:
        if not self.alive or self.link.up or not self.world.broker.alive:
            return
        self.link.up = True
        self.link.generation += 1
        self.peer = f"{self.name}.{self.incarnation}.{self.link.generation}".encode()
        self.world.broker.peers[self.peer] = self

    def _tick(self) -> None:
        if not self.link.up:
            self.connect()
        self.turn()
        self.later(0.05, self._tick)

    def take(self, data: bytes) -> None:
        self.core.broker_message(wire.decode_broker_message(data), self.world.now)
        self.turn()

    def turn(self) -> None:
        for job in self.core.pipeline.released:
            self.world.check_release(job)
        turn = self.core.end_turn(self.world.now)
        self._jobs += turn.to_store
        if not self._store_busy:
            self._next_store_job()
        for jobs in turn.to_sign:
            for job in jobs:
                job.signature = sign_like_ed25519(job.delegate, job.signable.digest)
            self.core.signed(jobs)
        for job in turn.to_sign_elsewhere:
            self._ask_device(job)
        for preparation in turn.to_prepare:
            made = self.world.make_block(preparation)
            self.later(self.world.rng.uniform(0, 0.3), lambda m=made: self._prepared(m))
        for message in turn.to_broker:
            if not self.link.up:
                self.core.not_sent()
                continue
            self._send(wire.encode(message))
            if self.world.rng.random() < 0.02:
                self._send(wire.encode(message))  # doubled
        if turn.to_sign:
            self.turn()

    def _ask_device(self, job: SigningJob) -> None:
        """It is asked a little later, if the worker runs then: nobody takes that back."""
        rng = self.world.rng
        delay_s = rng.uniform(0, 1) if rng.random() < 0.1 else rng.expovariate(200)
        self.later(delay_s, lambda: self._device_is_asked(job))

    def _device_is_asked(self, job: SigningJob) -> None:
        rng = self.world.rng
        fate = rng.random()
        if fate < 0.3:  # not plugged in, or locked: it is not asked
            self.later(rng.expovariate(20), lambda: self._device_fails(job, may_have_signed=False))
            return
        signature = self.world.sign_by_device(job)
        if fate < 0.38:  # it went away
            self.later(rng.uniform(0, 1), lambda: self._device_fails(job, may_have_signed=True))
        if fate < 0.35 or fate > 0.97:  # for ever, or it hangs for ever
            return
        late = fate < 0.38 or rng.random() < 0.05
        delay_s = rng.uniform(8, 14) if late else rng.expovariate(20)
        self.later(delay_s, lambda: self._device_signs(job, signature))

    def _device_fails(self, job: SigningJob, *, may_have_signed: bool) -> None:
        self.core.signer_failed(job, "signer_failed", "unplugged", may_have_signed=may_have_signed)
        self.turn()

    def _device_signs(self, job: SigningJob, signature: bytes) -> None:
        self.core.signed_elsewhere(job, signature)
        self.turn()

    def _prepared(self, block: PreparedBlock) -> None:
        self.core.prepared(block)
        self.turn()

    def _send(self, data: bytes) -> None:
        peer, broker = self.peer, self.world.broker
        self.link.carry("out", lambda: broker.later(0, lambda: self._arrive(broker, peer, data)))

    def _arrive(self, broker: SimulatedBroker, peer: bytes, data: bytes) -> None:
        broker.core.worker_message(peer, wire.decode_worker_message(data), self.world.now)
        broker.turn()

    # The store thread: lock, judge, commit, each a step at which the process may die or stand.

    def _next_store_job(self) -> None:
        if not self._jobs:
            self._store_busy = False
            return
        self._store_busy = True
        store = self.world.store
        if store.holder is None:
            store.holder = self
            self.holds_since = self.world.now
            self.later(self.world.rng.expovariate(2000), self._locked)
        elif self not in store.waiting:
            store.waiting.append(self)

    def _locked(self) -> None:
        job = self._jobs.popleft()
        if isinstance(job, FindDraft):
            draft = self._store.block_draft(job.task.delegate, job.level, job.round)
            self.unlock()
            self.core.draft_found(job, draft, self.world.now)
            self._next_store_job()
            self.turn()
            return
        transaction = self._transaction = self._store.begin()
        answer: Callable[[], None]
        if isinstance(job, SigningBatch):
            verdicts = store_thread.judge(transaction, job)
            self.core.judged(job, verdicts, self.world.now)
            answer = partial(self._committed, job)
        elif isinstance(job, KeepSignatures):
            answer = partial(self.core.kept, store_thread.keep(transaction, job))
        else:
            store_thread.withdraw(transaction, job)
            answer = partial(self.core.withdrawn, job.ended)
        self.later(self.world.rng.expovariate(500), lambda: self._commit(job, answer))
        self.turn()

    def _commit(
        self, job: SigningBatch | KeepSignatures | WithdrawExpectations, answer: Callable[[], None]
    ) -> None:
        assert self.world.store.holder is self
        assert self._transaction is not None
        self._transaction.commit()
        self._transaction = None
        if isinstance(job, SigningBatch):
            self.world.store.note_committed(job)
        elif isinstance(job, WithdrawExpectations):
            self.world.withdrawn |= {(e.job.delegate, e.job.signable.digest) for e in job.ended}
        self.unlock()
        self.later(self.world.rng.expovariate(500), lambda: self._answered(answer))

    def _answered(self, answer: Callable[[], None]) -> None:
        answer()
        self._next_store_job()
        self.turn()

    def _committed(self, batch: SigningBatch) -> None:
        self.core.committed(Committed(batch), self.world.now)

    def unlock(self) -> None:
        store = self.world.store
        store.holder = None
        while store.waiting:
            following = store.waiting.popleft()
            if following.alive:
                following._next_store_job()
                return

    def kill(self) -> None:
        self.alive = False
        self.link.break_()
        if self.world.store.holder is self:  # the kernel frees the lock
            if self._transaction is not None:
                self._transaction.rollback()
            self.unlock()


class SimulatedClient(Process):
    """A client that keeps its requests; it is never killed, or nobody would want their ends."""

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world)
        self.session = ClientSession(name)
        self.link = Link(world)
        self.ends: dict[tuple[bytes, str], list[str]] = {}
        self.pushed: dict[bytes, Request] = {}
        self.deadlines: dict[bytes, float] = {}
        self.connected_at = 0.0
        self.later(0, self._tick)

    def _tick(self) -> None:
        if not self.link.up and self.world.broker.alive:
            self.link.up = True
            self.link.generation += 1
            self.connected_at = self.world.now
            core = self.world.broker.core
            core.subscribed(self.session.reader.topic)
            head = wire.encode(core.topics.head(self.session.reader.topic, core.queues))
            self.link.carry("in", lambda: self.take_events(head))
            self.session.push_all_again()
        self.send_due()
        self.later(0.05, self._tick)

    def push(self, request: Request) -> None:
        self.pushed[request.id] = request
        self.deadlines[request.id] = self.world.now + (request.ttl_ms or 0) / 1000
        self.session.push(request, self.world.now)
        self.send_due()

    def send_due(self) -> None:
        for message in self.session.to_send(self.world.now):
            data = wire.encode(message)
            for _ in range(2 if self.world.rng.random() < 0.02 else 1):
                if self.world.rng.random() > 0.02:
                    broker = self.world.broker
                    self.link.carry(
                        "out", lambda b=broker, d=data: b.later(0, lambda: self._arrive(b, d))
                    )
        self._take_news()

    def _arrive(self, broker: SimulatedBroker, data: bytes) -> None:
        message = wire.decode_client_message(data)
        if isinstance(message, Replay):
            self._replay(message)
        else:
            broker.core.client_message(self, message, self.world.now, self.world.now)
            broker.turn()

    def _replay(self, asked: Replay) -> None:
        """What the event log answers, without its file."""
        found: list[tuple[int, Event]] = []
        for epoch, data in zip(self.world.log_epochs, self.world.log, strict=False):
            if epoch == asked.epoch:
                found += decode_record(data).of_topic(asked.topic)
        events = [e for n, e in found if n >= asked.first]
        reply = wire.encode(Replayed(asked.topic, asked.epoch, asked.first, events, more=False))
        self.link.carry("in", lambda: self.take_reply(reply))

    def take_events(self, data: bytes) -> None:
        self.session.events(wire.decode_events(data), self.world.now)
        self._take_news()

    def take_reply(self, data: bytes) -> None:
        self.session.reply(wire.decode_reply(data), self.world.now)
        self._take_news()

    def _take_news(self) -> None:
        while self.session.news:
            news = self.session.news.popleft()
            if isinstance(news, Event):
                self.ends.setdefault((news.id, news.delegate), []).append(news.event)
                if news.event == FAILED or news.code == SIGNATURE_LOST:
                    self._perhaps_repeat(self.pushed[news.id])
            elif isinstance(news, Refused):
                request = self.pushed[news.ack.id]
                for delegate in delegates_of(request):
                    if (request.id, delegate) not in self.ends:
                        self.ends[request.id, delegate] = [f"not taken: {news.ack.code}"]
            else:
                assert isinstance(news, EventsLost)

    def _perhaps_repeat(self, failed: Request) -> None:
        """Ask for the same again under a new id, at once or a little later."""
        rng = self.world.rng
        if self.world.now < self.world.chaos_until and rng.random() < 0.7:
            again = msgspec.structs.replace(failed, id=rng.randbytes(16))
            self.later(rng.choice([0.0, rng.expovariate(4)]), lambda: self.push(again))


def delegates_of(request: Request) -> list[str]:
    if request.votes is not None:
        return [v.delegate for v in request.votes]
    assert request.delegate is not None
    return [request.delegate]


def sign_like_ed25519(key: str, digest: bytes) -> bytes:
    """A signature as deterministic as a real one, and cheaper."""
    return blake2b(digest, key=key.encode()[:64], digest_size=64).digest()


# -- the world ------------------------------------------------------------------------------------


class World:
    """Everything there is, its clock, and what goes wrong in it."""

    def __init__(self, seed: int, *, workers: int = 3, clients: int = 2) -> None:
        self.rng = random.Random(seed)
        self.prepares_ahead = seed % 2 == 1  # the two settings of block preparation
        self.now = 100.0
        self.pids = itertools.count(1000)
        self._actions: list[tuple[float, int, Callable[[], None]]] = []
        self._tie = itertools.count()
        self._epochs = itertools.count(1)
        self._incarnations = itertools.count(1)
        # The last two keys sign for one delegate: a consensus key that was rotated.
        self.store = SimulatedStore(dict(zip(KEYS, [*KEYS[:-1], KEYS[-2]], strict=True)))
        self.log: list[bytes] = []
        self.log_epochs: list[str] = []
        self.released: dict[tuple[str, Kind, int, int], bytes] = {}
        self.block_signatures: dict[tuple[str, bytes], bytes] = {}
        self.signed_by_devices: set[tuple[str, bytes]] = set()
        self.withdrawn: set[tuple[str, bytes]] = set()
        self.releases = 0
        self.signed_after_all = 0  # releases of blocks that an earlier attempt had withdrawn
        self.clients: list[SimulatedClient] = []
        self.broker = SimulatedBroker(self, f"e{next(self._epochs)}")
        self.clients = [SimulatedClient(self, f"client{i}") for i in range(clients)]
        self.workers = [self._new_worker(f"w{i}") for i in range(workers)]
        self.counts: dict[str, int] = {}
        self.chaos_until = 0.0

    def at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._actions, (moment, next(self._tie), action))

    def run(self, until: float) -> None:
        while self._actions and self._actions[0][0] <= until:
            self.now, _, action = heapq.heappop(self._actions)
            action()
            while len(self.log_epochs) < len(self.log):
                self.log_epochs.append(self.broker.core.epoch)
        self.now = until

    def _new_worker(self, name: str) -> SimulatedWorker:
        return SimulatedWorker(self, name, next(self._incarnations))

    # What is checked whenever a signature leaves a worker.

    def check_release(self, job: Any) -> None:
        self.releases += 1
        asked: Signable = job.signable
        assert asked == read_signable(job.unsigned)
        if asked.kind is Kind.GENERIC:
            return
        key = job.delegate
        for holder in dict.fromkeys((key, self.store.delegates[key])):
            position = (holder, asked.kind, asked.level, asked.round)
            before = self.released.setdefault(position, asked.digest)
            if before != asked.digest:
                raise Conflict(f"two digests were released for {position}")
            mark = self.store.marks.get((holder, asked.kind))
            if mark is None or (mark.level, mark.round) < (asked.level, asked.round):
                raise Conflict(f"released {position} with the mark at {mark}")
        if asked.kind is Kind.BLOCK:
            signature = self.block_signatures.setdefault((key, asked.digest), job.signature)
            if signature != job.signature:
                raise Conflict(f"two signatures were released for the block at {position}")
            self.signed_after_all += (key, asked.digest) in self.withdrawn

    def sign_by_device(self, job: SigningJob) -> bytes:
        """With ECDSA another signature each time, as with a random nonce."""
        asked = job.signable
        if asked.kind is not Kind.GENERIC:
            mark = self.store.marks[job.delegate, asked.kind]
            if (mark.level, mark.round) < (asked.level, asked.round):
                raise Conflict(f"a device was asked to sign {asked} before its mark was on disk")
        if is_deterministic(job.delegate):
            return sign_like_ed25519(job.delegate, asked.digest)
        if asked.kind is Kind.BLOCK:
            if (job.delegate, asked.digest) in self.signed_by_devices:
                raise Conflict(f"a device signed twice the block {asked}")
            self.signed_by_devices.add((job.delegate, asked.digest))
        return self.rng.randbytes(64)

    # What clients ask for.

    def make_block(self, job: Any) -> PreparedBlock:
        """Another block each time: meanwhile the mempool has changed."""
        wanted = wire.decode_as(ForgeBlock, job.request)
        header = BlockHeader(
            level=wanted.level,
            proto=1,
            predecessor=base58.decode(base58.BLOCK_HASH, wanted.predecessor),
            timestamp=1_700_000_000 + wanted.level,
            validation_passes=4,
            operations_hash=self.rng.randbytes(32),
            fitness=Fitness.tenderbake(level=wanted.level, round=wanted.round, predecessor_round=0),
            context=bytes(32),
            payload_hash=self.rng.randbytes(32),
            payload_round=wanted.round,
            proof_of_work_nonce=bytes(8),
            seed_nonce_hash=None,
            per_block_votes=0,
            signature=None,
        )
        return PreparedBlock(
            job.job, CHAIN, block_header.encode(header), [[], [], [], [b"op"]],
            header.predecessor, wanted.level, wanted.round,
        )  # fmt: skip

    def random_request(self) -> Request:
        rng = self.rng
        id, ttl_ms = rng.randbytes(16), rng.randrange(500, 20_000)
        level = 1 + int((self.now - 100) / 2) + rng.randrange(-1, 2)
        round_ = rng.randrange(2)
        keys = list(self.store.delegates)
        what = rng.random()
        if what < 0.5:
            kind = rng.choice([FORGE_AND_SIGN_PREATTESTATIONS, FORGE_AND_SIGN_ATTESTATIONS])
            batch = VoteBatch(CHAIN_TEXT, HASHES[0], max(1, level), round_, rng.choice(PAYLOADS))
            votes = [Vote(k, i) for i, k in enumerate(rng.sample(keys, rng.randint(1, len(keys))))]
            return Request(id, kind, wire.encode(batch), votes=votes, ttl_ms=ttl_ms)
        if what < 0.65:
            template = VoteTemplate(
                rng.choice([Kind.PREATTESTATION, Kind.ATTESTATION]), CHAIN, bytes(32),
                max(1, level), round_, bytes([rng.randrange(4)]) * 32,
            )  # fmt: skip
            return Request(id, SIGN, template.signable(1), rng.choice(keys), ttl_ms=ttl_ms)
        block = ForgeBlock(CHAIN_TEXT, rng.choice(HASHES[:2]), max(1, level), round_, Fresh())
        key = rng.choice([*keys, *DEVICE_KEYS])
        return Request(id, FORGE_AND_SIGN_BLOCK, encode_forge_block(block), key, ttl_ms=ttl_ms)

    # What goes wrong.

    def chaos(self, seconds: float) -> None:
        self.chaos_until = self.now + seconds
        self._next_request()
        self._next_fault()
        self.at(self.now, self._supervise)

    def _next_request(self) -> None:
        if self.now < self.chaos_until:
            self.rng.choice(self.clients).push(self.random_request())
            self.at(self.now + self.rng.expovariate(20), self._next_request)

    def _next_fault(self) -> None:
        if self.now >= self.chaos_until:
            return
        fault = self.rng.choice(
            [self._kill_worker, self._kill_worker, self._stop_worker, self._cut, self._kill_broker]
        )
        self.counts[fault.__name__] = self.counts.get(fault.__name__, 0) + 1
        fault()
        self.at(self.now + self.rng.expovariate(1.5), self._next_fault)

    def _kill_worker(self) -> None:
        worker = self.rng.choice(self.workers)
        if worker.alive:
            worker.kill()

    def _stop_worker(self) -> None:
        worker = self.rng.choice(self.workers)
        if worker.alive and not worker.stopped:
            worker.stopped = True
            self.at(self.now + self.rng.uniform(0.1, 6.0), worker.resume)

    def _cut(self) -> None:
        link = self.rng.choice([p.link for p in [*self.workers, *self.clients]])
        link.break_()

    def _kill_broker(self) -> None:
        self.broker.alive = False
        for process in [*self.workers, *self.clients]:
            process.link.break_()
        self.at(self.now + self.rng.uniform(0.1, 0.8), self._restart_broker)

    def _restart_broker(self) -> None:
        if self.broker.alive:
            return
        self.broker = SimulatedBroker(self, f"e{next(self._epochs)}")
        pids = [w.pid for w in self.workers if w.alive]
        self.broker.core.client_message("supervisor", AwaitWorkers(pids), self.now, self.now)

    def _supervise(self) -> None:
        for i, worker in enumerate(self.workers):
            if not worker.alive:
                if self.broker.alive:
                    ended = WorkerEnded(worker.pid, "killed")
                    self.broker.core.client_message("supervisor", ended, self.now, self.now)
                if self.rng.random() < 0.3:
                    self.workers[i] = self._new_worker(worker.name)
        holder = self.store.holder
        if holder is not None and holder.stopped and self.now - holder.holds_since > 2.0:
            holder.kill()
        self.at(self.now + 0.1, self._supervise)

    def heal(self) -> None:
        """From here on everything works; what is still wanted must come to its end."""
        for worker in self.workers:
            if worker.alive:
                worker.resume()

    def check_ends(self) -> None:
        self._check_everything_taken_has_ended()
        logged: dict[tuple[str, bytes, str], list[str]] = {}
        for data in self.log:
            for group in decode_record(data).clients:
                for event in group.events:
                    logged.setdefault((group.client, event.id, event.delegate), []).append(
                        event.event
                    )
        for client in self.clients:
            for request in client.pushed.values():
                for delegate in delegates_of(request):
                    ends = client.ends.get((request.id, delegate), [])
                    ended = logged.get((client.session.name, request.id, delegate), [])
                    if len(set(ended)) > 1:
                        raise Conflict(f"{request.id.hex()} of {delegate} ended as {ended}")
                    # Unknown is honest only when no broker has ever ended it.
                    if len(ends) != 1 or (ended and ends[0].endswith("outcome_unknown")):
                        raise Conflict(
                            f"{request.kind} {request.id.hex()} of {delegate} "
                            f"has {len(ends)} ends: {ends}"
                        )
                    answer_by = max(client.connected_at, self.chaos_until) + ANSWER_S
                    nobody_answered = ends[0].startswith("not taken")
                    if nobody_answered and client.deadlines[request.id] > answer_by:
                        raise Conflict(
                            f"{request.kind} {request.id.hex()} of {delegate} was {ends[0]}, "
                            "and there was a broker to take it"
                        )

    def _check_everything_taken_has_ended(self) -> None:
        """The last broker, which nobody has killed, owes each request that it took its ends."""
        for client in self.clients:
            for request in client.pushed.values():
                name = client.session.name
                if (name, request.id) not in self.broker.pushed_again:
                    continue
                for delegate in delegates_of(request):
                    if not self.broker.ended[name, request.id, delegate]:
                        raise Conflict(f"{request.id.hex()} of {delegate} was taken and has no end")


def simulate(seed: int, *, chaos_s: float = 12.0) -> World:
    """Run one world from its seed; raises Conflict with the seed when a promise is broken."""
    world = World(seed)
    try:
        world.run(101.0)
        world.chaos(chaos_s)
        world.run(world.chaos_until)
        world.heal()
        world.run(world.now + 45.0)
        world.check_ends()
    except AssertionError as e:
        raise Conflict(f"seed {seed} at {world.now - 100:.3f} s: {e}") from e
    return world
