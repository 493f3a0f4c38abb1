"""One signing key's queue: first in, first out, at most one task active.

A task waits linked to the next one instead of in a container of the queue, so that an idle queue
is one small object: a broker keeps 100,000 of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from broker.messages import READY_EVENT

if TYPE_CHECKING:
    from broker.membership import Worker
    from broker.messages import Request


class TaskState(Enum):
    PREPARING = auto()  # a block that is prepared beside its delegate's queue
    PENDING = auto()  # waits in its delegate's queue
    ACTIVE = auto()  # a worker has it; never interrupted
    ENDED = auto()


# By these names where every vote passes: Python 3.11 takes 0.17 µs to look a member up in its
# enum, 0.02 µs for a name.
PREPARING: Final = TaskState.PREPARING
PENDING: Final = TaskState.PENDING
ACTIVE: Final = TaskState.ACTIVE
ENDED: Final = TaskState.ENDED


class OpenRequest:
    """A request from acceptance until the last of its tasks has ended."""

    __slots__ = (
        "client",
        "deadline",
        "fingerprint",
        "half_time",
        "message",
        "open",
        "ready_event",
        "records",
        "tasks",
        "urgency",
    )

    def __init__(
        self,
        client: str,
        message: Request,
        fingerprint: bytes,
        urgency: int,
        accepted: float,
        deadline: float,
    ) -> None:
        self.client = client
        self.message = message  # without its votes once they are tasks
        self.ready_event = READY_EVENT.get(message.kind, "")
        self.fingerprint = fingerprint
        self.urgency = urgency
        self.deadline = deadline  # monotonic seconds
        self.half_time = (accepted + deadline) / 2
        self.tasks: list[Task] = []
        self.records: list[int] = []  # numbers of the log records that hold its events
        self.open = 0  # tasks that have not ended


class Task(Struct, eq=False):
    """One delegate's part of a request, or the whole of it."""

    number: int
    request: OpenRequest
    queue: DelegateQueue
    slot: int
    dal: str | None
    companion: str | None = None
    state: TaskState = PENDING
    previous: Task | None = None  # in the queue
    next: Task | None = None
    attempt: int = 0
    worker: Worker | None = None  # who has the current attempt
    deaths: int = 0  # workers that ended or fell silent with it
    # Whether such an attempt may have taken the mark: then its end is not known to be harmless.
    touched: bool = False
    credit_back: bool = False  # counts no more against its worker's credit
    # Attempts given to others before, whose workers may still be running them.
    older: dict[int, Worker] | None = None
    # A refusal of the current attempt that waits for those to answer or end.
    refusal: tuple[str, str] | None = None


class DelegateQueue:
    """The tasks of one signing key in the order of their arrival."""

    __slots__ = (
        "active",
        "delegate",
        "events",
        "head",
        "owner",
        "ready",
        "ring_version",
        "tail",
    )

    def __init__(self, delegate: str) -> None:
        self.delegate = delegate
        self.active: Task | Adopted | None = None
        self.head: Task | None = None
        self.tail: Task | None = None
        self.ready = False  # stands in its owner's ready line
        self.owner: Worker | None = None  # as of ring_version
        self.ring_version = -1
        self.events = 0  # number of the last event on the delegate's topic

    def append(self, task: Task) -> None:
        task.previous = self.tail
        if self.tail is None:
            self.head = task
        else:
            self.tail.next = task
        self.tail = task

    def put_back(self, task: Task) -> None:
        """A task that was active goes first again: its turn had come."""
        task.next = self.head
        if self.head is None:
            self.tail = task
        else:
            self.head.previous = task
        self.head = task

    def remove(self, task: Task) -> None:
        """Take a task out, wherever it stands: its turn has come, or it has ended."""
        before, after = task.previous, task.next
        if before is None:
            self.head = after
        else:
            before.next = after
            task.previous = None
        if after is None:
            self.tail = before
        else:
            after.previous = before
            task.next = None

    def __iter__(self) -> Iterator[Task]:
        task = self.head
        while task is not None:
            following = task.next
            yield task
            task = following

    def __repr__(self) -> str:
        waiting = sum(1 for _ in self)
        return f"DelegateQueue({self.delegate}, active={self.active!r}, waiting={waiting})"


class Adopted:
    """What a worker still holds from before the broker's restart; its client may ask again."""

    __slots__ = ("client", "id", "queue", "task", "worker")

    def __init__(self, client: str, id: bytes, queue: DelegateQueue, worker: Worker) -> None:
        self.client = client
        self.id = id
        self.queue = queue
        self.worker = worker
        self.task: Task | None = None  # once the client has pushed the request again

    def is_of(self, task: Task) -> bool:
        """Whether a task that was pushed now is the one that the worker holds."""
        request = task.request
        return self.task is None and (self.client, self.id) == (request.client, request.message.id)
