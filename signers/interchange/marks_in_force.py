"""The marks that bind the keys of a store, in the form in which they are exported and compared.

What binds a key is the higher of its own mark and that of its delegate. Other signers know no
marks of delegates, so this is what they must be told; and an export of any format equals the
store that it was made from.
"""

from collections.abc import Iterator

from signers.formats.signable import Kind, Signable
from signers.interchange.recorded_mark import RecordedMark, is_higher
from signers.marks.mark_table import MarkTable
from signers.marks.store_copies import StoreView
from signers.marks.watermark import MARKED_KINDS


def mark_in_force(marks: MarkTable, holder: str, kind: Kind) -> Signable | None:
    """Return the mark that binds a key, or a delegate of whom no own key is known."""
    own, bound = marks.mark(holder, kind), marks.find(holder)
    above = None if bound is None else marks.mark(bound.delegate, kind)
    if own is None or above is None:
        return own or above
    return above if is_higher(above, own) else own


def marks_in_force(view: StoreView) -> Iterator[RecordedMark]:
    """Yield the mark of every key and delegate of a store, by holder and kind."""
    marks = view.content.marks
    for holder in marks.holders():
        bound = marks.find(holder)
        for kind in MARKED_KINDS:
            mark = mark_in_force(marks, holder, kind)
            if mark is None:
                continue
            is_own = mark == marks.mark(holder, kind)
            signature = view.signatures.get((holder, kind)) if is_own else None
            yield RecordedMark(holder, mark, signature, bound and bound.delegate)
