"""Who may bake and vote at a level, and with which keys.

Slots of a level's committee are drawn cycles ahead, so rights are known before any block of the
level is. The slot of number round modulo committee size bakes that round, unless bakers are drawn
by themselves (Tezos may switch that on). Source: protocol ``delegate_sampler.ml``
(baking_rights_owner, slot_owner), ``swrr_sampler.ml``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from signers.keyring.keys import PublicKey


@dataclass(frozen=True, slots=True)
class Voter:
    """A delegate with rights at one level.

    `key` is that of its consensus key at that level, whose hash stands in `consensus_hash`;
    `companion` the second key under votes with DAL content of a tz4 key.
    """

    delegate: str  # "tz1…", "mv1…"
    consensus_hash: str
    key: PublicKey
    slots: tuple[int, ...]  # ascending; none of one who only bakes
    companion_hash: str | None = None
    companion: PublicKey | None = None

    @property
    def lowest_slot(self) -> int:
        return self.slots[0]

    @property
    def power(self) -> int:
        """How much its vote counts in a block."""
        return len(self.slots)


class LevelRights:
    """The committee of one level; raises ValueError for one in which slots have two owners."""

    def __init__(
        self,
        level: int,
        voters: Iterable[Voter],
        committee_size: int,
        bakers: Iterable[Voter] = (),
    ) -> None:
        """The owners of slots, and by round who bakes; without bakers the slots tell."""
        self.level = level
        self.voters = tuple(voters)
        self.bakers = tuple(bakers)
        self.by_slot: list[Voter | None] = [None] * committee_size
        for voter in self.voters:
            for slot in voter.slots:
                if not 0 <= slot < committee_size or self.by_slot[slot] is not None:
                    raise ValueError(f"slot {slot} of level {level} cannot be {voter.delegate}'s")
                self.by_slot[slot] = voter

    def voter(self, slot: int) -> Voter | None:
        """Who owns a slot; None beyond the committee."""
        return self.by_slot[slot] if slot < len(self.by_slot) else None

    def tells_baker(self, round_: int) -> bool:
        """Whether it is known who bakes a round; else `baker` says nothing."""
        return not self.bakers or round_ < len(self.bakers)

    def baker(self, round_: int) -> Voter | None:
        """Who bakes a round; None: nobody."""
        if self.bakers:
            return self.bakers[round_]
        return self.by_slot[round_ % len(self.by_slot)]
