"""The operators of a pool: which programs there are, under which names, and what a run may use.

They come from ``[tasks.operators.NAME]`` and from ``--operator`` (`broker/task_options.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct

from broker.config import OperatorSettings

ESCALATION = 8  # times the first time limit, when the settings say nothing: three doublings


class Operator(Struct, frozen=True):
    """A program that performs tasks."""

    name: str
    settings: OperatorSettings

    @property
    def path(self) -> str:
        return self.settings.path

    def time_limit_s(self, attempt: int) -> float:
        """How long an attempt may take: twice as long each time, up to the operator's maximum.

        A limit that is too small for the work would else end every attempt at the same place.

        Args:
            attempt: counts from 1.
        """
        settings = self.settings
        if settings.timeout_s == 0:
            return math.inf
        highest = settings.timeout_max_s
        if highest is None:
            highest = ESCALATION * settings.timeout_s
        doublings = min(max(attempt - 1, 0), 64)  # by then it is at any maximum
        return min(settings.timeout_s * 2.0**doublings, highest)


OperatorTable = Mapping[str, Operator]


def operator_table(settings: Mapping[str, OperatorSettings]) -> OperatorTable:
    """The operators of the settings, which `broker/task_options.py` has checked."""
    return {name: Operator(name, given) for name, given in settings.items()}


def limit_arguments(settings: OperatorSettings) -> list[str]:
    """What prlimit(1) is told to set for the operator; nothing when it has no limits of its own.

    At the limit of CPU time a process gets SIGXCPU, and a second later SIGKILL.
    """
    given = {
        "as": settings.memory_bytes,
        "cpu": settings.cpu_s and f"{settings.cpu_s}:{settings.cpu_s + 1}",
        "nofile": settings.open_files,
        "fsize": settings.file_bytes,
        "nproc": settings.processes,
    }
    return [f"--{name}={value}" for name, value in given.items() if value is not None]
