"""All recorded chain data, when the folder with it lies beside the repository.

A selection of it is part of the repository and always tested; this is the rest. A repository
by itself has none of these records, and then there is nothing to run.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from signers.errors import MalformedBytes
from signers.formats import base58, block_header, emmy_header, operation
from signers.formats.networks import MAVRYK, TEZOS, Network
from signers.formats.signable import Kind, read_signable
from signers.inspection.inspect import Surroundings, inspect, inspect_block
from signers.inspection.inspect_record import read_chain_id
from signers.keyring.keys import PublicKey

CHAIN = Path(__file__).parents[2].parent / "shared" / "data" / "chain"


def records(name: str) -> list[dict[str, Any]]:
    path = CHAIN / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else []


def network_of(record: dict[str, Any]) -> Network:
    return MAVRYK if (record["network"] or "").startswith("mavryk") else TEZOS


def surroundings(record: dict[str, Any]) -> Surroundings:
    chain_id, public_key = record.get("chain_id"), record.get("public_key")
    return Surroundings(
        network_of(record),
        read_chain_id(chain_id) if chain_id else None,
        PublicKey.read(public_key) if public_key else None,
    )


def is_checked(record: dict[str, Any]) -> bool:
    """Null means not known, never false."""
    known = record["expected"].get("signature_valid") is not None
    return bool(known and record.get("chain_id"))


def by_id(record: dict[str, Any]) -> str:
    return str(record["id"])


@pytest.mark.parametrize(
    "record", records("consensus_ops") + records("manager_and_other_ops"), ids=by_id
)
def test_operations(record: dict[str, Any]) -> None:
    if record["operation_hex"] is None:
        return
    data = bytes.fromhex(record["operation_hex"])
    read = operation.decode_operation(data, TEZOS)
    assert operation.encode(read) == data
    assert operation.unsigned(read).hex() == record["unsigned_hex"]
    report = inspect(data, None, surroundings(record))
    assert report.hash == record["expected"]["operation_hash"]
    if is_checked(record):
        assert report.signature_valid is record["expected"]["signature_valid"]
    if record["signing_bytes_hex"] is not None:
        read_signable(bytes.fromhex(record["signing_bytes_hex"]))
        chain_id = surroundings(record).chain_id
        signing_bytes = operation.signing_bytes(read, chain_id, bls_votes=False)
        assert signing_bytes.hex() == record["signing_bytes_hex"]


@pytest.mark.parametrize("record", records("forging_vectors_netezos"), ids=by_id)
def test_forged_operations(record: dict[str, Any]) -> None:
    data = bytes.fromhex(record["unsigned_hex"])
    read = operation.decode_operation(data, network_of(record), signed=False)
    assert operation.encode(read) == data
    shown = operation.to_json(read, network_of(record))["contents"]
    for content, expected in zip(shown, record["json"]["contents"], strict=True):
        if content["kind"] != "failing_noop":  # which older tools show as text
            assert content == expected


@pytest.mark.parametrize(
    "record",
    [
        record
        for record in records("codec_vectors") + records("codec_vectors_vendor_only")
        if "operation" in record["encoding"] or "block_header" in record["encoding"]
    ],
    ids=by_id,
)
def test_codec_samples(record: dict[str, Any]) -> None:
    data, encoding = bytes.fromhex(record["hex"]), record["encoding"]
    if "block_header" in encoding:
        header = emmy_header.decode(data)
        assert emmy_header.encode(header) == data
        shown = emmy_header.to_json(header)
        assert {name: shown[name] for name in record["json"]} == record["json"]
        return
    if "bls_mode" in encoding:
        read = operation.decode_bls_vote(data)
    else:
        signed = not encoding.endswith("unsigned")
        read = operation.decode_operation(data, network_of(record), signed)
    assert operation.encode(read) == data


@pytest.mark.parametrize("record", records("blocks_full"), ids=by_id)
def test_blocks(record: dict[str, Any]) -> None:
    rows = [[bytes.fromhex(item["operation_hex"]) for item in row] for row in record["operations"]]
    expected = record["expected"]
    report = inspect_block(bytes.fromhex(record["header_signed_hex"]), rows, surroundings(record))
    assert report.hash == expected["block_hash"]
    assert (report.operations_hash_valid, report.payload_hash_valid) == (True, True)
    if is_checked(record):
        assert report.signature_valid is expected["signature_valid"]
    for row, items in zip(report.fields["operations"], record["operations"], strict=True):
        assert [item["hash"] for item in row] == [item["hash"] for item in items]


@pytest.mark.parametrize("record", records("blocks_full") + records("block_headers"), ids=by_id)
def test_headers(record: dict[str, Any]) -> None:
    expected = record["expected"]
    for name in ("header_signed_hex", "header_unsigned_hex"):
        data = bytes.fromhex(record[name])
        header = block_header.decode(data)
        assert block_header.encode(header) == data
        stamp = block_header.pow_stamp(header)
        assert stamp.hex().startswith(expected["pow_stamp_hash_first_8_bytes_hex"])
        is_enough = expected["pow_ok_at_threshold_281474976710655"]
        assert block_header.pow_is_enough(stamp, 281474976710655) is is_enough
    report = inspect(bytes.fromhex(record["header_signed_hex"]), None, surroundings(record))
    assert report.hash == expected["block_hash"]
    if is_checked(record):
        assert report.signature_valid is expected["signature_valid"]
    read = read_signable(bytes.fromhex(record["signing_bytes_hex"]))
    assert (read.level, read.round) == (header.level, header.round)


@pytest.mark.parametrize("record", records("blocks_rejected"), ids=by_id)
def test_blocks_that_must_not_check(record: dict[str, Any]) -> None:
    data, expected = bytes.fromhex(record["header_signed_hex"]), record["expected"]
    if "operation_hashes" in record:
        report = inspect_block(data, record["operation_hashes"], surroundings(record))
        assert report.hash == expected["block_hash"]
        assert report.operations_hash_valid is False
        return
    report = inspect(data, "header", surroundings(record))
    assert report.hash == expected["recomputed_hash"] != expected["stated_hash"]
    if is_checked(record):
        assert report.signature_valid is expected["signature_valid"]


@pytest.mark.parametrize("record", records("header_vectors"), ids=by_id)
def test_header_fields(record: dict[str, Any]) -> None:
    if "header_unsigned_hex" not in record:
        data = bytes.fromhex(record["unsigned_hex"])
        read = operation.decode_operation(data, TEZOS, signed=False)
        shown = operation.to_json(read, TEZOS)
        expected = dict(record["expected"]["fields"])
        assert expected.pop("branch") == shown["branch"]
        assert expected == shown["contents"][0]
        return
    header = block_header.decode(bytes.fromhex(record["header_unsigned_hex"]))
    shown, expected = block_header.to_json(header), record["expected"]["fields"]
    assert header.timestamp == expected["timestamp"]
    assert header.per_block_votes == expected["per_block_votes_byte"]
    for name in shown.keys() & expected.keys() - {"timestamp"}:
        assert shown[name] == expected[name]


@pytest.mark.parametrize("record", records("signer_requests"), ids=by_id)
def test_requests_to_sign(record: dict[str, Any]) -> None:
    read = read_signable(bytes.fromhex(record["signing_bytes_hex"]))
    fields = record["fields"] or {}
    if "chain_id" not in fields:
        assert read.kind is Kind.GENERIC
        return
    assert base58.encode(base58.CHAIN_ID, read.chain_id) == fields["chain_id"]
    assert read.level == fields["level"]
    assert read.round == fields.get("round", read.round)


@pytest.mark.parametrize("record", records("signatures"), ids=by_id)
def test_keys_and_packed_data(record: dict[str, Any]) -> None:
    PublicKey.read(record["public_key"])
    if "signing_bytes_hex" in record:
        with pytest.raises(MalformedBytes):  # packed Michelson is nothing that a baker signs
            read_signable(bytes.fromhex(record["signing_bytes_hex"]))
