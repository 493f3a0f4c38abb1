"""Error traces: what a signer's answer comes down to in one line."""

import pytest

from signers.backends.error_trace import TEXT_LETTERS_MAX, ErrorTrace


def test_a_failure_is_octez_failure_in_json() -> None:
    trace = ErrorTrace.failure("no such key")
    assert trace.json() == b'[{"kind":"temporary","id":"failure","msg":"no such key"}]'
    assert ErrorTrace.from_body(trace.json()) == trace
    assert trace.text == "no such key"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "no reason given"),
        (b"[]", "no reason given"),
        (b"Bad Request:\n  no \xff hash", "Bad Request: no \ufffd hash"),
        (b'[{"id":"a","kind":"b"},{"msg":"two\\u0007 lines\\nof it"}]', "a < two lines of it"),
        (b'{"error":"an object"}', '{"error":"an object"}'),
        (b"[" * 10_000, "[" * TEXT_LETTERS_MAX),
    ],
)
def test_any_body_gives_one_bounded_line(body: bytes, text: str) -> None:
    assert ErrorTrace.from_body(body).text == text
