"""Predecessors to forge on, for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from signers.formats.networks import network_by_name
from workers.preparation.chain_view import ChainView, ForgingConstants

MAVRYK = network_by_name("mavryk")
CONSTANTS = ForgingConstants(
    minimal_block_delay_s=10,
    delay_increment_per_round_s=5,
    proof_of_work_threshold=2**62 - 1,
    gas_per_block=1_733_333,
    gas_per_operation=1_040_000,
    storage_per_operation=60_000,
)
PREDECESSOR = bytes([7]) * 32
VIEW = ChainView(
    chain_id=bytes.fromhex("ed9d217c"),
    predecessor=PREDECESSOR,
    level=100,
    round=0,
    timestamp=1_700_000_000,
    proto=1,
    payload_hash=bytes([8]) * 32,
    protocol=MAVRYK.protocol.hash,
    protocol_changes=False,
    cycle=12,
    expected_commitment=False,
    resulting_context=bytes([9]) * 32,
    live_blocks=frozenset({PREDECESSOR, bytes([6]) * 32}),
    constants=CONSTANTS,
)


def view(**changes: Any) -> ChainView:
    """`VIEW` with some fields changed."""
    return replace(VIEW, **changes)
