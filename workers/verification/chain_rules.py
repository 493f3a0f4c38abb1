"""What is the same for all blocks of a chain as long as its protocol is."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

from signers.formats.networks import Network, Protocol
from workers.preparation.chain_view import ForgingConstants
from workers.preparation.rounds import round_duration_s, round_offset_s


@dataclass(frozen=True, slots=True)
class ChainRules:
    """A chain's protocol and its constants."""

    network: Network
    protocol: Protocol
    chain_id: bytes  # 4 bytes
    constants: ForgingConstants
    committee_size: int  # slots
    consensus_threshold: int  # slots that make a quorum
    operations_ttl: int  # blocks: how far back an operation's branch may be
    operation_bytes_max: int  # of one, without its branch

    def duration_ms(self, round_: int) -> int:
        """How long a round lasts."""
        return round_duration_s(self.constants, round_) * 1000

    def offset_ms(self, round_: int) -> int:
        """When a round begins, counted from round 0 of its level."""
        return round_offset_s(self.constants, round_) * 1000

    def round_after_ms(self, elapsed_ms: int) -> int:
        """Which round runs so long after round 0 began; -1 before. Solved, not counted."""
        if elapsed_ms < 0:
            return -1
        first, more = self.duration_ms(0), self.duration_ms(1) - self.duration_ms(0)
        if more == 0:
            return elapsed_ms // first
        # The largest r with r * first + more * r * (r - 1) / 2 <= elapsed.
        b = 2 * first - more
        return (isqrt(b * b + 8 * more * elapsed_ms) - b) // (2 * more)
