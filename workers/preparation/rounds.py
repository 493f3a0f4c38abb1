"""When a round begins and ends: the clock of Tenderbake.

Source: `lib_protocol/round_repr.ml`.
"""

from __future__ import annotations

from workers.preparation.chain_view import ForgingConstants


def round_duration_s(constants: ForgingConstants, round_: int) -> int:
    """How long a round lasts."""
    return constants.minimal_block_delay_s + round_ * constants.delay_increment_per_round_s


def round_offset_s(constants: ForgingConstants, round_: int) -> int:
    """When a round begins, counted from round 0 of its level: the sum of the rounds before."""
    increments = round_ * (round_ - 1) // 2
    return (
        round_ * constants.minimal_block_delay_s
        + increments * constants.delay_increment_per_round_s
    )


def block_timestamp(
    constants: ForgingConstants, *, predecessor_timestamp: int, predecessor_round: int, round_: int
) -> int:
    """The one timestamp that a block of this round may have, in Unix seconds."""
    return (
        predecessor_timestamp
        + round_duration_s(constants, predecessor_round)
        + round_offset_s(constants, round_)
    )
