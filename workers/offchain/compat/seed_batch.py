"""Tasks that the source runs together: all at once, their outcomes submitted in their order.

Two kinds, by version of the source (Linera, `linera-service/src/task_processor.rs`). Tasks without
ids are one batch behind a barrier (#5655): nothing is submitted before the last operator has ended.
Tasks with ids are a batch for each id (#6743), whose outcomes go as soon as it is their turn. In
both, the first failure ends the batch; what is behind it is thrown away.
"""

from __future__ import annotations

from collections.abc import Sequence

from workers.offchain.actions import Task
from workers.offchain.application import Application
from workers.offchain.ends import RunResult
from workers.offchain.hardened.task_news import OPERATOR_LETTERS_MAX


class SeedBatch:
    __slots__ = (
        "application",
        "behind_barrier",
        "ended",
        "epoch",
        "first_serial",
        "group",
        "next",
        "results",
        "tasks",
    )

    def __init__(
        self,
        application: Application,
        epoch: int,
        tasks: Sequence[Task],
        group: str | None,
        *,
        first_serial: int,
        behind_barrier: bool,
    ) -> None:
        self.application = application
        self.epoch = epoch
        self.tasks = tasks
        self.group = group
        self.first_serial = first_serial  # of its tasks; the others follow
        self.behind_barrier = behind_barrier
        self.results: list[RunResult | None] = [None] * len(tasks)
        self.next = 0  # the task whose outcome is submitted next, or just now
        self.ended = False

    @property
    def named(self) -> str:
        """The next task in a line of the log; the source counts no attempts."""
        operator = self.tasks[self.next].operator[:OPERATOR_LETTERS_MAX]
        serial = self.first_serial + self.next
        return f"application={self.application} serial={serial} operator={operator}"

    @property
    def is_over(self) -> bool:
        return self.next == len(self.tasks)

    def next_result(self) -> RunResult | None:
        """How the next task's operator ended, when it is time to go by it."""
        if self.behind_barrier and None in self.results:
            return None
        return self.results[self.next]
