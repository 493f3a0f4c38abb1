"""Accepts requests, queues them per delegate, hands them to workers, and ends each exactly once.

    push ──► PENDING ──► ACTIVE ──► ENDED: *_ready, signed, refused, failed, cancelled, expired
               ▲  │         │
               │  └─────────┼──► cancelled, expired        (pending only: it touched no mark)
               └────────────┘  worker ended or fell silent: first in line again, next attempt

A pure state machine: messages and the time go in, `end_turn` gives what must be done, `deadline`
when to call again. The order of a turn's effects is the caller's duty and part of the contract:
write `record` to the event log, then publish, then send assignments and acknowledgements.

What holds at every moment (checked by `validate`, which tests call after each step):
at most one task of a key is active; an active key moves only when its task ends, its worker's
process has ended, or its worker's lease is over; a task has one end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import msgspec

from broker.applications import OFFCHAIN_CLIENT
from broker.check_routing import CheckRouting
from broker.deadlines import Deadlines
from broker.delegate_queue import (
    ACTIVE,
    ENDED,
    PENDING,
    PREPARING,
    Adopted,
    DelegateQueue,
    OpenRequest,
    Task,
)
from broker.known_requests import EndedRequest, Key, KnownRequests, fingerprint
from broker.membership import WORKERS_MAX, Membership, Worker, WorkerState
from broker.messages import (
    ACCEPTED,
    CANCELLED,
    DUPLICATE,
    EVENT_REFUSED,
    EXPIRED,
    FAILED,
    LIVE_TOPIC,
    READY,
    READY_EVENT,
    REFUSED,
    SIGNED,
    TOPIC_LETTERS_MAX,
    TTL_MS_DEFAULT,
    TTL_MS_MAX,
    URGENCY,
    VOTE_KINDS,
    Ack,
    Acks,
    AdminMessage,
    Applications,
    ApplicationsFound,
    ApplicationsHeld,
    ApplicationsWanted,
    Assign,
    Assignment,
    AwaitWorkers,
    BrokerMessage,
    Cancel,
    Cancelled,
    CheckAsked,
    Checked,
    CheckSlices,
    ClientMessage,
    CreditBack,
    Done,
    Drain,
    Event,
    Events,
    Freed,
    Heartbeat,
    Held,
    HelloWanted,
    Item,
    KeysKnown,
    KeysShared,
    Leaving,
    LookAgain,
    OrphanResult,
    OrphanResults,
    Outcome,
    PrepareAhead,
    PreparedAhead,
    Problem,
    Push,
    Reload,
    ReloadAnswer,
    Replay,
    ReplyMessage,
    Report,
    Request,
    Result,
    Results,
    ResultsAck,
    Shutdown,
    SlicesChecked,
    Status,
    StatusWanted,
    TaskEvents,
    TaskEventsAck,
    TaskNumbers,
    TasksChanged,
    UnwatchApplications,
    Urgency,
    Vote,
    WatchApplications,
    Welcome,
    WorkerEnded,
    WorkerHello,
    WorkerMessage,
)
from broker.ready_lines import COST_US
from broker.reload import Reload as ReloadUnderWay
from broker.service_reports import ServiceReports
from broker.task_routing import RESERVED_NAME, TaskPlan, TaskRouting
from broker.topics import TOPICS, EndedOfClient, LogRecord, Topics
from broker.verification import CheckAnswer, CheckSlice
from broker.watch_list import KeptList
from broker.wire import portions

# Bounds. At each of them a push is refused as busy, with the time after which to try again.
OPEN_TASKS_MAX = 500_000  # about 250 bytes each
OPEN_PAYLOAD_BYTES_MAX = 512 * 1024 * 1024
QUEUES_MAX = 1_000_000  # about 300 bytes each, kept once made
# Until workers have told their keys anything may be one. What is pushed meanwhile must not use up
# the queues of those that are, for good.
UNPROVEN_QUEUES_MAX = 250_000
BUSY_RETRY_MS = 200

ASSIGN_TASKS_MAX = 256  # one message to a worker; more goes into the next turn
DEATHS_MAX = 3  # a request under which so many workers died is poison
# A restarted broker gives its workers this long to say what they still hold.
AWAIT_HELLO_S = 0.3
AWAIT_NAMED_HELLO_S = 5.0  # when the supervisor has named them
OVERDUE_LOOK_S = 1.0  # how often an open request is looked at again after its deadline
WALL_STEP_S = 0.5  # a smaller difference of the clocks is drift

OUTCOME_UNKNOWN = (
    "a worker fell silent while it had this request, and the deadline passed before another "
    "could take it; its mark may be taken"
)

# Pending, in the user's words: it touched no mark, and can be cancelled.
WAITING = frozenset({PREPARING, PENDING})
END_EVENT: dict[int, str] = {
    Outcome.REFUSED: EVENT_REFUSED,
    Outcome.FAILED: FAILED,
    Outcome.EXPIRED: EXPIRED,
}

Peer = Any  # whom to answer: opaque here, a connection to the rim


@dataclass(slots=True)
class Turn:
    """What a turn asks the rim to do, in this order."""

    record: LogRecord | None = None
    publish: list[tuple[str, Events]] = field(default_factory=list)
    to_workers: list[tuple[Peer, BrokerMessage]] = field(default_factory=list)
    replies: list[tuple[Peer, ReplyMessage]] = field(default_factory=list)
    # Ended requests that were pushed again: read their records from the log, then `events_read`.
    reread: list[tuple[Key, list[int]]] = field(default_factory=list)
    replays: list[tuple[Peer, Replay]] = field(default_factory=list)
    keep: KeptList | None = None  # to be written to the disk; answered by `watch_list_kept`
    notes: list[str] = field(default_factory=list)  # lines for the process log
    stop: bool = False


class Dispatcher:
    """The broker's heart; see the module's text."""

    def __init__(
        self,
        epoch: str,
        now: float,
        unix_now: float,
        *,
        next_record: int = 1,
        pid: int = 0,
        prepares_ahead: bool = False,
        tasks: TaskPlan | None = None,
    ) -> None:
        """A dispatcher of a new epoch.

        Args:
            next_record: what the event log will call the first turn's record.
            prepares_ahead: blocks are prepared beside the queues; else inside, as one task.
            tasks: applications with off-chain tasks; absent: only those that are named later.
        """
        self.epoch = epoch
        self._pid = pid
        self.topics = Topics(epoch)
        self.members = Membership()
        self.requests = KnownRequests()
        self.queues: dict[str, DelegateQueue] = {}
        self.active: dict[int, Task] = {}  # tasks given to a worker, by number
        self.draining = False
        self.stopped = False
        self.checks = CheckRouting(epoch)
        self.tasks = TaskRouting(epoch, tasks or TaskPlan(), now)
        self._to_check: list[tuple[Peer, BrokerMessage]] = []  # sent behind this turn's duties
        self.counts: dict[str, int] = {}  # events by name, since the start
        self.late_results = 0
        self._adopted: dict[tuple[str, bytes, str], Adopted] = {}
        self._unowned: list[DelegateQueue] = []  # ready, but no worker signs
        self._next_task = 1
        self._next_record = next_record  # what the event log will call this turn's record
        self._open_tasks = 0
        self._open_bytes = 0
        self._deadlines = Deadlines()
        self._rereading: dict[Key, OpenRequest] = {}
        self._doubtful_orphans: dict[Key, list[OrphanResult]] = {}  # until the log is read
        self._ring_seen = 0
        self._prepares_ahead = prepares_ahead
        self._preparing: dict[int, Task] = {}  # blocks prepared beside their queues, by number
        self._unprepared: list[Task] = []  # of this turn
        self._reload: tuple[Peer, ReloadUnderWay] | None = None
        self._reloads = 0
        self._services = ServiceReports()
        self._awaiting_until = now + AWAIT_HELLO_S
        self._awaiting_pids: set[int] | None = None  # None: the supervisor has named nobody
        # No lease ends before; who speaks meanwhile only moves the next look away.
        self._leases_until = inf
        self._wall_offset = unix_now - now
        self._turn = Turn()
        self._ended_now: dict[str, EndedOfClient] = {}
        self._touched: dict[OpenRequest, None] = {}
        self._ending: OpenRequest | None = None  # whose task ended last in this turn,
        self._ending_id = b""
        self._group = EndedOfClient()  # and its client's events
        self._acks_due: dict[Peer, int] = {}
        self._on_worker: dict[type, Callable[[Worker, Any, float], None]] = {
            Results: self._on_results,
            Heartbeat: self._on_heartbeat,
            OrphanResults: self._on_orphans,
            Freed: self._on_freed,
            CreditBack: self._on_credit_back,
            KeysKnown: self._on_keys_known,
            PreparedAhead: self._on_prepared_ahead,
            ReloadAnswer: self._on_reload_answer,
            SlicesChecked: self._on_slices_checked,
            ApplicationsHeld: lambda worker, held, now: self.tasks.held(worker, held),
            TaskEvents: self._on_task_events,
            TaskNumbers: lambda worker, numbers, now: self.tasks.numbers(worker, numbers),
            ApplicationsFound: lambda worker, found, now: self.tasks.found(worker, found),
            Leaving: self._on_leaving,
        }

    # -- clients ----------------------------------------------------------------------------------

    def client_message(
        self, peer: Peer, message: ClientMessage | AdminMessage, now: float, unix_now: float
    ) -> None:
        """Take a message of the request socket, or, for the admin kinds, of the admin socket."""
        match message:
            case Push(client=client) if client == OFFCHAIN_CLIENT:
                self.not_theirs(peer, message, RESERVED_NAME)
            case Push():
                acks = [self._accept(message.client, r, now, unix_now) for r in message.requests]
                self._reply(peer, Acks(self.epoch, acks))
            case Cancel():
                self._reply(peer, self._cancel(message))
            case Replay():
                self._turn.replays.append((peer, message))
            case Report():
                self._services.take(message.client, message.numbers, now)
            case StatusWanted():
                self._reply(peer, Status(self.epoch, self.status(now)))
            case CheckAsked():
                self._give_checks(peer, message)
            case Shutdown():
                self.shut_down(now_means_now=message.now)
                self._reply(peer, Done(self.epoch))
            case Reload():
                self._start_reload(peer, message, now)
            case WorkerEnded():
                for worker in [w for w in self.members if message.is_of(w.name, w.hello.pid)]:
                    self._worker_ended(worker, message.how)
                self._heard_of(message.pid)
                self._reply(peer, Done(self.epoch))
            case (
                WatchApplications() | UnwatchApplications() | ApplicationsWanted() | TasksChanged()
            ):
                self.tasks.admin_message(peer, message, now)
            case AwaitWorkers():
                self.members.name_supervised(frozenset(message.pids))
                if self._awaiting_until:
                    self._awaiting_pids = set(message.pids)
                    self._awaiting_until = now + AWAIT_NAMED_HELLO_S
                    for worker in self.members:
                        self._heard_of(worker.hello.pid)
                self._reply(peer, Done(self.epoch))

    def _heard_of(self, pid: int) -> None:
        """A worker that the start waited for has said hello, or has ended."""
        if self._awaiting_pids is not None:
            self._awaiting_pids.discard(pid)

    def not_theirs(self, peer: Peer, push: Push, text: str) -> None:
        """A push under a name that is not its sender's: each of its requests is refused."""
        refused = [Ack(request.id, REFUSED, "wrong_client", text) for request in push.requests]
        self._reply(peer, Acks(self.epoch, refused))

    def malformed(self, peer: Peer, code: str, text: str) -> None:
        self._reply(peer, Problem(code, text))

    def _reply(self, peer: Peer, message: ReplyMessage) -> None:
        self._turn.replies.append((peer, message))

    # -- checks -----------------------------------------------------------------------------------

    def _give_checks(self, peer: Peer, asked: CheckAsked) -> None:
        """Give slices to workers; what cannot be given is answered at once."""
        workers: list[Worker] = [] if self.draining else list(self.members)
        ended: list[CheckAnswer] = []
        to_check: dict[Peer, list[CheckSlice]] = {}
        for each in asked.slices:
            owner = self.members.owner_of_key(each.hint) if each.hint else None
            given = self.checks.give(peer, each, workers, owner)
            if isinstance(given, CheckAnswer):
                ended.append(given)
            else:
                worker, slice_ = given
                to_check.setdefault(worker.peer, []).append(slice_)
        for worker_peer, slices in to_check.items():
            self._to_check.append((worker_peer, CheckSlices(slices)))
        if ended or not asked.slices:
            self._reply_checked([(peer, answer) for answer in ended] or [(peer, None)])

    def _on_slices_checked(self, worker: Worker, checked: SlicesChecked, now: float) -> None:
        self._reply_checked(self.checks.answered(worker, checked.answers))

    def _lose_checks(self, worker: Worker) -> None:
        self._reply_checked(self.checks.lost(worker))

    def _reply_checked(self, ended: Sequence[tuple[Peer, CheckAnswer | None]]) -> None:
        by_peer: dict[Peer, list[CheckAnswer]] = {}
        for peer, answer in ended:
            by_peer.setdefault(peer, []).extend([answer] if answer is not None else [])
        for peer, answers in by_peer.items():
            self._reply(peer, Checked(self.epoch, answers, self.checks.room(self.members)))

    def _accept(self, client: str, request: Request, now: float, unix_now: float) -> Ack:
        key = (client, request.id)
        print_ = fingerprint(request)
        known: OpenRequest | EndedRequest | None = self.requests.open.get(key)
        if known is None:
            known = self.requests.ended.get(key)
        if known is not None:
            if known.fingerprint != print_:
                return Ack(
                    request.id,
                    REFUSED,
                    "id_reused",
                    "this id stands for another request; choose a fresh random one",
                )
            if isinstance(known, OpenRequest) or key in self._rereading:
                return Ack(request.id, DUPLICATE)
            self._rereading[key] = self._opened(client, request, print_, now, unix_now)
            self._turn.reread.append((key, known.records))
            return Ack(request.id, DUPLICATE)
        problem = self._misuse(request)
        if problem is not None:
            return Ack(request.id, REFUSED, *problem)
        if self.draining:
            return Ack(
                request.id, REFUSED, "shutting_down", "the pool drains", retry_ms=BUSY_RETRY_MS
            )
        tasks = len(request.votes) if request.votes is not None else 1
        if (
            self._open_tasks + tasks > OPEN_TASKS_MAX
            or self._open_bytes + len(request.payload) > OPEN_PAYLOAD_BYTES_MAX
            or self._lacks_queues(request, tasks)
        ):
            return Ack(
                request.id,
                REFUSED,
                "busy",
                f"{self._open_tasks} tasks are open; add workers or push less at once",
                BUSY_RETRY_MS,
            )
        opened = self._opened(client, request, print_, now, unix_now)
        self._open(opened, request.votes, now)
        return Ack(request.id, ACCEPTED)

    def _lacks_queues(self, request: Request, tasks: int) -> bool:
        """Whether more queues would have to be made than there may be."""
        limit = min(UNPROVEN_QUEUES_MAX, QUEUES_MAX)
        if len(self.queues) + tasks <= limit:
            return False
        if self._keys_are_known():
            limit = QUEUES_MAX
        named = [v.delegate for v in request.votes] if request.votes else [request.delegate]
        missing = sum(name not in self.queues for name in named)
        return missing > 0 and len(self.queues) + missing > limit

    @staticmethod
    def _opened(
        client: str, request: Request, print_: bytes, now: float, unix_now: float
    ) -> OpenRequest:
        """The request with its deadline in monotonic time, turned once and for all."""
        if request.ttl_ms is not None:
            ttl_s = request.ttl_ms / 1000
        elif request.deadline_unix_ms is not None:
            ttl_s = min(request.deadline_unix_ms / 1000 - unix_now, TTL_MS_MAX / 1000)
        else:
            ttl_s = TTL_MS_DEFAULT / 1000
        return OpenRequest(client, request, print_, URGENCY[request.kind], now, now + ttl_s)

    def _misuse(self, request: Request) -> tuple[str, str] | None:
        if request.kind not in URGENCY:
            return "unknown_kind", f"no kind {request.kind[:40]!r}; kinds: {', '.join(URGENCY)}"
        if request.kind in VOTE_KINDS:
            if not request.votes or request.delegate is not None:
                return "malformed", f"{request.kind} takes `votes` (at least one), no `delegate`"
            delegates = {v.delegate for v in request.votes}
            if len(delegates) != len(request.votes):
                return "malformed", "a delegate stands twice in one batch of votes"
            unknown = self._unknown(delegates)
        else:
            if request.delegate is None or request.votes is not None:
                return "malformed", f"{request.kind} takes `delegate`, no `votes`"
            unknown = self._unknown({request.delegate})
        if unknown:
            return "unknown_delegate", f"no worker has the key of {unknown}"
        return None

    def _unknown(self, delegates: set[str]) -> str:
        """Some delegate whose key no worker has, if every signing worker told its keys."""
        signing = self._signing()
        for worker in signing:
            if worker.keys is None:
                return ""
            delegates = delegates - worker.keys
            if not delegates:
                return ""
        return min(delegates) if signing else ""

    def _signing(self) -> list[Worker]:
        return [w for w in self.members if w.hello.store == self.members.store != ""]

    def _keys_are_known(self) -> bool:
        """Whether every signing worker has told its keys, and there is one."""
        signing = self._signing()
        return bool(signing) and all(w.keys is not None for w in signing)

    def _open(self, opened: OpenRequest, votes: list[Vote] | None, now: float) -> None:
        message = opened.message
        self.requests.open[opened.client, message.id] = opened
        self._open_bytes += len(message.payload)
        if votes is None:
            assert message.delegate is not None
            self._add(opened, message.delegate, 0, None)
        else:
            self._add_votes(opened, votes)
            # The tasks say it all by now, and what is dropped while it is warm costs half.
            opened.message = msgspec.structs.replace(message, votes=None)
        self._deadlines.add(opened, len(self.requests.open))

    def _add_votes(self, opened: OpenRequest, votes: list[Vote]) -> None:
        """Make a batch's tasks, each at the end of its delegate's queue."""
        number, tasks, find = self._next_task, opened.tasks, self.queues.get
        for vote in votes:
            queue = find(vote.delegate) or self._queue(vote.delegate)
            task = Task(number, opened, queue, vote.slot, vote.dal, vote.companion)
            number += 1
            tasks.append(task)
            if type(queue.active) is Adopted:
                self._place(task)
                continue
            queue.append(task)
            if queue.active is None and not queue.ready:
                self._make_ready(queue)
        opened.open += len(votes)
        self._open_tasks += len(votes)
        self._next_task = number

    def _add(self, opened: OpenRequest, delegate: str, slot: int, dal: str | None) -> None:
        queue = self._queue(delegate)
        task = Task(self._next_task, opened, queue, slot, dal)
        self._next_task += 1
        opened.tasks.append(task)
        opened.open += 1
        self._open_tasks += 1
        self._place(task)

    def _place(self, task: Task) -> None:
        """Put a new task where it waits: with who has it already, beside its queue, or inside."""
        queue = task.queue
        if type(queue.active) is Adopted and queue.active.is_of(task):
            self._adopt(task, queue.active)
        elif self._prepares_ahead and task.request.urgency == Urgency.BLOCK:
            task.state = PREPARING
            self._preparing[task.number] = task
            self._unprepared.append(task)
        else:
            self._enqueue(task)

    def _enqueue(self, task: Task) -> None:
        task.state = PENDING
        task.worker = None  # who has prepared it has not got it
        queue = task.queue
        queue.append(task)
        if queue.active is None and not queue.ready:
            self._make_ready(queue)

    def _queue(self, delegate: str) -> DelegateQueue:
        """The delegate's queue, made on first use."""
        queue = self.queues.get(delegate)
        if queue is None:
            queue = self.queues[delegate] = DelegateQueue(delegate)
        return queue

    def _adopt(self, task: Task, adopted: Adopted) -> None:
        """The worker already has it, from before the broker's restart: only wait for its end."""
        self._forget(task)  # what others were given of it meanwhile will come late
        adopted.task = task
        task.state = ACTIVE

    def events_read(self, key: Key, records: list[LogRecord], now: float) -> None:
        """The rim has read what an earlier turn asked for in `reread`.

        The events are published again. What has none (some votes of a batch ended under a broker
        that is no more, or the log has dropped their end) is done again: it gives the same.
        """
        client, id = key
        again = self._rereading.pop(key, None)
        ended = {
            event.delegate: event
            for record in records
            for group in record.clients
            if group.client == client
            for event in group.events
            if event.id == id
        }
        if again is not None:
            group = self._group_of(client, id, again.fingerprint)
            for event in ended.values():
                group.add(event, self._queue(event.delegate))
            votes = again.message.votes
            if votes is not None:
                votes = [v for v in votes if v.delegate not in ended]
            if (votes or (votes is None and not ended)) and not self.draining:
                self._open(again, votes, now)
        for orphan in self._doubtful_orphans.pop(key, ()):
            if orphan.delegate in ended:
                self.late_results += 1
            elif (task := self._find(client, id, orphan.delegate)) is not None:
                self._end_by_orphan(task, orphan)
            else:
                self._publish_orphan(orphan)

    def _cancel(self, wanted: Cancel) -> Cancelled:
        count = active = 0
        if wanted.id is not None and wanted.client is not None:
            found = self.requests.open.get((wanted.client, wanted.id))
            candidates = [found] if found is not None else []
        else:
            candidates = list(self.requests.open.values())
        for request in candidates:
            if wanted.client is not None and request.client != wanted.client:
                continue
            if wanted.id is not None and request.message.id != wanted.id:
                continue
            for task in request.tasks:
                if wanted.delegate is not None and task.queue.delegate != wanted.delegate:
                    continue
                if task.state in WAITING and not task.touched and not self._awaiting_until:
                    self._end(task, CANCELLED)
                    count += 1
                elif task.state is not ENDED:
                    active += 1
        return Cancelled(self.epoch, count, active)

    # -- ends -------------------------------------------------------------------------------------

    def _end(
        self, task: Task, event: str, body: bytes = b"", code: str = "", text: str = ""
    ) -> None:
        """End a task: the only place where a task becomes ENDED."""
        if task.state is PENDING:
            task.queue.remove(task)
            if task.attempt:
                self._forget(task)
        task.state = ENDED
        request = task.request
        request.open -= 1
        self._open_tasks -= 1
        if request is not self._ending:  # a batch's votes mostly end one after the other
            self._ending, self._ending_id = request, request.message.id
            self._touched[request] = None
            self._group = self._group_of(request.client, request.message.id, request.fingerprint)
        queue = task.queue
        self._group.add(Event(self._ending_id, queue.delegate, event, body, code, text), queue)

    def _group_of(self, client: str, id: bytes, fingerprint: bytes) -> EndedOfClient:
        """This turn's events of a client, with the request entered."""
        group = self._ended_now.get(client)
        if group is None:
            group = self._ended_now[client] = EndedOfClient()
        group.requests[id] = fingerprint
        return group

    def _forget(self, task: Task) -> None:
        """Older attempts may still run, but nothing waits for them any more."""
        self.active.pop(task.number, None)
        task.older = None

    def _free(self, queue: DelegateQueue) -> None:
        """The key's active task is over: the next one's turn."""
        queue.active = None
        if queue.head is not None and not queue.ready:
            self._make_ready(queue)

    # -- workers ----------------------------------------------------------------------------------

    def worker_message(self, peer: Peer, message: WorkerMessage, now: float) -> None:
        if type(message) is WorkerHello:
            self._on_hello(peer, message, now)
            return
        worker = self.members.by_peer.get(peer)
        if worker is None:
            self._turn.to_workers.append((peer, HelloWanted(self.epoch)))
            return
        worker.last_seen = now
        if worker.state is WorkerState.LOST:
            self._turn.to_workers.append((peer, HelloWanted(self.epoch)))
        self._on_worker[type(message)](worker, message, now)

    def _on_hello(self, peer: Peer, hello: WorkerHello, now: float) -> None:
        before = self.members.by_name.get(hello.name)
        if before is not None and before.hello.incarnation > hello.incarnation:
            self._turn.to_workers.append((peer, Drain(superseded=True)))
            return
        if before is not None and before.hello.incarnation < hello.incarnation:
            self._lose(before, "replaced by a newer incarnation", WorkerState.LOST)
            self.members.by_name.pop(hello.name)
        if before is not None and before.peer == peer and before.state is not WorkerState.LOST:
            # It repeats itself on one connection, on which nothing gets lost.
            welcome = Welcome(self.epoch, before.signs, before.why_not)
            self._turn.to_workers.append((peer, welcome))
            return
        if before is None and len(self.members.by_name) >= WORKERS_MAX:
            self._turn.to_workers.append((peer, Welcome(self.epoch, False, "too many workers")))
            return
        worker = self.members.admit(peer, hello, now)
        self._leases_until = now
        self._heard_of(hello.pid)
        worker.credit_us = hello.credit_us
        self._prepare_in_queue(worker)
        self._lose_checks(worker)
        self.tasks.joined(worker)
        if hello.epoch == self.epoch:
            self._settle_held(worker, hello.held)
        else:
            # Our welcome has not reached it, so that nothing has that we gave it on a connection
            # before this one.
            self._settle_held(worker, [])
            self._adopt_held(worker, hello)
        self._turn.to_workers.append((peer, Welcome(self.epoch, worker.signs, worker.why_not)))
        if self.draining:
            self._turn.to_workers.append((peer, Drain()))
        self._note(
            f"worker_joined name={worker.name} pid={hello.pid} signs={worker.signs} "
            f"held={len(hello.held)} {worker.why_not}".rstrip()
        )

    def _settle_held(self, worker: Worker, holds: Sequence[Held]) -> None:
        """After a broken connection: what it does not hold never reached it, or was dropped."""
        held = {(h.client, h.id, h.delegate, h.attempt) for h in holds}
        for task in self._tasks_of(worker):
            name = (task.request.client, task.request.message.id, task.queue.delegate)
            for attempt in [a for a, w in (task.older or {}).items() if w is worker]:
                if (*name, attempt) not in held:
                    assert task.older is not None
                    del task.older[attempt]
            if task.worker is not worker:
                self._settle_refusal(task)
            elif (*name, task.attempt) in held:
                worker.credit_us -= 0 if task.credit_back else COST_US[task.request.urgency]
            elif task.state is ENDED:  # it only kept the key occupied
                self._forget(task)
                self._free(task.queue)
            else:
                self._requeue(task, died=False)

    def _adopt_held(self, worker: Worker, hello: WorkerHello) -> None:
        """After the broker's restart: what workers hold is active."""
        for held in hello.held:
            name = (held.client, held.id, held.delegate)
            known = self._adopted.get(name)
            if known is not None:
                known.worker = worker
                continue
            queue = self._queue(held.delegate)
            if queue.active is None:
                adopted = Adopted(held.client, held.id, queue, worker)
                queue.active = adopted
                self._adopted[name] = adopted
                for task in queue:
                    if adopted.is_of(task):
                        queue.remove(task)
                        self._adopt(task, adopted)
                        break

    def _on_heartbeat(self, worker: Worker, beat: Heartbeat, now: float) -> None:
        worker.store_wait_ms = beat.store_wait_ms
        if beat.stalled_by and not worker.stalled_by:
            self._note(f"store_stalled holder={beat.stalled_by} seen_by={worker.name}")
        worker.stalled_by = beat.stalled_by
        worker.note = beat.note
        worker.encrypted = beat.encrypted

    def _on_keys_known(self, worker: Worker, known: KeysKnown, now: float) -> None:
        self.members.keys_known(worker, frozenset(known.keys))
        self._tell_shares()  # also when nothing has changed: it says so on each connection

    def _tell_shares(self) -> None:
        for worker, names in self.members.new_shares():
            self._turn.to_workers.append((worker.peer, KeysShared(names)))

    def _start_reload(self, peer: Peer, wanted: Reload, now: float) -> None:
        if self._reload is not None:
            self._reply(peer, Problem("busy", "another reload is under way; try again"))
            return
        self._reloads += 1
        reload = ReloadUnderWay(
            self._reloads, self.epoch, self.members, now, dry_run=wanted.dry_run
        )
        self._reload = (peer, reload)
        self._step_reload(now)

    def _on_reload_answer(self, worker: Worker, answer: ReloadAnswer, now: float) -> None:
        if self._reload is not None:
            self._reload[1].answered(worker, answer, now)
            self._step_reload(now)

    def _step_reload(self, now: float) -> None:
        """Send what a reload asks of the workers, and its end to who has asked for it."""
        if self._reload is None:
            return
        peer, reload = self._reload
        reload.look(self.members, now)
        self._turn.to_workers += reload.to_workers
        reload.to_workers = []
        if reload.result is not None:
            self._reload = None
            self._note(reload.story())
            self._reply(peer, reload.result)

    def _on_task_events(self, worker: Worker, message: TaskEvents, now: float) -> None:
        if events := self.tasks.new_events(message):
            group = self._ended_now.setdefault(OFFCHAIN_CLIENT, EndedOfClient())
            for event in events:
                group.add(event, self._queue(event.delegate))
        self._turn.to_workers.append((worker.peer, TaskEventsAck(message.number)))

    def watch_list_kept(self, problem: str, now: float) -> None:
        """What a turn has asked to keep is on the disk, or (with a problem) is not."""
        self.tasks.kept(problem, now)

    def _step_tasks(self, now: float) -> None:
        tasks, turn = self.tasks, self._turn
        tasks.step(self.members, now, awaiting=self._awaiting_until > 0, draining=self.draining)
        turn.keep = tasks.to_keep
        turn.to_workers += tasks.to_workers
        turn.replies += tasks.replies
        turn.notes += tasks.notes
        tasks.to_workers, tasks.replies, tasks.notes = [], [], []

    def _on_leaving(self, worker: Worker, leaving: Leaving, now: float) -> None:
        if leaving.done:
            self._worker_ended(worker, leaving.why)
            return
        self.members.set_state(worker, WorkerState.LEAVING)
        self.tasks.leaves()
        self._note(f"worker_leaving name={worker.name} why={leaving.why}")

    def _on_credit_back(self, worker: Worker, back: CreditBack, now: float) -> None:
        for number in back.tasks:
            task = self.active.get(number)
            if task is not None and task.worker is worker and not task.credit_back:
                task.credit_back = True
                worker.credit_us += COST_US[task.request.urgency]

    def _on_prepared_ahead(self, worker: Worker, prepared: PreparedAhead, now: float) -> None:
        task = self._preparing.pop(prepared.task, None)
        if task is None or task.state is not PREPARING:
            return  # it has ended meanwhile
        if prepared.outcome == READY:
            self._enqueue(task)
        else:
            name = END_EVENT.get(prepared.outcome, FAILED)
            self._end(task, name, b"", prepared.code, prepared.text)

    def _on_results(self, worker: Worker, results: Results, now: float) -> None:
        active = self.active
        credit_us = 0
        for result in results.results:
            task = active.get(result.task)
            if task is None:
                self.late_results += 1
                continue
            if task.attempt != result.attempt or task.worker is not worker:
                self._on_older_result(task, worker, result)
                continue
            if result.occupied:
                if task.state is ENDED:
                    self.late_results += 1
                else:
                    self._end_by_result(task, result)
                continue
            del active[result.task]
            if not task.credit_back:
                credit_us += COST_US[task.request.urgency]
            if task.older is None and task.state is ACTIVE:
                self._end_by_result(task, result)
                queue = task.queue
                queue.active = None
                if queue.head is not None and not queue.ready:
                    self._make_ready(queue)
            else:
                self._on_contested_result(task, result)
        worker.credit_us += credit_us
        self._acks_due[worker.peer] = results.number

    def _on_contested_result(self, task: Task, result: Result) -> None:
        """The current attempt's result, while older ones may still run or have succeeded."""
        if task.state is ENDED:  # an older attempt's success came first
            self.late_results += 1
        elif task.older and result.outcome == Outcome.REFUSED and isinstance(result.body, tuple):
            # The older attempt may have taken the mark and may still answer with its signature.
            task.refusal, task.worker = result.body, None
            self.active[task.number] = task  # the key stays taken
            return
        else:
            self._end_by_result(task, result)
        task.older = None  # others may still run older attempts; their results will be late
        self._free(task.queue)

    def _on_older_result(self, task: Task, worker: Worker, result: Result) -> None:
        if task.older is None or task.older.get(result.attempt) is not worker:
            self.late_results += 1
            return
        del task.older[result.attempt]
        if task.state is not ENDED and result.outcome == READY:
            # First success wins. The key stays with the current attempt until that has ended.
            self._end_by_result(task, result)
            if task.refusal is not None:
                task.older = None  # the current one has: nothing is waited for any more
        else:
            self.late_results += 1
        self._settle_refusal(task)

    def _settle_refusal(self, task: Task) -> None:
        """A refusal that waited for older attempts takes effect when none is left."""
        if task.refusal is None or task.older:
            return
        if task.state is not ENDED:
            self._end(task, EVENT_REFUSED, b"", *task.refusal)
        del self.active[task.number]
        self._free(task.queue)

    def _end_by_result(self, task: Task, result: Result) -> None:
        body = result.body
        if type(body) is bytes and result.outcome == READY:
            self._end(task, task.request.ready_event, body)
        elif result.outcome == Outcome.EXPIRED and task.touched:
            self._end(task, FAILED, b"", "outcome_unknown", OUTCOME_UNKNOWN)
        elif isinstance(body, tuple):
            self._end(task, END_EVENT.get(result.outcome, FAILED), b"", *body)
        else:
            self._end(task, FAILED, b"", "bad_result", "the worker's result contradicts itself")

    def _on_freed(self, worker: Worker, freed: Freed, now: float) -> None:
        for number in freed.tasks:
            task = self.active.get(number)
            if task is not None and task.worker is worker and task.state is ENDED:
                del self.active[number]
                self._free(task.queue)

    def _on_orphans(self, worker: Worker, orphans: OrphanResults, now: float) -> None:
        for orphan in orphans.results:
            name = (orphan.client, orphan.id, orphan.delegate)
            adopted = self._adopted.pop(name, None)
            task = (adopted and adopted.task) or self._find(*name)
            if task is not None and task.request.fingerprint != orphan.fingerprint:
                self.late_results += 1  # the id stands for something else by now
                if adopted is not None:
                    self._abandon(adopted)
                continue
            if task is not None:
                self._end_by_orphan(task, orphan)
            elif self._may_have_ended(orphan):
                self._ask_the_log(orphan)
            else:
                self._publish_orphan(orphan)
            if adopted is not None and orphan.occupied:  # its end has come, its key is not free
                adopted.task = None
                self._adopted[name] = adopted
            elif adopted is not None and adopted.queue.active is adopted:
                self._free(adopted.queue)
        self._acks_due[worker.peer] = orphans.number

    def _find(self, client: str, id: bytes, delegate: str) -> Task | None:
        request = self.requests.open.get((client, id))
        if request is None:
            return None
        return next((t for t in request.tasks if t.queue.delegate == delegate), None)

    def _end_by_orphan(self, task: Task, orphan: OrphanResult) -> None:
        """The end of a task that its client has pushed to us again."""
        given_to_another = task.state is ACTIVE and task.worker is not None
        refused_here_only = given_to_another and orphan.outcome != READY
        if task.state is ENDED or refused_here_only:
            self.late_results += 1
        else:
            self._end_by_result(task, Result(0, 0, orphan.outcome, orphan.body))

    def _may_have_ended(self, orphan: OrphanResult) -> bool:
        key = (orphan.client, orphan.id)
        return key in self.requests.ended or key in self._rereading

    def _ask_the_log(self, orphan: OrphanResult) -> None:
        """A task has one end, over restarts too: look whether this one is in the log already."""
        key = (orphan.client, orphan.id)
        known = self.requests.ended.get(key)
        if key not in self._rereading and key not in self._doubtful_orphans and known is not None:
            self._turn.reread.append((key, known.records))
        self._doubtful_orphans.setdefault(key, []).append(orphan)

    def _publish_orphan(self, orphan: OrphanResult) -> None:
        """The end of a request that nobody has pushed to this broker (yet)."""
        key = (orphan.client, orphan.id)
        queue = self._queue(orphan.delegate)
        if isinstance(orphan.body, bytes):
            name = READY_EVENT.get(orphan.kind, SIGNED)
            event = Event(orphan.id, orphan.delegate, name, orphan.body)
        else:
            name = END_EVENT.get(orphan.outcome, FAILED)
            event = Event(orphan.id, orphan.delegate, name, b"", *orphan.body)
        self._group_of(orphan.client, orphan.id, orphan.fingerprint).add(event, queue)
        self.requests.note_logged(key, orphan.fingerprint, self._next_record)

    def undeliverable(self, peer: Peer, message: BrokerMessage, now: float) -> None:
        """A message could not be put into the worker's socket: full, or its connection is gone."""
        worker = self.members.by_peer.get(peer)
        if worker is not None and isinstance(message, CheckSlices):
            self._lose_checks(worker)
        if worker is None:
            return
        if isinstance(message, Assign | PrepareAhead):
            self._take_back(worker, message)
        elif not isinstance(message, Applications | LookAgain):
            return
        if worker.state is WorkerState.READY:
            self._lose(worker, "its socket takes nothing", WorkerState.LOST)

    def _take_back(self, worker: Worker, message: Assign | PrepareAhead) -> None:
        for assignment in message.assignments:
            for item in assignment.items:
                task = self.active.get(item.task)
                if task is not None and task.attempt == item.attempt and task.worker is worker:
                    self._attempt_over(task, worker, died=False)

    def _lose(self, worker: Worker, why: str, state: WorkerState) -> None:
        """The lease is over: others take its keys, but its attempts may still run."""
        self.members.set_state(worker, state)
        self.tasks.lost(worker)
        self._lose_checks(worker)
        self._prepare_in_queue(worker)
        self._abandon_all(worker)
        self._note(f"worker_lost name={worker.name} pid={worker.hello.pid} why={why!r}")
        for task in self._tasks_of(worker):
            if task.worker is not worker:
                pass  # an older attempt already
            elif task.state is ACTIVE:
                if task.older is None:
                    task.older = {}
                task.older[task.attempt] = worker
                self._requeue(task, died=True)
            else:  # it only kept the key occupied
                self._forget(task)
                self._free(task.queue)

    def _worker_ended(self, worker: Worker, how: str) -> None:
        """Its process is gone: nothing of it runs any more."""
        self._note(f"worker_ended name={worker.name} pid={worker.hello.pid} how={how!r}")
        self.members.remove(worker)
        self.tasks.ended(worker)
        self._lose_checks(worker)
        self._unowned += worker.ready.clear()
        self._prepare_in_queue(worker)
        for task in self._tasks_of(worker):
            self._attempt_over(task, worker, died=True)
        self._abandon_all(worker)

    def _tasks_of(self, worker: Worker) -> list[Task]:
        """The tasks of which the worker has the current or an older attempt."""
        return [
            t
            for t in self.active.values()
            if t.worker is worker or (t.older is not None and worker in t.older.values())
        ]

    def _abandon_all(self, worker: Worker) -> None:
        """What it held from before our start is held no more, as far as we can tell."""
        for name, adopted in list(self._adopted.items()):
            if adopted.worker is worker:
                del self._adopted[name]
                self._abandon(adopted)

    def _abandon(self, adopted: Adopted) -> None:
        queue, task = adopted.queue, adopted.task
        queue.active = None
        if task is not None and task.state is ACTIVE:
            task.state, task.touched = PENDING, True
            queue.put_back(task)
        if queue.head is not None and not queue.ready:
            self._make_ready(queue)

    def _attempt_over(self, task: Task, worker: Worker, *, died: bool) -> None:
        """The worker does not run this task any more, in whichever attempt."""
        if task.older is not None:
            for attempt in [a for a, w in task.older.items() if w is worker]:
                del task.older[attempt]
        if task.worker is not worker:
            self._settle_refusal(task)
        elif task.state is ENDED:  # it only kept the key occupied
            self._forget(task)
            self._free(task.queue)
        else:
            self._requeue(task, died=died)

    def _requeue(self, task: Task, *, died: bool) -> None:
        queue = task.queue
        task.deaths += died
        task.touched = task.touched or died
        task.credit_back = False
        task.worker = None
        if task.deaths >= DEATHS_MAX:
            text = f"{task.deaths} workers ended or fell silent while they had this request"
            self._give_up(task, "poison", text)
            return
        if self.draining:
            self._give_up(task, "outcome_unknown", "its worker ended while the pool drained")
            return
        task.state = PENDING
        queue.active = None
        queue.put_back(task)
        if not queue.ready:
            self._make_ready(queue)

    def _give_up(self, task: Task, code: str, text: str) -> None:
        self._forget(task)
        self._end(task, FAILED, b"", code, text)
        self._free(task.queue)

    def _prepare_ahead(self, now: float) -> None:
        """Have this turn's blocks prepared by the workers that will sign them."""
        unprepared, self._unprepared = self._unprepared, []
        for task in unprepared:
            if task.state is not PREPARING:
                continue
            owner = self.members.owner(task.queue)
            if owner is None:  # who gets it in the end will prepare it in the queue
                del self._preparing[task.number]
                self._enqueue(task)
                continue
            task.worker = owner
            item = Item(task.number, task.attempt, task.queue.delegate)
            assignment = self._assignment(task.request, [item], now)
            self._turn.to_workers.append((owner.peer, PrepareAhead([assignment])))

    def _prepare_in_queue(self, worker: Worker) -> None:
        """The worker will not answer: its blocks are prepared by whoever gets to sign them."""
        for task in [t for t in self._preparing.values() if t.worker is worker]:
            del self._preparing[task.number]
            task.worker = None
            if task.state is PREPARING:
                self._enqueue(task)

    # -- dispatch ---------------------------------------------------------------------------------

    def _make_ready(self, queue: DelegateQueue) -> None:
        """Put a queue that has a pending task and no active one into its owner's line."""
        queue.ready = True
        members, task = self.members, queue.head
        owner = queue.owner if queue.ring_version == members.ring_version else members.owner(queue)
        assert task is not None
        if owner is None:
            self._unowned.append(queue)
        else:
            owner.ready.append(queue, task)

    def _follow_ring(self) -> None:
        """After a change of the ring: every ready queue goes to the line of its owner now."""
        if self._ring_seen == self.members.ring_version:
            return
        self._ring_seen = self.members.ring_version
        self._tell_shares()
        moved, self._unowned = self._unowned, []
        for worker in self.members:
            moved += worker.ready.clear()
        for queue in moved:
            if queue.active is None and queue.head is not None:
                self._make_ready(queue)
            else:
                queue.ready = False

    def _dispatch(self, worker: Worker, now: float) -> bool:
        """Fill one message with what this worker should do next; whether it is full."""
        assignments: list[Assignment] = []
        by_request: dict[OpenRequest, list[Item]] = {}
        last: OpenRequest | None = None
        items: list[Item] = []
        active = self.active
        cost_us = spent_us = 0
        tasks = worker.ready.take(now, ASSIGN_TASKS_MAX, worker.credit_us)
        for task in tasks:
            request, queue = task.request, task.queue
            task.state = ACTIVE
            task.worker = worker
            task.attempt += 1
            queue.active = active[task.number] = task
            if request is not last:  # a batch's votes mostly go one after the other
                last, cost_us = request, COST_US[request.urgency]
                known = by_request.get(request)
                if known is None:
                    known = by_request[request] = []
                    assignments.append(self._assignment(request, known, now))
                items = known
            spent_us += cost_us
            items.append(
                Item(task.number, task.attempt, queue.delegate, task.slot, task.dal, task.companion)
            )
        worker.credit_us -= spent_us
        for portion in portions(assignments, lambda a: len(a.payload)):
            self._turn.to_workers.append((worker.peer, Assign(portion)))
        return len(tasks) == ASSIGN_TASKS_MAX

    @staticmethod
    def _assignment(request: OpenRequest, items: list[Item], now: float) -> Assignment:
        message = request.message
        return Assignment(
            request.client,
            message.id,
            message.kind,
            request.fingerprint,
            max(0, int((request.deadline - now) * 1000)),
            message.payload,
            items,
        )

    # -- time -------------------------------------------------------------------------------------

    def deadline(self) -> float | None:
        """When `end_turn` must be called at the latest; None: only when something arrives."""
        at = min(
            self._leases_until, self.topics.deadline(), self._deadlines.next(),
            self.tasks.deadline(),
        )  # fmt: skip
        if self._awaiting_until:
            at = min(at, self._awaiting_until)
        if self._reload is not None:
            at = min(at, self._reload[1].deadline)
        return at if at < inf else None

    def _expire(self, now: float) -> None:
        if self._awaiting_until:
            return  # what looks pending may be held by a worker that has not said hello yet
        for request in self._deadlines.due(now):
            for task in request.tasks:
                if task.state in WAITING and not task.touched:
                    self._end(task, EXPIRED, b"", "", "its deadline passed while it was pending")
                elif task.state is PENDING:
                    self._end(task, FAILED, b"", "outcome_unknown", OUTCOME_UNKNOWN)
                elif task.refusal is not None and task.state is ACTIVE:
                    # The older attempt's worker never answered; the refusal stands.
                    task.older = None
                    self._settle_refusal(task)
            if request.open:  # what is active may yet come back to us, and must not stay then
                self._deadlines.again(request, now + OVERDUE_LOOK_S)

    def _check_wall_clock(self, now: float, unix_now: float) -> None:
        """Deadlines are monotonic, so a step moves none; people are told."""
        step = unix_now - now - self._wall_offset
        if abs(step) >= WALL_STEP_S:
            self._wall_offset += step
            self._note(f"clock_stepped seconds={step:+.3f}")

    def shut_down(self, *, now_means_now: bool = False) -> None:
        """Cancel what is pending and take nothing new; `stop` follows when nothing is active."""
        if not self.draining:
            self.draining = True
            self._cancel(Cancel())
            text = "its worker was lost, and the pool drains"
            for task in [t for t in self.active.values() if t.state is PENDING]:
                self._end(task, FAILED, b"", "outcome_unknown", text)
            for worker in self.members:
                self._turn.to_workers.append((worker.peer, Drain()))
        if now_means_now:
            self.stopped = True

    def end_turn(self, now: float, unix_now: float) -> Turn:
        """Do what is due, dispatch, and hand out what this turn asks for."""
        self._check_wall_clock(now, unix_now)
        self._expire(now)
        if now >= self._leases_until:
            for worker in self.members.lease_over(now):
                self._lose(worker, "heartbeat lost", WorkerState.LOST)
            for worker in self.members.long_lost(now):
                self._worker_ended(worker, "silent for too long")
            self._leases_until = self.members.deadline()
        if now >= self._awaiting_until or self._awaiting_pids == set():
            self._awaiting_until = 0.0
        self._step_reload(now)
        self._follow_ring()
        self._prepare_ahead(now)
        self._step_tasks(now)
        if not self._awaiting_until and not self.stopped:
            for worker in self.members:
                while worker.ready and worker.state is WorkerState.READY and worker.credit_us > 0:
                    if not self._dispatch(worker, now):
                        break
        turn = self._turn
        if self._ended_now:
            turn.record, published = self.topics.number(self._ended_now, int(unix_now * 1000))
            turn.publish += published
            self._remember_ends()
        turn.publish += self.topics.heads_due(self.queues, now)
        turn.to_workers += [(p, ResultsAck(n)) for p, n in self._acks_due.items()]
        turn.to_workers += self._to_check
        self._to_check = []
        nothing_active = not self.active and not self._adopted and self.tasks.has_ended()
        turn.stop = self.stopped or (self.draining and nothing_active)
        self._turn, self._acks_due = Turn(), {}
        return turn

    def _remember_ends(self) -> None:
        for group in self._ended_now.values():
            names = [event.event for event in group.events]
            for name in set(names):
                self.counts[name] = self.counts.get(name, 0) + names.count(name)
        for request in self._touched:
            request.records.append(self._next_record)
            if request.open == 0:
                self._open_bytes -= len(request.message.payload)
                self.requests.close(request)
        self._next_record += 1
        self._ended_now, self._touched, self._ending = {}, {}, None

    # -- people -----------------------------------------------------------------------------------

    def subscribed(self, topic: str) -> None:
        """Somebody wants a topic, or asks by `live/<random>/<topic>` whether he is heard."""
        if topic.startswith(LIVE_TOPIC) and len(topic) <= 2 * TOPIC_LETTERS_MAX:
            about = topic[len(LIVE_TOPIC) :].partition("/")[2]
            self._turn.publish.append((topic, self.topics.head(about, self.queues)))
        elif len(topic) <= TOPIC_LETTERS_MAX and topic.startswith(TOPICS):
            self.topics.subscribed(topic)

    def next_number(self, topic: str) -> int:
        """The number of the topic's next event."""
        return self.topics.head(topic, self.queues).first

    def unsubscribed(self, topic: str) -> None:
        self.topics.unsubscribed(topic)

    def _note(self, line: str) -> None:
        self._turn.notes.append(line)

    def status(self, now: float) -> dict[str, object]:
        """How the pool is, for people and for `--json`."""
        return {
            "epoch": self.epoch,
            "pid": self._pid,
            "draining": self.draining,
            "store": self.members.store,
            "undecided": self.members.undecided(),
            "queues": len(self.queues),
            "open_requests": len(self.requests.open),
            "open_tasks": self._open_tasks,
            "active": len(self.active) + len(self._adopted),
            "waits_for": sorted(t.queue.delegate for t in self.active.values())[:20],
            "late_results": self.late_results,
            "events": dict(self.counts),
            "checks": dict(self.checks.counts),
            "services": self._services.newest(now),
            "tasks": self.tasks.status(now),
            "encrypted_keys": self._encrypted_keys(),
            "workers": [
                {
                    "name": w.name,
                    "pid": w.hello.pid,
                    "state": w.state.name.lower(),
                    "signs": w.signs,
                    "why_not": w.why_not,
                    "keys": None if w.keys is None else len(w.keys),
                    "active": sum(t.worker is w for t in self.active.values()),
                    "ready": len(w.ready),
                    "credit_us": w.credit_us,
                    "checking": self.checks.in_hand(w),
                    "silent_ms": int((now - w.last_seen) * 1000),
                    "store_wait_ms": w.store_wait_ms,
                    "stalled_by": w.stalled_by,
                    "note": w.note,
                    "tasks": self.tasks.worker_status(w),
                    "encrypted_keys": w.encrypted and msgspec.structs.asdict(w.encrypted),
                }
                for w in sorted(self.members, key=lambda w: w.name)
            ],
        }

    def _encrypted_keys(self) -> dict[str, int]:
        """How many encrypted keys the workers own together, and how many of them are open."""
        told = [w.encrypted for w in self.members if w.encrypted and w.state is WorkerState.READY]
        return {
            name: sum(getattr(each, name) for each in told)
            for name in ("total", "opened", "failed")
        }

    def validate(self) -> None:
        """Assert what must hold between any two steps; for tests and the simulation."""
        self.tasks.assignments.validate()
        for number, task in self.active.items():
            assert task.number == number
            if task.state is ACTIVE and task.refusal is None:
                assert task.queue.active is task, "an active task is its queue's active one"
                assert task.worker is not None
        for queue in self.queues.values():
            if queue.active is None and queue.head is not None:
                assert queue.ready, f"{queue!r} has work and stands in no line"
        assert self._open_tasks == sum(r.open for r in self.requests.open.values())
