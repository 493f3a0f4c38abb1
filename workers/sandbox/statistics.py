"""What the chain has seen, counted for whoever judges a run: `GET /sandbox/statistics`.

This endpoint is ours; no Octez or Mavryk node has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from signers.formats.signable import Kind
from workers.sandbox.block_tree import Block

# A thousand levels of a dozen delegates are some 25,000 arrivals, about 4 MB.
LEVELS_KEPT = 1000
# Far more rounds of votes than any level has; what comes later is not counted.
ARRIVALS_PER_LEVEL_MAX = 10_000

PREATTESTATION_KINDS = frozenset({"preattestation"})
ATTESTATION_KINDS = frozenset({"attestation", "attestation_with_dal"})
VOTE_KINDS = PREATTESTATION_KINDS | ATTESTATION_KINDS


class Arriving(NamedTuple):
    """What a delegate signs at a level: its kind, who signed, and the round."""

    kind: Kind
    delegate: bytes
    round: int


@dataclass(slots=True)
class Statistics:
    """Counts since the node began; "included" is about the chain of the head alone.

    `arrivals` says for the last LEVELS_KEPT levels when the node first had each valid vote and
    block, in Unix seconds.
    """

    blocks: int = 0
    rounds_over_zero: int = 0
    reproposals: int = 0
    reorganisations: int = 0
    blocks_validated: int = 0
    preattestations_seen: int = 0
    attestations_seen: int = 0
    operations_seen: int = 0
    included: Counter[str] = field(default_factory=Counter)
    refused_operations: Counter[str] = field(default_factory=Counter)
    refused_blocks: Counter[str] = field(default_factory=Counter)
    arrivals: dict[int, dict[Arriving, float]] = field(default_factory=dict, repr=False)

    def block_arrived(self, block: Block) -> None:
        """Count a block that proved valid."""
        self.blocks_validated += 1
        self._arrive(block.level, Arriving(Kind.BLOCK, block.baker, block.round), block.arrived)

    def vote_arrived(self, level: int, vote: Arriving, now: float) -> None:
        """Count a vote with a valid signature; one that is repeated counts once."""
        if not self._arrive(level, vote, now):
            return
        if vote.kind is Kind.PREATTESTATION:
            self.preattestations_seen += 1
        else:
            self.attestations_seen += 1

    def head_moved(self, left: list[Block], joined: list[Block]) -> None:
        """Count what the chain of the head has gained, and take back what it has lost."""
        self.reorganisations += bool(left)
        for block in left:
            self._count(block, -1)
        for block in joined:
            self._count(block, 1)
        oldest = joined[-1].level - LEVELS_KEPT
        for level in [level for level in self.arrivals if level < oldest]:
            del self.arrivals[level]

    def included_of(self, kinds: frozenset[str]) -> int:
        """How many operations of these kinds the chain of the head includes."""
        return sum(self.included[kind] for kind in kinds)

    @property
    def operations_included(self) -> int:
        """How many operations the chain includes, votes aside."""
        return self.included.total() - self.included_of(VOTE_KINDS)

    def operations_by_kind(self) -> Mapping[str, int]:
        """Included operations other than votes, by the kind of their first content."""
        counted = self.included.items()
        return {kind: count for kind, count in counted if count and kind not in VOTE_KINDS}

    def _count(self, block: Block, sign: int) -> None:
        self.blocks += sign
        self.rounds_over_zero += sign * (block.round > 0)
        self.reproposals += sign * (block.header.payload_round < block.round)
        for kind, count in block.kinds.items():
            self.included[kind] += sign * count

    def _arrive(self, level: int, what: Arriving, now: float) -> bool:
        at_level = self.arrivals.setdefault(level, {})
        if what in at_level or len(at_level) >= ARRIVALS_PER_LEVEL_MAX:
            return False
        at_level[what] = now
        return True
