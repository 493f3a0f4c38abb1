"""Taking the marks of a file over into a store: planned by a pure function, then done.

Nothing is ever lowered. A key's mark also raises that of the delegate whom it signs for, as if
the key had signed here.

What another signer has signed may be signed again here only if it gives the same signature: two
signatures of one header are a double-baking proof. Octez signs P-256 with a random nonce, so the
block mark of such a key is taken over without its digest, and refuses its own place.
"""

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from itertools import groupby, islice
from pathlib import Path
from typing import Final, NamedTuple

from signers.formats.signable import Kind, Signable
from signers.formats.tagged_keys import signature_version
from signers.interchange.recorded_mark import RecordedMark, is_conflict, is_higher
from signers.marks.mark_table import MarkTable
from signers.marks.store_copies import read_store
from signers.marks.watermark import MARKED_KINDS, floor_mark
from signers.marks.watermark_store import WatermarkStore

# So many take a tenth of a second under the store's lock, where a pool may be waiting.
STEPS_PER_TRANSACTION: Final = 2_000


# Signers of these curves may take a random nonce, and nobody knows which one this was.
_ECDSA_HASHES: Final = ("tz2", "mv2", "tz3", "mv3")


class Action(Enum):
    """What an import does with one mark."""

    RAISED = "raised"
    KEPT = "kept"  # the store's is as high or higher
    CONFLICT = "conflict"  # kept, though the file tells of other bytes at the same place
    ENTERED = "entered"  # the key was not known
    UNKNOWN = "unknown"  # the key is not known, and was not to be entered


class ImportStep(NamedTuple):
    """One mark of one holder: what the store had, what it has then."""

    holder: str
    kind: Kind
    action: Action
    before: Signable | None
    after: Signable
    signature: bytes | None = None


def plan_import(
    marks: MarkTable, recorded: Sequence[RecordedMark], *, enter_unknown: bool
) -> list[ImportStep]:
    """Say what an import into a store with these marks does, mark by mark.

    A key that is not known is entered with a mark for each kind: where the file has none, with a
    floor at the highest level that it has for the key.
    """
    known = set(marks.holders())
    steps: list[ImportStep] = []
    for holder, group in groupby(sorted(recorded, key=_whose), key=lambda each: each.holder):
        of_holder = list(group)
        if holder in known:
            for each in of_holder:
                steps += _steps_of(marks, known, each)
        elif enter_unknown:
            steps += _enter(of_holder)
        else:
            steps += [_step(each, holder, Action.UNKNOWN, None) for each in of_holder]
    return steps


def import_marks(
    path: Path, recorded: Sequence[RecordedMark], *, enter_unknown: bool, command: str
) -> list[ImportStep]:
    """Take marks over into the store at a path, and say what was done. Raises its errors."""
    steps: list[ImportStep] = []
    by_holder = iter(sorted(recorded, key=_whose))
    with WatermarkStore.open(path, wal_bytes=0) as store:
        for some in _portions(by_holder):
            with store.begin(command) as transaction:
                # Under the lock: since the file was compared, the pool may have signed.
                planned = plan_import(transaction.marks, some, enter_unknown=enter_unknown)
                for step in planned:
                    if step.action in (Action.RAISED, Action.ENTERED):
                        transaction.raise_mark(
                            step.holder,
                            step.after,
                            step.signature,
                            signature_version(step.holder),
                        )
                transaction.commit()
            steps += planned
    return steps


def preview_import(
    path: Path, recorded: Sequence[RecordedMark], *, enter_unknown: bool
) -> list[ImportStep]:
    """Say what `import_marks` would do now. Raises the errors of the store."""
    return plan_import(read_store(path).content.marks, recorded, enter_unknown=enter_unknown)


def _steps_of(marks: MarkTable, known: set[str], recorded: RecordedMark) -> Iterator[ImportStep]:
    holder, bound = recorded.holder, marks.find(recorded.holder)
    above = {recorded.delegate, bound and bound.delegate} - {holder, None}
    for each in (holder, *sorted(other for other in above if other in known)):
        before = marks.mark(each, recorded.mark.kind)
        if before is None or is_higher(recorded.mark, before):
            action = Action.RAISED
        elif is_conflict(recorded.mark, before):
            action = Action.CONFLICT
        else:
            action = Action.KEPT
        yield _step(recorded, each, action, before)


def _step(
    recorded: RecordedMark, holder: str, action: Action, before: Signable | None
) -> ImportStep:
    mark, signature = recorded.mark, recorded.signature if holder == recorded.holder else None
    if mark.kind is Kind.BLOCK and recorded.holder.startswith(_ECDSA_HASHES):
        mark, signature = mark._replace(digest=b""), None
    return ImportStep(holder, mark.kind, action, before, mark, signature)


def _enter(of_holder: Sequence[RecordedMark]) -> Iterator[ImportStep]:
    told = {each.mark.kind: each for each in of_holder}
    top = max((each.mark for each in of_holder), key=lambda mark: mark.level)
    for kind in MARKED_KINDS:
        of_kind = told.get(kind)
        if of_kind is None:
            floor = floor_mark(kind, top.chain_id, top.level)
            of_kind = RecordedMark(of_holder[0].holder, floor)
        yield _step(of_kind, of_kind.holder, Action.ENTERED, None)


def _portions(by_holder: Iterable[RecordedMark]) -> Iterator[list[RecordedMark]]:
    """Cut marks into portions, all of one key in one."""
    groups = (list(group) for _, group in groupby(by_holder, key=lambda each: each.holder))
    per_portion = STEPS_PER_TRANSACTION // len(MARKED_KINDS)
    while some := list(islice(groups, per_portion)):
        yield [each for group in some for each in group]


def _whose(recorded: RecordedMark) -> tuple[str, Kind]:
    return recorded.holder, recorded.mark.kind
