"""Reports and streams: what is cut comes back whole, and what is out of place is noticed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.errors import MalformedBytes
from signers.ledger.framing import (
    ANSWER_BYTES_MAX,
    REPORT_BYTES,
    Answer,
    ReportReader,
    answer,
    answer_bytes,
    answer_to_stream,
    to_reports,
    to_stream,
)

CHANNEL = 0x0101


def read(reports: list[bytes], channel: int = CHANNEL) -> bytes | None:
    reader = ReportReader(channel)
    found = None
    for report in reports:
        assert found is None, "the answer was whole before its last report"
        found = reader.take(report)
    return found


def test_the_version_as_it_travels() -> None:
    [asked] = to_reports(bytes.fromhex("8000000000"), CHANNEL)
    assert asked.hex() == "0101050000" + "0005" + "8000000000" + "00" * 52
    said = bytes.fromhex("0101050000" + "0006" + "010205019000" + "00" * 51)
    body = read([said])
    assert body is not None
    assert answer(body) == Answer(bytes.fromhex("01020501"), 0x9000)
    assert to_stream(bytes.fromhex("8000000000")).hex() == "000000058000000000"
    assert answer_to_stream(body).hex() == "00000004010205019000"
    assert answer_bytes(bytes.fromhex("00000004")) == 6


@given(st.binary(max_size=600), st.integers(0, 0xFFFF))
def test_what_is_cut_comes_back_whole(body: bytes, channel: int) -> None:
    reports = list(to_reports(body, channel))
    assert {len(report) for report in reports} == {REPORT_BYTES}
    assert read(reports, channel) == body


def test_a_late_answer_of_another_channel_is_passed_over() -> None:
    late, ours = list(to_reports(b"late", 0x0202)), list(to_reports(b"ours!", CHANNEL))
    assert read([*late, *ours]) == b"ours!"


@pytest.mark.parametrize("fault", ["missing", "twice", "tag", "short", "long"])
def test_reports_out_of_place_are_noticed(fault: str) -> None:
    first, second, third = to_reports(bytes(150), CHANNEL)
    reports = {
        "missing": [first, third],
        "twice": [first, first],
        "tag": [first, second[:2] + b"\x02" + second[3:]],
        "short": [first[:-1]],
        "long": [first[:5] + (ANSWER_BYTES_MAX + 1).to_bytes(2) + first[7:]],
    }[fault]
    with pytest.raises(MalformedBytes):
        read(reports)


def test_answers_are_bounded_and_have_a_status() -> None:
    with pytest.raises(MalformedBytes):
        answer_bytes((ANSWER_BYTES_MAX + 1).to_bytes(4))
    with pytest.raises(MalformedBytes):
        answer(b"\x90")
