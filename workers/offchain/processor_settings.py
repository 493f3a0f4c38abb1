"""How a task processor goes about its work, as its cores need to know it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class ProcessorSettings(Struct, frozen=True):
    """What the table `[tasks]` of the settings says."""

    retry_delay_s: float = 5.0  # the first back-off of a group; in compat mode every one
    retry_max_s: float = 300.0
    max_attempts: int = 10  # runs, and likewise submissions in vain, until a task is dead
    concurrency: int = 8  # operators that run at once
    per_application: int = 4
    per_operator: dict[str, int] = {}  # of those that have a bound of their own
    operators: frozenset[str] | None = None  # names of those that there are; None: any
    ask_limit_s: float = 30.0  # for an answer to `nextActions`
    unassign: Literal["kill", "finish"] = "kill"  # operators of an application that is taken away
    cursor_commit: Literal["poll", "after_batch"] = "poll"  # when a cursor counts
