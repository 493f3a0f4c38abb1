"""How the findings of `import` and `diff` are shown: as lines, and as records."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from signers.formats.signable import Signable
from signers.interchange.marks_comparison import Comparison, Standing
from signers.interchange.marks_import import Action, ImportStep
from signers.marks.watermark import FRESH, is_floor

_ABSENT = "nothing"


def position(mark: Signable | None) -> str:
    """Write where a mark stands."""
    if mark is None:
        return _ABSENT
    if is_floor(mark):
        return "nothing signed" if mark.level == FRESH else f"floor {mark.level}"
    digest = f" digest {mark.digest.hex()[:12]}" if mark.digest else ""
    return f"level {mark.level} round {mark.round}{digest}"


def position_record(mark: Signable | None) -> dict[str, Any] | None:
    """Write where a mark stands as a JSON object, with the nulls of our own format."""
    if mark is None:
        return None
    return {
        "level": None if mark.level == FRESH else mark.level,
        "round": None if is_floor(mark) else mark.round,
        "digest": mark.digest.hex() or None,
    }


def import_lines(steps: Sequence[ImportStep]) -> list[str]:
    """Write the marks that an import changes or cannot change, then how many of each."""
    lines = [
        f"{step.holder:36}  {step.kind.name.lower():15}  {step.action.value:9}"
        f"  {position(step.before)} -> {position(step.after)}"
        for step in steps
        if step.action is not Action.KEPT
    ]
    counts = Counter(step.action for step in steps)
    summary = ", ".join(f"{counts[action]} {action.value}" for action in Action if counts[action])
    if counts[Action.UNKNOWN]:
        summary += "; unknown keys are entered with --enter-unknown only"
    return [*lines, summary or "no marks in the file"]


def import_records(steps: Sequence[ImportStep]) -> list[dict[str, Any]]:
    """Write every step of an import as a JSON object."""
    return [
        {
            "holder": step.holder,
            "kind": step.kind.name.lower(),
            "action": step.action.value,
            "before": position_record(step.before),
            "after": position_record(step.after),
        }
        for step in steps
    ]


def difference_lines(compared: Sequence[Comparison]) -> list[str]:
    """Write the marks that differ, then how many of each."""
    lines = [
        f"{each.holder:36}  {each.kind.name.lower():15}  {each.standing.value:13}"
        f"  store: {position(each.in_store)}, file: {position(each.in_file)}"
        for each in compared
        if each.standing is not Standing.SAME
    ]
    counts = Counter(each.standing for each in compared)
    summary = ", ".join(f"{counts[each]} {each.value}" for each in Standing if counts[each])
    return [*lines, summary or "no marks on either side"]


def difference_records(compared: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Write every comparison as a JSON object."""
    return [
        {
            "holder": each.holder,
            "kind": each.kind.name.lower(),
            "standing": each.standing.value,
            "store": position_record(each.in_store),
            "file": position_record(each.in_file),
        }
        for each in compared
    ]
