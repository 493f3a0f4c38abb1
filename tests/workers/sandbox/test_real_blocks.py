"""Blocks of real chains, and bytes of nobody: refused for what they are, whatever they are."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signers.formats import base58, block_header
from signers.formats.hashes import operations_hash
from signers.formats.networks import TEZOS
from workers.sandbox.names import text

# Real Tenderbake blocks, whole: signed headers and every operation.
REAL = json.loads((Path(__file__).parent / "vectors" / "real_blocks.json").read_text())
BLOCKS = pytest.mark.parametrize("real", REAL, ids=[real["id"] for real in REAL])


def passes_of(real: dict[str, Any]) -> list[list[bytes]]:
    return [[bytes.fromhex(each) for each in one_pass] for one_pass in real["operations"]]


@BLOCKS
def test_a_block_of_another_chain_has_no_place_here(bakery: Any, real: dict[str, Any]) -> None:
    chain = bakery.chain
    raw, passes = bytes.fromhex(real["header"]), passes_of(real)
    header = block_header.decode(raw)
    outcome = chain.inject_block(raw, passes, header.timestamp + 1000.0)
    assert text(base58.BLOCK_HASH, outcome.hash) == real["hash"]
    predecessor = text(base58.BLOCK_HASH, header.predecessor)
    assert str(outcome.refusal) == f"Unknown predecessor ({predecessor}), cannot inject the block."
    early = chain.inject_block(raw, passes, header.timestamp - 1000.0)
    assert str(early.refusal) == "Block in the future."
    assert chain.head.level == 1
    assert outcome.events == early.events == ()


@BLOCKS
def test_its_operations_are_branched_on_blocks_of_another_chain(
    bakery: Any, real: dict[str, Any]
) -> None:
    chain = bakery.chain
    votes, *_, managers = passes_of(real)
    for signed in votes:
        outcome = chain.inject_operation(signed, 0.0)
        branch = text(base58.BLOCK_HASH, signed[:32])
        assert str(outcome.refusal) == f"Unknown branch ({branch}), cannot inject the operation."
    for signed in managers:
        outcome = chain.inject_operation(signed, 0.0)
        assert "does not play operations of kind transfer_ticket" in str(outcome.refusal)
    assert len(chain.mempool) == 0


@BLOCKS
def test_its_operations_do_not_fit_into_a_block_of_ours(bakery: Any, real: dict[str, Any]) -> None:
    bakery.bake_to(3)
    votes, *_, managers = passes_of(real)
    for passes, reason in (
        (bakery.passes(votes), "outdated_operation"),
        (bakery.passes(votes, managers), "sandbox.unsupported_operation"),
    )[: 1 + bool(managers)]:
        outcome = bakery.inject(bakery.signed(bakery.header(passes)), passes)
        assert outcome.refusal.reason == reason


@BLOCKS
def test_a_real_header_set_on_our_chain_fails_at_its_first_lie(
    bakery: Any, real: dict[str, Any]
) -> None:
    """Fields are corrected one after the other; each time the next check speaks."""
    predecessor = bakery.bake_to(3)
    right = bakery.header(bakery.passes(()))
    header = block_header.decode(bytes.fromhex(real["header"]))
    header = replace(header, predecessor=predecessor.hash, per_block_votes=2)
    now = bakery.now + 1000

    def reason() -> str:
        outcome = bakery.chain.inject_block(block_header.encode(header), ((),) * 4, now)
        return str(outcome.refusal.reason)

    assert reason() == "invalid_level"
    header = replace(header, level=right.level, proto=7)
    assert reason() == "invalid_proto_level"
    header = replace(header, proto=right.proto)
    assert reason() == "non_increasing_timestamp"
    header = replace(header, timestamp=right.timestamp)
    assert reason() == "node.state.block.inconsistent_context_hash"
    header = replace(header, context=right.context)
    assert reason() == "validator.inconsistent_operations_hash"
    header = replace(header, operations_hash=operations_hash([[], [], [], []]))
    header = bakery.stamped(header)
    assert reason() == "block_header.invalid_block_signature"


def test_tezos_of_today_does_not_read_older_layouts(new_bakery: Callable[..., Any]) -> None:
    """These blocks are of protocols that voted on adaptive issuance, or revealed without proof."""
    chain = new_bakery(TEZOS).chain
    oldest, older = REAL
    votes = chain.inject_block(bytes.fromhex(older["header"]), passes_of(older), chain_now := 2e9)
    assert str(votes.refusal) == "Cannot parse block header."
    reveal = next(
        outcome
        for signed in passes_of(oldest)[3]
        if (outcome := chain.inject_operation(signed, chain_now)).refusal is not None
    )
    assert str(reveal.refusal) == "Can't parse the operation"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_any_bytes_give_a_verdict(new_bakery: Callable[..., Any], data: st.DataObject) -> None:
    """Bytes at random, and real ones with a byte changed or an end missing."""
    bakery = new_bakery()
    bakery.bake_to(3)
    passes = bakery.passes(bakery.attestations(bakery.head), [bakery.transfer_of(1)])
    raw = bakery.signed(bakery.header(passes))

    def spoiled(right: bytes) -> bytes:
        changed = bytearray(right)
        changed[data.draw(st.integers(0, len(right) - 1))] ^= data.draw(st.integers(1, 255))
        cut = right[: data.draw(st.integers(0, len(right) - 1))]
        return data.draw(st.sampled_from([bytes(changed), cut, data.draw(st.binary())]))

    bakery.now = 2.0**33
    operation = spoiled(passes[0][0]), spoiled(passes[3][0])
    for each in operation:
        assert bakery.inject_operation(each).refusal is not None
        outcome = bakery.chain.inject_block(raw, ([each], (), (), ()), bakery.now)
        assert outcome.refusal is not None
    assert bakery.chain.inject_block(spoiled(raw), passes, bakery.now).refusal is not None
    assert bakery.head.level == 3
    assert bakery.chain.inject_block(raw, passes, bakery.now).refusal is None
