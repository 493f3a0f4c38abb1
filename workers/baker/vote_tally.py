"""Counting votes: which were seen for which proposal, and whether they are a quorum."""

from __future__ import annotations

from collections.abc import Iterable

from signers.formats.signable import Kind
from workers.baker.stimuli import Proposal, Rights, SlotVote

_Ballot = tuple[Kind, int, int, bytes]  # kind, level, round, payload hash

# Payloads that are voted for at one level: one for each round, and bakers who propose twice.
BALLOTS_MAX = 1024


class VoteTally:
    """The latest votes, each slot once for each proposal."""

    def __init__(self) -> None:
        self._operations: dict[_Ballot, dict[int, bytes]] = {}

    def add(self, votes: Iterable[SlotVote]) -> None:
        """Count votes; those that were counted already change nothing."""
        for vote in votes:
            ballot = (vote.kind, vote.level, vote.round, vote.payload_hash)
            if ballot not in self._operations and len(self._operations) >= BALLOTS_MAX:
                continue
            self._operations.setdefault(ballot, {}).setdefault(vote.slot, vote.operation)

    def forget_below(self, level: int) -> None:
        """Forget the votes of lower levels."""
        self._operations = {
            ballot: votes for ballot, votes in self._operations.items() if ballot[1] >= level
        }

    def operations(self, kind: Kind, proposal: Proposal) -> tuple[bytes, ...]:
        """The votes for a proposal, in the order of their slots."""
        votes = self._votes(kind, proposal)
        return tuple(votes[slot] for slot in sorted(votes))

    def power(self, kind: Kind, proposal: Proposal, rights: Rights) -> int:
        """How many slots of the committee voted for a proposal."""
        power_of_slot = rights.power_of_slot
        return sum(power_of_slot.get(slot, 0) for slot in self._votes(kind, proposal))

    def _votes(self, kind: Kind, proposal: Proposal) -> dict[int, bytes]:
        if proposal.payload_hash is None:
            return {}
        ballot = (kind, proposal.level, proposal.round, proposal.payload_hash)
        return self._operations.get(ballot, {})
