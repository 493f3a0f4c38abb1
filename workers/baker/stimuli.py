"""What the baker hears: proposals, votes, rights. Values, made by `node_streams` and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from signers.formats.signable import Kind

Passes = tuple[tuple[bytes, ...], ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """A valid block. Hashes are raw bytes; what only baked blocks have is None for others."""

    hash: bytes
    predecessor: bytes
    level: int
    round: int
    timestamp: int  # Unix seconds: when its round began
    payload_hash: bytes | None
    payload_round: int
    locked_round: int | None  # of the preattestations that it holds
    operations: Passes | None = None  # None: not known


@dataclass(frozen=True, slots=True)
class ProposalSeen:
    """The node has found a block valid."""

    proposal: Proposal


@dataclass(frozen=True, slots=True)
class ParentSeen:
    """The predecessor of the latest proposal, which had not been seen before."""

    parent: Proposal


@dataclass(frozen=True, slots=True)
class SlotVote:
    """A valid preattestation or attestation, as it is injected."""

    kind: Kind
    level: int
    round: int
    payload_hash: bytes
    slot: int  # the voter's first
    operation: bytes


@dataclass(frozen=True, slots=True)
class VotesSeen:
    """Votes of the mempool, and those that the pool has signed."""

    votes: tuple[SlotVote, ...]


@dataclass(frozen=True)
class Rights:
    """Who may vote at a level and who may bake in each of its first rounds.

    Everybody is named by the hash of the key that signs for him.
    """

    level: int
    slots: Mapping[str, tuple[int, ...]]
    bakers: tuple[str, ...]  # by round

    @cached_property
    def power_of_slot(self) -> Mapping[int, int]:
        """The votes behind the slot that an operation carries, which is its voter's first."""
        return {owned[0]: len(owned) for owned in self.slots.values() if owned}


@dataclass(frozen=True, slots=True)
class RightsKnown:
    """The node has answered `RightsWanted`."""

    rights: Rights


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The deadline of the core has come."""


Stimulus = ProposalSeen | ParentSeen | VotesSeen | RightsKnown | TimePassed
