"""Which votes go into a block, one rule at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from signers.formats.consensus_operation import DAL_ATTESTATION
from signers.formats.networks import network_by_name
from signers.formats.operation import Content, Operation
from tests.workers.preparation.views import VIEW, view
from tests.workers.preparation.wallet import Wallet
from workers.preparation.consensus_operations import (
    attestations_of_predecessor,
    preattestations_of_payload,
)
from workers.preparation.submitted_operation import SubmittedOperation, read_operation

MAVRYK = network_by_name("mavryk")
GRANDPARENT = bytes([6]) * 32  # live in VIEW
DEAD = bytes([5]) * 32
PAYLOAD = bytes([3]) * 32


def attestation(
    slot: int = 0,
    *,
    branch: bytes = GRANDPARENT,
    level: int = VIEW.level,
    round_: int = VIEW.round,
    payload_hash: bytes | None = VIEW.payload_hash,
    wallet: int = 1,
) -> SubmittedOperation:
    signed = Wallet(wallet).vote(
        branch, level=level, round_=round_, payload_hash=payload_hash, slot=slot
    )
    return read_operation(signed, MAVRYK)


def preattestation(
    slot: int = 0,
    *,
    branch: bytes = GRANDPARENT,
    level: int = VIEW.level + 1,
    round_: int = 0,
    payload_hash: bytes = PAYLOAD,
) -> SubmittedOperation:
    signed = Wallet(1).vote(
        branch,
        level=level,
        round_=round_,
        payload_hash=payload_hash,
        slot=slot,
        attestation=False,
    )
    return read_operation(signed, MAVRYK)


def locking(*operations: SubmittedOperation, round_: int = 3, payload_round: int = 0):
    return preattestations_of_payload(
        VIEW, operations, payload_hash=PAYLOAD, payload_round=payload_round, round_=round_
    )


def test_votes_for_the_predecessor_are_kept() -> None:
    operations = [attestation(0), attestation(3), attestation(1)]
    kept = attestations_of_predecessor(VIEW, operations)
    assert sorted(each.hash for each in kept) == sorted(each.hash for each in operations)


@pytest.mark.parametrize(
    "other",
    [
        {"level": VIEW.level - 1},
        {"level": VIEW.level + 1},
        {"round_": VIEW.round + 1},
        {"payload_hash": bytes(32)},
        {"branch": DEAD},
    ],
)
def test_votes_for_another_block_or_on_a_dead_branch_are_not(other: dict) -> None:
    assert attestations_of_predecessor(VIEW, [attestation(**other)]) == []


def test_a_slot_votes_once() -> None:
    twice = [attestation(4, wallet=1), attestation(4, wallet=2), attestation(5)]
    kept = attestations_of_predecessor(VIEW, twice)
    assert len(kept) == 2
    # Which of the two does not depend on who came first.
    assert {each.hash for each in attestations_of_predecessor(VIEW, twice[::-1])} == {
        each.hash for each in kept
    }


def test_preattestations_are_no_attestations_and_the_other_way_round() -> None:
    disguised = preattestation(level=VIEW.level, payload_hash=VIEW.payload_hash)
    assert attestations_of_predecessor(VIEW, [disguised]) == []
    assert locking(attestation(level=VIEW.level + 1, payload_hash=PAYLOAD)) == ([], None)


def dal_attestation(level: int) -> SubmittedOperation:
    """The vote on data availability that Mavryk Atlas has as an operation of its own."""
    fields = {"attestation": 5, "level": level, "slot": 0}
    operation = Operation(GRANDPARENT, (Content(0x16, DAL_ATTESTATION, fields),), None)
    return read_operation(Wallet(1).sign(operation), MAVRYK)


def test_votes_on_data_availability_come_along() -> None:
    [kept] = attestations_of_predecessor(
        VIEW, [dal_attestation(VIEW.level), dal_attestation(VIEW.level + 1), evidence()]
    )
    assert kept.decoded.contents[0].fields["level"] == VIEW.level


def evidence() -> SubmittedOperation:
    """An operation that is no vote at all."""
    return read_operation(Wallet(1).transaction(GRANDPARENT), MAVRYK)


def test_the_predecessor_of_a_first_block_has_no_votes() -> None:
    assert attestations_of_predecessor(view(payload_hash=None), [attestation()]) == []


def test_preattestations_lock_the_latest_round_that_has_any() -> None:
    early, late = preattestation(0, round_=0), preattestation(1, round_=2)
    assert locking(early) == ([early], 0)
    assert locking(early, late) == ([late], 2)
    assert locking() == ([], None)


@pytest.mark.parametrize(
    "other",
    [
        {"level": VIEW.level},
        {"payload_hash": bytes(32)},
        {"round_": 3},  # a block cannot be locked by votes for itself
        {"round_": 4},
        {"branch": DEAD},
    ],
)
def test_preattestations_of_anything_else_lock_nothing(other: dict) -> None:
    assert locking(preattestation(**other)) == ([], None)


def test_nothing_can_be_locked_before_it_was_proposed() -> None:
    assert locking(preattestation(round_=1), payload_round=2) == ([], None)


# The mainnet block 11680082 (protocol Tallinn) holds aggregates and attestations with DAL content.
def test_the_votes_of_a_real_block_are_votes_for_its_predecessor() -> None:
    blocks = json.loads((Path(__file__).parent / "vectors" / "real_blocks.json").read_text())
    block = next(each for each in blocks if each["id"].startswith("block-11680082"))
    tezos = network_by_name("tezos")
    votes = [read_operation(bytes.fromhex(each), tezos) for each in block["operations"][0]]
    names = {vote.decoded.contents[0].name for vote in votes}
    assert "attestation_with_dal" in names or "attestations_aggregate" in names
    first = votes[0].decoded.contents[0].fields
    common = first.get("consensus_content", first)
    predecessor = view(
        level=common["level"],
        round=common["round"],
        payload_hash=common["block_payload_hash"],
        live_blocks=frozenset({votes[0].branch}),
    )
    assert len(attestations_of_predecessor(predecessor, votes)) == len(votes)
