"""What is wrong with the marks of a store, seen from the chain and from the files of others.

A store cannot know what was signed before it was restored, or elsewhere. The head of the chain
bounds it: whoever stops everything else and signs nothing up to the head is safe. So a store that
has fallen behind is given a floor there; a file that knows more is imported.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from signers.formats import base58
from signers.interchange.marks_comparison import Comparison, Standing, compare
from signers.interchange.recorded_mark import RecordedMark
from signers.marks.administration_log import AdministrationEntry
from signers.marks.mark_table import MarkTable
from signers.marks.store_copies import RESTORE, StoreView
from signers.marks.watermark import EVERYONE, MARKED_KINDS

# A pool that is at work has signed at one of the last levels; less than a minute of levels.
LAG_LEVELS_MAX: Final = 8
# A baker signs the next level, and a node may be one behind.
AHEAD_LEVELS_MAX: Final = 2
# Twelve blocks of ten seconds: an older head is that of a node that does not follow the chain.
HEAD_AGE_S_MAX: Final = 120


class ChainHead(NamedTuple):
    """The newest block that a node knows: `chain_id` has 4 bytes, `at` is in Unix seconds."""

    chain_id: bytes
    level: int
    at: int


class Finding(NamedTuple):
    """One thing that was found: a code for programs, a sentence for people.

    `is_concern` is false for what is only good to know.
    """

    code: str
    text: str
    is_concern: bool = True


class Proposal(NamedTuple):
    """What would put it right: marks to take over, then a floor for some holders."""

    marks: list[RecordedMark]
    floor: int | None
    holders: list[str]


class Diagnosis(NamedTuple):
    """All findings, and the proposal, which may be empty."""

    findings: list[Finding]
    proposal: Proposal


def diagnose(
    view: StoreView,
    log: Sequence[AdministrationEntry],
    head: ChainHead | None,
    recorded: Sequence[RecordedMark],
    now: int,
) -> Diagnosis:
    """Look at a store, its log, the head of the chain if it is known, and marks of elsewhere.

    `now` in Unix seconds.
    """
    marks = view.content.marks
    compared = compare(marks, recorded)
    findings = [*_restores(log), *_of_files(compared)]
    higher = _named(compared, Standing.FILE_HIGHER)
    to_import = [each for each in recorded if (each.holder, each.mark.kind) in higher]
    floor, holders = None, []
    if head is not None and (problem := _distrust(view, head, now)):
        findings.append(problem)
    elif head is not None:
        findings += _against_head(marks, head)
        tops = {holder: _top(marks, holder) for holder in marks.holders()}
        if tops and max(tops.values()) < head.level - LAG_LEVELS_MAX:
            floor, holders = head.level, [h for h, top in tops.items() if top < head.level]
            findings.append(_behind(max(tops.values()), head))
    return Diagnosis(findings, Proposal(to_import, floor, holders))


def _restores(log: Sequence[AdministrationEntry]) -> list[Finding]:
    restores = [entry for entry in log if entry.command == RESTORE]
    if not restores:
        return []
    text = f"this store was restored: {'; '.join(restores[-1].changes)}"
    return [Finding("restored", text, is_concern=False)]


def _distrust(view: StoreView, head: ChainHead, now: int) -> Finding | None:
    """Say why nothing can be concluded from a head."""
    if head.chain_id != view.identity.chain_id:
        chain, own = (
            base58.encode(base58.CHAIN_ID, each) for each in (head.chain_id, view.identity.chain_id)
        )
        return Finding("wrong_chain", f"the node is of the chain {chain}, the store of {own}")
    if (age_s := now - head.at) > HEAD_AGE_S_MAX:
        return Finding(
            "stale_head",
            f"the node's head, level {head.level}, is {age_s} s old: it does not follow the chain, "
            "so nothing was concluded from it",
        )
    return None


def _against_head(marks: MarkTable, head: ChainHead) -> list[Finding]:
    findings = []
    for holder in marks.holders():
        if (top := _top(marks, holder)) > head.level + AHEAD_LEVELS_MAX:
            text = (
                f"{holder} has a mark at level {top}, the head is at {head.level}: it signs "
                "nothing until the chain gets there. Nothing lowers a mark; find out who asked"
            )
            findings.append(Finding("above_head", text))
    for holder, level in sorted(marks.ceilings().items()):
        if level <= head.level:
            whose = "everyone" if holder == EVERYONE else holder
            text = f"{whose} signs until level {level}, and the head is at {head.level}"
            findings.append(Finding("ceiling_reached", text))
    return findings


def _behind(top: int, head: ChainHead) -> Finding:
    return Finding(
        "behind",
        f"the highest mark of the store is at level {max(top, 0)}, the head is at {head.level}. If "
        "the keys have signed in between, elsewhere or before a restore, they need a floor at the "
        "head; if nothing was signed since, a floor costs nothing",
    )


def _of_files(compared: Sequence[Comparison]) -> list[Finding]:
    findings = []
    for each in compared:
        kind = each.kind.name.lower()
        if each.standing is Standing.CONFLICT and each.in_file is not None:
            text = (
                f"{each.holder} signed different bytes, here and where the file is from, as {kind} "
                f"at level {each.in_file.level} round {each.in_file.round}"
            )
            findings.append(Finding("conflict", text))
    for standing, code, text in (
        (Standing.FILE_HIGHER, "file_higher", "marks of the files are above the store's"),
        (Standing.ONLY_IN_FILE, "unknown_key", "marks of the files are of keys not known here"),
    ):
        if count := len(_named(compared, standing)):
            is_concern = standing is Standing.FILE_HIGHER
            findings.append(Finding(code, f"{count} {text}", is_concern))
    return findings


def _named(compared: Sequence[Comparison], standing: Standing) -> set[tuple[str, int]]:
    return {(each.holder, each.kind) for each in compared if each.standing is standing}


def _top(marks: MarkTable, holder: str) -> int:
    found = (marks.mark(holder, kind) for kind in MARKED_KINDS)
    return max((mark.level for mark in found if mark is not None), default=-1)
