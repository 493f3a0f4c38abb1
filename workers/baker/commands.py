"""What the baker wants done. Values, carried out by `automaton`."""

from __future__ import annotations

from dataclasses import dataclass

from signers.formats.signable import Kind
from workers.baker.stimuli import Proposal


@dataclass(frozen=True, slots=True)
class RightsWanted:
    """Ask the node for the rights of a level; answered by `RightsKnown`."""

    level: int


@dataclass(frozen=True, slots=True)
class ParentWanted:
    """Ask the node for a block; answered by `ParentSeen`."""

    hash: bytes


@dataclass(frozen=True, slots=True)
class OperationsWanted:
    """Ask the node for a block's operations; answered by `ProposalSeen` with them."""

    proposal: Proposal


@dataclass(frozen=True, slots=True)
class VotesWanted:
    """Ask the pool for votes: `delegates` with the first slot of each."""

    kind: Kind
    branch: bytes
    level: int
    round: int
    payload_hash: bytes
    delegates: tuple[tuple[str, int], ...]
    until: float  # Unix seconds: when they are of no use any more


@dataclass(frozen=True, slots=True)
class Payload:
    """What a re-proposal proposes again."""

    payload_hash: bytes
    payload_round: int
    operations: tuple[tuple[bytes, ...], ...]  # passes 1, 2, 3


@dataclass(frozen=True, slots=True)
class BlockWanted:
    """Ask the pool for a block on `predecessor`; fresh unless there is a payload."""

    delegate: str
    predecessor: bytes
    level: int
    round: int
    consensus_operations: tuple[bytes, ...]
    payload: Payload | None
    until: float  # Unix seconds: when its round ends


Command = RightsWanted | ParentWanted | OperationsWanted | VotesWanted | BlockWanted
