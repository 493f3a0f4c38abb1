"""How the marks of a file stand to those of a store: which are higher, and which conflict."""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from signers.formats.signable import Kind, Signable
from signers.interchange.marks_in_force import mark_in_force
from signers.interchange.recorded_mark import (
    COMMON_KINDS,
    RecordedMark,
    is_conflict,
    is_higher,
)
from signers.marks.mark_table import MarkTable
from signers.marks.watermark import FRESH


class Standing(Enum):
    """How one mark of a file stands to that of the store."""

    SAME = "same"
    FILE_HIGHER = "file_higher"
    STORE_HIGHER = "store_higher"
    CONFLICT = "conflict"  # other bytes at the same level and round: someone signed twice
    ONLY_IN_FILE = "only_in_file"  # the store does not know the key
    ONLY_IN_STORE = "only_in_store"


class Comparison(NamedTuple):
    """One key and kind in the store and in the file, None where it is not there."""

    holder: str
    kind: Kind
    standing: Standing
    in_store: Signable | None
    in_file: Signable | None


def compare(marks: MarkTable, recorded: Sequence[RecordedMark]) -> list[Comparison]:
    """Compare the marks of a file with those that bind the keys of a store.

    Of the store's marks that the file has not, those tell a difference that say more than
    "nothing was signed", in the kinds that every signer knows.
    """
    compared = [_compare(marks, each) for each in recorded]
    in_file = {(each.holder, each.kind) for each in compared}
    for holder in marks.holders():
        for kind in COMMON_KINDS:
            mark = mark_in_force(marks, holder, kind)
            if mark is not None and mark.level != FRESH and (holder, kind) not in in_file:
                compared.append(Comparison(holder, kind, Standing.ONLY_IN_STORE, mark, None))
    return sorted(compared, key=lambda each: each[:2])


def _compare(marks: MarkTable, recorded: RecordedMark) -> Comparison:
    holder, in_file = recorded.holder, recorded.mark
    in_store = mark_in_force(marks, holder, in_file.kind)
    if in_store is None:
        standing = Standing.ONLY_IN_FILE
    elif is_higher(in_file, in_store):
        standing = Standing.FILE_HIGHER
    elif is_higher(in_store, in_file):
        standing = Standing.STORE_HIGHER
    else:
        conflict = is_conflict(in_file, in_store)
        standing = Standing.CONFLICT if conflict else Standing.SAME
    return Comparison(holder, in_file.kind, standing, in_store, in_file)
