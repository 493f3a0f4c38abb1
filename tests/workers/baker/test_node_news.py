"""A node's JSON to what the baker hears, for both networks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from signers.formats import base58
from signers.formats.block_header import BlockHeader, Fitness, encode
from signers.formats.hashes import blake2b_32
from signers.formats.networks import network_by_name
from signers.formats.operation import decode_operation, to_json
from signers.formats.signable import Kind
from signers.formats.vote import VoteTemplate
from workers.baker.node_news import (
    BakingRight,
    Committee,
    MonitoredBlock,
    MonitoredHeader,
    proposal_of_block,
    proposal_of_head,
    rights_of,
    threshold_of,
    votes_in,
    votes_of,
)
from workers.node.answers import PendingOperation
from workers.preparation.preparation_errors import NodeAnswerMalformed

MAVRYK = network_by_name("mavryk")
HEADER = BlockHeader(
    level=7,
    proto=1,
    predecessor=bytes([6]) * 32,
    timestamp=1_700_000_000,
    validation_passes=4,
    operations_hash=bytes(32),
    fitness=Fitness.tenderbake(level=7, round=3, predecessor_round=0, locked_round=1),
    context=bytes(32),
    payload_hash=bytes([9]) * 32,
    payload_round=1,
    proof_of_work_nonce=bytes(8),
    seed_nonce_hash=None,
    per_block_votes=10,
    signature=bytes(64),
)
SHELL_BYTES = len(encode(HEADER)) - 64 - 46


def line(header: BlockHeader = HEADER, **fields: Any) -> dict[str, Any]:
    return {
        "hash": base58.encode(base58.BLOCK_HASH, bytes([7]) * 32),
        "level": header.level,
        "proto": 1,
        "predecessor": base58.encode(base58.BLOCK_HASH, header.predecessor),
        "timestamp": "2023-11-14T22:13:20Z",
        "fitness": [element.hex() for element in header.fitness.elements],
        "protocol_data": encode(header)[SHELL_BYTES:].hex(),
    } | fields


def head(**fields: Any) -> MonitoredHeader:
    return msgspec.convert(line(**fields), MonitoredHeader)


def test_a_head_is_read() -> None:
    proposal = proposal_of_head(head())
    assert proposal.hash == bytes([7]) * 32
    assert proposal.predecessor == HEADER.predecessor
    assert (proposal.level, proposal.round, proposal.timestamp) == (7, 3, 1_700_000_000)
    assert (proposal.payload_hash, proposal.payload_round) == (HEADER.payload_hash, 1)
    assert proposal.locked_round == 1
    assert proposal.operations is None


def test_a_validated_block_brings_its_operations() -> None:
    shell = line()
    block = {
        "chain_id": "NetXxkAx4woPLyu",
        "hash": shell.pop("hash"),
        "header": shell,
        "operations": [[], [], [], [{"branch": shell["predecessor"], "data": "0102"}]],
    }
    proposal = proposal_of_block(msgspec.convert(block, MonitoredBlock))
    assert proposal.operations == ((), (), (), (bytes([6]) * 32 + b"\1\2",))
    assert replace(proposal, operations=None) == proposal_of_head(head())


def test_an_activation_block_has_no_payload() -> None:
    proposal = proposal_of_head(head(level=1, protocol_data="00", fitness=[]))
    assert (proposal.level, proposal.round, proposal.payload_hash) == (1, 0, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hash": "BL"},
        {"predecessor": ""},
        {"timestamp": "now"},
        {"fitness": []},
        {"fitness": ["zz"]},
        {"protocol_data": "00" * 35},
        {"protocol_data": "0"},
    ],
)
def test_a_head_that_cannot_be_read_is_the_nodes_fault(wrong: dict) -> None:
    with pytest.raises(NodeAnswerMalformed, match="block"):
        proposal_of_head(head(**wrong))


def test_the_committee_of_mavryk_is_a_flat_list() -> None:
    committees = msgspec.convert(
        [
            {"level": 7, "delegate": "mv1a", "slots": [5, 0], "consensus_key": "mv1key"},
            {"level": 7, "delegate": "mv1b", "slots": [1], "consensus_key": "mv1b"},
            {"level": 8, "delegate": "mv1c", "slots": [2], "consensus_key": "mv1c"},
        ],
        list[Committee],
    )
    rights = rights_of(7, committees, [])
    assert rights.slots == {"mv1key": (0, 5), "mv1b": (1,)}
    assert rights.power_of_slot == {0: 2, 1: 1}


def test_the_committee_of_tezos_is_one_object_a_level() -> None:
    delegate = {"delegate": "tz1a", "rounds": [3, 1], "consensus_key": "tz1k"}
    committees = msgspec.convert([{"level": 7, "delegates": [delegate]}], list[Committee])
    assert rights_of(7, committees, []).slots == {"tz1k": (1, 3)}


def test_bakers_are_known_as_far_as_no_round_is_missing() -> None:
    rights = [BakingRight(7, round_, f"baker{round_}") for round_ in (2, 0, 1, 4)]
    assert rights_of(7, [], rights).bakers == ("baker0", "baker1", "baker2")


def test_votes_of_the_mempool_become_what_was_injected() -> None:
    template = VoteTemplate(
        Kind.PREATTESTATION, bytes(4), bytes(32), level=7, round=1, payload_hash=bytes(32)
    )
    signed = template.operation(5, bytes([1]) * 64)
    shown = {
        "hash": "",
        **to_json(decode_operation(signed, MAVRYK), MAVRYK),
    }
    assert votes_of([msgspec.convert(shown, PendingOperation)], MAVRYK) == ()
    [vote] = votes_in([b"garbage", signed], MAVRYK)
    assert (vote.kind, vote.level, vote.round, vote.slot) == (Kind.PREATTESTATION, 7, 1, 5)
    shown["hash"] = base58.encode(base58.OPERATION_HASH, blake2b_32(signed))
    assert votes_of([msgspec.convert(shown, PendingOperation)], MAVRYK) == (vote,)
    assert vote.operation == signed


def test_the_threshold_has_two_names() -> None:
    assert threshold_of({"consensus_threshold": 5}) == 5
    assert threshold_of({"consensus_threshold_size": 7}) == 7
    with pytest.raises(NodeAnswerMalformed):
        threshold_of({"consensus_threshold": "5"})
