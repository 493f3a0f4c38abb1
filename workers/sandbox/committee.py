"""Who may bake and vote at each level, drawn from the seed in proportion to stake.

A committee has a fixed number of slots; each slot belongs to one delegate. The owner of slot r
is also the baker of round r, as in Tenderbake (``baking_rights_owner``). A delegate votes once,
in its first slot, with as much power as it has slots.

On a real chain the draw follows a seed that the revealed nonces change each cycle. Here the
seed never changes: whoever knows it knows all rights, which is what a test wants.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate
from struct import unpack

# A tagged public key hash: the curve's tag and 20 bytes, as operations carry it.
Delegate = bytes

# Rights are asked for the levels around the head, and by `baking_rights` for a cycle or two.
COMMITTEES_KEPT = 512
_DRAWS_PER_DIGEST = 8


class Committee:
    """The owner of every slot at one level."""

    def __init__(self, level: int, owners: Sequence[Delegate]) -> None:
        self.level = level
        self.owners = tuple(owners)

    def __repr__(self) -> str:
        return f"Committee(level={self.level}, slots={len(self.owners)})"

    def baker(self, round: int) -> Delegate:
        """Who may bake in this round."""
        return self.owners[round % len(self.owners)]

    def owner(self, slot: int) -> Delegate | None:
        """Who owns this slot, or None when there is no such slot."""
        return self.owners[slot] if slot < len(self.owners) else None

    @cached_property
    def slots(self) -> Mapping[Delegate, tuple[int, ...]]:
        """The slots of each delegate in ascending order, delegates by their first slot."""
        slots: dict[Delegate, list[int]] = {}
        for slot, owner in enumerate(self.owners):
            slots.setdefault(owner, []).append(slot)
        return {owner: tuple(owned) for owner, owned in slots.items()}

    def power(self, slot: int) -> int:
        """How many slots the owner of `slot` has, when that is its first slot; else 0.

        A vote in a block counts only in its delegate's first slot (``Slot_normalization``).
        """
        owner = self.owner(slot)
        if owner is None or self.slots[owner][0] != slot:
            return 0
        return len(self.slots[owner])


class Rights:
    """The committees of all levels, each drawn when first asked for and kept for a while."""

    def __init__(self, seed: bytes, stakes: Mapping[Delegate, int], committee_size: int) -> None:
        """`stakes` in mutez (mumav), each positive; raises ValueError when there is none."""
        if not stakes or min(stakes.values()) <= 0:
            raise ValueError("a committee needs delegates, and each of them a stake")
        self._seed = seed
        self._delegates = tuple(sorted(stakes))
        self._bounds = list(accumulate(stakes[delegate] for delegate in self._delegates))
        self._committee_size = committee_size
        self._kept: dict[int, Committee] = {}

    def committee(self, level: int) -> Committee:
        """Return the committee of a level."""
        committee = self._kept.get(level)
        if committee is None:
            if len(self._kept) >= COMMITTEES_KEPT:
                del self._kept[next(iter(self._kept))]
            committee = self._kept[level] = Committee(level, self._draw(level))
        return committee

    def _draw(self, level: int) -> list[Delegate]:
        total = self._bounds[-1]
        owners: list[Delegate] = []
        chunk = 0
        while len(owners) < self._committee_size:
            digest = blake2b(self._seed + level.to_bytes(4) + chunk.to_bytes(4)).digest()
            # A total below 2**53 mutez makes the bias of the remainder smaller than 2**-11.
            draws = unpack(f">{_DRAWS_PER_DIGEST}Q", digest)
            owners += (self._delegates[bisect_right(self._bounds, d % total)] for d in draws)
            chunk += 1
        return owners[: self._committee_size]
