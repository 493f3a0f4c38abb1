"""Evidence of double signing, byte for byte as the vendors' codecs write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from signers.errors import MalformedBytes
from signers.formats import block_header, operation
from signers.formats.consensus_operation import (
    ATTESTATION,
    ATTESTATION_WITH_DAL,
    ATTESTATIONS_AGGREGATE,
    PREATTESTATION,
    PREATTESTATIONS_AGGREGATE,
)
from signers.formats.evidence import double_baking_evidence, double_vote_evidence
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK, TEZOS, Network
from signers.formats.operation import Content, Operation, decode_operation

VECTORS = Path(__file__).parent / "vectors" / "operations.jsonl"
VOTES = {
    "double_consensus_operation_evidence",
    "double_attestation_evidence",
    "double_preattestation_evidence",
}
NETWORKS = {"tezos": TEZOS, "mavryk": MAVRYK}
KINDS = {
    0x14: PREATTESTATION,
    0x15: ATTESTATION,
    0x17: ATTESTATION_WITH_DAL,
    0x1E: PREATTESTATIONS_AGGREGATE,
    0x1F: ATTESTATIONS_AGGREGATE,
}


def evidence() -> list[tuple[str, Network, bytes, Operation]]:
    found = []
    for line in VECTORS.read_text().splitlines():
        if "double_" not in line:
            continue
        record = json.loads(line)
        network = NETWORKS[record["network"]]
        data = bytes.fromhex(record["hex"])
        read = decode_operation(data, network, signed=record["signed"])
        found.append((record["id"], network, operation.unsigned(read), read))
    return found


def tags_of(evidence: Operation) -> set[int]:
    """What the two votes of evidence are."""
    return {evidence.contents[0].fields[op]["operations"][0] for op in ("op1", "op2")}


def signed_vote(inlined: dict[str, Any]) -> bytes:
    """The vote inside of evidence as it was sent by itself."""
    tag, fields = inlined["operations"]
    vote = Content(tag, KINDS[tag], fields)
    return operation.encode(Operation(inlined["branch"], (vote,), inlined["signature"]))


ADDED_UP = ({0x14, 0x1E}, {0x15, 0x1F})  # a single vote, and several added up
RECORDS = evidence()
BAKING = [each for each in RECORDS if each[3].contents[0].name == "double_baking_evidence"]
VOTING = [
    each
    for each in RECORDS
    if each[3].contents[0].name in VOTES
    # Of votes of one kind; a vendor's sample also has an attestation and a preattestation.
    and tags_of(each[3]) in ({0x14}, {0x15}, {0x17}, {0x15, 0x17}, *ADDED_UP)
]


def test_there_are_vectors_of_each_form() -> None:
    tags = {(record[1].name, record[3].contents[0].tag) for record in BAKING + VOTING}
    assert {("tezos", 2), ("mavryk", 7), ("tezos", 3), ("mavryk", 3)} <= tags
    added_up = [each for each in VOTING if tags_of(each[3]) in ADDED_UP]
    assert {frozenset(tags_of(each[3])) for each in added_up} == set(map(frozenset, ADDED_UP))


@pytest.mark.parametrize("record", BAKING, ids=lambda r: r[0])
def test_double_baking(record: tuple[str, Network, bytes, Operation]) -> None:
    _, _, unsigned, read = record
    fields = read.contents[0].fields
    headers = [block_header.encode(fields[name]) for name in ("bh1", "bh2")]
    made = double_baking_evidence(read.branch, *headers)
    assert double_baking_evidence(read.branch, *reversed(headers)) == made
    assert made[-64:] == bytes(64)
    assert made[:-64] == in_order(unsigned, *headers)


@pytest.mark.parametrize("record", VOTING, ids=lambda r: r[0])
def test_double_votes(record: tuple[str, Network, bytes, Operation]) -> None:
    _, network, unsigned, read = record
    content = read.contents[0]
    votes = [signed_vote(content.fields[name]) for name in ("op1", "op2")]
    slot = content.fields.get("slot")
    made = double_vote_evidence(read.branch, *votes, network.protocol, slot)
    assert double_vote_evidence(read.branch, *reversed(votes), network.protocol, slot) == made
    assert made[-64:] == bytes(64)
    inner = [inlined_vote(content.fields[name]) for name in ("op1", "op2")]
    assert made[:-64] == in_order(unsigned, *inner, by=votes)


def inlined_vote(inlined: dict[str, Any]) -> bytes:
    """A vote as it stands in evidence: no mark in front of a long signature."""
    tag, fields = inlined["operations"]
    body = inlined["branch"] + bytes([tag]) + KINDS[tag].layout.write(fields)
    return body + (inlined["signature"] or b"")


def in_order(unsigned: bytes, one: bytes, other: bytes, by: list[bytes] | None = None) -> bytes:
    """The vendors' samples do not all keep the order that the protocol asks for."""
    first, second = by or (one, other)
    if blake2b_32(first) <= blake2b_32(second):
        return unsigned
    tail = len(one) + len(other) + 8
    sized = [len(each).to_bytes(4) + each for each in (other, one)]
    return unsigned[:-tail] + b"".join(sized)


def test_what_is_no_pair() -> None:
    _, network, _, read = VOTING[0]
    content = read.contents[0]
    vote = signed_vote(content.fields["op1"])
    header = block_header.encode(BAKING[0][3].contents[0].fields["bh1"])
    for pair in ((vote, header), (vote, b""), (header, header)):
        with pytest.raises(MalformedBytes):
            double_vote_evidence(bytes(32), *pair, network.protocol)
    with pytest.raises(MalformedBytes):
        double_baking_evidence(bytes(32), header, vote)
    with pytest.raises(MalformedBytes):
        double_baking_evidence(bytes(32), header, header[:-64])
