"""`/sandbox/statistics`: ours alone, for demos and tests that judge a run by its chain."""

from __future__ import annotations

from signers.formats import base58
from workers.sandbox.directory import BadCall, Call, Directory
from workers.sandbox.double_signing import Conflict
from workers.sandbox.mempool import Class
from workers.sandbox.names import text, time_text
from workers.sandbox.node import Json, SandboxNode, hash_text
from workers.sandbox.statistics import (
    ATTESTATION_KINDS,
    LEVELS_KEPT,
    PREATTESTATION_KINDS,
)

# How many levels are described unless more are asked for.
_LEVELS = 100


class StatisticsServices:
    """What the chain has counted."""

    def __init__(self, node: SandboxNode) -> None:
        self._node = node

    def add_to(self, directory: Directory) -> None:
        directory.serve("GET", "/sandbox/statistics", self.statistics)

    def statistics(self, call: Call) -> Json:
        """Everything counted, and `levels` of the last levels (100) with all arrivals."""
        levels = call.query.number("levels")
        levels = _LEVELS if levels is None else levels
        if not 0 <= levels <= LEVELS_KEPT:
            raise BadCall(f"Failed to parse the query string: levels: 0 to {LEVELS_KEPT}")
        chain = self._node.chain
        counts, head = chain.statistics, chain.head
        return {
            "network": self._node.rules.network.name,
            "protocol": self._node.protocol_hash,
            "chain_id": self._node.chain_id,
            "head": {
                "hash": hash_text(head),
                "level": head.level,
                "round": head.round,
                "timestamp": time_text(head.header.timestamp),
            },
            "blocks": counts.blocks,
            "rounds_over_zero": counts.rounds_over_zero,
            "reproposals": counts.reproposals,
            "reorganisations": counts.reorganisations,
            "blocks_validated": counts.blocks_validated,
            "preattestations": {
                "seen": counts.preattestations_seen,
                "included": counts.included_of(PREATTESTATION_KINDS),
            },
            "attestations": {
                "seen": counts.attestations_seen,
                "included": counts.included_of(ATTESTATION_KINDS),
            },
            "operations": {
                "seen": counts.operations_seen,
                "included": counts.operations_included,
                "included_by_kind": counts.operations_by_kind(),
                "waiting": sum(
                    each.operation.validation_pass > 0
                    for each in chain.mempool.of_class(Class.VALIDATED)
                ),
            },
            "refused": {
                "operations": dict(counts.refused_operations),
                "blocks": dict(counts.refused_blocks),
            },
            "conflicting_signatures": chain.double_signing.conflicts_total,
            "conflicts": [self._conflict(each) for each in chain.double_signing.conflicts],
            "levels": [
                self._level(level)
                for level in range(head.level - levels + 1, head.level + 2)
                if level in counts.arrivals
            ],
        }

    def _conflict(self, conflict: Conflict) -> Json:
        position = conflict.position
        return {
            "kind": position.kind.name.lower(),
            "delegate": self._node.names.address(position.delegate),
            "level": position.level,
            "round": position.round,
            "first": conflict.first.hex(),
            "second": conflict.second.hex(),
        }

    def _level(self, level: int) -> Json:
        block = self._node.chain.tree.at_level(level)
        shown: Json = {"level": level}
        if block is not None:
            shown |= {
                "hash": text(base58.BLOCK_HASH, block.hash),
                "round": block.round,
                "payload_round": block.header.payload_round,
                "timestamp": block.header.timestamp,
                "baker": self._node.names.address(block.baker),
                "operations": sum(map(len, block.operations[1:])),
                "attesting_power": block.attesting_power,
            }
        arrivals = self._node.chain.statistics.arrivals[level]
        return {
            **shown,
            "arrivals": [
                {
                    "kind": what.kind.name.lower(),
                    "delegate": self._node.names.address(what.delegate),
                    "round": what.round,
                    "at": at,
                }
                for what, at in arrivals.items()
            ],
        }
