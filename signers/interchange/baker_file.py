"""The baker's file ``<chain>_highwatermarks``: three lists, one for each kind.

It has no digests, and its chain stands in its name alone. What it calls the delegate is the
consensus key.

Source: Octez ``lib_delegate/baking_highwatermarks.ml``, ``baking_files.ml``; Mavryk also reads
the names that attestations had before.
"""

from collections.abc import Iterable
from typing import Final

from signers.formats.networks import Network
from signers.formats.signable import Kind
from signers.interchange.located_json import LocatedValue, write_json
from signers.interchange.recorded_mark import (
    COMMON_KINDS,
    LEVEL_MAX,
    RecordedMark,
    check_unique,
    mark_at,
)
from signers.marks.watermark import ROUND_MAX

_LIST_OF_KIND: Final = {
    Kind.BLOCK: "blocks",
    Kind.PREATTESTATION: "preattestations",
    Kind.ATTESTATION: "attestations",
}
_KIND_OF_LIST: Final = {name: kind for kind, name in _LIST_OF_KIND.items()} | {
    "preendorsements": Kind.PREATTESTATION,
    "endorsements": Kind.ATTESTATION,
}


def read_baker_file(
    document: LocatedValue, chain_id: bytes, network: Network
) -> list[RecordedMark]:
    """Read the marks of a baker's file of a chain. Raises MalformedMarks."""
    lists = document.record(optional=tuple(_KIND_OF_LIST))
    recorded = [
        _read_entry(entry, _KIND_OF_LIST[name], chain_id, network)
        for name, entries in lists.items()
        for entry in entries.elements()
    ]
    check_unique(recorded)
    return recorded


def write_baker_file(recorded: Iterable[RecordedMark]) -> bytes:
    """Write marks of one chain; those of a kind that bakers do not know are left out."""
    lists: dict[str, list[object]] = {_LIST_OF_KIND[kind]: [] for kind in COMMON_KINDS}
    for holder, mark, *_ in recorded:
        if mark.kind in _LIST_OF_KIND:
            position = {"round": mark.round, "level": mark.level}
            entry = {"delegate": holder, "highwatermark": position}
            lists[_LIST_OF_KIND[mark.kind]].append(entry)
    return write_json(lists)


def _read_entry(entry: LocatedValue, kind: Kind, chain_id: bytes, network: Network) -> RecordedMark:
    fields = entry.record("delegate", "highwatermark")
    fields["delegate"].payload(network.key_hash_prefixes)
    position = fields["highwatermark"].record("round", "level")
    mark = mark_at(
        kind,
        chain_id,
        position["level"].integer(0, LEVEL_MAX),
        position["round"].integer(0, ROUND_MAX),
    )
    return RecordedMark(fields["delegate"].text(), mark, place=entry.place)
