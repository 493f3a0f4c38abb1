"""Each format byte for byte, and what is wrong with a file named with its place."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from interchange_cases import (
    CHAIN,
    CHAIN_TEXT,
    DIGEST,
    OTHER_CHAIN,
    OTHER_CHAIN_TEXT,
    SIGNATURE,
    TZ1,
    TZ2,
    TZ4,
    at,
    bare,
    document,
)

from signers.formats import base58
from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.signable import Kind
from signers.interchange.baker_file import read_baker_file, write_baker_file
from signers.interchange.forgepool_file import read_forgepool_file, write_forgepool_file
from signers.interchange.located_json import FILE_BYTES_MAX, read_json
from signers.interchange.octez_signer_file import read_octez_signer_file, write_octez_signer_file
from signers.interchange.recorded_mark import MalformedMarks, RecordedMark, highest
from signers.interchange.signatory_file import read_signatory_file, write_signatory_file
from signers.marks.watermark import FRESH, MARKED_KINDS, ROUND_MAX, floor_mark

BLOCK, PREATTESTATION, ATTESTATION, DAL_ATTESTATION = MARKED_KINDS
EDSIG = base58.encode(base58.ED25519_SIGNATURE, SIGNATURE)
BLSIG = base58.encode(base58.BLS_SIGNATURE, bytes(96))
VH = base58.encode(base58.PAYLOAD_HASH, DIGEST)


def read_any_baker(data: bytes) -> list[RecordedMark]:
    return read_baker_file(read_json(data), CHAIN, TEZOS)


def read_any_octez(data: bytes) -> list[RecordedMark]:
    return read_octez_signer_file(read_json(data), ATTESTATION, TEZOS)


def read_any_signatory(data: bytes) -> list[RecordedMark]:
    return read_signatory_file(read_json(data), CHAIN, TEZOS)


def read_any_forgepool(data: bytes) -> list[RecordedMark]:
    return read_forgepool_file(read_json(data), CHAIN, TEZOS)


def fill(template: str, *values: str) -> str:
    """Put values in the places of the @ of a template."""
    for value in values:
        template = template.replace("@", value, 1)
    return template


READERS = [read_any_baker, read_any_octez, read_any_signatory, read_any_forgepool]

BAKER_ENTRY = fill('{"delegate":"@","highwatermark":{"round":0,"level":42}}', TZ1)
BAKER = fill(
    '{"blocks":[{"delegate":"@","highwatermark":{"round":0,"level":42}}],'
    '"preattestations":[],'
    '"attestations":[{"delegate":"@","highwatermark":{"round":2,"level":43}}]}',
    TZ1,
    TZ4,
)
OCTEZ = fill(
    '{"@":{"@":{"level":42,"round":1,"hash":"@","signature":"@"}}}',
    *(CHAIN_TEXT, TZ1, DIGEST.hex(), EDSIG),
)
SIGNATORY = fill('{"@":{"block":{"level":42,"round":1,"hash":"@"}}}', TZ2, VH)
FORGEPOOL = json.dumps({
    "format": "forgepool-watermarks",
    "version": 1,
    "network": "tezos",
    "chain_id": CHAIN_TEXT,
    "marks": [
        {
            "key": TZ1, "delegate": TZ4, "kind": "attestation",
            "level": 42, "round": 1, "digest": DIGEST.hex(), "signature": EDSIG,
        },
        {"delegate": TZ4, "kind": "block", "level": 7},
        {"key": TZ2, "kind": "dal_attestation", "level": None},
    ],
})  # fmt: skip
FILES = [BAKER, OCTEZ, SIGNATORY, FORGEPOOL]


# -- reading --------------------------------------------------------------------------------------


def test_the_bakers_file_has_three_lists_without_digests() -> None:
    assert bare(read_any_baker(BAKER.encode())) == [
        RecordedMark(TZ1, at(42, 0, b"", BLOCK)),
        RecordedMark(TZ4, at(43, 2, b"", ATTESTATION)),
    ]


def test_the_bakers_file_of_mavryk_may_have_the_older_names() -> None:
    text = fill('{"preendorsements":[@],"endorsements":[@]}', BAKER_ENTRY, BAKER_ENTRY)
    assert [each.mark.kind for each in read_any_baker(text.encode())] == [
        PREATTESTATION,
        ATTESTATION,
    ]


def test_a_bakers_file_may_be_empty() -> None:
    assert read_any_baker(b"{}") == []


def test_a_mark_of_octez_signer_has_a_digest_and_mostly_a_signature() -> None:
    assert bare(read_any_octez(OCTEZ.encode())) == [RecordedMark(TZ1, at(42, 1), SIGNATURE)]
    without = OCTEZ.replace(f',"signature":"{EDSIG}"', "")
    assert bare(read_any_octez(without.encode())) == [RecordedMark(TZ1, at(42, 1))]


def test_a_mark_of_octez_signer_without_a_round_closes_its_level() -> None:
    text = OCTEZ.replace('"round":1,', "")
    assert bare(read_any_octez(text.encode())) == [
        RecordedMark(TZ1, floor_mark(ATTESTATION, CHAIN, 42))
    ]


def test_a_file_of_octez_signer_has_all_chains() -> None:
    text = json.dumps(json.loads(OCTEZ) | {OTHER_CHAIN_TEXT: json.loads(OCTEZ)[CHAIN_TEXT]})
    assert [each.mark.chain_id for each in read_any_octez(text.encode())] == [CHAIN, OTHER_CHAIN]


def test_signatorys_file_has_kinds_in_keys() -> None:
    assert bare(read_any_signatory(SIGNATORY.encode())) == [
        RecordedMark(TZ2, at(42, 1, DIGEST, BLOCK))
    ]


def test_our_own_file_tells_everything() -> None:
    assert bare(read_any_forgepool(FORGEPOOL.encode())) == [
        RecordedMark(TZ1, at(42, 1), SIGNATURE, TZ4),
        RecordedMark(TZ4, floor_mark(BLOCK, CHAIN, 7), None, TZ4),
        RecordedMark(TZ2, floor_mark(DAL_ATTESTATION, CHAIN, FRESH)),
    ]


# -- what is wrong --------------------------------------------------------------------------------


def refusal(reader: Callable[[bytes], Any], text: str | bytes) -> str:
    with pytest.raises(MalformedMarks) as refused:
        reader(text if isinstance(text, bytes) else text.encode())
    return str(refused.value)


@pytest.mark.parametrize(
    ("reader", "text", "told"),
    [
        (read_any_baker, BAKER.replace("43", "-1"), "attestations[0].highwatermark.level: "),
        (read_any_baker, BAKER.replace("43", str(2**31)), "attestations[0].highwatermark.level: "),
        (read_any_baker, BAKER.replace("43", "43.0"), "attestations[0].highwatermark.level: "),
        (read_any_baker, BAKER.replace("43", "true"), "attestations[0].highwatermark.level: "),
        (read_any_baker, BAKER.replace("43", '"43"'), "attestations[0].highwatermark.level: "),
        (read_any_baker, BAKER.replace("43", "9" * 30), "a number of 30 digits"),
        (read_any_baker, BAKER.replace("43", "NaN"), "NaN is no number"),
        (read_any_baker, BAKER.replace('"round":2,', ""), "highwatermark: 'round' is missing"),
        (read_any_baker, BAKER.replace("blocks", "block"), "block: nothing of this name"),
        (read_any_baker, BAKER.replace(TZ1, TZ1[:-1] + "1"), "blocks[0].delegate: "),
        (read_any_baker, BAKER.replace('"round":2', '"round":2,"round":3'), "round: this name"),
        (read_any_baker, BAKER[:-20], "line 1 column "),
        (read_any_baker, "", "line 1 column 1"),
        (read_any_baker, "[]", "the file: an object is expected"),
        (read_any_baker, '{"blocks":{}}', "blocks: an array is expected"),
        (read_any_baker, b'{"blocks\xff', "byte 8 is not UTF-8"),
        (read_any_baker, "[" * 100_000, "nested too deep"),
        (read_any_octez, OCTEZ.replace(CHAIN_TEXT, "NetXdQprcVkpaWV"), "NetXdQprcVkpaWV: "),
        (read_any_octez, OCTEZ.replace(DIGEST.hex(), "ab"), f"{CHAIN_TEXT}.{TZ1}.hash: 64 hex"),
        (read_any_octez, OCTEZ.replace(EDSIG, "edsig"), f"{CHAIN_TEXT}.{TZ1}.signature: "),
        (read_any_octez, OCTEZ.replace(EDSIG, BLSIG), f"{CHAIN_TEXT}.{TZ1}.signature: "),
        (read_any_octez, OCTEZ.replace('"level":42,', ""), f"{TZ1}: 'level' is missing"),
        (read_any_baker, '{"\\ud800\\u001b[2J":1}', "'\\ud800\\x1b[2J': nothing of this name"),
        (read_any_signatory, SIGNATORY.replace('"block"', '"bloc"'), f"{TZ2}.bloc: nothing"),
        (read_any_signatory, SIGNATORY.replace(VH, EDSIG), f"{TZ2}.block.hash: "),
        (read_any_forgepool, FORGEPOOL.replace("forgepool-", "other-"), "its `format` is not"),
        (read_any_forgepool, FORGEPOOL.replace('"version": 1', '"version": 2'), "only version 1"),
        (read_any_forgepool, FORGEPOOL.replace("tezos", "mavryk"), "network: the store is of"),
        (read_any_forgepool, FORGEPOOL.replace('"kind": "block"', '"kind": "bl"'), "marks[1].kind"),
        (read_any_forgepool, FORGEPOOL.replace('"round": 1, ', ""), "marks[0]: a digest or sig"),
        (read_any_forgepool, '{"format":"forgepool-watermarks"}', "only version 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(
    reader: Callable[[bytes], Any], text: str | bytes, told: str
) -> None:
    assert told in refusal(reader, text)


def test_a_key_that_stands_twice_is_named_with_both_places() -> None:
    told = refusal(read_any_baker, fill('{"blocks":[@,@]}', BAKER_ENTRY, BAKER_ENTRY))
    assert told == f"blocks[1]: {TZ1} stands at blocks[0] already"
    twice = json.loads(FORGEPOOL)
    twice["marks"].append(twice["marks"][0])
    assert f"marks[3]: {TZ1} stands at marks[0]" in refusal(read_any_forgepool, json.dumps(twice))
    assert "this name stands twice" in refusal(
        read_any_signatory, SIGNATORY[:-1] + "," + SIGNATORY[1:]
    )


def test_a_key_of_another_network_is_refused() -> None:
    with pytest.raises(MalformedMarks, match=r"blocks\[0\].delegate"):
        read_baker_file(document(BAKER), CHAIN, MAVRYK)


def test_more_than_a_file_of_marks_can_have_is_refused() -> None:
    assert "no file of marks" in refusal(read_any_baker, b" " * (FILE_BYTES_MAX + 1))


def total(reader: Callable[[bytes], list[RecordedMark]], data: bytes) -> None:
    """Any bytes give marks or the one error."""
    try:
        recorded = reader(data)
    except MalformedMarks:
        return
    for each in recorded:
        assert FRESH <= each.mark.level < 2**31
        assert 0 <= each.mark.round <= ROUND_MAX
        assert len(each.mark.digest) in (0, 32)


@pytest.mark.parametrize("reader", READERS)
@given(st.binary(max_size=200))
def test_any_bytes_give_marks_or_one_error(reader: Callable[[bytes], Any], data: bytes) -> None:
    total(reader, data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@pytest.mark.parametrize(("reader", "text"), list(zip(READERS, FILES, strict=True)))
@given(st.data())
def test_any_damage_gives_marks_or_one_error(
    reader: Callable[[bytes], Any], text: str, data: st.DataObject
) -> None:
    raw = text.encode()
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 20)))
    total(reader, raw[:start] + data.draw(st.binary(max_size=4)) + raw[end:])
    value = json.loads(text)
    _replace_somewhere(value, data)
    total(reader, json.dumps(value).encode())


def _replace_somewhere(value: Any, data: st.DataObject) -> None:
    """Replace one value anywhere in a document by any other."""
    while True:
        names = list(value) if isinstance(value, dict) else list(range(len(value)))
        name = data.draw(st.sampled_from(names))
        if isinstance(value[name], dict | list) and value[name] and data.draw(st.booleans()):
            value = value[name]
        else:
            value[name] = data.draw(json_values)
            return


# -- writing --------------------------------------------------------------------------------------

positions = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, ROUND_MAX - 1))
recorded_marks = st.lists(
    st.tuples(st.sampled_from([TZ1, TZ2, TZ4]), st.sampled_from(MARKED_KINDS), positions,
              st.binary(min_size=32, max_size=32) | st.just(b""), st.booleans()),
    unique_by=lambda each: each[:2],
).map(
    lambda entries: [
        RecordedMark(
            holder, at(*position, digest, kind), SIGNATURE if signed and digest else None, holder
        )
        for holder, kind, position, digest, signed in entries
        if holder != TZ4 or not signed  # 64 bytes are no signature of BLS
    ]
)  # fmt: skip


def without(recorded: list[RecordedMark], *fields: str) -> list[RecordedMark]:
    """The marks as a format gives them back that has no room for some fields."""
    kept = [each for each in recorded if each.mark.kind is not DAL_ATTESTATION]
    if "digest" in fields:
        kept = [each._replace(mark=each.mark._replace(digest=b"")) for each in kept]
    lost = {name: None for name in ("signature", "delegate") if name in fields}
    return sorted(each._replace(**lost) for each in kept)


@given(recorded_marks)
def test_what_is_written_is_read_again(recorded: list[RecordedMark]) -> None:
    ours = write_forgepool_file(recorded, CHAIN, TEZOS)
    assert bare(read_any_forgepool(ours)) == recorded
    baker = write_baker_file(recorded)
    assert sorted(bare(read_any_baker(baker))) == without(
        recorded, "digest", "signature", "delegate"
    )
    signatory = write_signatory_file(recorded)
    assert sorted(bare(read_any_signatory(signatory))) == without(recorded, "signature", "delegate")
    octez = [
        each
        for kind in (BLOCK, PREATTESTATION, ATTESTATION)
        for each in read_octez_signer_file(
            read_json(write_octez_signer_file(recorded, kind, TEZOS)), kind, TEZOS
        )
    ]
    assert sorted(bare(octez)) == without(recorded, "delegate")


@pytest.mark.parametrize("mark", [floor_mark(BLOCK, CHAIN, 42), floor_mark(BLOCK, CHAIN, FRESH)])
def test_floors_and_fresh_keys_are_told_in_our_own_format(mark: Any) -> None:
    recorded = [RecordedMark(TZ1, mark, None, TZ1)]
    assert bare(read_any_forgepool(write_forgepool_file(recorded, CHAIN, TEZOS))) == recorded


def test_a_floor_closes_its_level_for_every_other_signer() -> None:
    recorded = [RecordedMark(TZ1, floor_mark(BLOCK, CHAIN, 42))]
    entry = {"round": ROUND_MAX, "level": 42}
    baker = json.loads(write_baker_file(recorded))
    assert baker["blocks"] == [{"delegate": TZ1, "highwatermark": entry}]
    octez = json.loads(write_octez_signer_file(recorded, BLOCK, TEZOS))
    assert octez == {CHAIN_TEXT: {TZ1: {**entry, "hash": "00" * 32}}}
    signatory = json.loads(write_signatory_file(recorded))
    assert signatory[TZ1]["block"]["hash"] == base58.encode(base58.PAYLOAD_HASH, bytes(32))
    for reader, data in (
        (read_any_baker, baker),
        (read_any_signatory, signatory),
    ):
        assert bare(reader(json.dumps(data).encode())) == recorded


def test_a_signature_is_written_as_its_curve_does() -> None:
    recorded = [
        RecordedMark(TZ2, at(1, kind=Kind.BLOCK), SIGNATURE),
        RecordedMark(TZ4, at(1, kind=Kind.BLOCK), SIGNATURE + SIGNATURE[:32]),
    ]
    octez = json.loads(write_octez_signer_file(recorded, BLOCK, TEZOS))[CHAIN_TEXT]
    assert octez[TZ2]["signature"].startswith("spsig1")
    assert octez[TZ4]["signature"].startswith("BLsig")


def test_of_two_files_the_higher_mark_counts_and_a_contradiction_is_refused() -> None:
    low, high = RecordedMark(TZ1, at(5), place="a"), RecordedMark(TZ1, at(6), place="b")
    assert highest([low, high]) == highest([high, low]) == [high]
    with pytest.raises(MalformedMarks, match="b2 and b tell of different bytes"):
        highest([high, RecordedMark(TZ1, at(6, digest=bytes(31) + b"x"), place="b2")])
