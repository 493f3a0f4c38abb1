"""How marks are shown: to people as lines, to programs as a record."""

from collections.abc import Iterator, Sequence
from typing import Any

from signers.formats import base58
from signers.formats.signable import Signable
from signers.marks.store_copies import StoreView
from signers.marks.watermark import FRESH, MARKED_KINDS


def as_record(view: StoreView, holders: Sequence[str]) -> dict[str, Any]:
    """Write a store and the marks of some holders, or of all, as a JSON object.

    A mark without a digest is a floor: nothing up to its level is signed. One without a level
    is that of a holder which has signed nothing.
    """
    return {
        "store": {
            "uuid": view.identity.uuid,
            "host_id": view.identity.host_id,
            "network": view.identity.network,
            "chain_id": _chain(view),
            "commit": view.content.seq,
        },
        "marks": [
            {
                "holder": holder,
                "kind": mark.kind.name.lower(),
                "level": None if mark.level == FRESH else mark.level,
                "round": mark.round if mark.digest else None,
                "digest": mark.digest.hex() or None,
            }
            for holder, mark in _marks(view, holders)
        ],
    }


def as_text(view: StoreView, holders: Sequence[str]) -> str:
    """Write the same as lines for people."""
    identity = view.identity
    head = (
        f"store {identity.uuid} of {identity.network}, chain {_chain(view)}, "
        f"commit {view.content.seq}"
    )
    lines = [
        f"{holder:36}  {mark.kind.name.lower().replace('_', ' '):15}  {_position(mark)}"
        for holder, mark in _marks(view, holders)
    ]
    return "\n".join([head, *(lines or ["no marks"])])


def _marks(view: StoreView, holders: Sequence[str]) -> Iterator[tuple[str, Signable]]:
    marks = view.content.marks
    for holder in holders or marks.holders():
        for kind in MARKED_KINDS:
            if (mark := marks.mark(holder, kind)) is not None:
                yield holder, mark


def _position(mark: Signable) -> str:
    if mark.digest:
        return f"level {mark.level} round {mark.round} digest {mark.digest.hex()[:16]}"
    return "nothing signed" if mark.level == FRESH else f"floor {mark.level}"


def _chain(view: StoreView) -> str:
    return base58.encode(base58.CHAIN_ID, view.identity.chain_id)
