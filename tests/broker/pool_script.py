"""The broker's dispatcher under a hand-held clock, with clients and workers played by the test.

pool = PoolScript()
w = pool.worker("w0")
pool.push("baker", votes("mv1a", "mv1b"))
assert w.takes() == ["mv1a", "mv1b"]
"""

from __future__ import annotations

import itertools
from collections import deque

from broker.dispatcher import Dispatcher, Turn
from broker.messages import (
    FORGE_AND_SIGN_ATTESTATIONS,
    FORGE_AND_SIGN_BLOCK,
    SIGN,
    Ack,
    Acks,
    Assign,
    Assignment,
    Event,
    Heartbeat,
    Held,
    Item,
    Outcome,
    Push,
    Request,
    Result,
    Results,
    Vote,
    Welcome,
    WorkerHello,
)
from broker.task_routing import TaskPlan

_ids = itertools.count(1)


def an_id() -> bytes:
    return next(_ids).to_bytes(16)


def votes(*delegates: str, ttl_ms: int | None = None, id: bytes | None = None) -> Request:
    return Request(
        id or an_id(),
        FORGE_AND_SIGN_ATTESTATIONS,
        b"common",
        votes=[Vote(d, 0) for d in delegates],
        ttl_ms=ttl_ms,
    )


def sign(delegate: str, payload: bytes = b"bytes", **other: object) -> Request:
    return Request(an_id(), SIGN, payload, delegate, **other)


def block(delegate: str, **other: object) -> Request:
    return Request(an_id(), FORGE_AND_SIGN_BLOCK, b"block", delegate, **other)


class PlayedWorker:
    """A worker's side of the conversation."""

    def __init__(self, pool: PoolScript, name: str, hello: WorkerHello) -> None:
        self.pool = pool
        self.name = name
        self.peer = f"{name}#{hello.incarnation}".encode()
        self.hello = hello
        self.inbox: deque[tuple[Assignment, Item]] = deque()
        self.heard: list[object] = []
        self._number = itertools.count(1)

    def takes(self) -> list[str]:
        """The delegates of everything assigned and not yet answered."""
        return [item.delegate for _, item in self.inbox]

    def beat(self) -> None:
        self.pool.core.worker_message(self.peer, Heartbeat(1), self.pool.now)

    def answer(
        self,
        delegate: str | None = None,
        *,
        outcome: Outcome = Outcome.READY,
        body: bytes | tuple[str, str] = b"signed",
        occupied: bool = False,
    ) -> Item:
        """Report the end of the first task (of one delegate)."""
        index = next(i for i, (_, t) in enumerate(self.inbox) if delegate in (None, t.delegate))
        _, item = self.inbox[index]
        del self.inbox[index]
        self.report(item, outcome=outcome, body=body, occupied=occupied)
        return item

    def answer_all(self) -> None:
        while self.inbox:
            self.answer()

    def report(
        self,
        item: Item,
        *,
        outcome: Outcome = Outcome.READY,
        body: bytes | tuple[str, str] = b"signed",
        occupied: bool = False,
    ) -> None:
        result = Result(item.task, item.attempt, int(outcome), body, occupied)
        self.pool.core.worker_message(
            self.peer, Results(next(self._number), [result]), self.pool.now
        )
        self.pool.turn()

    def hello_again(self, held: list[Held], *, epoch: str | None = None) -> None:
        """Say hello on a connection that was made anew."""
        self.peer += b"'"
        self.pool.workers[self.peer] = self
        hello = WorkerHello(
            **{
                **{f: getattr(self.hello, f) for f in self.hello.__struct_fields__},
                "epoch": self.pool.core.epoch if epoch is None else epoch,
                "held": held,
            }
        )
        self.pool.core.worker_message(self.peer, hello, self.pool.now)
        self.pool.turn()


class PoolScript:
    def __init__(
        self, *, epoch: str = "e1", started: bool = True, prepares_ahead: bool = False,
        tasks: TaskPlan | None = None, now: float = 1000.0,
    ) -> None:  # fmt: skip
        self.now = now
        self.unix = 1_700_000_000.0
        self.core = Dispatcher(
            epoch, self.now, self.unix, prepares_ahead=prepares_ahead, tasks=tasks
        )
        self.workers: dict[bytes, PlayedWorker] = {}
        self.events: list[Event] = []
        self.acks: list[Ack] = []
        self.replies: list[object] = []
        self.notes: list[str] = []
        self.last = Turn()
        if started:
            self.wait(0.4)

    def worker(
        self, name: str, *, incarnation: int = 1, store: str = "store", pid: int | None = None,
        credit_us: int = 20_000, held: list[Held] | None = None, epoch: str = "",
    ) -> PlayedWorker:  # fmt: skip
        hello = WorkerHello(
            1, name, incarnation, pid or hash(name) & 0xFFFF, store, "host", credit_us, epoch,
            held or [],
        )  # fmt: skip
        played = PlayedWorker(self, name, hello)
        self.workers[played.peer] = played
        self.core.worker_message(played.peer, hello, self.now)
        self.turn()
        return played

    def push(self, client: str, *requests: Request) -> list[Ack]:
        self.core.client_message(client, Push(client, list(requests)), self.now, self.unix)
        before = len(self.acks)
        self.turn()
        return self.acks[before:]

    def turn(self) -> Turn:
        turn = self.last = self.core.end_turn(self.now, self.unix)
        self.core.validate()
        self.notes += turn.notes
        if turn.record is not None:
            for group in turn.record.clients:
                self.events += group.events
        for _, reply in turn.replies:
            self.replies.append(reply)
            if isinstance(reply, Acks):
                self.acks += reply.acks
        for peer, message in turn.to_workers:
            worker = self.workers.get(peer)
            if worker is None:  # one that a subclass plays
                continue
            worker.heard.append(message)
            if isinstance(message, Assign):
                for assignment in message.assignments:
                    worker.inbox += [(assignment, item) for item in assignment.items]
        return turn

    def wait(self, seconds: float, *, beating: list[PlayedWorker] | None = None) -> None:
        """Let time pass in small steps, with heartbeats of all workers or of the given ones."""
        end = self.now + seconds
        while self.now < end:
            step = min(0.1, end - self.now)
            self.now += step
            self.unix += step
            for worker in self.workers.values() if beating is None else beating:
                if worker.peer in self.core.members.by_peer:
                    worker.beat()
            self.turn()

    def outcome(self, request: Request, delegate: str | None = None) -> list[str]:
        """The events of a request so far, by name."""
        return [
            e.event for e in self.events if e.id == request.id and delegate in (None, e.delegate)
        ]

    def welcomed(self, worker: PlayedWorker) -> Welcome:
        return next(m for m in reversed(worker.heard) if isinstance(m, Welcome))
