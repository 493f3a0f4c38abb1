"""A broker's dispatcher with workers that process applications, played by the test.

pool = TaskScript()
w = pool.worker("w0")
pool.watch(A)
assert w.has == {A: 1}

A played worker takes each list at once and tells what it has; what is taken away from it, it keeps
until `let_go`, unless it is `quick`. After each step `check` looks at what the workers believe.
"""

from __future__ import annotations

from pool_script import PoolScript

from broker.applications import (
    TASK_STARTED,
    ApplicationHold,
    ApplicationShare,
    TaskEvent,
    Watched,
)
from broker.assignments import LEASE_S
from broker.dispatcher import Turn
from broker.membership import WorkerState
from broker.messages import (
    AdminMessage,
    Applications,
    ApplicationsHeld,
    Heartbeat,
    HelloWanted,
    Leaving,
    WatchApplications,
    Welcome,
    WorkerEnded,
    WorkerHello,
)
from broker.task_routing import TaskPlan
from broker.watch_list import KeptList

SUBMIT_LIMIT_S = 120.0


def key(number: int) -> str:
    """The key of some application."""
    return f"{number:0128x}"


A, B, C, D = map(key, range(1, 5))


def event(number: int, key: str = A, name: str = TASK_STARTED, **others: object) -> TaskEvent:
    return TaskEvent(number.to_bytes(16), key, name, **others)  # type: ignore[arg-type]


class TaskWorker:
    """A worker that processes applications: what it has, and what it still lets go of."""

    def __init__(self, pool: TaskScript, name: str, incarnation: int, *, quick: bool) -> None:
        self.pool = pool
        self.name = name
        self.pid = 10_000 + next(pool.pids)
        self.hello = WorkerHello(
            1, name, incarnation, self.pid, "store", "host", 20_000, "", [], runs_tasks=True
        )
        self.quick = quick
        self.peer = f"{name}#{incarnation}".encode()
        self.shares: dict[str, ApplicationShare] = {}
        self.letting_go: dict[str, int] = {}  # key -> epoch
        self.list = ("", 0)
        self.heard: list[object] = []
        self.fenced_below = 0  # the journal knows epochs up to it
        self.deaf = False  # stopped: it hears nothing and says nothing
        self.inbox: list[object] = []
        self.is_asked_for_hello = False
        self.known_epoch = ""  # of the broker
        self.stale: set[str] = set()  # what it had when its lease ended, and may not know

    @property
    def has(self) -> dict[str, int]:
        """What it processes, under which epochs."""
        return {key: share.epoch for key, share in self.shares.items()}

    @property
    def holds(self) -> dict[str, int]:
        return self.letting_go | self.has

    def says(self, message: object) -> None:
        self.pool.core.worker_message(self.peer, message, self.pool.now)  # type: ignore[arg-type]

    def joins(self) -> None:
        """Says hello, on a connection of its own each time."""
        self.pool.task_workers.pop(self.peer, None)
        self.peer += b"'"
        self.pool.task_workers[self.peer] = self
        self.is_asked_for_hello = False
        fields = {name: getattr(self.hello, name) for name in WorkerHello.__struct_fields__}
        self.says(WorkerHello(**{**fields, "epoch": self.known_epoch}))
        self.pool.step()

    def tells(self, *fenced: ApplicationHold) -> None:
        held = [ApplicationHold(key, epoch) for key, epoch in self.holds.items()]
        self.says(ApplicationsHeld(*self.list, held, list(fenced)))

    def takes(self, message: object) -> None:
        """Does what a message of the broker asks."""
        self.heard.append(message)
        match message:
            case HelloWanted():
                self.is_asked_for_hello = True
            case Welcome():
                self.known_epoch = message.epoch
                self.tells()
            case Applications():
                before = self.shares
                fenced = [
                    ApplicationHold(share.key, self.fenced_below)
                    for share in message.shares
                    if share.epoch <= self.fenced_below and before.get(share.key) != share
                ]
                refused = {each.key for each in fenced}
                self.shares = {s.key: s for s in message.shares if s.key not in refused}
                gone = {k: s.epoch for k, s in before.items() if k not in self.shares}
                self.letting_go |= {} if self.quick else gone
                for key, share in self.shares.items():
                    self.letting_go.pop(key, None)
                    if key not in before or before[key].epoch != share.epoch:
                        self.stale.discard(key)
                self.list = (message.epoch, message.number)
                self.tells(*fenced)

    def lets_go(self, *keys: str) -> None:
        for each in keys or tuple(self.letting_go):
            del self.letting_go[each]
        self.tells()
        self.pool.step()

    def leaves(self, *, done: bool = False) -> None:
        self.says(Leaving("SIGTERM", done))
        if done:
            self.gone()
        self.pool.step()

    def gone(self) -> None:
        self.shares, self.letting_go, self.deaf = {}, {}, True

    def dies(self) -> None:
        """Its process ends, and the supervisor says so."""
        self.gone()
        self.pool.admin(WorkerEnded(self.pid, "killed by signal 9", self.name))

    def stops(self) -> None:
        self.deaf = True
        self.stale |= self.holds.keys()

    def goes_on(self) -> None:
        """It hears what came meanwhile."""
        self.deaf = False
        inbox, self.inbox = self.inbox, []
        for message in inbox:
            self.takes(message)
        member = self.pool.core.members.by_peer.get(self.peer)
        if member is None or member.state is WorkerState.LOST:
            self.stale |= self.holds.keys()  # also what it was given just before its lease ended
        self.says(Heartbeat(1))
        self.pool.step()

    def wait_s(self, key: str) -> float:
        return self.shares[key].wait_ms / 1000


class TaskScript(PoolScript):
    """The pool; see the module's text."""

    def __init__(
        self,
        *watched: str,
        epoch: str = "e1",
        kept: KeptList | None = None,
        configured: tuple[Watched, ...] = (),
        controller: str = "",
        operators: frozenset[str] | None = None,
        keeps_no_journal: bool = False,
        started: bool = True,
        now: float = 1000.0,
    ) -> None:
        self.disk_works = True
        self.kept = kept or KeptList(watched=dict.fromkeys(watched))
        self.task_workers: dict[bytes, TaskWorker] = {}
        self.given: dict[tuple[str, int], TaskWorker] = {}  # every epoch that was ever given
        self.pids = iter(range(1_000_000))
        plan = TaskPlan(configured, controller, SUBMIT_LIMIT_S, self.kept, operators=operators,
                        keeps_no_journal=keeps_no_journal)  # fmt: skip
        super().__init__(epoch=epoch, started=False, tasks=plan, now=now)
        if started:
            self.wait(0.4)

    def worker_with_tasks(
        self, name: str, incarnation: int = 1, *, quick: bool = True
    ) -> TaskWorker:
        worker = TaskWorker(self, name, incarnation, quick=quick)
        worker.joins()
        return worker

    def workers_with_tasks(self, count: int, *, quick: bool = True) -> list[TaskWorker]:
        return [self.worker_with_tasks(f"w{i}", quick=quick) for i in range(count)]

    def watch(self, *keys: str, replace: bool = False) -> None:
        self.admin(WatchApplications([Watched(each) for each in keys], replace))

    def admin(self, message: AdminMessage) -> list[object]:
        """Say something on the admin socket; the answers to it."""
        before = len(self.replies)
        self.core.client_message("admin", message, self.now, self.unix)
        self.step()
        return self.replies[before:]

    def step(self) -> None:
        """Turns until nobody has anything to say."""
        while self.turn().to_workers or self.last.keep:
            pass
        for worker in [w for w in self.task_workers.values() if w.is_asked_for_hello]:
            worker.joins()

    def turn(self) -> Turn:
        turn = super().turn()
        for peer, message in turn.to_workers:
            worker = self.task_workers.get(peer)
            if worker is None:
                continue
            if isinstance(message, Applications):
                self._note_given(worker, message)
            worker.inbox.append(message) if worker.deaf else worker.takes(message)
        if turn.keep is not None:
            if self.disk_works:
                self.kept = turn.keep
            self.core.watch_list_kept("" if self.disk_works else "no space", self.now)
        self.check()
        return turn

    def _note_given(self, worker: TaskWorker, message: Applications) -> None:
        held = worker.holds
        for share in message.shares:
            is_its_own = held.get(share.key) == share.epoch
            assert is_its_own or share.epoch <= self.kept.epochs, "on the disk before it goes out"
            owner = self.given.setdefault((share.key, share.epoch), worker)
            assert owner is worker, f"{owner.name} and {worker.name} have one epoch"

    def check(self) -> None:
        """No two workers have one epoch of an application, and of those whose lease has not ended
        only one has it, be it that it is letting go of it.
        """
        believers: dict[str, list[TaskWorker]] = {}
        holds = {worker: worker.holds for worker in self.task_workers.values()}
        for worker, held in holds.items():
            for each in held:
                believers.setdefault(each, []).append(worker)
        for each, workers in believers.items():
            epochs = [holds[worker][each] for worker in workers]
            assert len(set(epochs)) == len(epochs), f"{each} twice under one epoch"
            alive = [w.name for w in workers if not w.deaf and each not in w.stale]
            assert len(alive) <= 1, f"{each} is with {alive}"

    def owner(self, key: str) -> str:
        """Name of the worker that the broker calls the owner; empty: nobody."""
        owned = self.core.tasks.assignments.owned.get(key)
        return owned.worker.name if owned is not None else ""

    def beat(self, seconds: float) -> None:
        """Let time pass, while those that run say that they are alive."""
        end = self.now + seconds
        while self.now < end:
            self.now += (step := min(0.1, end - self.now))
            self.unix += step
            for worker in list(self.task_workers.values()):
                if not worker.deaf and worker.peer in self.core.members.by_peer:
                    worker.says(Heartbeat(1))
            self.step()

    def lose(self, worker: TaskWorker) -> None:
        """The worker stops, and its lease ends."""
        worker.stops()
        self.beat(LEASE_S + 0.2)

    def restarted(self, *workers: TaskWorker, epoch: str = "e2", **changes: object) -> TaskScript:
        """Another broker on the same state directory; the workers come back to it."""
        again = TaskScript(epoch=epoch, kept=self.kept, started=False, now=self.now, **changes)  # type: ignore[arg-type]
        again.pids, again.given = self.pids, self.given
        for worker in workers:
            worker.pool = again
            worker.joins()
        again.beat(0.4)
        return again
