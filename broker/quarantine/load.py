"""When there is too much: which queues are high, and what is given up first.

A queue is high from its high-water mark on until it falls below the low one, so that a depth that
sways around a mark is told once. While the queue of votes or of blocks is high, the quarantine is
in its HIGH mode: it looks for no offences. Protection against signing twice knows no such mode.
"""

from __future__ import annotations

from broker.quarantine.bounds import Bounds
from broker.quarantine.turn import LoadChange

NORMAL, HIGH = "normal", "high"


class WaterMarks:
    """One queue's two marks and on which side of them it was last."""

    __slots__ = ("high", "high_at", "low_at", "subject")

    def __init__(self, subject: str, max_: int, bounds: Bounds) -> None:
        self.subject = subject
        self.high_at = max(1, max_ * bounds.high_water_percent // 100)
        self.low_at = max_ * bounds.low_water_percent // 100
        self.high = False

    def look(self, depth: int) -> LoadChange | None:
        """Whether the queue has changed sides."""
        if self.high:
            if depth >= self.low_at and depth:
                return None
            self.high = False
            return LoadChange(self.subject, False, depth, "backpressure off")
        if depth < self.high_at:
            return None
        self.high = True
        return LoadChange(self.subject, True, depth, "backpressure on: send less")


class Load:
    """The marks of both ingress queues, and the mode that follows from them."""

    __slots__ = ("_blocks", "_votes", "mode")

    def __init__(self, bounds: Bounds) -> None:
        self._votes = WaterMarks("votes", bounds.ingress_votes, bounds)
        self._blocks = WaterMarks("blocks", bounds.ingress_blocks, bounds)
        self.mode = NORMAL

    @property
    def high(self) -> bool:
        return self.mode is HIGH

    def look(self, votes: int, blocks: int) -> list[LoadChange]:
        """What is different from the last time."""
        changes = [c for c in (self._votes.look(votes), self._blocks.look(blocks)) if c]
        if not changes:
            return changes
        mode = HIGH if self._votes.high or self._blocks.high else NORMAL
        if mode is not self.mode:
            self.mode = mode
            text = "detection of offences is " + ("off" if mode is HIGH else "on again")
            changes.append(LoadChange("mode", mode is HIGH, votes + blocks, text))
        return changes
