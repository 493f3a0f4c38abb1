"""How a call finds its service, and what it may say."""

import pytest

from workers.sandbox.directory import (
    BadCall,
    Call,
    Directory,
    MethodNotAllowed,
    NotFound,
    Query,
    split,
)


def call(path: str, *pairs: tuple[str, str], body: bytes = b"") -> Call:
    segments = split(path)
    return Call(segments, {"block": len(segments) - 1}, Query(pairs), body, now=0.0)


def test_arguments_stand_where_the_pattern_says() -> None:
    directory = Directory()
    directory.serve("GET", "/chains/{chain}/blocks/{block}/hash", lambda call: "hash")
    directory.serve("GET", "/chains/{chain}/blocks", lambda call: "list")
    route = directory.find("GET", split("//chains/main/blocks/head/hash/"))
    assert route.positions == {"chain": 1, "block": 3}
    assert route.service(call("/")) == "hash"
    with pytest.raises(NotFound):
        directory.find("GET", split("/chains/main/blocks/head"))
    with pytest.raises(MethodNotAllowed) as refused:
        directory.find("POST", split("/chains/main/blocks"))
    assert refused.value.allowed == ("GET",)


def test_a_path_is_served_once_and_its_arguments_have_one_name() -> None:
    directory = Directory()
    directory.serve("GET", "/a/{b}", lambda call: None)
    with pytest.raises(ValueError, match="twice"):
        directory.serve("GET", "/a/{b}", lambda call: None)
    with pytest.raises(ValueError, match="stands where"):
        directory.serve("GET", "/a/{c}", lambda call: None)


@pytest.mark.parametrize(
    ("text", "value"),
    [("", True), ("True", True), ("YES", True), ("t", True), ("False", False), ("n", False)],
)
def test_flags_are_read_by_value(text: str, value: bool) -> None:
    assert Query([("async", text)]).flag("async") is value


def test_what_the_query_may_not_say() -> None:
    with pytest.raises(BadCall, match="not a boolean"):
        Query([("async", "maybe")]).flag("async")
    with pytest.raises(BadCall, match="more than once"):
        Query([("async", "yes"), ("async", "no")]).flag("async")
    with pytest.raises(BadCall, match="not an integer"):
        Query([("level", "٣")]).numbers("level")
    assert Query([("level", "5"), ("level", "-6")]).numbers("level") == [5, -6]
    assert Query([]).number("level") is None


def test_the_words_for_an_argument_that_cannot_be_parsed() -> None:
    error = call("/chains/main/blocks/zorglub").bad_argument("block", "block_id")
    assert str(error) == (
        'Failed to parsed an argument in path. After "chains/main/blocks", the value "zorglub" '
        'is not acceptable for type "block_id"'
    )


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_any_body_is_json_or_a_bad_call(body: bytes) -> None:
    with pytest.raises(BadCall, match="Failed to parse the request body"):
        call("/x", body=body).json(list)
