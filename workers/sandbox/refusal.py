"""Why the chain says no, in the shape in which an Octez node says it.

An error has a kind, an id and fields of its own; a refusal is a trace of errors, the most
general first, the root cause last. The kind of a refused operation decides where the mempool
puts it. Ids of the economic protocol are written with the protocol's prefix; those of the
shell, and of this sandbox, stand alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class ErrorKind(Enum):
    """What must change before the same thing can be right; the later dominates in a trace."""

    TEMPORARY = "temporary"  # perhaps nothing: try again later
    BRANCH = "branch"  # the branch of the chain
    OUTDATED = "outdated"  # it was right once
    PERMANENT = "permanent"  # it can never be right


_DOMINANCE = {kind: rank for rank, kind in enumerate(ErrorKind)}


@dataclass(frozen=True, slots=True)
class ChainError:
    """One error of a trace; `text` is the sentence for people."""

    kind: ErrorKind
    id: str
    text: str
    fields: Mapping[str, Any]
    of_protocol: bool

    def to_json(self, protocol_prefix: str) -> dict[str, Any]:
        """Return the object that the RPC sends."""
        prefix = protocol_prefix if self.of_protocol else ""
        return {"kind": self.kind.value, "id": prefix + self.id, **self.fields}


class Refusal(Exception):
    """The chain refuses an operation, a block or a simulation; `trace` says why."""

    def __init__(self, *trace: ChainError) -> None:
        self.trace = trace
        super().__init__(trace[-1].text)

    @property
    def reason(self) -> str:
        """The id of the root cause, without the protocol's prefix; for a block, its error."""
        cause = self.trace[-1]
        return str(cause.fields.get("error", cause.id))

    @property
    def kind(self) -> ErrorKind:
        """The kind that dominates in the trace."""
        return max((error.kind for error in self.trace), key=_DOMINANCE.__getitem__)

    def to_json(self, protocol_prefix: str) -> list[dict[str, Any]]:
        """Return the trace as the RPC sends it."""
        return [error.to_json(protocol_prefix) for error in self.trace]


def protocol_error(kind: ErrorKind, id: str, text: str, **fields: Any) -> ChainError:
    """Return an error of the economic protocol."""
    return ChainError(kind, id, text, fields, of_protocol=True)


def shell_error(kind: ErrorKind, id: str, text: str, **fields: Any) -> ChainError:
    """Return an error of the node around the protocol."""
    return ChainError(kind, id, text, fields, of_protocol=False)


def failure(text: str) -> Refusal:
    """Return the refusal that a node gives when it has only a sentence to say."""
    return Refusal(shell_error(ErrorKind.TEMPORARY, "failure", text, msg=text))
