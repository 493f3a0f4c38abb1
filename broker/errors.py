"""What can go wrong between a client, the broker and a worker, by who must act.

Every class has a stable wire `code`, which clients may test for, and `advice`: one sentence on
what to do. Codes never change meaning; new ones may appear.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class BrokerError(Exception):
    """Something that this package reports; use one of the subclasses."""

    code: ClassVar[str] = "error"
    advice: ClassVar[str] = "See the log of the process that reported it."


# -- fix the request ------------------------------------------------------------------------------


class FixRequest(BrokerError):
    """The request cannot be served as it stands; repeating it gives the same answer."""


class MalformedMessage(FixRequest):
    """Bytes on a socket that are no message of the protocol."""

    code = "malformed"
    advice = "Compare the message with docs/protocol.md; nothing was done."


class IdReused(FixRequest):
    """A request id that already stands for a request with other bytes."""

    code = "id_reused"
    advice = "Choose a fresh random id of 16 bytes for each request."


# -- try later ------------------------------------------------------------------------------------


class TryLater(BrokerError):
    """The pool cannot take this now; the same request may succeed later."""


class Busy(TryLater):
    """A bound of the broker is reached."""

    code = "busy"
    advice = "Push again after retry_ms, or add workers."


class ShuttingDown(TryLater):
    """The broker drains and takes no new work."""

    code = "shutting_down"
    advice = "Push again when the pool is up; keep the id."


class NoAnswer(TryLater):
    """No broker answered in time."""

    code = "no_answer"
    advice = "Is `forgepool serve` running, and is --state-dir (or the address) the right one?"

    @classmethod
    def at_all(cls) -> NoAnswer:
        """Nobody was there to answer."""
        return cls(f"no broker has answered. {cls.advice}")


# Exit status of a process that cannot run as it is configured: to start it again is no use.
EXIT_MISCONFIGURED = 78
# Likewise, but it is of use in a while: the numbers of sysexits.h, which service managers know.
EXIT_OCCUPIED = 75


# -- page someone ---------------------------------------------------------------------------------


class Misconfigured(BrokerError):
    """A setting that must be changed before the process can start."""

    code = "misconfigured"
    advice = "Change the setting that the message names."


class AlreadyRunning(BrokerError):
    """Another broker holds the lock of this state directory, perhaps one that drains."""

    code = "already_running"
    advice = (
        "Wait until it has drained, or stop the process with the pid that the message names, "
        "or use another --state-dir."
    )


class NoStore(Misconfigured):
    """A pool without a watermark store: its workers could sign nothing."""

    code = "store_missing"
    advice = (
        "An absent store is not an empty one: if its keys have signed before, restore a backup "
        "(`forgepool watermarks restore`); only for a new pool use `forgepool init`."
    )

    def __init__(self, state_dir: Path) -> None:
        super().__init__(f"there is no watermark store in {state_dir}. {self.advice}")


class UnreadableWatchList(Misconfigured):
    """The file with the watched applications is there and cannot be read."""

    code = "unreadable_watch_list"
    advice = (
        "Mend it, or restore it from a backup. Without it applications must be watched anew and "
        "their epochs begin again at 1: workers refuse those until a higher one is given."
    )
