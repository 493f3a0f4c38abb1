"""docs/verification.md names every judgement and every reason."""

from __future__ import annotations

import re
from pathlib import Path

from broker.verification import Judgement
from workers.verification.verdicts import Reason

TEXT = (Path(__file__).parents[3] / "docs" / "verification.md").read_text()


def test_every_judgement_and_reason_is_described() -> None:
    named = set(re.findall(r"`([^`]+)`", TEXT))
    assert {str(reason) for reason in Reason} - named == set()
    assert {judgement.name for judgement in Judgement} - named == set()
