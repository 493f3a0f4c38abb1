"""Taking bytes apart: real blocks, headers, operations and requests to sign, and damaged ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from signers.errors import MalformedBytes
from signers.formats import base58, codec
from signers.formats.networks import MAVRYK, TEZOS, network_by_name
from signers.formats.operation import signature_suffix
from signers.inspection.inspect import Surroundings, inspect, inspect_block
from signers.inspection.inspect_record import read_chain_id
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey

VECTORS = Path(__file__).parent / "vectors"


def records(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (VECTORS / name).read_text().splitlines()]


def surroundings(vector: dict[str, Any]) -> Surroundings:
    return Surroundings(
        network_by_name(vector["network"]),
        read_chain_id(vector["chain_id"]) if "chain_id" in vector else None,
        PublicKey.read(vector["public_key"]) if "public_key" in vector else None,
    )


def is_checked(vector: dict[str, Any]) -> bool:
    """Whether the vector tells whether the signature is good."""
    return "signature_valid" in vector


BLOCKS = records("blocks.jsonl")
HEADERS = records("headers.jsonl")
OPERATIONS = records("operations.jsonl")
KEYS = json.loads((VECTORS / "keys.json").read_text())["keys"]
MADE = json.loads((VECTORS / "signatures.json").read_text())


def passes(block: dict[str, Any]) -> list[list[bytes | str]]:
    return [[bytes.fromhex(item) for item in row] for row in block["operations"]]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["id"])
def test_a_real_block_checks(block: dict[str, Any]) -> None:
    report = inspect_block(bytes.fromhex(block["header"]), passes(block), surroundings(block))
    assert report.hash == block["hash"]
    assert report.operations_hash_valid is True
    assert report.payload_hash_valid is True
    assert report.error is None
    assert report.pow_stamp is not None
    assert report.pow_stamp.startswith(block["pow_stamp"])
    if is_checked(block):
        assert report.signature_valid is block["signature_valid"]
    hashes = [[item["hash"] for item in row] for row in report.fields["operations"]]
    assert hashes == block["operation_hashes"]
    assert report.is_sound


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block["id"])
def test_a_block_checks_with_the_hashes_of_its_operations_alone(block: dict[str, Any]) -> None:
    report = inspect_block(
        bytes.fromhex(block["header"]), block["operation_hashes"], surroundings(block)
    )
    assert report.is_sound
    assert report.operations_hash_valid is True


def test_a_block_whose_operations_are_not_its_own_is_told() -> None:
    block = next(block for block in BLOCKS if block["id"].startswith("block-2490368"))
    header = bytes.fromhex(block["header"])
    known = surroundings(block)
    consensus, votes, anonymous, managers = passes(block)

    swapped = [consensus, votes, anonymous, [managers[1], managers[0], *managers[2:]]]
    report = inspect_block(header, swapped, known)
    assert (report.operations_hash_valid, report.payload_hash_valid) == (False, False)

    fewer_votes = [consensus[1:], votes, anonymous, managers]
    report = inspect_block(header, fewer_votes, known)
    assert (report.operations_hash_valid, report.payload_hash_valid) == (False, True)
    assert not report.is_sound

    wrong_passes: list[list[list[bytes | str]]] = [[], [[]], [[]] * 4, [consensus, managers]]
    for wrong in wrong_passes:
        report = inspect_block(header, wrong, known)
        assert report.operations_hash_valid is False


def test_an_operation_of_a_block_that_does_not_decode_is_told_and_hashed() -> None:
    block = BLOCKS[0]
    rows = passes(block)
    rows[0][0] = b"\xff" * 40
    report = inspect_block(bytes.fromhex(block["header"]), rows, surroundings(block))
    assert report.error is not None
    assert report.error.startswith("operation 0 of pass 0: ")
    assert report.hash == block["hash"]
    assert report.operations_hash_valid is False
    assert "error" in report.fields["operations"][0][0]


@pytest.mark.parametrize("vector", HEADERS, ids=lambda vector: vector["id"])
def test_a_header_shows_hashes_and_checks(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    for kind in (None, "header"):
        report = inspect(data, kind, surroundings(vector))
        assert report.kind == "header"
        if "hash" in vector:
            assert report.hash == vector["hash"]
        if "pow_stamp" in vector:
            assert report.pow_stamp is not None
            assert report.pow_stamp.startswith(vector["pow_stamp"])
        if is_checked(vector):
            assert report.signature_valid is vector["signature_valid"]
        for name, value in vector.get("json", {}).items():
            if name != "liquidity_baking_escape_vote":  # Ithaca's name for a byte of 00
                assert report.fields[name] == value


@pytest.mark.parametrize("vector", OPERATIONS, ids=lambda vector: vector["id"])
def test_an_operation_is_known_for_one_and_signed_or_not(vector: dict[str, Any]) -> None:
    report = inspect(bytes.fromhex(vector["hex"]), None, surroundings(vector))
    assert report.kind == "operation"
    assert (report.hash is not None) == vector["signed"]
    if "hash" in vector:
        assert report.hash == vector["hash"]
    if is_checked(vector) and "chain_id" in vector:
        assert report.signature_valid is vector["signature_valid"]


SIGNED_VOTE = next(
    vector
    for vector in OPERATIONS
    if is_checked(vector) and vector["signature_valid"] and "chain_id" in vector
    and vector["json"]["contents"][0]["kind"] == "attestation"
)  # fmt: skip


def test_a_signature_is_not_checked_for_want_of_key_or_chain() -> None:
    data = bytes.fromhex(SIGNED_VOTE["hex"])
    known = surroundings(SIGNED_VOTE)
    assert inspect(data, None, known).signature_valid is True
    assert inspect(data, None, Surroundings(TEZOS)).signature_valid is None
    assert inspect(data, None, Surroundings(TEZOS, known.chain_id)).signature_valid is None
    no_chain = Surroundings(TEZOS, None, known.public_key)
    assert inspect(data, None, no_chain).signature_valid is None
    assert inspect(data[:-64], None, known).signature_valid is None


def test_a_wrong_signature_key_or_chain_is_told() -> None:
    data = bytes.fromhex(SIGNED_VOTE["hex"])
    known = surroundings(SIGNED_VOTE)
    other_key = PublicKey.read("edpkufnz668CdgnVC4X5KRvJoXCMgicr29Tjmr5vxGzvMdipwkTZmM")
    assert (
        inspect(data, None, Surroundings(TEZOS, b"\0\0\0\0", known.public_key)).signature_valid
        is False
    )
    assert (
        inspect(data, None, Surroundings(TEZOS, known.chain_id, other_key)).signature_valid is False
    )
    for damaged in (data[:-1] + bytes([data[-1] ^ 1]), data[:-64] + bytes(64)):
        assert inspect(damaged, None, known).signature_valid is False
        assert not inspect(damaged, None, known).is_sound


def test_what_a_key_of_another_curve_has_not_signed() -> None:
    data = bytes.fromhex(SIGNED_VOTE["hex"])
    key = PublicKey.read(
        "BLpk1ur5XXicWYMMzCVZZWyLZhybtyX8Zot2uCzDCZW8KcC5BdZiLVXRZvZzi4GuZYL9SarUvKpE"
    )
    assert inspect(data, None, Surroundings(TEZOS, b"\0\0\0\0", key)).signature_valid is False


def test_what_an_ml_dsa_key_has_signed_is_not_known() -> None:
    key = PublicKey(Curve.MLDSA, bytes(1312))
    data = bytes.fromhex(SIGNED_VOTE["hex"])[:-64] + signature_suffix(b"\1" * 2420)
    assert inspect(data, None, Surroundings(TEZOS, b"\0\0\0\0", key)).signature_valid is None


@pytest.mark.parametrize("vector", MADE["signatures"], ids=lambda vector: vector["hash"])
def test_blocks_and_votes_signed_with_keys_of_every_curve(vector: dict[str, Any]) -> None:
    message = bytes.fromhex(MADE["messages"][vector["wire"]])
    signature = bytes.fromhex(vector["signature_hex"])
    is_block = vector["wire"] == "block"
    data = message[5:] + (signature if is_block else signature_suffix(signature))
    row = next(row for row in KEYS if row["curve"] == vector["curve"])
    key = PublicKey.read(row["public"])
    network = MAVRYK if vector["scheme"] == "AUGMENTED" else TEZOS
    report = inspect(data, None, Surroundings(network, message[1:5], key))
    assert report.hash == vector["hash"]
    assert report.signature_valid is True
    other = PublicKey.read(KEYS[-1]["public"])
    assert inspect(data, None, Surroundings(network, message[1:5], other)).signature_valid is False
    elsewhere = Surroundings(network, b"\0\0\0\0", key)
    assert inspect(data, None, elsewhere).signature_valid is False


def test_nobody_signs_evidence_and_revelations() -> None:
    for vector in OPERATIONS:
        kind = vector["json"]["contents"][0]["kind"]
        if vector["signed"] and (kind.startswith("double_") or kind.endswith("_aggregate")):
            key = PublicKey.read("edpkufnz668CdgnVC4X5KRvJoXCMgicr29Tjmr5vxGzvMdipwkTZmM")
            known = Surroundings(network_by_name(vector["network"]), b"\0\0\0\0", key)
            assert inspect(bytes.fromhex(vector["hex"]), None, known).signature_valid is None


def test_a_request_to_sign_shows_what_is_signed() -> None:
    vote = bytes.fromhex(SIGNED_VOTE["hex"])[:-64]
    chain_id = read_chain_id(SIGNED_VOTE["chain_id"])
    report = inspect(b"\x13" + chain_id + vote, None, Surroundings(TEZOS))
    assert report.kind == "signable"
    assert report.fields["signable_kind"] == "attestation"
    assert report.fields["chain_id"] == SIGNED_VOTE["chain_id"]
    assert report.fields["level"] == SIGNED_VOTE["json"]["contents"][0]["level"]
    assert report.fields["operation"]["branch"] == SIGNED_VOTE["json"]["branch"]
    assert report.hash is not None
    assert len(report.hash) == 64
    bls = b"\x13" + chain_id + vote[:32] + b"\x29" + vote[35:]
    shown = inspect(bls, None, Surroundings(TEZOS)).fields["operation"]["contents"][0]
    assert shown["kind"] == "bls_mode_attestation"
    assert "slot" not in shown

    header = bytes.fromhex(BLOCKS[0]["header"])[:-64]
    report = inspect(b"\x11" + chain_id + header, None, Surroundings(TEZOS))
    assert report.fields["signable_kind"] == "block"
    assert report.fields["header"]["level"] == report.fields["level"]


@pytest.mark.parametrize("network", [TEZOS, MAVRYK], ids=lambda network: network.name)
def test_a_generic_request_shows_the_addresses_of_the_network(network: Any) -> None:
    vector = next(
        vector
        for vector in OPERATIONS
        if vector["network"] == network.name and not vector["signed"]
        and vector["json"]["contents"][0]["kind"] == "transaction"
    )  # fmt: skip
    report = inspect(b"\x03" + bytes.fromhex(vector["hex"]), None, Surroundings(network))
    source = report.fields["operation"]["contents"][0]["source"]
    assert source == vector["json"]["contents"][0]["source"]
    assert "level" not in report.fields


@pytest.mark.parametrize("kind", ["header", "operation", "signable", None])
@pytest.mark.parametrize("data", [b"", b"\0", bytes(79), bytes(400), b"\x13" * 80])
def test_what_is_nothing_is_refused_under_every_name(kind: str | None, data: bytes) -> None:
    with pytest.raises(MalformedBytes):
        inspect(data, kind, Surroundings())


def test_bytes_are_not_taken_for_another_kind_than_said() -> None:
    vote = bytes.fromhex(SIGNED_VOTE["hex"])
    header = bytes.fromhex(BLOCKS[0]["header"])
    for data, kinds in ((vote, ("header", "signable")), (header, ("operation", "signable"))):
        for kind in kinds:
            with pytest.raises(MalformedBytes):
                inspect(data, kind, Surroundings())


def test_an_unsigned_batch_is_not_taken_for_a_signed_one() -> None:
    # The last transaction has the 64 bytes of a signature.
    numbers = b"".join(codec.natural(n) for n in (2**30, 2**30, 20_000, 0, 2**30))
    transaction = b"\x6c" + bytes(21) + numbers + b"\x01" + bytes(21) + b"\x00"
    assert len(transaction) == 64
    report = inspect(bytes(32) + transaction + transaction, None, Surroundings())
    assert len(report.fields["contents"]) == 2
    assert report.hash is None


def test_a_hash_is_that_of_the_bytes_as_given() -> None:
    vector = next(vector for vector in OPERATIONS if vector["signed"] and "hash" in vector)
    report = inspect(bytes.fromhex(vector["hex"]), None, Surroundings())
    assert report.hash is not None
    assert base58.decode(base58.OPERATION_HASH, report.hash)
