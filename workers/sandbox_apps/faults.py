"""How the sandbox misbehaves when it is told to."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

# Switched on by hand or by a test; a list that grows without end is a mistake.
FAULTS_MAX = 1000


class FaultKind(StrEnum):
    """What goes wrong with a request."""

    ERROR = "error"  # the node service's error with `status` and `text`
    CONFLICT = "conflict"  # a different block was committed at this height
    READ_ONLY = "read_only"
    TOO_LARGE = "too_large"
    REFUSE = "refuse"  # the application has errors: `text`
    NO_EFFECT = "no_effect"  # the application says yes and schedules nothing
    ANSWER = "answer"  # status 200 and `text` as the whole body
    DELAY = "delay"  # after `seconds` all goes well
    HANG = "hang"  # nothing is done; the connection is cut when the faults are taken away
    DROP = "drop"  # the connection is cut before anything is done
    COMMIT_AND_DROP = "commit_and_drop"  # the block is made, and the connection cut
    COMMIT_AND_HANG = "commit_and_hang"  # the block is made, and nothing answered


class Fault(Struct, frozen=True):
    """What goes wrong, with which requests, and how often."""

    kind: FaultKind
    times: Annotated[int, Meta(ge=0)] = 1  # 0: until it is taken away
    field: str = ""  # only requests that ask for this field, such as `processTaskOutcome`
    application_id: str = ""  # only requests to this application
    status: Annotated[int, Meta(ge=400, le=599)] = 500
    seconds: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    text: str = "a fault of the sandbox"


class Switches(Struct):
    """How the sandbox behaves from now on."""

    tell_after_reply: bool = False  # NewBlock comes after the reply, else before it
    copies_of_new_block: Annotated[int, Meta(ge=0, le=100)] = 1  # 0: listeners are not told
    refuse_streams: bool = False  # nobody can listen
    legacy_streams: bool = False  # only `graphql-ws` is spoken


class Faults:
    """The faults that are due, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._due: list[Fault] = []
        self._left: list[int] = []
        self.clearings = 0  # how often everything was taken away

    def add(self, fault: Fault) -> None:
        """Let one more go wrong. Raises ValueError when there are too many."""
        if len(self._due) >= FAULTS_MAX:
            raise ValueError(f"{FAULTS_MAX} faults are due: no more")
        self._due.append(fault)
        self._left.append(fault.times)

    def clear(self) -> None:
        """Let everything go well."""
        self._due.clear()
        self._left.clear()
        self.clearings += 1

    def due(self) -> list[Fault]:
        return list(self._due)

    def take(self, application_id: str, query: str) -> Fault | None:
        """The first fault that a request meets, which is used up by it."""
        for index, fault in enumerate(self._due):
            is_met = fault.application_id in ("", application_id) and fault.field in query
            if not is_met:
                continue
            self._left[index] -= 1
            if self._left[index] == 0:
                del self._due[index], self._left[index]
            return fault
        return None
