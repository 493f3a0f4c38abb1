"""Applications with off-chain tasks, as broker, workers and operators of the pool speak of them.

An application is a key on the ring like a delegate; what it is the broker does not know. Each is
processed by one worker at a time. The worker's right to it has an epoch, which grows whenever the
application is given away: whoever sees two of them goes by the higher.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from msgspec import Meta, Struct

from broker.errors import Misconfigured

# The client's name of the tasks' events: topic `c/offchain`. Nobody may push under it.
OFFCHAIN_CLIENT = "offchain"

# A watch list goes to a worker in one message, and into one file.
APPLICATIONS_MAX = 4096
OPERATORS_PER_APPLICATION_MAX = 64
WATCH_LIST_LETTERS_MAX = 4 * 1024 * 1024  # of all keys and names of operators; a frame has 8 MiB
# An outbox is emptied a message at a time, so that events never wait long for the loop.
EVENTS_PER_MESSAGE_MAX = 256
EVENT_BODY_BYTES_MAX = 16 * 1024  # bodies have sizes and hashes of outputs, not the outputs
EVENT_TEXT_LETTERS_MAX = 4096

# Why applications do not go on: the rest is in the log. All of it travels whenever one changes.
TROUBLES_MAX = 64
TROUBLE_LETTERS_MAX = 512

# Two ids of 32 bytes in one word, in hexadecimal digits (`workers/offchain/application.py`).
ApplicationKey = Annotated[str, Meta(min_length=128, max_length=128, pattern=r"^[0-9a-f]{128}\Z")]
OperatorName = Annotated[str, Meta(min_length=1, max_length=128)]
Operators = Annotated[list[OperatorName], Meta(max_length=OPERATORS_PER_APPLICATION_MAX)]
# SQLite counts in 64 bits with a sign. What is heard from others leaves room above it.
Epoch = Annotated[int, Meta(ge=0, le=2**63 - 1)]
HeardEpoch = Annotated[int, Meta(ge=0, le=2**62)]
Milliseconds = Annotated[int, Meta(ge=0)]
Trouble = Annotated[str, Meta(min_length=1, max_length=TROUBLE_LETTERS_MAX)]
Troubles = Annotated[dict[ApplicationKey, Trouble], Meta(max_length=TROUBLES_MAX)]

TASK_STARTED = "task_started"
TASK_SLOW = "task_slow"
TASK_OUTCOME = "task_outcome"
TASK_RETRY = "task_retry"
TASK_DEAD = "task_dead"
TaskEventName = Literal["task_started", "task_slow", "task_outcome", "task_retry", "task_dead"]


# -- how people write them ------------------------------------------------------------------------

ID_DIGITS = 64  # of a chain or an application: 32 bytes
_ID = re.compile(r"[0-9a-f]{64}\Z")


def application_key(text: str, chain_id: str) -> str:
    """Read ``APPLICATION``, ``CHAIN/APPLICATION`` or a key.

    Args:
        chain_id: the chain when the text names none; empty: there is no such default.

    Raises:
        Misconfigured: saying which part is wrong, and how it is written.
    """
    chain, application = application_ids(text)
    if not chain and not chain_id:
        raise Misconfigured(
            f"application {text}: on which chain? Set tasks.chain_id, or write CHAIN/APPLICATION"
        )
    return checked_id(chain or chain_id, "chain") + application


def application_ids(text: str) -> tuple[str, str]:
    """The ids of chain and application in the same texts; the first is empty if it is not named.

    Raises:
        Misconfigured: saying which part is wrong.
    """
    chain, slash, application = text.rpartition("/")
    if not slash and len(text) == 2 * ID_DIGITS:
        chain, application = text[:ID_DIGITS], text[ID_DIGITS:]
    elif not slash:
        return "", checked_id(text, "application")
    return checked_id(chain, "chain"), checked_id(application, "application")


def checked_id(text: str, what: str) -> str:
    """The id as it is, if it is one. Raises Misconfigured."""
    if _ID.match(text) is None:
        raise Misconfigured(f"the id of the {what} is not 64 digits of 0-9a-f: {text[:80]!r}")
    return text


# -- for operators of the pool --------------------------------------------------------------------


class Watched(Struct, frozen=True):
    """An application that the pool is to process."""

    key: ApplicationKey
    operators: Operators | None = None  # which it may use; absent: every one


class ApplicationInPool(Struct, omit_defaults=True):
    """How an application is in the pool."""

    key: str
    state: str  # ApplicationState
    operators: list[str] | None = None  # which it may use; absent: every one
    owner: str = ""  # name of the worker that processes it; empty: nobody
    epoch: int = 0  # the owner's; 0: it has not been given to anybody yet
    since_ms: int = 0  # for how long it is in this state
    wait_ms: int = 0  # so long a lost owner's outcome may still be on its way
    named_by: list[str] = []  # "settings", "operator" (of the pool), "controller"
    awaited: list[str] = []  # workers that must let go of it before another gets it
    trouble: str = ""  # why it does not go on, as its owner says; empty: it does


# -- between broker and workers -------------------------------------------------------------------


class ApplicationShare(Struct, array_like=True, frozen=True):
    """An application that is the worker's to process."""

    key: ApplicationKey
    epoch: Epoch
    # An outcome of an owner that was lost may be on its way for at most so long from now; said
    # again under the same epoch, the earliest end counts.
    wait_ms: Milliseconds
    operators: Operators | None  # which it may use; None: every one
    # The last epoch before; 0: not known, or an owner before it was lost too. A worker whose
    # journal knows that owner, and that it has ended, need not wait.
    before: Epoch = 0


class ApplicationHold(Struct, array_like=True, frozen=True):
    """An application and an epoch of it."""

    key: ApplicationKey
    epoch: HeardEpoch


class TaskEvent(Struct, array_like=True, frozen=True):
    """Something that has happened to a task of an application."""

    # Made of application, epoch and number in the outbox: repeated events have the same.
    id: Annotated[bytes, Meta(min_length=16, max_length=16)]
    key: ApplicationKey
    event: TaskEventName
    body: Annotated[bytes, Meta(max_length=EVENT_BODY_BYTES_MAX)] = b""
    code: Annotated[str, Meta(max_length=64)] = ""
    text: Annotated[str, Meta(max_length=EVENT_TEXT_LETTERS_MAX)] = ""
