"""Bounds as operators set them, and what docs/quarantine.md says of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import broker.quarantine
from broker.config import QuarantineSettings
from broker.errors import Misconfigured
from broker.quarantine.bounds import DELEGATES_TOLD_MAX, Bounds
from broker.quarantine.holding import REASONS
from workers.quarantine_command import bounds_of
from workers.verification.verdicts import Reason

DOCUMENT = (Path(__file__).parents[2] / "docs" / "quarantine.md").read_text()


def test_each_bound_can_be_set_and_keeps_its_type() -> None:
    wanted: dict[str, Any] = {"held_blocks": 7, "slice_s": 3, "detects_under_load": True}
    bounds = bounds_of(QuarantineSettings(bounds=wanted), 2)(0)
    assert (bounds.held_blocks, bounds.slice_s, bounds.detects_under_load) == (7, 3, True)
    for name in Bounds.names():
        bounds_of(QuarantineSettings(bounds={name: getattr(Bounds(), name)}), 2)


def test_bounds_grow_with_the_network_and_what_is_set_stays() -> None:
    set_seen = bounds_of(QuarantineSettings(delegates=500, bounds={"seen": 70_000}), 2)
    assert set_seen(3) == set_seen(0) == Bounds.of(500, 2, seen=70_000)
    assert set_seen(900) == Bounds.of(900, 2, seen=70_000)
    assert set_seen(900).held_votes > set_seen(0).held_votes
    assert set_seen(10**9).delegates == DELEGATES_TOLD_MAX, "whatever a node says"
    assert bounds_of(QuarantineSettings(delegates=5_000), 2)(10**9).delegates == 5_000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("held_blocks", 7.0),
        ("held_blocks", 0),
        ("asks", True),
        ("slice_s", float("nan")),
        ("slice_s", float("inf")),
        ("slice_s", -1),
        ("detects_under_load", 1),
        ("helt_blocks", 1),
        ("held_blocks", "x"),
        ("low_water_percent", 75),
        ("high_water_percent", 25),
        ("high_water_percent", 101),
    ],
)
def test_what_no_bound_can_be_is_said_at_the_start(name: str, value: Any) -> None:
    with pytest.raises(Misconfigured, match=name):
        bounds_of(QuarantineSettings(bounds={name: value}), 2)


def test_the_document_has_the_bounds_as_they_are() -> None:
    bounds = Bounds.of(400)
    table = DOCUMENT[DOCUMENT.index("| area | bound") : DOCUMENT.index("Pruning goes by the head")]
    said = re.findall(r"`([a-z_]+)` ([0-9][0-9,]*)( MiB| s)?", table)
    assert {name for name, _, _ in said} == set(Bounds.names()) - {"detects_under_load"}
    assert f"`detects_under_load` is true ({bounds.detects_under_load})".lower() in table
    for name, number, unit in said:
        value = int(number.replace(",", "")) * (1024 * 1024 if unit == " MiB" else 1)
        assert getattr(bounds, name) == value, name


OWN_CODES = re.compile(
    r'(DUPLICATE|STALE|REJECTED|UNVIABLE|SHED|EXPIRED), "([a-z_]+)"'
    r'|self\._(reject|unviable|over_quota)\([^"\n]*"([a-z_]+)"'
)
EVENT_OF = {"reject": "rejected", "unviable": "unviable", "over_quota": "shed"}


def test_the_document_has_the_codes_as_they_are() -> None:
    of_quarantine = {
        (event.lower() or EVENT_OF[method], code or other)
        for source in Path(broker.quarantine.__file__).parent.glob("*.py")
        for event, code, method, other in OWN_CODES.findall(source.read_text())
    }
    assert len(of_quarantine) > 20
    table = DOCUMENT[DOCUMENT.index("| event | code |") : DOCUMENT.index("Conservation is")]
    rows = [line.split("|")[1:3] for line in table.splitlines()[2:] if line]
    said = {
        (event.strip(" `"), code)
        for event, codes in rows
        for code in re.findall("`([a-z_]+)`", codes)
    }
    assert of_quarantine - said == set()
    others = {*map(str, Reason), *REASONS.values(), "open"}
    assert {code for _, code in said} - {code for _, code in of_quarantine} - others == set()
