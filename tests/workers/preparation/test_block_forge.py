"""Forged headers against real blocks, and the rules of rounds and votes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.formats import base58
from signers.formats.block_header import decode, encode, votes_of
from signers.formats.hashes import blake2b_32, operations_hash, payload_hash
from tests.workers.preparation.views import CONSTANTS, PREDECESSOR, VIEW, view
from workers.preparation.block_forge import (
    Proposal,
    forge_header,
    header_timestamp,
    per_block_votes,
    shell_bytes,
)
from workers.preparation.preparation_errors import InvalidRequest
from workers.preparation.seed_nonces import new_seed_nonce, seed_nonce_hash

REAL_BLOCKS = json.loads((Path(__file__).parent / "vectors" / "real_blocks.json").read_text())
EMPTY = ((), (), (), ())
PREFIX = bytes.fromhex("00000005")


def forged(proposal: Proposal, *, round_: int = 0, predecessor=VIEW, **fields):
    fields = {"votes": 10, "seed_nonce_hash": None, "nonce_prefix": PREFIX} | fields
    return forge_header(predecessor, round_, proposal, **fields)


@pytest.mark.parametrize("block", REAL_BLOCKS, ids=lambda block: block["id"])
def test_the_header_of_a_real_block_is_forged_from_its_operations(block: dict) -> None:
    real = decode(bytes.fromhex(block["header_unsigned"]))
    operations = tuple(
        tuple(bytes.fromhex(operation) for operation in one) for one in block["operations"]
    )
    # What the chain knew: where the block stood, not what was in it.
    before = view(
        predecessor=real.predecessor,
        level=real.level - 1,
        round=real.fitness.predecessor_round,
        proto=real.proto,
        resulting_context=real.context,
    )
    header = forged(
        Proposal(operations, real.payload_round),
        predecessor=before,
        round_=real.round,
        votes=real.per_block_votes,
        seed_nonce_hash=real.seed_nonce_hash,
    )
    known = replace(header, timestamp=real.timestamp, proof_of_work_nonce=real.proof_of_work_nonce)
    assert encode(known).hex() == block["header_unsigned"]


def test_a_seed_nonce_is_committed_to_by_its_hash() -> None:
    nonce = new_seed_nonce(lambda count: bytes(range(count)))
    assert nonce == bytes(range(32))
    header = forged(Proposal(EMPTY, 0), seed_nonce_hash=seed_nonce_hash(nonce))
    assert decode(encode(header)).seed_nonce_hash == blake2b_32(nonce)


# Source: key #1 of upstream's test vectors, level 20878; the text form is what a chain shows.
def test_a_nonce_hash_has_the_text_that_upstream_prints() -> None:
    nonce = bytes.fromhex("b3ec3e2c6bc491f12a0d412dc1835d7ffa03c7f837939a5e44d00760163e05dd")
    text = base58.encode(base58.NONCE_HASH, seed_nonce_hash(nonce))
    assert text == "nceVLghQFJDR2oiJpFzcPhfsnavqLiuRuUBefgBGsnZc2LjQaxNgP"


def test_the_nonce_is_where_the_search_will_look_for_it() -> None:
    for commitment in (None, bytes(32)):
        for locked in (None, 0):
            header = forged(Proposal(EMPTY, 0, locked), round_=1, seed_nonce_hash=commitment)
            start = shell_bytes(header) + 36
            assert encode(header)[start : start + 8] == PREFIX + bytes(4)


def test_a_reproposal_keeps_the_payload_hash_and_locks_its_round() -> None:
    payload = ((b"v" * 40,), (), (b"m" * 40,))
    first = forged(Proposal(((b"a" * 40,), *payload), 0))
    again = forged(Proposal(((b"p" * 40,), *payload), 0, locked_round=0), round_=2)
    assert again.payload_hash == first.payload_hash
    assert again.operations_hash != first.operations_hash
    assert (again.payload_round, again.round, again.fitness.locked_round) == (0, 2, 0)
    assert again.fitness.predecessor_round == VIEW.round


@pytest.mark.parametrize(
    ("round_", "payload_round", "locked_round"), [(1, 2, None), (2, 1, 0), (2, 0, 2), (2, 0, 3)]
)
def test_rounds_that_contradict_each_other_are_refused(
    round_: int, payload_round: int, locked_round: int | None
) -> None:
    with pytest.raises(InvalidRequest, match=f"round {round_}"):
        forged(Proposal(EMPTY, payload_round, locked_round), round_=round_)


def test_a_round_beyond_all_time_is_refused() -> None:
    last = 2**63 - 1 - CONSTANTS.minimal_block_delay_s
    assert header_timestamp(view(timestamp=last), 0) == 2**63 - 1
    for late, round_ in ((last + 1, 0), (VIEW.timestamp, 2**32)):
        with pytest.raises(InvalidRequest, match="end of time"):
            header_timestamp(view(timestamp=late), round_)


@pytest.mark.parametrize(
    ("liquidity", "issuance", "votes_on_issuance", "byte"),
    [
        ("pass", "pass", True, 0x0A),
        ("off", "on", True, 0x01),
        ("on", "on", True, 0x00),
        ("on", "pass", False, 0x00),
        ("off", "pass", False, 0x01),
        ("pass", "pass", False, 0x02),
    ],
)
def test_votes_are_packed_as_the_network_has_them(
    liquidity: str, issuance: str, votes_on_issuance: bool, byte: int
) -> None:
    votes = per_block_votes(liquidity, issuance, votes_on_issuance=votes_on_issuance)
    assert votes == byte
    if votes_on_issuance:
        assert votes_of(votes) == (liquidity, issuance)


def test_a_vote_that_the_protocol_does_not_know_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="adaptive issuance"):
        per_block_votes("pass", "on", votes_on_issuance=False)


passes = st.lists(st.binary(min_size=33, max_size=80), max_size=5).map(tuple)


@given(passes, passes, passes, passes, st.integers(0, 1000), st.binary(min_size=32, max_size=32))
def test_a_forged_header_decodes_and_its_hashes_recompute(
    consensus: tuple[bytes, ...],
    votes: tuple[bytes, ...],
    anonymous: tuple[bytes, ...],
    managers: tuple[bytes, ...],
    round_: int,
    nonce: bytes,
) -> None:
    proposal = Proposal((consensus, votes, anonymous, managers), round_)
    header = forged(proposal, round_=round_, seed_nonce_hash=seed_nonce_hash(nonce))
    assert decode(encode(header)) == header
    hashes = [[blake2b_32(each) for each in one] for one in proposal.operations]
    assert header.operations_hash == operations_hash(hashes)
    payload = [each for one in hashes[1:] for each in one]
    assert header.payload_hash == payload_hash(PREDECESSOR, round_, payload)
    assert header.timestamp == header_timestamp(VIEW, round_)
    assert header.level == VIEW.level + 1
