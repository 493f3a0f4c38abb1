"""A task that is not over: what the journal keeps of it, and what only this process knows."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from workers.offchain.records import TaskRecord, TaskState

# Nobody tries these, and in a group nothing overtakes them.
STUCK = frozenset({TaskState.DEAD, TaskState.DROPPED})


class OpenTask:
    __slots__ = (
        "ask_first",
        "awaits_round",
        "conflicts",
        "kept",
        "not_before",
        "place",
        "record",
        "run",
        "seen_at",
    )

    def __init__(self, record: TaskRecord, now: float) -> None:
        self.record = record
        self.kept: TaskRecord | None = None  # as it was last written down
        self.place = 0  # in its group; what stands before has a smaller one
        self.run: int | None = None
        self.seen_at = now  # monotonic
        self.not_before = 0.0  # monotonic; of a submission
        self.ask_first = False  # no submission before the application has listed it again
        self.awaits_round = False  # a new round or block may make us leader
        self.conflicts = 0  # in a row

    @property
    def serial(self) -> int:
        return self.record.serial

    @property
    def state(self) -> TaskState:
        return self.record.state

    @property
    def identity(self) -> tuple[str, str]:
        """What it is known by within its group."""
        return self.record.operator, self.record.input

    @property
    def is_uncertain(self) -> bool:
        """A submission has ended, or its owner has, and nobody knows whether it was committed.

        The journal says of it what it says of a submission that is open, for the next owner.
        """
        return self.record.state is TaskState.SUBMITTING and self.ask_first

    def sure(self) -> None:
        """It was not committed, as it is still asked for."""
        if self.record.state is TaskState.SUBMITTING:
            self.change(state=TaskState.COMPUTED)

    @property
    def is_stuck(self) -> bool:
        return self.record.state in STUCK

    def change(self, **fields: Any) -> None:
        self.record = replace(self.record, **fields)
