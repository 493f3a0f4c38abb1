"""Micheline: expressions as the node shows them, at any depth and of any bytes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.errors import MalformedBytes
from signers.formats import codec, micheline


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("0002", {"int": "2"}),
        ("0041", {"int": "-1"}),
        ("0100000000", {"string": ""}),
        ("010000000474657374", {"string": "test"}),
        ("0a00000002beef", {"bytes": "beef"}),
        ("0200000000", []),
        ("02000000040001034f", [{"int": "1"}, {"prim": "UNIT"}]),
        ("030b", {"prim": "Unit"}),
        ("045b00000003256162", {"prim": "int", "annots": ["%ab"]}),
        ("045b0000000725612040622063", {"prim": "int", "annots": ["%a", "@b", "c"]}),
        ("0509034f", {"prim": "Some", "args": [{"prim": "UNIT"}]}),
        ("0609034f000000022561", {"prim": "Some", "args": [{"prim": "UNIT"}], "annots": ["%a"]}),
        ("070700010002", {"prim": "Pair", "args": [{"int": "1"}, {"int": "2"}]}),
        (
            "080700010002000000022561",
            {"prim": "Pair", "args": [{"int": "1"}, {"int": "2"}], "annots": ["%a"]},
        ),
        (
            "090700000006000100020003" + "00000000",
            {"prim": "Pair", "args": [{"int": "1"}, {"int": "2"}, {"int": "3"}]},
        ),
        ("090700000000" + "00000000", {"prim": "Pair"}),
        ("0505020000000405020200", None),
    ],
)
def test_an_expression_is_shown_as_the_node_shows_it(written: str, shown: Any) -> None:
    if shown is None:
        with pytest.raises(MalformedBytes):
            micheline.to_json(bytes.fromhex(written))
        return
    assert micheline.to_json(bytes.fromhex(written)) == shown


def test_the_type_of_amounts_has_the_name_of_the_network() -> None:
    assert micheline.to_json(bytes.fromhex("036a")) == {"prim": "mutez"}
    assert micheline.to_json(bytes.fromhex("036a"), "mumav") == {"prim": "mumav"}


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0, "parameter"),
        (0x4F, "UNIT"),
        (0x6C, "unit"),
        (0x92, "constant"),
        (0xA0, "GET_ADDRESS_INDEX"),
    ],
)
def test_primitives_have_their_byte_codes(code: int, name: str) -> None:
    assert micheline.PRIMITIVES[code] == name


def nested(depth: int) -> bytes:
    """A sequence in a sequence in a sequence…"""
    data = b""
    for _ in range(depth):
        data = b"\x02" + codec.sized(data)
    return data


def test_depth_is_bounded_without_recursion() -> None:
    assert micheline.to_json(nested(micheline.DEPTH_MAX)) != []
    for data in (nested(micheline.DEPTH_MAX + 1), nested(20_000), b"\x05\x09" * 100_000):
        with pytest.raises(MalformedBytes, match="deeper"):
            micheline.to_json(data)


def test_a_number_of_any_length_is_shown() -> None:
    number = 7**20_000
    assert len(micheline.to_json(b"\0" + codec.integer(number))["int"]) == 16_902
    shown = micheline.to_json(b"\0" + codec.integer(-number))["int"]
    rebuilt = 0
    for start in range(1, len(shown), 4_000):
        part = shown[start : start + 4_000]
        rebuilt = rebuilt * 10 ** len(part) + int(part)
    assert shown[0] == "-"
    assert rebuilt == number


@pytest.mark.parametrize(
    "written",
    ["", "0b", "ff", "03", "03a1", "0200000005", "020000000100", "0100000001ff", "0200000001034f"],
)
def test_what_is_no_expression_is_refused(written: str) -> None:
    with pytest.raises(MalformedBytes):
        micheline.to_json(bytes.fromhex(written))


@given(st.binary(max_size=200))
def test_any_bytes_give_an_expression_or_malformed(data: bytes) -> None:
    try:
        micheline.to_json(data)
    except MalformedBytes:
        return


def write(node: Any) -> bytes:
    """Write an expression, to read it back."""
    if isinstance(node, list):
        return b"\x02" + codec.sized(b"".join(write(item) for item in node))
    if "int" in node:
        return b"\x00" + codec.integer(int(node["int"]))
    if "string" in node:
        return b"\x01" + codec.sized(node["string"].encode())
    if "bytes" in node:
        return b"\x0a" + codec.sized(bytes.fromhex(node["bytes"]))
    args, annots = node.get("args", []), " ".join(node.get("annots", []))
    code = bytes([micheline.PRIMITIVES.index(node["prim"])])
    inner = b"".join(write(item) for item in args)
    if len(args) > 2:
        return b"\x09" + code + codec.sized(inner) + codec.sized(annots.encode())
    tag = bytes([3 + 2 * len(args) + bool(annots)])
    return tag + code + inner + (codec.sized(annots.encode()) if annots else b"")


names = st.sampled_from([name for name in micheline.PRIMITIVES if name != "mutez"])
annotations = st.lists(st.sampled_from(["%a", "@b", ":c"]), min_size=1, max_size=2)
expressions = st.recursive(
    st.builds(lambda number: {"int": str(number)}, st.integers(-(2**80), 2**80))
    | st.builds(lambda text: {"string": text}, st.text(max_size=8))
    | st.builds(lambda data: {"bytes": data.hex()}, st.binary(max_size=8))
    | st.builds(lambda name: {"prim": name}, names),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.builds(
            lambda name, args, annots: {"prim": name, "args": args, "annots": annots},
            names,
            st.lists(inner, min_size=1, max_size=4),
            annotations,
        )
        | st.builds(
            lambda name, args: {"prim": name, "args": args},
            names,
            st.lists(inner, min_size=1, max_size=4),
        )
    ),
    max_leaves=20,
)


@given(expressions)
def test_a_written_expression_reads_back(node: Any) -> None:
    assert micheline.to_json(write(node)) == node
