"""Operations: real ones of many protocols, and every kind that a block may hold."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.errors import MalformedBytes
from signers.formats import base58, codec, operation
from signers.formats.networks import MAVRYK, TEZOS, network_by_name
from signers.formats.operation import Operation, decode_operation
from signers.formats.signable import Kind, read_signable
from signers.formats.vote import read_signed_vote

VECTORS = [
    json.loads(line)
    for line in (Path(__file__).parent / "vectors" / "operations.jsonl").read_text().splitlines()
]
# What older protocols called the same bytes.
NEW_NAMES = {
    "endorsement": "attestation",
    "preendorsement": "preattestation",
    "endorsement_with_dal": "attestation_with_dal",
    "double_endorsement_evidence": "double_attestation_evidence",
    "double_preendorsement_evidence": "double_preattestation_evidence",
}


def decoded(vector: dict[str, Any]) -> Operation:
    return decode_operation(
        bytes.fromhex(vector["hex"]), network_by_name(vector["network"]), vector["signed"]
    )


def is_shown(expected: Any, shown: Any) -> bool:
    """Whether everything expected is shown, and nothing else but a vote on adaptive issuance."""
    if isinstance(expected, dict):
        extra = set(shown) - set(expected)
        return extra <= {"adaptive_issuance_vote", "signature"} and all(
            NEW_NAMES.get(value, value) == shown[key]
            if key == "kind"
            else is_shown(value, shown[key])
            for key, value in expected.items()
        )
    if isinstance(expected, list):
        return len(expected) == len(shown) and all(
            is_shown(*pair) for pair in zip(expected, shown, strict=True)
        )
    return bool(expected == shown)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_a_real_operation_reads_shows_and_writes_back(vector: dict[str, Any]) -> None:
    read = decoded(vector)
    assert operation.encode(read).hex() == vector["hex"]
    assert is_shown(vector["json"], operation.to_json(read, network_by_name(vector["network"])))
    if "hash" in vector:
        assert base58.encode(base58.OPERATION_HASH, operation.hash(read)) == vector["hash"]
    signed = decode_operation(
        bytes.fromhex(vector["hex"]), network_by_name(vector["network"]), vector["signed"]
    )
    assert operation.unsigned(signed) == operation.unsigned(read)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_what_is_damaged_reads_as_something_else_or_not_at_all(vector: dict[str, Any]) -> None:
    rng = random.Random(vector["id"])
    data = bytes.fromhex(vector["hex"])
    network = network_by_name(vector["network"])
    for _ in range(12):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        for changed in (bytes(damaged), data[: rng.randrange(len(data))], data + bytes([1])):
            try:
                read = decode_operation(changed, network, vector["signed"])
            except MalformedBytes:
                continue
            assert operation.encode(read) == changed


@given(st.binary(max_size=300), st.booleans(), st.sampled_from([TEZOS, MAVRYK]))
def test_any_bytes_give_an_operation_or_malformed(data: bytes, signed: bool, network: Any) -> None:
    try:
        read = decode_operation(data, network, signed)
    except MalformedBytes:
        return
    assert operation.encode(read) == data


BRANCH = bytes(range(32))
SIGNATURE = bytes([0xEE]) * 64
KEY_HASH = "00" + "11" * 20
SOURCE = KEY_HASH + "d007" + "01" + "b960" + "00"  # fee 976, counter 1, gas 12345, storage 0
ED25519_KEY = "00" + "22" * 32
CONTRACT = "01" + "33" * 20 + "00"
HASH = "44" * 32
EXPRESSION = "00000002" + "030b"
VOTE = "0007" + "00000064" + "00000001" + HASH
PROOF = "00000060" + "55" * 96


def sized(contents: str) -> str:
    return codec.sized(bytes.fromhex(contents)).hex()


def inlined(contents: str, signature: str = "ee" * 64) -> str:
    return codec.sized(BRANCH + bytes.fromhex(contents + signature)).hex()


# Kinds and layouts for which no real bytes are at hand, written out from the schemas.
HAND_MADE = [
    ("reveal of Rio", "6b" + SOURCE + ED25519_KEY, "reveal"),
    ("reveal", "6b" + SOURCE + ED25519_KEY + "00", "reveal"),
    ("reveal of tz4", "6b" + SOURCE + "03" + "66" * 48 + "ff" + PROOF, "reveal"),
    ("reveal of tz5", "6b" + SOURCE + "04" + "66" * 1312 + "00", "reveal"),
    ("transaction to rollup", "6c" + SOURCE + "00" + "02" + "33" * 20 + "0000", "transaction"),
    ("transaction stake", "6c" + SOURCE + "01" + CONTRACT + "ff06" + EXPRESSION, "transaction"),
    ("delegation away", "6e" + SOURCE + "00", "delegation"),
    ("delegation", "6e" + SOURCE + "ff" + KEY_HASH, "delegation"),
    ("constant", "6f" + SOURCE + EXPRESSION, "register_global_constant"),
    ("no limit", "70" + SOURCE + "00", "set_deposits_limit"),
    ("limit", "70" + SOURCE + "ff03", "set_deposits_limit"),
    ("storage", "71" + SOURCE + "02" + CONTRACT, "increase_paid_storage"),
    ("consensus key", "72" + SOURCE + ED25519_KEY + "00", "update_consensus_key"),
    ("consensus key of Rio", "72" + SOURCE + ED25519_KEY + "ff00000040" + "55" * 64,
     "update_consensus_key"),
    ("consensus key of Lima", "72" + SOURCE + ED25519_KEY, "update_consensus_key"),
    ("companion key", "73" + SOURCE + "03" + "66" * 48 + "ff" + PROOF, "update_companion_key"),
    ("toru", "96" + SOURCE, "tx_rollup_origination"),
    ("toru batch", "97" + SOURCE + "77" * 20 + "00000001aa" + "00", "tx_rollup_submit_batch"),
    ("toru commit", "98" + SOURCE + "77" * 20 + "00000001" + "00000020" + HASH + "01" + HASH + HASH,
     "tx_rollup_commit"),
    ("toru return", "99" + SOURCE + "77" * 20, "tx_rollup_return_bond"),
    ("toru finalize", "9a" + SOURCE + "77" * 20, "tx_rollup_finalize_commitment"),
    ("toru remove", "9b" + SOURCE + "77" * 20, "tx_rollup_remove_commitment"),
    ("toru reject", "9c" + SOURCE + "77" * 20 + "00000001" + "0000000000" + "00" + "00000000"
     + HASH + "00000000" + HASH + HASH + "00000000" + "00000002abcd", "tx_rollup_rejection"),
    ("toru reject deposit", "9c" + SOURCE + "77" * 20 + "00000001" + "01" + KEY_HASH + "88" * 20
     + HASH + "0205000000" + "00" + "00000000" + HASH + "00000000" + HASH + HASH + "00000000"
     + "00000002abcd", "tx_rollup_rejection"),
    ("toru reject in Jakarta", "9c" + SOURCE + "77" * 20 + "00000001" + "0000000000" + "00"
     + "00000000" + HASH + "00000000" + HASH + HASH + "00000000" + "0300ffabcd",
     "tx_rollup_rejection"),
    ("toru tickets", "9d" + SOURCE + "77" * 20 + "00000001" + HASH + "00000000" + "00000000"
     + sized(EXPRESSION + EXPRESSION + CONTRACT + "0001" + KEY_HASH), "tx_rollup_dispatch_tickets"),
    ("ticket", "9e" + SOURCE + EXPRESSION + EXPRESSION + CONTRACT + "05" + CONTRACT
     + "00000003616263", "transfer_ticket"),
    ("rollup", "c8" + SOURCE + "01" + "00000001aa" + EXPRESSION + "00", "smart_rollup_originate"),
    ("private rollup", "c8" + SOURCE + "02" + "00000001aa" + EXPRESSION + "ff00000015" + KEY_HASH,
     "smart_rollup_originate"),
    ("rollup of Mumbai", "c8" + SOURCE + "00" + "00000001aa" + "00000001bb" + EXPRESSION,
     "smart_rollup_originate"),
    ("messages", "c9" + SOURCE + "0000000a" + "00000001aa" + "00000001bb",
     "smart_rollup_add_messages"),
    ("cement", "ca" + SOURCE + "77" * 20, "smart_rollup_cement"),
    ("cement of Nairobi", "ca" + SOURCE + "77" * 20 + HASH, "smart_rollup_cement"),
    ("publish", "cb" + SOURCE + "77" * 20 + HASH + "00000064" + HASH + "0000000000000009",
     "smart_rollup_publish"),
    ("refute start", "cc" + SOURCE + "77" * 20 + KEY_HASH + "00" + HASH + HASH,
     "smart_rollup_refute"),
    ("refute dissection", "cc" + SOURCE + "77" * 20 + KEY_HASH + "01" + "05" + "00" + "00000024"
     + "ff" + HASH + "01" + "0002", "smart_rollup_refute"),
    ("refute proof", "cc" + SOURCE + "77" * 20 + KEY_HASH + "01" + "05" + "01" + "00000001aa"
     + "ff00" + "00000064" + "02" + "00000001bb", "smart_rollup_refute"),
    ("refute raw data", "cc" + SOURCE + "77" * 20 + KEY_HASH + "01" + "05" + "01" + "00000001aa"
     + "ff0100" + "0002beef", "smart_rollup_refute"),
    ("refute page", "cc" + SOURCE + "77" * 20 + KEY_HASH + "01" + "05" + "01" + "00000001aa"
     + "ff0102" + "00000064" + "03" + "0004" + "00000001cc", "smart_rollup_refute"),
    ("refute metadata", "cc" + SOURCE + "77" * 20 + KEY_HASH + "01" + "05" + "01" + "00000001aa"
     + "ff0101", "smart_rollup_refute"),
    ("refute first input", "cc" + SOURCE + "77" * 20 + KEY_HASH + "01" + "05" + "01" + "00000001aa"
     + "ff02", "smart_rollup_refute"),
    ("timeout", "cd" + SOURCE + "77" * 20 + KEY_HASH + KEY_HASH, "smart_rollup_timeout"),
    ("outbox", "ce" + SOURCE + "77" * 20 + HASH + "00000001aa",
     "smart_rollup_execute_outbox_message"),
    ("bond", "cf" + SOURCE + "77" * 20 + KEY_HASH, "smart_rollup_recover_bond"),
    ("dal", "e6" + SOURCE + "05" + "88" * 48 + "99" * 96, "dal_publish_commitment"),
    ("dal of Nairobi", "e6" + SOURCE + "00000064" + "05" + "88" * 48 + "99" * 96,
     "dal_publish_slot_header"),
    ("zk rollup", "fa" + SOURCE + "00000001aa" + sized("0000000161" + "02") + sized(HASH)
     + "00000003", "zk_rollup_origination"),
    ("zk publish", "fb" + SOURCE + "77" * 20 + sized("00000000" + HASH + "05" + KEY_HASH
     + "77" * 20 + sized(HASH) + "01" + "030b" + "036c" + CONTRACT), "zk_rollup_publish"),
    ("zk publish without ticket", "fb" + SOURCE + "77" * 20 + sized("00000000" + HASH + "05"
     + KEY_HASH + "77" * 20 + sized("") + "00"), "zk_rollup_publish"),
    ("zk update", "fc" + SOURCE + "77" * 20 + sized("0000000161" + sized(HASH) + HASH + "ff")
     + sized("0000000162" + sized("") + HASH) + sized(HASH) + "00000001aa", "zk_rollup_update"),
    ("seed nonce", "01" + "00000064" + HASH, "seed_nonce_revelation"),
    ("vdf", "08" + "aa" * 200, "vdf_revelation"),
    ("drain", "09" + KEY_HASH * 3, "drain_delegate"),
    ("activation", "04" + "11" * 20 + "22" * 20, "activate_account"),
    ("proposals", "05" + KEY_HASH + "00000001" + "00000040" + HASH * 2, "proposals"),
    ("ballot", "06" + KEY_HASH + "00000001" + HASH + "02", "ballot"),
    ("noop", "11" + "00000003" + "616263", "failing_noop"),
    ("double vote", "02" + "0007" + inlined("15" + VOTE) + inlined("1e" + VOTE[4:] + sized("0007")),
     "double_consensus_operation_evidence"),
    ("double attestation", "02" + inlined("15" + VOTE) + inlined("17" + VOTE + "05", "ee" * 96),
     "double_attestation_evidence"),
    ("double preattestation", "07" + inlined("14" + VOTE) + inlined("14" + VOTE, ""),
     "double_preattestation_evidence"),
    ("entrapment", "18" + inlined("17" + VOTE + "05") + "0007" + "03" + "ff02" + "00000001"
     + "00000020" + HASH + "88" * 48, "dal_entrapment_evidence"),
    ("entrapment of Tallinn", "18" + inlined("17" + VOTE + "05") + "0007" + "03" + "00000001"
     + "00000020" + HASH + "88" * 48, "dal_entrapment_evidence"),
    ("entrapment of Rio", "18" + inlined("17" + VOTE + "05") + "03" + "00000001"
     + "00000020" + HASH + "88" * 48, "dal_entrapment_evidence"),
    ("dal vote of Atlas", "16" + "05" + "00000064" + "0007", "dal_attestation"),
    ("dal vote of Mumbai", "16" + KEY_HASH + "05" + "00000064", "dal_attestation"),
    ("aggregate", "1e" + VOTE[4:] + "00000004" + "00070009", "preattestations_aggregate"),
    ("aggregate with dal", "1f" + VOTE[4:] + "00000007" + "0007ff05" + "000900",
     "attestations_aggregate"),
    ("aggregate of Rio", "1f" + VOTE[4:] + "00000004" + "00070009", "attestations_aggregate"),
]  # fmt: skip
IDS = [name for name, _, _ in HAND_MADE]


@pytest.mark.parametrize(("_name", "contents", "kind"), HAND_MADE, ids=IDS)
def test_every_kind_reads_shows_and_writes_back(_name: str, contents: str, kind: str) -> None:
    unsigned = BRANCH + bytes.fromhex(contents)
    for signature in (None, SIGNATURE, b"\xdd" * 96, b"\xcc" * 2420):
        suffix = operation.signature_suffix(signature or b"")
        if "Jakarta" in _name and len(suffix) > 64:
            continue  # its proof has no end, and its protocol no such signatures
        read = decode_operation(unsigned + suffix, TEZOS, signed=signature is not None)
        assert [content.name for content in read.contents] == [kind]
        assert read.signature == signature
        assert operation.unsigned(read) == unsigned
        assert operation.encode(read) == unsigned + suffix
        assert json.loads(json.dumps(operation.to_json(read, TEZOS)))["contents"][0]["kind"] == kind


@pytest.mark.parametrize(("_name", "contents", "kind"), HAND_MADE, ids=IDS)
def test_no_part_of_a_content_is_another(_name: str, contents: str, kind: str) -> None:
    raw = BRANCH + bytes.fromhex(contents)
    for length in range(len(raw)):
        try:
            read = decode_operation(raw[:length], TEZOS, signed=False)
        except MalformedBytes:
            continue
        # A proof without end may end anywhere; older layouts may be shorter.
        assert operation.encode(read) == raw[:length]
        assert [content.tag for content in read.contents] == [int(contents[:2], 16)]


def test_a_batch_holds_manager_operations_of_one_era() -> None:
    reveal, transaction = "6b" + SOURCE + ED25519_KEY, "6c" + SOURCE + "01" + CONTRACT + "00"
    for contents in (reveal + transaction, reveal + "00" + transaction, transaction + reveal):
        read = decode_operation(BRANCH + bytes.fromhex(contents), TEZOS, signed=False)
        assert len(read.contents) == 2
        assert read.validation_pass == 3
    for contents in (
        "15" + VOTE + transaction,
        transaction + "15" + VOTE,
        "15" + VOTE + "15" + VOTE,
    ):
        with pytest.raises(MalformedBytes, match="batches"):
            decode_operation(BRANCH + bytes.fromhex(contents), TEZOS, signed=False)


def test_mavryk_has_no_operation_of_newer_tezos() -> None:
    for contents in ("1e" + VOTE[4:] + "00000000", "73" + SOURCE + ED25519_KEY + "00"):
        data = BRANCH + bytes.fromhex(contents)
        decode_operation(data, TEZOS, signed=False)
        with pytest.raises(MalformedBytes):
            decode_operation(data, MAVRYK, signed=False)


def test_a_curve_that_a_network_lacks_is_not_shown() -> None:
    data = BRANCH + bytes.fromhex("09" + ("04" + "11" * 20) * 3)
    read = decode_operation(data, MAVRYK, signed=False)
    with pytest.raises(MalformedBytes, match="mavryk"):
        operation.to_json(read, MAVRYK)
    assert operation.to_json(read, TEZOS)["contents"][0]["delegate"].startswith("tz5")


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        ("", "no contents"),
        ("00" + "00000064", "an Emmy endorsement"),
        ("28" + VOTE[4:], "a vote as only a tz4 key signs it"),
        ("96" + SOURCE + "00", "a byte too many"),
        ("15" + "0007" + "80000000" + "00000001" + HASH, "a negative level"),
        ("17" + VOTE + "41", "a negative set of slots"),
        ("6c" + SOURCE[:-2] + "8000" + "01" + CONTRACT + "00", "a counter with a group of zeros"),
        ("6c" + KEY_HASH + "80" * 9 + "7f" + "010100" + "01" + CONTRACT + "00", "too many mutez"),
        ("6c" + SOURCE + "01" + "01" + "33" * 20 + "01" + "00", "a padding that is not zero"),
        ("6c" + SOURCE + "01" + CONTRACT + "01", "a boolean of 01"),
        ("6c" + SOURCE + "01" + CONTRACT + "ffff20" + "61" * 32 + EXPRESSION, "a long entrypoint"),
        ("6c" + "05" + "11" * 20 + SOURCE[42:] + "01" + CONTRACT + "00", "a sixth curve"),
        ("06" + KEY_HASH + "00000001" + HASH + "03", "a fourth ballot"),
        ("6b" + SOURCE + ED25519_KEY + "ff" + "0000005f" + "55" * 95, "a proof of 95 bytes"),
        ("71" + SOURCE + "02" + "00" + KEY_HASH, "storage for an account"),
    ],
)  # fmt: skip
def test_what_no_node_would_read_is_refused(contents: str, why: str) -> None:
    for suffix, signed in ((b"", False), (SIGNATURE, True)):
        with pytest.raises(MalformedBytes):
            decode_operation(BRANCH + bytes.fromhex(contents) + suffix, TEZOS, signed=signed)


@pytest.mark.parametrize(
    "suffix",
    ["ff03" + "dd" * 95, "ff04" + "dd" * 96, "ff" + "dd" * 64, "ff03ff03" + "dd" * 96],
)
def test_a_signature_has_the_length_of_its_curve(suffix: str) -> None:
    with pytest.raises(MalformedBytes):
        decode_operation(BRANCH + bytes.fromhex("15" + VOTE + suffix), TEZOS)


def test_an_expression_that_no_node_could_read_is_shown_as_bytes() -> None:
    data = BRANCH + bytes.fromhex("6f" + SOURCE + "00000001" + "ff")
    read = decode_operation(data, TEZOS, signed=False)
    assert operation.encode(read) == data
    assert operation.to_json(read, TEZOS)["contents"][0]["value"] == {"unreadable": "ff"}


def test_an_operation_without_a_signature_has_no_hash() -> None:
    read = decode_operation(BRANCH + bytes.fromhex("15" + VOTE), TEZOS, signed=False)
    with pytest.raises(MalformedBytes):
        operation.hash(read)
    assert "signature" not in operation.to_json(read, TEZOS)


def test_an_operation_is_signed_under_the_watermark_of_its_kind() -> None:
    chain_id = bytes.fromhex("7a06a770")

    def signing_bytes(contents: str, *, bls_votes: bool = False) -> str:
        data = BRANCH + bytes.fromhex(contents)
        read = decode_operation(data, TEZOS, signed=False)
        written = operation.signing_bytes(read, chain_id, bls_votes=bls_votes)
        read_signable(written)
        return written.hex()

    branch = BRANCH.hex()
    assert signing_bytes("14" + VOTE) == "127a06a770" + branch + "14" + VOTE
    assert signing_bytes("15" + VOTE) == "137a06a770" + branch + "15" + VOTE
    assert signing_bytes("17" + VOTE + "05") == "137a06a770" + branch + "17" + VOTE + "05"
    assert signing_bytes("16050000006400" + "07") == "147a06a770" + branch + "1605000000640007"
    assert signing_bytes("14" + VOTE, bls_votes=True) == "127a06a770" + branch + "28" + VOTE[4:]
    for contents in ("15" + VOTE, "17" + VOTE + "05"):
        signed = signing_bytes(contents, bls_votes=True)
        assert signed == "137a06a770" + branch + "29" + VOTE[4:]
        assert operation.decode_bls_vote(bytes.fromhex(signed)[5:]).contents[0].name == (
            "bls_mode_attestation"
        )
    transaction = "6c" + SOURCE + "01" + CONTRACT + "00"
    assert signing_bytes(transaction) == "03" + branch + transaction
    assert signing_bytes(transaction, bls_votes=True) == "03" + branch + transaction


def test_a_vote_is_signed_for_a_chain() -> None:
    read = decode_operation(BRANCH + bytes.fromhex("15" + VOTE), TEZOS, signed=False)
    with pytest.raises(MalformedBytes):
        operation.signing_bytes(read, None, bls_votes=False)


@pytest.mark.parametrize("vector", [v for v in VECTORS if v["signed"]], ids=lambda v: v["id"])
def test_a_signed_vote_reads_as_its_operation_does(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["hex"])
    content = decoded(vector).contents[0]
    if content.name not in ("preattestation", "attestation", "attestation_with_dal"):
        with pytest.raises(MalformedBytes):
            read_signed_vote(data)
        return
    vote = read_signed_vote(data)
    template = vote.template(b"\1\2\3\4")
    assert template.operation(vote.slot, vote.signature, vote.dal) == data
    assert vote.kind is (
        Kind.PREATTESTATION if content.name == "preattestation" else Kind.ATTESTATION
    )
    assert (vote.slot, vote.level, vote.round) == (
        content.fields["slot"],
        content.fields["level"],
        content.fields["round"],
    )
