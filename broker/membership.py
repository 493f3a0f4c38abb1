"""Who the workers are, which of them may sign, and how much each can still take.

Liveness is a guess: a worker that is silent for a lease loses its keys on the ring, but it may
still run. Only the end of its process (the supervisor knows) or its own word settles what it held.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from enum import Enum, auto
from math import inf

from broker.delegate_queue import DelegateQueue
from broker.messages import PROTOCOL_VERSION, EncryptedKeys, WorkerHello
from broker.ready_lines import ReadyLines
from broker.ring import Ring

# Workers send a heartbeat five times in this span; one turn of a loaded machine must not end it.
LEASE_S = 1.5
# A worker lost for so long that was never reported as ended (another host) is forgotten.
FORGET_LOST_S = 600.0
WORKERS_MAX = 1024


class WorkerState(Enum):
    READY = auto()
    LOST = auto()  # lease over; may still run
    LEAVING = auto()  # finishes what it has


class Worker:
    """One worker process as the broker sees it."""

    __slots__ = (
        "credit_us",
        "encrypted",
        "hello",
        "keys",
        "last_seen",
        "note",
        "peer",
        "ready",
        "shares_with",
        "signs",
        "stalled_by",
        "state",
        "store_wait_ms",
        "why_not",
    )

    def __init__(self, peer: Hashable, hello: WorkerHello, now: float) -> None:
        self.peer = peer
        self.hello = hello
        self.last_seen = now
        self.state = WorkerState.READY
        self.credit_us = hello.credit_us
        self.ready = ReadyLines()
        self.keys: frozenset[str] | None = None  # hashes of those it has; None: not told yet
        self.signs = False
        self.why_not = ""
        self.store_wait_ms = 0
        self.stalled_by = 0
        self.note = ""
        self.encrypted: EncryptedKeys | None = None
        self.shares_with: list[str] = []  # names, as it was told

    @property
    def name(self) -> str:
        return self.hello.name

    def __repr__(self) -> str:
        return f"Worker({self.name}#{self.hello.incarnation}, {self.state.name.lower()})"


class Membership:
    """The workers by connection and by name, and the ring over those that may sign."""

    def __init__(self) -> None:
        self.by_peer: dict[Hashable, Worker] = {}
        self.by_name: dict[str, Worker] = {}
        # Also those whose name a newer incarnation has; in the order in which they joined.
        self._all: dict[Worker, None] = {}
        self.store = ""  # uuid of the one watermark store whose workers sign
        self.supervised: frozenset[int] = frozenset()  # pids of the supervisor's workers
        self.ring = Ring(())
        self.ring_version = 0

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._all)

    def admit(self, peer: Hashable, hello: WorkerHello, now: float) -> Worker:
        """Enter a worker, or a known one under a new connection; the caller moves its tasks."""
        worker = self.by_name.get(hello.name)
        if worker is not None and worker.hello.incarnation == hello.incarnation:
            self.by_peer.pop(worker.peer, None)
            worker.peer, worker.hello, worker.last_seen = peer, hello, now
            worker.shares_with = []  # what it was told last may not have reached it
            if worker.state is WorkerState.LOST:
                worker.state = WorkerState.READY
        else:
            worker = Worker(peer, hello, now)
            self.by_name[hello.name] = worker
            self._all[worker] = None
        self.by_peer[peer] = worker
        self._settle_store()
        return worker

    def name_supervised(self, pids: frozenset[int]) -> None:
        """The supervisor has told which workers are its own."""
        self.supervised = pids
        self._settle_store()

    def _settle_store(self) -> None:
        """The pool's store is that of the supervisor's workers; without any, the first one's."""
        stores = [w.hello.store for w in self if w.hello.store]
        ours = [w.hello.store for w in self if w.hello.store and w.hello.pid in self.supervised]
        if not self.store and (ours or stores):
            self.store = (ours or stores)[0]
        elif ours and self.store not in ours:
            # Only the supervisor's word changes it: with two stores two pools would sign.
            self.store = ours[0]
        for worker in self:
            worker.signs, worker.why_not = self._may_sign(worker)
        self._rebuild_ring()

    def _may_sign(self, worker: Worker) -> tuple[bool, str]:
        hello = worker.hello
        if hello.version != PROTOCOL_VERSION:
            return False, f"speaks protocol {hello.version}, this broker {PROTOCOL_VERSION}"
        if not hello.can_sign or not hello.store:
            return False, "has no watermark store"
        if hello.store != self.store:
            return False, f"its watermark store is {hello.store}, the pool's is {self.store}"
        if worker.keys is not None and not worker.keys:
            return False, "its key store has no key that it can use; see --base-dir"
        return True, ""

    def undecided(self) -> int | None:
        """How many of the supervisor's workers have not told yet whether they can sign.

        None: it has named no workers, and others may still come.
        """
        told = {w.hello.pid for w in self if w.keys is not None or w.why_not}
        return len(self.supervised - told) if self.supervised else None

    def remove(self, worker: Worker) -> None:
        self.by_peer.pop(worker.peer, None)
        self._all.pop(worker, None)
        if self.by_name.get(worker.name) is worker:
            del self.by_name[worker.name]
        self._rebuild_ring()

    def set_state(self, worker: Worker, state: WorkerState) -> None:
        worker.state = state
        self._rebuild_ring()

    def _rebuild_ring(self) -> None:
        signing = {
            name for name, w in self.by_name.items() if w.signs and w.state is WorkerState.READY
        }
        if signing != self.ring.workers:
            self.ring = Ring(signing)
            self.ring_version += 1

    def owner(self, queue: DelegateQueue) -> Worker | None:
        """The worker that owns the queue's key now."""
        if queue.ring_version != self.ring_version:
            queue.owner = self.owner_of_key(queue.delegate)
            queue.ring_version = self.ring_version
        return queue.owner

    def owner_of_key(self, key: str) -> Worker | None:
        """The first worker on the ring that has the key; if nobody has, the first, to say so."""
        first = None
        for name in self.ring.owners(key):
            worker = self.by_name[name]
            if worker.keys is None or key in worker.keys:
                return worker
            first = first or worker
        return first

    def keys_known(self, worker: Worker, keys: frozenset[str]) -> None:
        """A worker has told which keys it has; from now on it owns no others."""
        if keys != worker.keys:
            # Most often all have the same: one set in memory, which is itself when compared.
            worker.keys = next((w.keys for w in self if w.keys == keys), keys)
            worker.signs, worker.why_not = self._may_sign(worker)
            self._rebuild_ring()
            self.ring_version += 1

    def new_shares(self) -> Iterator[tuple[Worker, list[str]]]:
        """Workers whose keys are shared with others than they were told, and with whom."""
        by_keys: dict[frozenset[str], list[str]] = {}
        for name in sorted(self.ring.workers):
            if keys := self.by_name[name].keys:
                by_keys.setdefault(keys, []).append(name)
        for worker in self:
            is_in_ring = worker.name in self.ring.workers and self.by_name[worker.name] is worker
            names = by_keys.get(worker.keys or frozenset(), []) if is_in_ring else []
            if names != worker.shares_with:
                worker.shares_with = names
                yield worker, names

    def lease_over(self, now: float) -> list[Worker]:
        """Workers that have been silent for a lease and were not lost before."""
        return [w for w in self if w.state is not WorkerState.LOST and now - w.last_seen >= LEASE_S]

    def long_lost(self, now: float) -> list[Worker]:
        return [
            w for w in self if w.state is WorkerState.LOST and now - w.last_seen >= FORGET_LOST_S
        ]

    def deadline(self) -> float:
        """When the next lease ends if nobody speaks; never without workers."""
        return min(
            (
                w.last_seen + (FORGET_LOST_S if w.state is WorkerState.LOST else LEASE_S)
                for w in self
            ),
            default=inf,
        )
