"""Where a level stands: in its cycle, and in its voting period.

Source: protocol ``level_repr.ml``, ``voting_period_repr.ml``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from workers.sandbox.constants import Constants

# The activation block is the first level of the protocol.
FIRST_LEVEL = 1


class Level(NamedTuple):
    """A level and its place; positions count from 0."""

    level: int
    level_position: int
    cycle: int
    cycle_position: int
    expected_commitment: bool

    def to_json(self) -> dict[str, Any]:
        """Return what `current_level` answers."""
        return self._asdict()


def level_info(constants: Constants, level: int) -> Level:
    """Return the place of a level; genesis stands where the first level does."""
    position = max(0, level - FIRST_LEVEL)
    cycle, cycle_position = divmod(position, constants.blocks_per_cycle)
    commitment = constants.blocks_per_commitment
    return Level(
        level=level,
        level_position=position,
        cycle=cycle,
        cycle_position=cycle_position,
        expected_commitment=cycle_position % commitment == commitment - 1,
    )


def cycle_levels(constants: Constants, cycle: int) -> tuple[int, int]:
    """Return the first and the last level of a cycle."""
    first = FIRST_LEVEL + cycle * constants.blocks_per_cycle
    return first, first + constants.blocks_per_cycle - 1


def voting_period(constants: Constants, level: int) -> dict[str, Any]:
    """Return where a level stands in its voting period; nobody ever proposes anything here."""
    length = constants.cycles_per_voting_period * constants.blocks_per_cycle
    index, position = divmod(max(0, level - FIRST_LEVEL), length)
    return {
        "voting_period": {
            "index": index,
            "kind": "proposal",
            "start_position": index * length,
        },
        "position": position,
        "remaining": length - position - 1,
    }
