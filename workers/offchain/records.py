"""What the journal keeps of a task."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class TaskState(StrEnum):
    """Where a task stands."""

    WAITING = "waiting"  # for its first run, or for the next one
    RUNNING = "running"
    COMPUTED = "computed"  # its output waits to be submitted
    SUBMITTING = "submitting"
    DEAD = "dead"  # not tried again until somebody says so
    DROPPED = "dropped"  # somebody has said that it is not to be tried again


class TaskRecord(Struct, frozen=True):
    """A task that an application has asked for, and how far it is.

    It is known again by group, operator and input: an application without ids asks for the same
    list at each poll, shorter by what was committed. Of equal tasks the oldest comes first.
    """

    serial: int  # counts the tasks of the application; part of the idempotency key
    group: str | None
    operator: str
    input: str
    state: TaskState = TaskState.WAITING
    attempts: int = 0  # runs that have begun
    fruitless: int = 0  # submissions in a row without effect
    not_before_unix_us: int = 0  # the gate: no run and no submission before
    output: str | None = None  # computed and not yet committed
    why: str = ""  # of the last failure: class and sentence
    stderr: str = ""  # of the last run, its end
    submitted_epoch: int = 0  # by which owner, for SUBMITTING
    asked: bool = True  # the application still listed it at the last poll
