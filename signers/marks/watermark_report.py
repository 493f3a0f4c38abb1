"""How marks, and what was done to them by hand, are shown: as lines, and as a record."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from signers.formats import base58
from signers.formats.signable import Signable
from signers.marks.administration_log import AdministrationEntry
from signers.marks.store_copies import StoreView
from signers.marks.watermark import EVERYONE, FRESH, MARKED_KINDS, is_floor


def as_record(view: StoreView, holders: Sequence[str]) -> dict[str, Any]:
    """Write a store and the marks of some holders, or of all, as a JSON object.

    A mark without a round is a floor: nothing up to its level is signed. One without a level
    is that of a holder which has signed nothing, one without a digest came from a file that has
    none. A ceiling without a holder binds everyone.
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
                "round": None if is_floor(mark) else mark.round,
                "digest": mark.digest.hex() or None,
            }
            for holder, mark in _marks(view, holders)
        ],
        "ceilings": [
            {"holder": holder or None, "level": level} for holder, level in _ceilings(view, holders)
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
    ceilings = [
        f"{'everyone' if holder == EVERYONE else holder:36}  signs until level {level}"
        for holder, level in _ceilings(view, holders)
    ]
    return "\n".join([head, *(lines or ["no marks"]), *ceilings])


def log_as_record(entries: Sequence[AdministrationEntry]) -> list[dict[str, Any]]:
    """Write what was changed by hand as a JSON list; `at` in Unix seconds."""
    return [entry._asdict() for entry in entries]


def log_as_text(entries: Sequence[AdministrationEntry]) -> str:
    """Write the same as lines for people; times in UTC."""
    lines = []
    for at, user, command, changes in entries:
        moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        lines += [f"{moment}  {user}  {command}", *(f"    {change}" for change in changes)]
    return "\n".join(lines or ["nothing was changed by hand"])


def _marks(view: StoreView, holders: Sequence[str]) -> Iterator[tuple[str, Signable]]:
    marks = view.content.marks
    for holder in holders or marks.holders():
        for kind in MARKED_KINDS:
            if (mark := marks.mark(holder, kind)) is not None:
                yield holder, mark


def _ceilings(view: StoreView, holders: Sequence[str]) -> Iterator[tuple[str, int]]:
    for holder, level in sorted(view.content.marks.ceilings().items()):
        if not holders or holder == EVERYONE or holder in holders:
            yield holder, level


def _position(mark: Signable) -> str:
    if mark.digest:
        return f"level {mark.level} round {mark.round} digest {mark.digest.hex()[:16]}"
    if not is_floor(mark):
        return f"level {mark.level} round {mark.round} without digest"
    return "nothing signed" if mark.level == FRESH else f"floor {mark.level}"


def _chain(view: StoreView) -> str:
    return base58.encode(base58.CHAIN_ID, view.identity.chain_id)
