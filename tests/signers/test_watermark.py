"""The double-sign rule: one line for each case."""

import json
from pathlib import Path
from typing import Any

import pytest
from watermark_cases import ALICE, CHAIN, OTHER_CHAIN, asked, code

from signers.formats import base58
from signers.formats.signable import Kind, Signable, read_signable
from signers.marks.mark_table import MarkTable
from signers.marks.watermark import FRESH, MARKED_KINDS, Refusal, floor_mark, judge

SCENARIOS = json.loads(
    (Path(__file__).parent / "vectors" / "signatory_watermarks.json").read_text()
)


@pytest.mark.parametrize(
    ("mark", "wanted", "verdict"),
    [
        (asked(5, 3), asked(6, 0), "advance"),
        (asked(5, 3), asked(5, 4), "advance"),
        (asked(5, 3), asked(5, 3), "repeat"),
        (asked(5, 3), asked(5, 3, "b"), "watermark_conflict"),
        (asked(5, 3), asked(5, 2), "watermark_below"),
        (asked(5, 3), asked(4, 9), "watermark_below"),
        (asked(5, 3), asked(4, 3, "b"), "watermark_below"),
        (asked(5, 3), asked(6, 0, chain=OTHER_CHAIN), "wrong_chain"),
        (asked(5, 3), asked(5, 3, chain=OTHER_CHAIN), "wrong_chain"),
        (None, asked(6, 0), "no_mark"),
        (floor_mark(Kind.ATTESTATION, CHAIN, FRESH), asked(0, 0), "advance"),
        (floor_mark(Kind.ATTESTATION, CHAIN, 5), asked(5, 2**31 - 1), "watermark_conflict"),
        (floor_mark(Kind.ATTESTATION, CHAIN, 5), asked(5, 7), "watermark_below"),
        (floor_mark(Kind.ATTESTATION, CHAIN, 5), asked(6, 0), "advance"),
    ],
)
def test_each_case_of_the_rule(mark: Signable | None, wanted: Signable, verdict: str) -> None:
    assert code(judge(mark, wanted, ALICE)) == verdict


def test_a_refusal_names_both_positions_and_whose_they_are() -> None:
    refusal = judge(asked(5, 3), asked(4, 9), ALICE)
    assert isinstance(refusal, Refusal)
    assert "attestation at level 4 round 9" in refusal.text
    assert f"{ALICE} already signed level 5 round 3" in refusal.text


def test_a_refusal_of_another_chain_names_both_as_people_know_them() -> None:
    refusal = judge(asked(5), asked(6, chain=OTHER_CHAIN), ALICE)
    assert isinstance(refusal, Refusal)
    for chain in (CHAIN, OTHER_CHAIN):
        assert base58.encode(base58.CHAIN_ID, chain) in refusal.text


def test_a_refusal_at_a_floor_says_that_it_is_one() -> None:
    refusal = judge(floor_mark(Kind.BLOCK, CHAIN, 5), asked(3, kind=Kind.BLOCK), ALICE)
    assert isinstance(refusal, Refusal)
    assert "block at level 3 round 0" in refusal.text
    assert "floor, nothing up to level 5 is signed" in refusal.text


@pytest.mark.parametrize("scenario", SCENARIOS["scenarios"], ids=lambda s: s["id"])
def test_verdicts_of_signatory_on_the_same_requests(scenario: dict[str, Any]) -> None:
    chain_id = base58.decode(base58.CHAIN_ID, scenario["chain_id"])
    marks = MarkTable(chain_id)
    marks.number(ALICE, 1)
    marks.bind(ALICE, ALICE, enabled=True)
    for kind in MARKED_KINDS:
        marks.set_mark(ALICE, floor_mark(kind, chain_id, FRESH))
    for kind, mark in scenario["before"].items():
        digest = base58.decode(base58.PAYLOAD_HASH, mark["hash"])
        marks.set_mark(
            ALICE, Signable(Kind[kind.upper()], chain_id, mark["level"], mark["round"], digest)
        )
    for request in scenario["requests"]:
        signable = read_signable(bytes.fromhex(request["bytes"]))
        (verdict,) = marks.judge([(ALICE, signable)], [])
        assert (code(verdict) in ("advance", "repeat")) == request["accepted"], verdict
    for kind, mark in scenario["after"].items():
        stands = marks.mark(ALICE, Kind[kind.upper()])
        digest = base58.decode(base58.PAYLOAD_HASH, mark["hash"])
        assert stands[2:] == (mark["level"], mark["round"], digest)
