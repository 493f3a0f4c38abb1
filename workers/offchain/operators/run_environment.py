"""What an operator finds in its environment: little, and what it must know about its task."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from broker.config import OperatorSettings
from workers.offchain.commands import Run

INHERITED = ("PATH", "LANG", "TZ")
RUN_VARIABLE = "FORGEPOOL_RUN"  # by which all that a run has started is found again
TASK_ID_BYTES_MAX = 4096  # a longer one stays out; the system allows 128 KiB for one variable


def run_environment(
    order: Run,
    settings: OperatorSettings,
    inherited: Mapping[str, str],
    *,
    token: str,
    directory: str,
    deadline_unix_s: int | None,
    origin: str,
) -> dict[str, str]:
    """The whole environment of one attempt.

    Args:
        inherited: our own environment, of which only what is allowed is passed on.
        token: names the run, and no other one ever.
        directory: its own, for as long as it lasts.
        deadline_unix_s: when it is ended; None: never.
        origin: see `idempotency_key`.
    """
    names = (*INHERITED, *settings.env)
    environment = {name: inherited[name] for name in names if name in inherited}
    environment |= {"HOME": directory, "TMPDIR": directory}
    environment |= settings.set_env
    environment |= {
        "FORGEPOOL_APPLICATION_ID": order.application.application_id,
        "FORGEPOOL_CHAIN_ID": order.application.chain_id,
        "FORGEPOOL_ATTEMPT": str(order.attempt),
        "FORGEPOOL_IDEMPOTENCY_KEY": idempotency_key(order, origin),
        RUN_VARIABLE: token,
    }
    if deadline_unix_s is not None:
        environment["FORGEPOOL_DEADLINE"] = str(deadline_unix_s)
    if order.group is not None and _can_be_variable(order.group):
        environment["FORGEPOOL_TASK_ID"] = order.group
    return environment


def _can_be_variable(text: str) -> bool:
    try:
        return "\0" not in text and len(text.encode()) <= TASK_ID_BYTES_MAX
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can hold
        return False


def idempotency_key(order: Run, origin: str) -> str:
    """The same word for every attempt at a task, and another one for every other task.

    An operator that must not do its work twice keeps it beside what it has done.

    Args:
        origin: whose serials these are (the journal's uuid): each host counts its own.
    """
    group = "" if order.group is None else f"id {order.group}"
    parts = (origin, order.application.key, group, str(order.serial), order.operator, order.input)
    lengths = " ".join(map(str, map(len, parts)))  # or a part could reach into the next
    said = "".join((lengths, " ", *parts)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(said, digest_size=32).hexdigest()
