"""Bakers with keys of every curve bake and vote, and nobody else's signature is theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from signers.formats import block_header
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK, TEZOS, Network
from signers.formats.signable import Kind
from signers.keyring.curve import CURVES_BY_NAME, Curve
from workers.sandbox.accounts import SandboxKey

BAKERS = [SandboxKey(blake2b_32(name.encode()), curve) for name, curve in CURVES_BY_NAME.items()]
BLS_BAKER = next(key for key in BAKERS if key.curve is Curve.BLS)
MAVRYK_BAKERS = [key for key in BAKERS if key is not BLS_BAKER]


@pytest.mark.parametrize(
    ("network", "bakers"), [(TEZOS, BAKERS), (MAVRYK, MAVRYK_BAKERS)], ids=["tezos", "mavryk"]
)
def test_bakers_of_every_curve_bake_and_vote(
    new_bakery: Callable[..., Any], network: Network, bakers: list[SandboxKey]
) -> None:
    bakery = new_bakery(network, bakers=bakers)
    bakery.bake()  # upon the activation block, for which nobody votes
    baked_by = set()
    while len(baked_by) < len(bakers):
        assert bakery.head.level < 100
        block = bakery.bake()
        baked_by.add(block.baker)
        assert len(block.operations[0]) == len(bakers)
        assert block.attesting_power == bakery.chain.rules.constants.consensus_committee_size


def test_a_block_of_a_tz4_key_has_its_signature_as_it_is(new_bakery: Callable[..., Any]) -> None:
    bakery = new_bakery(TEZOS, bakers=[BLS_BAKER])
    block = bakery.bake()
    header = block_header.decode(block.raw_header)
    assert header.signature is not None
    assert len(header.signature) == 96


def test_the_votes_of_one_tz4_key_are_not_those_of_another(new_bakery: Callable[..., Any]) -> None:
    bakery = new_bakery(TEZOS, bakers=[BLS_BAKER])
    bakery.bake()
    [vote] = bakery.votes(Kind.ATTESTATION, bakery.head)
    damaged = vote[:-1] + bytes([vote[-1] ^ 1])
    refused = bakery.inject_operation(damaged).refusal
    assert refused is not None
    assert refused.reason == "operation.invalid_signature"
    assert bakery.inject_operation(vote).refusal is None
