"""Predecessors that nobody has sent: whom to ask for them, and when to ask again.

Only the deepest unknown ancestor of a held chain is wanted. It is asked for at once and then
after twice the time of the ask before, seven times at most; with many wanted, those that most
held blocks wait for go first. A later claimant is a further source: whoever announces an orphan
first must not be the only one who is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from broker.quarantine.areas import BoundedMap
from broker.quarantine.bounds import Bounds
from broker.quarantine.turn import Wanted

FIRST_ASK_AGAIN_S = 0.5
# When more are due than may be asked for in a turn, the rest waits so long.
PACE_S = 0.01


class Missing:
    """One wanted block."""

    __slots__ = ("asks", "hash", "next_at", "sources")

    def __init__(self, hash_: bytes, sources: tuple[str, ...], now: float) -> None:
        self.hash = hash_
        self.sources = sources
        self.asks = 0
        self.next_at = now


class MissingBlocks:
    """The wanted blocks by hash."""

    __slots__ = ("_asks_max", "_asks_per_turn", "_list", "_look_at", "_sources_max")

    def __init__(self, bounds: Bounds) -> None:
        self._list: BoundedMap[bytes, Missing] = BoundedMap(bounds.missing)
        self._sources_max = bounds.sources
        self._asks_max = bounds.asks
        self._asks_per_turn = bounds.asks_per_turn
        self._look_at = inf

    def want(self, hash_: bytes, sources: tuple[str, ...], now: float) -> bool:
        """Ask for a block; whether there was room to note it."""
        entry = self._list.get(hash_)
        if entry is None:
            if not self._list.put(hash_, Missing(hash_, sources[: self._sources_max], now)):
                return False
            self._look_at = min(self._look_at, now)
            return True
        for source in sources:
            if source not in entry.sources:
                # At the bound the one that was asked longest has had its chance.
                others = entry.sources[-(self._sources_max - 1) :]
                keep = entry.sources if len(entry.sources) < self._sources_max else others
                entry.sources = (*keep, source)
        return True

    def found(self, hash_: bytes) -> None:
        """It has come, or nobody waits for it any more."""
        self._list.pop(hash_, None)

    def deadline(self) -> float:
        return self._look_at

    def due(self, waiting_for: Callable[[], dict[bytes, int]], now: float) -> list[Wanted]:
        """What to ask for now.

        Args:
            waiting_for: how many held blocks wait for each missing one; called when needed.
        """
        if now < self._look_at:
            return []
        due = [e for e in self._list.values() if e.next_at <= now and e.asks < self._asks_max]
        if len(due) > self._asks_per_turn:
            waiting = waiting_for()
            due.sort(key=lambda entry: (-waiting.get(entry.hash, 0), entry.next_at))
        asked = due[: self._asks_per_turn]
        for entry in asked:
            entry.next_at = now + FIRST_ASK_AGAIN_S * 2**entry.asks
            entry.asks += 1
        if len(due) > len(asked):
            self._look_at = now + PACE_S
        else:
            left = (e.next_at for e in self._list.values() if e.asks < self._asks_max)
            self._look_at = min(left, default=inf)
        return [Wanted(entry.hash, entry.sources, entry.asks) for entry in asked]

    def get(self, hash_: bytes) -> Missing | None:
        return self._list.get(hash_)

    def values(self) -> list[Missing]:
        return self._list.values()

    def __contains__(self, hash_: object) -> bool:
        return hash_ in self._list

    def __len__(self) -> int:
        return len(self._list)
