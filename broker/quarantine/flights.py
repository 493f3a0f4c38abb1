"""Slices that a worker has: what is in them, since when, and what such a check costs."""

from __future__ import annotations

from math import inf

import msgspec
from msgspec import Struct

from broker.quarantine.areas import AgedMap, BoundedMap
from broker.quarantine.bounds import ITEMS_PER_SLICE_MAX, Bounds
from broker.quarantine.items import Item
from broker.quarantine.records import Offence, SignedRecord
from broker.verification import SLICE_US_MAX, Check, CheckBody, CheckItem, CheckSlice, Position

# First guesses, until workers have told what they spent: one signature for a vote and a header,
# a block's own votes and operations besides.
_COST_US = {
    Check.CHAIN: 1_000,
    Check.VOTE: 90,
    Check.HEADER: 120,
    Check.BLOCK: 2_000,
    Check.EVIDENCE: 250,
}
_COST_US_MIN = SLICE_US_MAX / ITEMS_PER_SLICE_MAX  # whatever a worker says
_LATEST = 0.1  # how much the latest slice counts in the estimate
_SINGLE = frozenset({Check.BLOCK, Check.EVIDENCE})  # one in a slice: it may be big

_encode = msgspec.msgpack.Encoder().encode


class EvidenceJob(Struct, gc=False, eq=False):
    """Two conflicting objects, whose evidence is being made."""

    number: int
    offence: Offence
    first: SignedRecord  # the one with the lower hash
    second: SignedRecord
    tries: int = 0
    was_lost: bool = False


Waiting = Item | EvidenceJob


class Flight:
    """One slice in a worker's hands."""

    __slots__ = ("asked_at", "check", "cost_us", "items", "number")

    def __init__(
        self, number: int, check: Check, items: list[Waiting], cost_us: int, now: float
    ) -> None:
        self.number = number
        self.check = check
        self.items = items
        self.cost_us = cost_us  # as it was estimated then
        self.asked_at = now


class Flights:
    """All slices without an answer, oldest first."""

    __slots__ = ("_asked", "_cost_us", "_flights", "_slice_s", "_work_max_us", "_work_us",
                 "chain_id", "max")  # fmt: skip

    def __init__(self, chain_id: str, bounds: Bounds) -> None:
        self.chain_id = chain_id
        self.max = bounds.slices_in_flight
        self._flights: AgedMap[int, Flight] = AgedMap(self.max + 1)  # and CHAIN
        self._cost_us: BoundedMap[int, float] = BoundedMap(len(Check))
        for check, cost in _COST_US.items():
            self._cost_us.put(check, cost)
        self._slice_s = bounds.slice_s
        self._work_max_us = bounds.work_in_flight_ms * 1000
        self._work_us = 0  # in the slices, by estimate
        self._asked: BoundedMap[int, int] = BoundedMap(len(Check))

    @property
    def full(self) -> bool:
        """Whether workers have all that they should have at once."""
        return self._flights.count() >= self.max or self._work_us >= self._work_max_us

    def has(self, number: int) -> bool:
        """Whether a slice is without an answer."""
        return number in self._flights

    def start(
        self,
        number: int,
        check: Check,
        items: list[Waiting],
        asked: list[CheckItem],
        position: Position,
        hint: str,
        now: float,
    ) -> CheckSlice:
        """A slice for these items."""
        cost_us = int(self._cost_us.get(check, 0) * len(asked))
        self._flights.put(number, Flight(number, check, items, cost_us, now))
        self._asked.put(check, self.asked(check) + len(items))
        self._work_us += cost_us
        body = _encode(CheckBody(check, self.chain_id, position, asked))
        return CheckSlice(number, cost_us, body, int(self._slice_s * 1000), hint)

    def land(self, number: int) -> Flight | None:
        """A slice was answered, or is given up."""
        flight = self._flights.pop(number, None)
        if flight is not None:
            self._asked.put(flight.check, self.asked(flight.check) - len(flight.items))
            self._work_us -= flight.cost_us
        return flight

    def asked(self, check: Check) -> int:
        """How many items of a check are in the slices."""
        return self._asked.get(check, 0)

    def overdue(self, now: float) -> Flight | None:
        """Remove and give a slice that should have been answered by now."""
        oldest = self._flights.oldest()
        if oldest is None or now < oldest.asked_at + self._slice_s:
            return None
        return self.land(oldest.number)

    def deadline(self) -> float:
        oldest = self._flights.oldest()
        return inf if oldest is None else oldest.asked_at + self._slice_s

    def fits(self, check: Check) -> int:
        """How many items of a check fit in a slice; at least one."""
        if check in _SINGLE:
            return 1
        return max(1, int(SLICE_US_MAX / self._cost_us.get(check, SLICE_US_MAX)))

    def spent(self, flight: Flight, spent_us: int) -> None:
        """Learn from what a worker spent."""
        if flight.items:
            one = max(0, spent_us) / len(flight.items)
            cost = self._cost_us.get(flight.check, one) * (1 - _LATEST) + one * _LATEST
            self._cost_us.put(flight.check, max(_COST_US_MIN, cost))

    def values(self) -> list[Flight]:
        return self._flights.values()

    def __len__(self) -> int:
        return self._flights.count()
