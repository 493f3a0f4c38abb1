"""What a task processor wants done.

The commands of one turn are performed in two steps: everything for the journal in one transaction,
and only when that is on disk the rest, in its order. An entry of an application whose epoch the
journal no longer goes by is not written, and nothing else is done for that application: the core is
told by `EpochRefused`, and after that, what it waits for ends as never begun: `RunEnded` as
cancelled, `SubmitEnded` as fenced, `NotAnswered`.
"""

from __future__ import annotations

from msgspec import Struct

from workers.offchain.actions import TaskOutcome
from workers.offchain.application import Application
from workers.offchain.records import TaskRecord

# -- for the journal ------------------------------------------------------------------------------


class TakeEpoch(Struct, frozen=True):
    """Go by our epoch of an application from now on; answered by EpochTaken or EpochRefused."""

    application: Application
    epoch: int
    before: int = 0  # the epoch of the last owner, if that is known


class KeepCursor(Struct, frozen=True):
    application: Application
    cursor: str | None


class KeepCallback(Struct, frozen=True):
    """When the application wants to be asked again; None: not by the clock."""

    application: Application
    at_unix_us: int | None


class KeepTask(Struct, frozen=True):
    """This is how far the task is; the row of its serial is replaced."""

    application: Application
    task: TaskRecord


class ForgetTask(Struct, frozen=True):
    """The task is over, or the application no longer asks for it."""

    application: Application
    serial: int


class Publish(Struct, frozen=True):
    """Tell the event stream; kept in the journal until the broker has it.

    Events: `task_started`, `task_slow`, `task_outcome`, `task_retry`, `task_dead`.
    """

    application: Application
    event: str
    serial: int
    group: str | None
    operator: str
    attempt: int
    code: str = ""  # class of a failure; of an outcome empty
    text: str = ""
    input_bytes: int = 0
    output_bytes: int = 0
    output_hash: str = ""  # blake2b-32 as 64 digits, for `task_outcome`
    certificate: str = ""  # likewise
    retry_at_unix_us: int = 0  # for `task_retry`


# -- for the world --------------------------------------------------------------------------------


class WatchChain(Struct, frozen=True):
    """Listen to a chain's notifications; answered by StreamOpened whenever they begin."""

    chain_id: str


class UnwatchChain(Struct, frozen=True):
    chain_id: str


class Ask(Struct, frozen=True):
    """Query `nextActions`; answered by Answered or NotAnswered, within `limit_s` if given."""

    ask: int
    application: Application
    cursor: str | None
    now_unix_us: int
    limit_s: float | None


class StopAsking(Struct, frozen=True):
    """The answer is not wanted any more; if it comes nevertheless, it is not heard."""

    ask: int


class Run(Struct, frozen=True):
    """Run an operator; answered by RunEnded, or by PlaceRefused.

    What the same turn says of a task whose run is refused (that it runs, `task_started`) need not
    be written: the core says how the task stands when it hears of the refusal.
    """

    run: int
    application: Application
    serial: int
    attempt: int
    group: str | None
    operator: str
    input: str


class Kill(Struct, frozen=True):
    """End a run with everything that it has started; answered by RunEnded(CANCELLED).

    A run that has ended meanwhile needs no second answer.
    """

    run: int


class Submit(Struct, frozen=True):
    """Give an outcome to the application; answered by SubmitEnded.

    One at a time for each chain: two blocks at once would only conflict.
    """

    application: Application
    epoch: int
    serial: int
    outcome: TaskOutcome


class Released(Struct, frozen=True):
    """Nothing of ours runs or is on its way for the application any more: another may own it."""

    application: Application
    epoch: int


class Note(Struct, frozen=True):
    """A line for the log."""

    level: str  # debug, info, warning, error
    text: str  # "event_name key=value …"


class Done(Struct, frozen=True):
    """After Cancelled: nothing of ours runs any more."""


JournalCommand = TakeEpoch | KeepCursor | KeepCallback | KeepTask | ForgetTask | Publish
WorldCommand = (
    WatchChain | UnwatchChain | Ask | StopAsking | Run | Kill | Submit | Released | Note | Done
)
Command = JournalCommand | WorldCommand
