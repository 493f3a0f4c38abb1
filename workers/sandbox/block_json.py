"""Blocks as the RPC prints them: headers, protocol data and metadata.

Shapes: Octez ``block_header.ml``, ``block_services.ml``; protocol ``apply_results.ml``
(``block_metadata_encoding``).
"""

from __future__ import annotations

from typing import Any

from signers.formats import base58
from signers.formats.block_header import BlockHeader, Fitness, votes_of
from workers.sandbox.block_tree import Block, Era
from workers.sandbox.dialect import Dialect
from workers.sandbox.genesis import GENESIS_PROTOCOL, Genesis
from workers.sandbox.levels import level_info, voting_period
from workers.sandbox.names import Names, text, time_text

Json = dict[str, Any]

# What the protocol lets into each validation pass: votes, ballots, evidence and nonces, manager
# operations (``Main.validation_passes``). None: as many as fit.
PASS_OPERATIONS_MAX = (2048, None, 132, None)
PASS_BYTES_MAX = (4 * 1024 * 1024, 32 * 1024, 132 * 1024, 512 * 1024)
VALIDATION_PASSES = len(PASS_BYTES_MAX)

# The longest header of these protocols without BLS (``max_block_header_length``).
_HEADER_BYTES_MAX = 289


def shell_json(header: BlockHeader) -> Json:
    """Return the eight fields that a header has under every protocol."""
    return {
        "level": header.level,
        "proto": header.proto,
        "predecessor": text(base58.BLOCK_HASH, header.predecessor),
        "timestamp": time_text(header.timestamp),
        "validation_pass": header.validation_passes,
        "operations_hash": text(base58.OPERATIONS_HASH, header.operations_hash),
        "fitness": fitness_json(header.fitness),
        "context": text(base58.CONTEXT_HASH, header.context),
    }


def fitness_json(fitness: Fitness) -> list[str]:
    """Return a fitness as a list of hex texts."""
    return [element.hex() for element in fitness.elements]


class BlockJson:
    """Prints blocks of one chain."""

    def __init__(self, genesis: Genesis, dialect: Dialect, names: Names) -> None:
        self._genesis = genesis
        self._dialect = dialect
        self._names = names
        self.chain_id = text(base58.CHAIN_ID, genesis.chain_id)

    def protocol_of(self, block: Block) -> str:
        """Return the protocol that made a block."""
        return self._genesis.protocol.hash if block.era is Era.BAKED else GENESIS_PROTOCOL

    def next_protocol_of(self, block: Block) -> str:
        """Return the protocol that makes the block on top."""
        return GENESIS_PROTOCOL if block.era is Era.GENESIS else self._genesis.protocol.hash

    def header(self, block: Block) -> Json:
        """Return `/header`: everything in one flat object."""
        return {
            "protocol": self.protocol_of(block),
            "chain_id": self.chain_id,
            "hash": text(base58.BLOCK_HASH, block.hash),
            **shell_json(block.header),
            **self.protocol_data(block),
        }

    def protocol_data(self, block: Block) -> Json:
        """Return the fields of the protocol that made the block."""
        if block.era is Era.GENESIS:
            return {}
        if block.era is Era.ACTIVATION:
            return {
                "content": {
                    "command": "activate",
                    "hash": self._genesis.protocol.hash,
                    "fitness": fitness_json(block.header.fitness),
                    "protocol_parameters": block.protocol_data[-69:-64].hex(),
                },
                "signature": base58.signature_text(block.protocol_data[-64:]),
            }
        header = block.header
        liquidity_baking, adaptive_issuance = votes_of(header.per_block_votes)
        data: Json = {
            "payload_hash": text(base58.PAYLOAD_HASH, header.payload_hash),
            "payload_round": header.payload_round,
            "proof_of_work_nonce": header.proof_of_work_nonce.hex(),
        }
        if header.seed_nonce_hash is not None:
            data["seed_nonce_hash"] = text(base58.NONCE_HASH, header.seed_nonce_hash)
        data["liquidity_baking_toggle_vote"] = liquidity_baking
        if self._dialect.adaptive_issuance_vote:
            data["adaptive_issuance_vote"] = adaptive_issuance
        data["signature"] = base58.signature_text(header.signature or bytes(64))
        return data

    def metadata(self, block: Block) -> Json:
        """Return `/metadata`."""
        data: Json = {
            "protocol": self.protocol_of(block),
            "next_protocol": self.next_protocol_of(block),
            "test_chain_status": {"status": "not_running"},
            "max_operations_ttl": self._genesis.constants.max_operations_time_to_live,
            "max_operation_data_length": self._genesis.constants.max_operation_data_length,
            "max_block_header_length": _HEADER_BYTES_MAX,
            "max_operation_list_length": [
                {"max_size": size} | ({} if count is None else {"max_op": count})
                for size, count in zip(PASS_BYTES_MAX, PASS_OPERATIONS_MAX, strict=True)
            ],
        }
        return data | self._protocol_metadata(block) if block.era is Era.BAKED else data

    def monitored_head(self, block: Block) -> Json:
        """Return a block as `/monitor/heads` sends it."""
        return {
            "hash": text(base58.BLOCK_HASH, block.hash),
            **shell_json(block.header),
            "protocol_data": block.protocol_data.hex(),
        }

    def monitored_block(self, block: Block) -> Json:
        """Return a block as `/monitor/validated_blocks` sends it."""
        return {
            "chain_id": self.chain_id,
            "hash": text(base58.BLOCK_HASH, block.hash),
            "header": {**shell_json(block.header), "protocol_data": block.protocol_data.hex()},
            "operations": [
                [raw_operation_json(operation.signed) for operation in operations]
                for operations in block.operations
            ],
        }

    def _protocol_metadata(self, block: Block) -> Json:
        constants, header = self._genesis.constants, block.header
        baker, proposer = self._names.address(block.baker), self._names.address(block.proposer)
        nonce_hash = header.seed_nonce_hash
        data: Json = {
            "proposer": proposer,
            "baker": baker,
            "level_info": level_info(constants, block.level).to_json(),
            "voting_period_info": voting_period(constants, block.level),
            "nonce_hash": nonce_hash and text(base58.NONCE_HASH, nonce_hash),
            "deactivated": [],
            "balance_updates": self._rewards(block, baker, proposer),
            "liquidity_baking_toggle_ema": 0,
            "implicit_operations_results": [],
            "proposer_consensus_key": proposer,
            "baker_consensus_key": baker,
            "consumed_milligas": str(block.milligas),
            "dal_attestation": "0",
        }
        if self._dialect.adaptive_issuance_vote:
            data["adaptive_issuance_vote_ema"] = 0
        if self._dialect.metadata_counts_votes:
            data["all_bakers_attest_activation_level"] = None
            data["attestations"] = self._votes(block.attesting_power)
            data["preattestations"] = self._votes(block.preattesting_power)
        return data

    def _rewards(self, block: Block, baker: str, proposer: str) -> list[Json]:
        moves: list[tuple[Json, str, int]] = [
            ({"kind": "accumulator", "category": "block fees"}, proposer, block.fees),
            ({"kind": "minted", "category": "baking rewards"}, proposer, block.reward),
            ({"kind": "minted", "category": "baking bonuses"}, baker, block.bonus),
        ]
        return [
            {**entry, "change": str(change), "origin": "block"}
            for source, contract, amount in moves
            if amount
            for entry, change in (
                (source, -amount),
                ({"kind": "contract", "contract": contract}, amount),
            )
        ]

    def _votes(self, power: int | None) -> Json | None:
        if power is None:
            return None
        return {
            "total_committee_power": str(self._genesis.constants.consensus_committee_size),
            "threshold": str(self._genesis.constants.consensus_threshold),
            "recorded_power": str(power),
        }


def raw_operation_json(signed: bytes) -> Json:
    """Return an operation that is not taken apart: its branch, and the rest in hex."""
    return {"branch": text(base58.BLOCK_HASH, signed[:32]), "data": signed[32:].hex()}
