"""forgepool's own interchange format: one JSON object, described in docs/watermarks.md.

It tells everything that a mark knows: chain, delegate and key, kind, level, round, digest and
signature, also of floors and of keys that have signed nothing.
"""

from collections.abc import Iterable
from typing import Any, Final

from signers.formats import base58
from signers.formats.networks import Network
from signers.interchange.located_json import LocatedValue, write_json
from signers.interchange.recorded_mark import (
    LEVEL_MAX,
    RecordedMark,
    WrongChain,
    check_unique,
    mark_at,
    signature_prefixes,
    signature_text,
)
from signers.marks.watermark import FRESH, MARKED_KINDS, ROUND_MAX, floor_mark, is_floor

FORMAT: Final = "forgepool-watermarks"
VERSION: Final = 1

_OPTIONAL: Final = ("key", "delegate", "level", "round", "digest", "signature")
_KIND_OF_NAME: Final = {kind.name.lower(): kind for kind in MARKED_KINDS}


def is_forgepool_file(document: LocatedValue) -> bool:
    """Say whether a file calls itself one of this format."""
    return bool(document.value_of("format") == FORMAT)


def read_forgepool_file(
    document: LocatedValue, chain_id: bytes, network: Network
) -> list[RecordedMark]:
    """Read the marks of a file of this format that is of a chain.

    Raises MalformedMarks, and WrongChain also for a file without marks: who gives it believes
    that its keys are known here afterwards.
    """
    if not is_forgepool_file(document):
        document.refuse(f"its `format` is not {FORMAT!r}")
    if document.value_of("version") != VERSION:
        document.refuse(f"only version {VERSION} of this format is known here")
    head = document.record("format", "version", "network", "chain_id", "marks")
    if head["network"].text() != network.name:
        head["network"].refuse(f"the store is of {network.name}")
    if head["chain_id"].payload(base58.CHAIN_ID) != chain_id:
        wanted = base58.encode(base58.CHAIN_ID, chain_id)
        raise WrongChain(f"it is of the chain {head['chain_id'].text()}, the store is of {wanted}")
    recorded = [_read_entry(entry, chain_id, network) for entry in head["marks"].elements()]
    check_unique(recorded)
    return recorded


def write_forgepool_file(
    recorded: Iterable[RecordedMark], chain_id: bytes, network: Network
) -> bytes:
    """Write marks of one chain."""
    return write_json(
        {
            "format": FORMAT,
            "version": VERSION,
            "network": network.name,
            "chain_id": base58.encode(base58.CHAIN_ID, chain_id),
            "marks": [_entry_of(each, network) for each in recorded],
        }
    )


def _read_entry(entry: LocatedValue, chain_id: bytes, network: Network) -> RecordedMark:
    fields = entry.record("kind", optional=_OPTIONAL)
    named = fields.get("key") or fields.get("delegate")
    if named is None:
        entry.refuse("neither a key nor a delegate is named")
    for name in ("key", "delegate"):
        if name in fields:
            fields[name].payload(network.key_hash_prefixes)
    kind = _KIND_OF_NAME.get(fields["kind"].text())
    if kind is None:
        fields["kind"].refuse(f"one of {', '.join(_KIND_OF_NAME)} is expected")
    digest = fields["digest"].hexadecimal(32) if "digest" in fields else b""
    signature = None
    if "signature" in fields:
        signature = fields["signature"].payload(signature_prefixes(named.text(), network))
    if "level" not in fields:
        mark = floor_mark(kind, chain_id, FRESH)
    else:
        level = fields["level"].integer(0, LEVEL_MAX)
        round_ = fields["round"].integer(0, ROUND_MAX) if "round" in fields else None
        mark = mark_at(kind, chain_id, level, round_, digest)
    if (digest or signature) and not mark.digest:
        entry.refuse("a digest or signature without the level and round that it is of")
    delegate = fields["delegate"].text() if "delegate" in fields else None
    return RecordedMark(named.text(), mark, signature, delegate, entry.place)


def _entry_of(recorded: RecordedMark, network: Network) -> dict[str, Any]:
    holder, mark, signature, delegate, _ = recorded
    return {
        "key": holder if delegate else None,
        "delegate": delegate or holder,
        "kind": mark.kind.name.lower(),
        "level": None if mark.level == FRESH else mark.level,
        "round": None if is_floor(mark) else mark.round,
        "digest": mark.digest.hex() or None,
        "signature": None if signature is None else signature_text(signature, holder, network),
    }
