"""What other signers' own tests accept and refuse, asked of our rule.

Signatory's scenarios with whole requests are in `test_watermark.py`. The Ledger baking app has
one mark for all kinds and forgets no repeat: where that gives another verdict, the difference is
listed here and argued in docs/watermarks.md.
"""

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from watermark_cases import CHAIN, code

from signers.errors import MalformedBytes
from signers.formats.signable import Kind, Signable, read_signable
from signers.marks.mark_table import MarkTable
from signers.marks.watermark import FRESH, MARKED_KINDS, floor_mark

VECTORS = Path(__file__).parent / "vectors"
LEDGER = json.loads((VECTORS / "ledger_watermarks.json").read_text())["scenarios"]
UNIT = json.loads((VECTORS / "signatory_watermarks.json").read_text())["unit_steps"]
KINDS = {
    "block": Kind.BLOCK,
    "preattestation": Kind.PREATTESTATION,
    "attestation": Kind.ATTESTATION,
    "attestation_dal": Kind.ATTESTATION,
}
# Which request of a scenario we judge otherwise, and what we say.
DIFFERENT = {
    ("level-authorized-2", 1): "advance",  # a vote below a block is no offence
    ("level-authorized-4", 1): "repeat",  # the very same bytes
    ("level-authorized-14", 1): "repeat",
    ("level-authorized-19", 1): "repeat",
}


def fresh(*keys: str) -> MarkTable:
    marks = MarkTable(CHAIN)
    for number, key in enumerate(keys):
        marks.number(key, number)
        marks.bind(key, key, enabled=True)
        for kind in MARKED_KINDS:
            marks.set_mark(key, floor_mark(kind, CHAIN, FRESH))
    return marks


def test_all_traces_are_here() -> None:
    scenarios = json.loads((VECTORS / "signatory_watermarks.json").read_text())["scenarios"]
    assert len(LEDGER) + len(scenarios) + 1 == 21


def test_signatorys_marks_of_many_keys_and_kinds() -> None:
    kinds = {"kind0": Kind.BLOCK, "kind1": Kind.ATTESTATION}
    marks = fresh("0", "1")
    for step in UNIT:
        digest = blake2b(bytes([step["digest"]]), digest_size=32).digest()
        asked = Signable(kinds[step["kind"]], CHAIN, step["level"], 0, digest)
        (verdict,) = marks.judge([(str(step["delegate"]), asked)], [])
        assert (code(verdict) in ("advance", "repeat")) == step["accepted"], step


@pytest.mark.parametrize("scenario", LEDGER, ids=lambda scenario: scenario["id"])
def test_verdicts_of_the_ledger_baking_app(scenario: dict[str, Any]) -> None:
    marks, before = fresh("key"), scenario["before"]
    # After a reset to a level the app refuses blocks up to there and lets votes pass.
    marks.set_mark("key", Signable(Kind.BLOCK, CHAIN, before["level"], before["round"], b""))
    for number, request in enumerate(scenario["requests"]):
        digest = blake2b(bytes.fromhex(request["bytes"]), digest_size=32).digest()
        place = request["level"], request["round"]
        asked = Signable(KINDS[request["kind"]], CHAIN, *place, digest)
        (verdict,) = marks.judge([("key", asked)], [])
        different = DIFFERENT.get((scenario["id"], number))
        if different is None:
            assert (code(verdict) in ("advance", "repeat")) == request["accepted"], verdict
        else:
            assert not request["accepted"]
            assert code(verdict) == different


@pytest.mark.parametrize("scenario", LEDGER, ids=lambda scenario: scenario["id"])
def test_votes_of_the_ledgers_tests_are_read_as_stated(scenario: dict[str, Any]) -> None:
    for request in scenario["requests"]:
        data = bytes.fromhex(request["bytes"])
        if request["kind"] == "block":
            with pytest.raises(MalformedBytes):  # the app's tests leave the protocol data away
                read_signable(data)
            continue
        signable = read_signable(data)
        assert (signable.level, signable.round) == (request["level"], request["round"])
        assert signable.kind is KINDS[request["kind"]]
