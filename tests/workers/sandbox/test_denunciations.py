"""Evidence of double signing: what proves it, what does not, and that it counts once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from bakery import Bakery, Passes

from signers.errors import MalformedBytes
from signers.formats import base58, block_header
from signers.formats.evidence import double_baking_evidence, double_vote_evidence
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.signable import Kind
from workers.sandbox.mempool import Class

OTHER = blake2b_32(b"another payload")


def two_votes(bakery: Bakery, kind: Kind = Kind.ATTESTATION, **other: Any) -> bytes:
    """Evidence that somebody voted for the head and for something else."""
    first, second = (
        bakery.votes(kind, bakery.head, slots=[0], **changes)[0]
        for changes in ({}, other or {"payload_hash": OTHER})
    )
    branch = bakery.head.header.predecessor
    return double_vote_evidence(branch, first, second, bakery.chain.rules.genesis.protocol)


def two_headers(bakery: Bakery, **changes: Any) -> bytes:
    """Evidence that the baker of the head signed another header for its place."""
    head = bakery.head.header
    other = replace(head, payload_hash=OTHER, signature=None, **changes)
    return double_baking_evidence(head.predecessor, bakery.head.raw_header, bakery.signed(other))


def why(bakery: Bakery, evidence: bytes) -> str:
    refusal = bakery.inject_operation(evidence).refusal
    return "" if refusal is None else refusal.reason


@pytest.fixture
def bakery(network: Any, new_bakery: Callable[..., Bakery]) -> Bakery:
    bakery = new_bakery(network)
    bakery.bake_to(3)
    return bakery


def include(bakery: Bakery, *evidence: bytes) -> str:
    """Bake a block with evidence; why it was refused."""
    passes: Passes = (bakery.attestations(bakery.head), (), evidence, ())
    refusal = bakery.inject(bakery.signed(bakery.header(passes)), passes).refusal
    return "" if refusal is None else refusal.trace[-1].id


@pytest.mark.parametrize("kind", [Kind.PREATTESTATION, Kind.ATTESTATION])
def test_two_votes_are_denounced_once(bakery: Bakery, kind: Kind) -> None:
    evidence, more = two_votes(bakery, kind), two_votes(bakery, kind, payload_hash=bytes(32))
    assert why(bakery, evidence) == ""
    assert why(bakery, more) == "prevalidation.operation_conflict"
    assert include(bakery, evidence, more) == "validate.operation.already_denounced"
    before = bakery.head.resulting_context_hash
    assert include(bakery, evidence) == ""
    assert bakery.head.resulting_context_hash != before
    assert bakery.head.kinds[decoded_name(bakery, evidence)] == 1
    assert why(bakery, evidence) == ""  # it is in the chain
    [aside] = bakery.chain.mempool.of_class(Class.BRANCH_REFUSED)
    assert aside.operation.signed == more


def decoded_name(bakery: Bakery, evidence: bytes) -> str:
    return bakery.chain.rules.read(evidence).kind.name


def test_two_blocks_are_denounced(bakery: Bakery) -> None:
    evidence = two_headers(bakery)
    assert why(bakery, evidence) == ""
    assert include(bakery, evidence) == ""
    assert bakery.head.kinds["double_baking_evidence"] == 1


def test_what_proves_nothing_is_refused(bakery: Bakery) -> None:
    malformed = "validate.operation.block.invalid_denunciation"
    assert why(bakery, two_votes(bakery, round=1)) == malformed
    assert why(bakery, two_votes(bakery, level=4)) == malformed
    vote = bakery.votes(Kind.ATTESTATION, bakery.head, slots=[0])[0]
    protocol = bakery.chain.rules.genesis.protocol
    branch = bakery.head.header.predecessor
    assert why(bakery, double_vote_evidence(branch, vote, vote, protocol)) == malformed
    forged = bakery.votes(Kind.ATTESTATION, bakery.head, slots=[0], payload_hash=OTHER)[0]
    forged = forged[:-1] + bytes([forged[-1] ^ 1])
    evidence = double_vote_evidence(branch, vote, forged, protocol)
    assert why(bakery, evidence) == "operation.invalid_signature"
    header = replace(bakery.head.header, payload_hash=OTHER)  # with the other's signature
    other = block_header.encode(header)
    evidence = double_baking_evidence(branch, bakery.head.raw_header, other)
    assert why(bakery, evidence) == "operation.invalid_signature"


def test_two_delegates_are_no_offence(network: Any, bakery: Bakery) -> None:
    committee = bakery.chain.rules.rights.committee(bakery.head.level)
    slots = [owned[0] for owned in committee.slots.values()][:2]
    one = bakery.votes(Kind.ATTESTATION, bakery.head, slots=slots[:1])[0]
    other = bakery.votes(Kind.ATTESTATION, bakery.head, slots=slots[1:], payload_hash=OTHER)[0]
    branch = bakery.head.header.predecessor
    if network is TEZOS:  # evidence names the one slot of both
        with pytest.raises(MalformedBytes):
            double_vote_evidence(branch, one, other, network.protocols[0])
    else:
        evidence = double_vote_evidence(branch, one, other, network.protocols[0])
        assert why(bakery, evidence) == "validate.operation.block.inconsistent_denunciation"


def test_an_offence_is_denounced_in_its_cycle_and_the_next(new_bakery: Any) -> None:
    bakery = new_bakery(MAVRYK)
    bakery.bake_to(3)
    first = bakery.votes(Kind.ATTESTATION, bakery.head, slots=[0], level=5)[0]
    second = bakery.votes(Kind.ATTESTATION, bakery.head, slots=[0], level=5, payload_hash=OTHER)[0]
    protocol = bakery.chain.rules.genesis.protocol
    early = double_vote_evidence(bakery.head.header.predecessor, first, second, protocol)
    assert why(bakery, early) == "validate.operation.block.too_early_denunciation"
    evidence = two_votes(bakery)
    bakery.bake_to(15)
    assert why(bakery, evidence) == ""
    bakery.bake_to(16)  # the next block begins the third cycle
    assert why(bakery, evidence) == "validate.operation.block.outdated_denunciation"


def test_offences_are_forgotten_with_the_time_to_denounce_them(new_bakery: Any) -> None:
    bakery = new_bakery(MAVRYK)
    bakery.bake_to(3)
    assert include(bakery, two_votes(bakery)) == ""
    keys = list(bakery.head.context.keys(b"denounced:"))
    assert len(keys) == 1
    bakery.bake_to(16)
    assert list(bakery.head.context.keys(b"denounced:")) == keys
    bakery.bake_to(17)
    assert list(bakery.head.context.keys(b"denounced:")) == []


def rpc_chain(bakery: Bakery) -> str:
    return base58.encode(base58.CHAIN_ID, bakery.chain.rules.chain_id)


def test_a_node_writes_the_evidence_that_it_shows(
    bakery: Bakery, serve: Callable[..., None]
) -> None:
    """Whoever bakes reads it as JSON, and has the node write it."""
    evidence = [two_votes(bakery), two_headers(bakery)]

    async def scenario(rpc: Any) -> None:
        for each in evidence:
            await rpc.post("/injection/operation", each.hex())
        waiting = await rpc.get("/chains/main/mempool/pending_operations")
        for shown, raw in zip(waiting["validated"], evidence, strict=True):
            body = {"branch": shown["branch"], "contents": shown["contents"]}
            written = await rpc.post("/chains/main/blocks/head/helpers/forge/operations", body)
            assert written == raw[:-64].hex()
            unsigned = {"branch": shown["branch"], "data": raw[32:].hex()}
            parsed = await rpc.post(
                "/chains/main/blocks/head/helpers/parse/operations",
                {"operations": [unsigned], "check_signature": True},
            )
            assert parsed[0]["contents"] == shown["contents"]
            signature = base58.encode(base58.GENERIC_SIGNATURE, bytes(64))
            tried = await rpc.post(
                "/chains/main/blocks/head/helpers/scripts/run_operation",
                {"operation": {**body, "signature": signature}, "chain_id": rpc_chain(bakery)},
            )
            assert tried["contents"][0]["metadata"] == {"balance_updates": []}

    serve(bakery, scenario)
