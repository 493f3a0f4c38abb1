"""What preparing a block needs to know about its predecessor and the protocol's constants.

A view is made once per predecessor from the node's answers and never changes: everything in it
is determined by the predecessor's hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from signers.errors import MalformedBytes
from signers.formats import base58
from workers.node.answers import Constants, Header, LevelInfo, Protocols
from workers.preparation.preparation_errors import NodeAnswerMalformed
from workers.preparation.proof_of_work import threshold_of

_ROUND_ELEMENT = 4  # of the five of a Tenderbake fitness
_ROUND_BYTES = 4


@dataclass(frozen=True, slots=True)
class ForgingConstants:
    """The protocol's constants, as numbers."""

    minimal_block_delay_s: int
    delay_increment_per_round_s: int
    proof_of_work_threshold: int  # unsigned
    gas_per_block: int
    gas_per_operation: int
    storage_per_operation: int  # bytes


@dataclass(frozen=True, slots=True)
class ChainView:
    """A predecessor, and what its successor must respect. Hashes are raw bytes."""

    chain_id: bytes
    predecessor: bytes
    level: int  # of the predecessor
    round: int  # of the predecessor
    timestamp: int  # of the predecessor, Unix seconds
    proto: int  # the chain's number of the predecessor's protocol
    payload_hash: bytes | None  # of the predecessor; None: genesis or activation block
    protocol: str  # "P…", the one that will make the next block
    protocol_changes: bool  # with the next block
    cycle: int  # of the next block
    expected_commitment: bool  # whether the next block commits to a seed nonce
    resulting_context: bytes  # context hash after the predecessor
    live_blocks: frozenset[bytes]  # branches that operations may name
    constants: ForgingConstants


def chain_view(
    header: Header,
    protocols: Protocols,
    next_level: LevelInfo,
    resulting_context_hash: str,
    live_blocks: list[str],
    constants: Constants,
) -> ChainView:
    """Put a node's answers about one block together.

    Raises NodeAnswerMalformed when one of them cannot be read, or they do not fit together.
    """
    if next_level.level != header.level + 1:
        raise NodeAnswerMalformed(
            f"the node puts level {next_level.level} on top of level {header.level}"
        )
    try:
        return ChainView(
            chain_id=base58.decode(base58.CHAIN_ID, header.chain_id),
            predecessor=base58.decode(base58.BLOCK_HASH, header.hash),
            level=header.level,
            round=round_of(header.fitness),
            timestamp=unix_seconds(header.timestamp),
            proto=header.proto,
            payload_hash=None
            if header.payload_hash is None
            else base58.decode(base58.PAYLOAD_HASH, header.payload_hash),
            protocol=protocols.next_protocol,
            protocol_changes=protocols.next_protocol != protocols.protocol,
            cycle=next_level.cycle,
            expected_commitment=next_level.expected_commitment,
            resulting_context=base58.decode(base58.CONTEXT_HASH, resulting_context_hash),
            live_blocks=frozenset(base58.decode(base58.BLOCK_HASH, text) for text in live_blocks),
            constants=forging_constants(constants),
        )
    except (MalformedBytes, ValueError) as error:
        raise NodeAnswerMalformed(f"block {header.hash}: {error}") from None


def forging_constants(constants: Constants) -> ForgingConstants:
    """The constants as numbers. Raises ValueError."""
    return ForgingConstants(
        minimal_block_delay_s=int(constants.minimal_block_delay),
        delay_increment_per_round_s=int(constants.delay_increment_per_round),
        proof_of_work_threshold=threshold_of(int(constants.proof_of_work_threshold)),
        gas_per_block=int(constants.hard_gas_limit_per_block),
        gas_per_operation=int(constants.hard_gas_limit_per_operation),
        storage_per_operation=int(constants.hard_storage_limit_per_operation),
    )


def round_of(fitness: list[str]) -> int:
    """The round that a fitness in hex ends with; 0 for the fitness of a genesis block.

    Raises ValueError.
    """
    if len(fitness) <= _ROUND_ELEMENT:
        return 0
    element = bytes.fromhex(fitness[_ROUND_ELEMENT])
    if len(element) != _ROUND_BYTES or element[0] & 0x80:
        raise ValueError(f"no round is written as {fitness[_ROUND_ELEMENT]}")
    return int.from_bytes(element)


def unix_seconds(text: str) -> int:
    """A timestamp of the RPC as Unix seconds. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"a time without a zone: {text}")
    return int(moment.timestamp())
