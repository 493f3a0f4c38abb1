"""Counts every item in and out, so that nothing gets lost between two areas.

in = cleared + rejected + duplicate + stale + unviable + shed + expired + held + in flight
"""

from __future__ import annotations

from broker.quarantine.areas import Tally
from broker.quarantine.items import HELD_FROM
from broker.quarantine.turn import CLEARED, OUTCOMES

REASONS_MAX = 256  # there are about forty; a worker that invents some cannot fill memory


class Accounting:
    """The counters; `balance` is 0 at any time between two steps."""

    __slots__ = ("by_reason", "held", "in_flight", "outcomes", "received")

    def __init__(self) -> None:
        self.received = 0
        self.held = 0
        self.in_flight = 0
        self.outcomes = Tally(len(OUTCOMES))
        self.by_reason = Tally(REASONS_MAX)  # "rejected bad_signature": all but cleared

    def moved(self, from_: int, to: int) -> None:
        """An item went from one place to another."""
        change = (to >= HELD_FROM) - (from_ >= HELD_FROM)
        self.held += change
        self.in_flight -= change

    def ended(self, from_: int, event: str, code: str) -> None:
        """An item's request has ended."""
        if from_ >= HELD_FROM:
            self.held -= 1
        else:
            self.in_flight -= 1
        self.outcomes.add(event)
        if code:
            self.by_reason.add(f"{event} {code}")

    def stored(self, count: int) -> None:
        """So many items in flight have ended as cleared."""
        self.in_flight -= count
        self.outcomes.add(CLEARED, count)

    def passed(self, event: str, code: str) -> None:
        """A request came and ended at once."""
        self.received += 1
        self.outcomes.add(event)
        if code:
            self.by_reason.add(f"{event} {code}")

    @property
    def balance(self) -> int:
        out = sum(self.outcomes.all().values())
        return self.received - out - self.held - self.in_flight
