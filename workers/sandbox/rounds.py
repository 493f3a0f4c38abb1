"""When the rounds of a level begin: the clock of Tenderbake.

Round r of a level lasts ``minimal_block_delay + r * delay_increment_per_round`` seconds; the
first begins when the predecessor's own round is over. A block's timestamp must be exactly the
beginning of its round. Source: protocol ``round_repr.ml``.
"""

from __future__ import annotations

from typing import NamedTuple

# A round is a signed 32-bit number.
ROUND_MAX = 0x7FFF_FFFF


class RoundDurations(NamedTuple):
    """How long rounds last, in seconds."""

    minimal_block_delay_s: int
    delay_increment_per_round_s: int

    def duration_s(self, round: int) -> int:
        """How long this round lasts."""
        return self.minimal_block_delay_s + round * self.delay_increment_per_round_s

    def offset_s(self, round: int) -> int:
        """How long all rounds before this one last together."""
        increments = round * (round - 1) // 2
        return round * self.minimal_block_delay_s + increments * self.delay_increment_per_round_s

    def timestamp(self, predecessor_timestamp: int, predecessor_round: int, round: int) -> int:
        """When a round begins on top of a block, in Unix seconds."""
        level_start = predecessor_timestamp + self.duration_s(predecessor_round)
        return level_start + self.offset_s(round)

    def round_at(
        self, predecessor_timestamp: int, predecessor_round: int, now: float
    ) -> int | None:
        """Return the round that is running at `now`, or None before round 0 begins."""
        elapsed = now - self.timestamp(predecessor_timestamp, predecessor_round, 0)
        if elapsed < 0:
            return None
        low, high = 0, ROUND_MAX
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.offset_s(middle) <= elapsed else (low, middle - 1)
        return low
