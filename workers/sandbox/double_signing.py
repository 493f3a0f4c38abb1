"""Notices when one delegate signs two different things for one position.

A position is a kind (block, preattestation, attestation), a level and a round. Whatever is
injected with a valid signature counts, also when the chain refuses it: a signature that left
its signer can be used against it. Votes are compared by the bytes that were signed (every vote
with another slot, branch, payload hash or DAL content differs), blocks by their hash (a header
signed twice with different signatures is evidence of double baking, too).
"""

from __future__ import annotations

from typing import NamedTuple

from signers.formats.signable import Kind

# Evidence is accepted on a real chain for one to two cycles; a thousand levels of a dozen
# delegates are some 36,000 positions and 10 MB.
LEVELS_KEPT = 1000
# A level has three positions for each delegate and round; this many rounds never happen, and a
# delegate who signs more of them is not watched any further at that level.
POSITIONS_PER_LEVEL_MAX = 10_000
# Enough to see what is wrong; the count goes on.
CONFLICTS_KEPT = 100


class Position(NamedTuple):
    """Where a delegate may sign one thing only."""

    kind: Kind
    delegate: bytes
    level: int
    round: int


class Conflict(NamedTuple):
    """Two different things signed for one position; digests or block hashes."""

    position: Position
    first: bytes
    second: bytes


class DoubleSigning:
    """What each delegate signed at the last levels, and every conflict found."""

    def __init__(self) -> None:
        self.conflicts_total = 0
        self.conflicts: list[Conflict] = []  # the first CONFLICTS_KEPT
        self._signed: dict[int, dict[Position, set[bytes]]] = {}

    def observe(self, position: Position, signed: bytes) -> Conflict | None:
        """Record something signed; return the conflict when it is the second at its position.

        A third and later different thing at one position is not counted again.
        """
        at_level = self._signed.setdefault(position.level, {})
        if position not in at_level and len(at_level) >= POSITIONS_PER_LEVEL_MAX:
            return None
        known = at_level.setdefault(position, set())
        if signed in known or len(known) > 1:
            return None
        conflict = Conflict(position, next(iter(known)), signed) if known else None
        known.add(signed)
        if conflict:
            self.conflicts_total += 1
            if len(self.conflicts) < CONFLICTS_KEPT:
                self.conflicts.append(conflict)
        return conflict

    def forget_below(self, level: int) -> None:
        """Drop the levels below this one."""
        for old in [known for known in self._signed if known < level]:
            del self._signed[old]
