"""What is read of a node's answers, and what is not believed."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from signers.formats import base58
from workers.node.answers import Constants, Header, LevelInfo, Protocols
from workers.preparation.chain_view import ChainView, chain_view, round_of, unix_seconds
from workers.preparation.preparation_errors import NodeAnswerMalformed

# Source: ecadlabs/taquito packages/taquito-rpc/test/data/rpc-responses.ts (level 989795).
HEADER = msgspec.json.decode(
    b'{"protocol":"PsParisCZo7KAh1Z1smVd9ZMZ1HHn5gkzbM94V3PLCpknFWhUAi",'
    b'"chain_id":"NetXXWAHLEvre9b","hash":"BLauzww5KwkaBTuPjxANENMHHR4BapJ2G9B86z2bsZHHi5oKanb",'
    b'"level":989795,"proto":1,'
    b'"predecessor":"BL2Ba8XNJYRTHUjapPQYNxuymQNA2u2PWhsuEXRrTT9pvEm9E65",'
    b'"timestamp":"2024-09-06T20:47:46Z","validation_pass":4,'
    b'"fitness":["02","000f1a63","","ffffffff","00000000"],'
    b'"payload_hash":"vh2ifehMZB2C7GFb2M4YycExTMWAY5PnDC4PoPtDmWh7yNNVbfLj","payload_round":0,'
    b'"proof_of_work_nonce":"1a991a0300000000"}',
    type=Header,
)
CONSTANTS = Constants(
    minimal_block_delay="2",
    delay_increment_per_round="1",
    proof_of_work_threshold="-1",
    hard_gas_limit_per_block="1733333",
    hard_gas_limit_per_operation="1040000",
    hard_storage_limit_per_operation="60000",
)
CONTEXT = base58.encode(base58.CONTEXT_HASH, bytes(32))


def read(
    header: Header = HEADER,
    protocols: Protocols | None = None,
    next_level: LevelInfo | None = None,
    context: str = CONTEXT,
    live: list[str] | None = None,
    constants: Constants = CONSTANTS,
) -> ChainView:
    return chain_view(
        header,
        protocols or Protocols("P1", "P1"),
        next_level or LevelInfo(989796, 12, True),
        context,
        [HEADER.hash, HEADER.predecessor] if live is None else live,
        constants,
    )


def changed(header: Header, **fields: object) -> Header:
    return msgspec.structs.replace(header, **fields)


def test_a_predecessor_is_read_from_the_node() -> None:
    view = read()
    assert view.predecessor == base58.decode(base58.BLOCK_HASH, HEADER.hash)
    assert (view.level, view.round, view.proto) == (989795, 0, 1)
    assert view.timestamp == 0x66DB6A72  # as in the block's binary header
    assert view.payload_hash == base58.decode(base58.PAYLOAD_HASH, HEADER.payload_hash)
    assert view.expected_commitment
    assert not view.protocol_changes
    assert len(view.live_blocks) == 2
    assert view.constants.proof_of_work_threshold == 2**64 - 1


def test_a_genesis_block_has_no_payload_and_round_zero() -> None:
    genesis = changed(HEADER, level=0, fitness=[], payload_hash=None)
    view = read(genesis, next_level=LevelInfo(1, 0, False))
    assert (view.round, view.payload_hash) == (0, None)


def test_a_change_of_protocol_shows() -> None:
    assert read(protocols=Protocols("P1", "P2")).protocol_changes


@pytest.mark.parametrize(
    "wrong",
    [
        {"next_level": LevelInfo(989797, 12, False)},
        {"header": changed(HEADER, hash="BLwrong")},
        {"header": changed(HEADER, chain_id=HEADER.hash)},
        {"header": changed(HEADER, timestamp="yesterday")},
        {"header": changed(HEADER, timestamp="2024-09-06T20:46:42")},
        {"header": changed(HEADER, fitness=["02", "000f1a63", "", "ffffffff", "zz"])},
        {"header": changed(HEADER, fitness=["02", "000f1a63", "", "ffffffff", "80000000"])},
        {"context": HEADER.hash},
        {"live": ["nonsense"]},
        {"constants": msgspec.structs.replace(CONSTANTS, minimal_block_delay="soon")},
    ],
)
def test_answers_that_cannot_be_or_do_not_fit_are_the_nodes_fault(wrong: dict) -> None:
    with pytest.raises(NodeAnswerMalformed):
        read(**wrong)


def test_a_view_never_changes() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read().level = 3  # type: ignore[misc]


def test_rounds_and_times_are_read_exactly() -> None:
    assert round_of(["02", "00000003", "", "ffffffff", "00000102"]) == 258
    assert round_of(["00", "00000003", "", "ffffffff"]) == 0  # not of Tenderbake
    assert unix_seconds("2020-04-20T16:20:00Z") == 1587399600
    assert unix_seconds("2020-04-20T18:20:00+02:00") == 1587399600
