"""BSON: the examples of its specification, and whatever JSON can say."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.backends import bson
from signers.errors import MalformedBytes

# bsonspec.org, FAQ: {"hello": "world"} and {"BSON": ["awesome", 5.05, 1986]}.
HELLO = bytes.fromhex("160000000268656c6c6f0006000000776f726c640000")
AWESOME = bytes.fromhex(
    "310000000442534f4e002600000002300008000000617765736f6d65000131003333333333331440"
    "103200c2070000 0000".replace(" ", "")
)

names = st.text(max_size=8).filter(lambda name: "\0" not in name)
numbers = st.integers(-(1 << 63), (1 << 63) - 1)
leaves = st.none() | st.booleans() | numbers | st.floats(allow_nan=False) | st.text(max_size=20)
values = st.recursive(
    leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(names, v, max_size=3), max_leaves=8
)
documents = st.dictionaries(names, values, max_size=4)


def test_the_examples_of_the_specification() -> None:
    assert bson.encode({"hello": "world"}) == HELLO
    assert bson.decode(HELLO) == {"hello": "world"}
    assert bson.encode({"BSON": ["awesome", 5.05, 1986]}) == AWESOME
    assert bson.decode(AWESOME) == {"BSON": ["awesome", 5.05, 1986]}


@given(documents)
def test_what_is_written_is_read(document: dict[str, object]) -> None:
    assert bson.decode(bson.encode(document)) == document


@given(st.binary(max_size=64) | documents.map(bson.encode).flatmap(
    lambda raw: st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)).map(
        lambda change: raw[: change[0]] + bytes([change[1]]) + raw[change[0] + 1 :]
    )
))  # fmt: skip
def test_any_bytes_are_a_document_or_malformed(content: bytes) -> None:
    with suppress(MalformedBytes):
        bson.decode(content)


def test_what_is_cut_or_left_over_is_malformed() -> None:
    for end in range(len(AWESOME)):
        with pytest.raises(MalformedBytes):
            bson.decode(AWESOME[:end])
    with pytest.raises(MalformedBytes):
        bson.decode(AWESOME + b"\0")


def test_what_json_does_not_have_is_refused() -> None:
    for value in (b"bytes", 1 << 63, object()):
        with pytest.raises(MalformedBytes):
            bson.encode({"a": value})
    with pytest.raises(MalformedBytes, match="type 07"):
        bson.decode(bytes.fromhex("14000000075f69640000000000000000000000000000")[:19] + b"\0")


def test_a_tower_of_documents_is_refused_on_both_ways() -> None:
    tower: dict[str, object] = {}
    for _ in range(20):
        tower = {"": tower}
    with pytest.raises(MalformedBytes, match="deeper"):
        bson.encode(tower)
    content = b"\x05\0\0\0\0"
    for _ in range(20):
        content = (len(content) + 7).to_bytes(4, "little") + b"\x03\0" + content + b"\0"
    with pytest.raises(MalformedBytes, match="deeper"):
        bson.decode(content)
