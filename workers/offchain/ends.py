"""How a run of an operator ended, and how a submission did, by who must act.

Each class has a word that logs, events and the journal use. Sources: the exit codes are those of
BSD `sysexits.h` and of POSIX shells; the classes of a submission are those of the node service's
replies (Linera, `linera-service/src/node_service.rs`) and of a client in the same process
(`ClientOutcome`).
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class RunEnd(StrEnum):
    """How a run of an operator ended."""

    OUTPUT = "output"  # exit status 0, and its output is well-formed
    TRANSIENT = "exit"  # another exit status, or a signal: may succeed next time
    PERMANENT = "permanent"  # says that the input or its configuration is wrong
    TIMEOUT = "timeout"  # was ended by us at its time limit
    RESOURCES = "resources"  # was ended by the system at one of its limits
    OUTPUT_TOO_LARGE = "output_too_large"
    INPUT_TOO_LARGE = "input_too_large"
    INVALID_UTF8 = "invalid_utf8"
    UNKNOWN_OPERATOR = "unknown_operator"
    NOT_ALLOWED = "not_allowed"  # the application's entry does not name this operator
    CANNOT_START = "cannot_start"  # no such file, not executable, a directory
    NOT_STARTED = "not_started"  # the system could not start any process just now
    CANCELLED = "cancelled"  # by us; says nothing of the task


# Repeating these gives the same end, until somebody changes the operator table or the task.
PERMANENT_ENDS = frozenset(
    {
        RunEnd.PERMANENT,
        RunEnd.OUTPUT_TOO_LARGE,
        RunEnd.INPUT_TOO_LARGE,
        RunEnd.INVALID_UTF8,
        RunEnd.UNKNOWN_OPERATOR,
        RunEnd.NOT_ALLOWED,
        RunEnd.CANNOT_START,
    }
)


class RunResult(Struct, frozen=True):
    """What a run of an operator gave."""

    end: RunEnd
    output: str = ""  # for OUTPUT
    text: str = ""  # for every other end: what happened, in a sentence
    stderr: str = ""  # the last of it, whatever the end
    seconds: float = 0.0


class SubmitEnd(StrEnum):
    """How the submission of one outcome ended."""

    COMMITTED = "committed"
    NO_EFFECT = "no_effect"  # the application took it and scheduled nothing
    REJECTED = "rejected"  # the application said no
    CONFLICT = "conflict"  # a different block was committed at this height
    WAIT_UNTIL = "wait_until"  # not the leader of the round
    CONFIGURATION = "configuration"  # read-only node service, bad ids: somebody must act
    OUTCOME_TOO_LARGE = "outcome_too_large"  # for the node service
    TRANSIENT = "transient"  # surely not submitted
    AMBIGUOUS = "ambiguous"  # may have been committed: ask the application
    FENCED = "fenced"  # the application has another owner by now: nothing was sent


class SubmitResult(Struct, frozen=True):
    """What a submission gave."""

    end: SubmitEnd
    certificate: str = ""  # hash, for COMMITTED
    text: str = ""
    until_unix_us: int = 0  # for WAIT_UNTIL
