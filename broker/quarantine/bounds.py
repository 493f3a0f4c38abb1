"""Every bound of the quarantine, derived from how many delegates the network has.

A peer, a baker or a broken worker can fill an area up to its bound and no further. What happens
at each bound is said where the area is; docs/quarantine.md has the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

# What the figures are sized for until the chain says otherwise: Mavryk and Tezos have 300 to 400.
DELEGATES_DEFAULT = 400
# The most that a node's word makes of it: five times as many, and some 0.5 GB when all is full.
DELEGATES_TOLD_MAX = 2_000
# Held votes live for levels head-1 to head+1 and one that just ended, in as many rounds of each.
_LEVELS, _ROUNDS, _KINDS, _COPIES = 4, 4, 2, 2


# What a slice can hold when its items cost next to nothing.
ITEMS_PER_SLICE_MAX = 256


@dataclass(frozen=True, slots=True)
class Bounds:
    """Counts unless the name ends in a unit."""

    delegates: int = DELEGATES_DEFAULT  # for which the rest is made

    # Ingress: what nobody has looked at yet.
    ingress_votes: int = 16_384  # then the oldest is shed
    ingress_blocks: int = 1_024  # then the newest is shed
    ingress_blocks_bytes: int = 64 * 1024 * 1024  # likewise; of all blocks that wait for a worker
    ingress_votes_per_peer: int = 2_048
    ingress_blocks_per_peer: int = 64
    votes_per_s_per_peer: int = 4_096
    blocks_per_s_per_peer: int = 16
    high_water_percent: int = 75
    low_water_percent: int = 25

    # In flight.
    slices_in_flight: int = 48  # 24 for each worker, which is what the broker gives it
    # Of them all together, by estimate, half a second for each worker: on a machine that others
    # use too the last block of many is answered in time.
    work_in_flight_ms: int = 1_000
    slice_s: float = 2.0  # without an answer by then it is asked again
    tries: int = 3  # then the item is isolated
    storing: int = 8_192  # given to the store, not yet acknowledged
    storing_bytes: int = 64 * 1024 * 1024  # of held items; then no header is looked at
    release_per_turn: int = 1_024  # votes that a cleared block lets go at once

    # Above the head; blocks beyond are stale, and lead to one question for what is in between.
    levels_ahead: int = 256  # as many as may be held: a chain that comes backwards has room

    # Held for a predecessor.
    held_blocks: int = 256
    held_blocks_bytes: int = 64 * 1024 * 1024
    held_blocks_per_peer: int = 32
    held_block_s: float = 60.0
    # Held until its time has come.
    held_for_time: int = 16
    held_for_time_s: float = 120.0  # longer than a round lasts
    # Held for the proposal that a vote is for.
    held_votes: int = 32_768
    held_vote_rounds: int = 2
    # Held because the node does not answer about rights.
    held_for_rights: int = 1_024
    held_for_rights_per_peer: int = 64
    held_for_rights_s: float = 10.0

    # Predecessors that nobody has sent yet.
    missing: int = 1_024
    sources: int = 4  # peers that may be asked for one block; senders noted of one item
    asks: int = 7  # each after twice the time of the one before
    asks_per_turn: int = 16

    # What is remembered.
    bad: int = 16_384
    isolated: int = 256
    isolated_s: float = 60.0
    seen: int = 65_536
    seen_levels: int = 8  # below the head
    cleared_blocks: int = 1_024
    cleared_bytes: int = 64 * 1024 * 1024  # of their operations
    cleared_levels: int = 64  # below the head, whether or not any block becomes final
    live_blocks: int = 1_024  # hashes of final blocks that a vote may name: 360 on Mavryk
    ended_requests: int = 65_536
    peers: int = 4_096

    # Slashing.
    table: int = 262_144  # first-seen objects in memory, about 300 bytes each
    seconds: int = 4_096  # conflicting objects in memory
    depth_levels: int = 1_000  # below the head; what is older is not looked at
    evidence: int = 1_024  # being made
    denounced: int = 16_384  # offences that were reported and are not reported again
    probes: int = 1_024  # questions to the store about levels that memory has forgotten

    # Votes of blocks that are looked at in a turn, 3 µs each: of 20 blocks of 400 delegates, and of
    # four of the fullest, which take a worker 150 ms each.
    block_votes_per_turn: int = 8_192

    # Sizes of one item.
    vote_bytes_max: int = 1_024
    header_bytes_max: int = 4_096
    # The four passes of a block together, and what 8,000 operations occupy beside their bytes.
    operations_bytes_max: int = 5 * 1024 * 1024 + 512 * 1024
    bodies: int = 4  # of one header: only one fits, and anybody may send wrong ones

    detects_under_load: bool = False

    @classmethod
    def of(cls, delegates: int, workers: int = 2, **overrides: float) -> Bounds:
        """The bounds for a network with so many delegates, and a pool of so many workers."""
        votes = max(1_024, delegates * _LEVELS * _ROUNDS * _KINDS * _COPIES)
        derived: dict[str, float] = {
            "delegates": delegates,
            "held_votes": votes,
            "ingress_votes": max(16_384, 16 * delegates),
            "ingress_votes_per_peer": max(2_048, 4 * delegates),
            "votes_per_s_per_peer": max(4_096, 8 * delegates),
            "seen": max(65_536, 2 * votes),
            "table": max(65_536, delegates * 2 * _KINDS * 160),
            "slices_in_flight": 24 * workers,
            "work_in_flight_ms": 500 * workers,
        }
        return replace(cls(), **(derived | overrides))  # type: ignore[arg-type]

    @property
    def open(self) -> int:
        """Items that have not ended, in all areas together."""
        asked = self.slices_in_flight * ITEMS_PER_SLICE_MAX
        held = self.held_blocks + self.held_votes + self.held_for_time + self.held_for_rights
        return self.ingress_votes + self.ingress_blocks + self.storing + asked + held

    @classmethod
    def names(cls) -> Mapping[str, str]:
        """What can be configured, and the type of each; `delegates` is a setting of its own."""
        return {f.name: str(f.type) for f in fields(cls) if f.name != "delegates"}
