"""How many operators may run at once: in this process, and of one name.

The host has the last word: its journal counts the operators of all processes. An operator that it
has refused is tried again when one of ours has ended, or after a moment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import inf

from workers.offchain.chance import Chance

REFUSED_S = 0.25  # operators run for longer than this, and a look costs one transaction
REFUSED_S_MAX = 2.0  # so long a free place of the host may go unnoticed


class Places:
    __slots__ = ("_bounds", "_refusals", "_refused_until", "of_operator", "total", "total_max")

    def __init__(self, total_max: int, bounds: Mapping[str, int]) -> None:
        self.total_max = total_max
        self._bounds = bounds
        self.total = 0
        self.of_operator: Counter[str] = Counter()
        self._refused_until: dict[str, float] = {}
        self._refusals: Counter[str] = Counter()  # in a row

    def is_free(self, operator: str, now: float) -> bool:
        return (
            self.total < self.total_max
            and self.of_operator[operator] < self._bounds.get(operator, self.total_max)
            and self._refused_until.get(operator, 0.0) <= now
        )

    def take(self, operator: str) -> None:
        self.total += 1
        self.of_operator[operator] += 1

    def leave(self, operator: str) -> None:
        """A run has ended: its place on the host is free too, for whoever waits."""
        self._give_back(operator)
        self._refused_until.clear()
        self._refusals.clear()

    def refuse(self, operator: str, now: float, chance: Chance) -> None:
        """The host had no place for a run that we had given one."""
        self._give_back(operator)
        limit_s = min(REFUSED_S_MAX, REFUSED_S * 2 ** self._refusals[operator])
        self._refusals[operator] += 1
        self._refused_until[operator] = now + limit_s * chance.uniform(0.5, 1.0)

    def _give_back(self, operator: str) -> None:
        self.total -= 1
        self.of_operator[operator] -= 1
        if not self.of_operator[operator]:
            del self.of_operator[operator]

    def next_look(self, now: float) -> float:
        """When an operator that was refused may be tried again."""
        self._refused_until = {o: at for o, at in self._refused_until.items() if at > now}
        return min(self._refused_until.values(), default=inf)
