"""Slices that a worker has: what is in them, since when, and what such a check costs."""

from __future__ import annotations

from math import inf

from msgspec import Struct

from broker.quarantine.areas import AgedMap, BoundedMap
from broker.quarantine.bounds import Bounds
from broker.quarantine.items import Item
from broker.quarantine.records import VoteRecord
from broker.verification import SLICE_US_MAX, Check

# First guesses, until workers have told what they spent: one signature for a vote and a header,
# a block's own votes and operations besides.
_COST_US = {Check.CHAIN: 1_000, Check.VOTE: 90, Check.HEADER: 120, Check.BLOCK: 2_000,
            Check.EVIDENCE: 250}  # fmt: skip
_COST_US_MIN = 8  # keeps a slice at 250 items, whatever a worker says
# How much the latest slice counts in the estimate.
_LATEST = 0.1


class EvidenceJob(Struct, gc=False, eq=False):
    """Two conflicting objects, whose evidence is being made."""

    number: int
    offence: tuple[int, int, int, str]  # kind, level, round, delegate
    first: VoteRecord  # the one with the lower hash
    second: VoteRecord
    tries: int = 0


class Flight:
    """One slice in a worker's hands."""

    __slots__ = ("asked_at", "check", "items", "number")

    def __init__(
        self, number: int, check: Check, items: tuple[Item | EvidenceJob, ...], now: float
    ) -> None:
        self.number = number
        self.check = check
        self.items = items
        self.asked_at = now


class Flights:
    """All slices without an answer, oldest first."""

    __slots__ = ("_cost_us", "_flights", "_slice_s", "items")

    def __init__(self, bounds: Bounds) -> None:
        self._flights: AgedMap[int, Flight] = AgedMap(bounds.slices_in_flight + 1)  # and CHAIN
        self._cost_us: BoundedMap[int, float] = BoundedMap(len(Check))
        for check, cost in _COST_US.items():
            self._cost_us.put(check, cost)
        self._slice_s = bounds.slice_s
        self.items = 0  # in all of them

    def add(self, flight: Flight) -> None:
        self._flights.put(flight.number, flight)
        self.items += len(flight.items)

    def pop(self, number: int) -> Flight | None:
        flight = self._flights.pop(number)
        if flight is not None:
            self.items -= len(flight.items)
        return flight

    def overdue(self, now: float) -> Flight | None:
        """Remove and give a slice that should have been answered by now."""
        oldest = self._flights.oldest()
        if oldest is None or now < oldest.asked_at + self._slice_s:
            return None
        return self.pop(oldest.number)

    def deadline(self) -> float:
        oldest = self._flights.oldest()
        return inf if oldest is None else oldest.asked_at + self._slice_s

    def cost_us(self, check: Check) -> float:
        """What one item of a check is expected to cost."""
        return self._cost_us.get(check) or _COST_US_MIN

    def fits(self, check: Check) -> int:
        """How many items of a check fit in a slice; at least one."""
        return max(1, int(SLICE_US_MAX / self.cost_us(check)))

    def spent(self, flight: Flight, spent_us: int) -> None:
        """Learn from what a worker spent."""
        if flight.items:
            one = spent_us / len(flight.items)
            cost = self.cost_us(flight.check) * (1 - _LATEST) + one * _LATEST
            self._cost_us.put(flight.check, max(_COST_US_MIN, cost))

    def values(self) -> list[Flight]:
        return self._flights.values()

    def __len__(self) -> int:
        return len(self._flights)
