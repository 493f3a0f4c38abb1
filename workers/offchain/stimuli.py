"""What happens to a task processor: everything that its cores are ever told."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from workers.offchain.actions import ProcessorActions
from workers.offchain.application import Application
from workers.offchain.ends import RunResult, SubmitResult
from workers.offchain.records import TaskRecord


class Share(Struct, frozen=True):
    """An application that is ours to process."""

    application: Application
    epoch: int = 0  # grows with each change of owner
    wait_s: float = 0.0  # so long an outcome of a lost owner may still be on its way
    operators: frozenset[str] | None = None  # which it may use; None: every one
    before: int = 0  # the epoch of the last owner, as far as the broker knows; 0: it does not


class Updated(Struct, frozen=True):
    """The whole list of what is ours from now on; it replaces the one before."""

    shares: Sequence[Share]


class EpochTaken(Struct, frozen=True):
    """The journal goes by our epoch of an application; this is what it has kept of it."""

    application: Application
    epoch: int
    cursor: str | None
    callback_unix_us: int | None
    tasks: Sequence[TaskRecord]
    next_serial: int
    # The last owner is a process of this host that has ended: nothing of it is on its way.
    last_has_ended: bool = False


class EpochRefused(Struct, frozen=True):
    """The journal knows a newer epoch of the application: it is not ours."""

    application: Application
    epoch: int
    newest: int


class Notified(Struct, frozen=True):
    """The chain has told of something; `reason` is its word: NewBlock, NewRound, …"""

    chain_id: str
    reason: str
    height: int | None = None  # of the block, where the reason tells one


class StreamOpened(Struct, frozen=True):
    """The chain tells us what happens from now on; what happened before we must ask for."""

    chain_id: str


class Answered(Struct, frozen=True):
    """An application has answered `nextActions`."""

    ask: int
    actions: ProcessorActions


class NotAnswered(Struct, frozen=True):
    """An application was asked and gave no usable answer; the text has its own words."""

    ask: int
    text: str


class RunEnded(Struct, frozen=True):
    """A run of an operator has ended, its process group is gone."""

    run: int
    result: RunResult


class RunIsSlow(Struct, frozen=True):
    """A run goes on for longer than its operator's `slow_after`."""

    run: int
    seconds: float


class PlaceRefused(Struct, frozen=True):
    """The host runs as many operators as it may: this run did not start."""

    run: int


class SubmitEnded(Struct, frozen=True):
    """A submission has ended."""

    application: Application
    serial: int
    result: SubmitResult


class Wish(StrEnum):
    """What an operator of the pool wants done with a dead letter."""

    RETRY = "retry"
    DROP = "drop"


class Wished(Struct, frozen=True):
    """Somebody has said what to do with a task that is dead."""

    application: Application
    serial: int
    wish: Wish


class Resumed(Struct, frozen=True):
    """Somebody says that what stopped an application may be mended."""

    application: Application


class Cancelled(Struct, frozen=True):
    """Stop: nothing new; what runs is ended, or comes to its end, as when it is taken away."""


Stimulus = (
    Updated
    | EpochTaken
    | EpochRefused
    | Notified
    | StreamOpened
    | Answered
    | NotAnswered
    | RunEnded
    | RunIsSlow
    | PlaceRefused
    | SubmitEnded
    | Wished
    | Resumed
    | Cancelled
)
