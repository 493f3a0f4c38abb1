"""Signatory's file ``watermark_v2/<chain id>.json``: keys, and in each its kinds.

The chain stands in the file's name alone. The digest of what was signed is written as if it were
the hash of a block's payload (``vh…``). MavSign has the same files.

Source: Signatory ``pkg/signatory/watermark/file.go``.
"""

from collections.abc import Iterable
from typing import Any, Final

from signers.formats import base58
from signers.formats.networks import Network
from signers.formats.signable import Kind
from signers.interchange.located_json import LocatedValue, write_json
from signers.interchange.recorded_mark import LEVEL_MAX, ZERO_DIGEST, RecordedMark, mark_at
from signers.marks.watermark import ROUND_MAX

_NAME_OF_KIND: Final = {
    Kind.BLOCK: "block",
    Kind.PREATTESTATION: "preattestation",
    Kind.ATTESTATION: "attestation",
}
_KIND_OF_NAME: Final = {name: kind for kind, name in _NAME_OF_KIND.items()}


def read_signatory_file(
    document: LocatedValue, chain_id: bytes, network: Network
) -> list[RecordedMark]:
    """Read the marks of Signatory's file of a chain. Raises MalformedMarks."""
    recorded = []
    for holder, kinds in document.members().items():
        LocatedValue(holder, kinds.place).payload(network.key_hash_prefixes)
        for name, entry in kinds.record(optional=tuple(_KIND_OF_NAME)).items():
            recorded.append(_read_entry(holder, entry, _KIND_OF_NAME[name], chain_id))
    return recorded


def write_signatory_file(recorded: Iterable[RecordedMark]) -> bytes:
    """Write marks of one chain; those of a kind that Signatory does not know are left out."""
    keys: dict[str, dict[str, Any]] = {}
    for holder, mark, *_ in recorded:
        if mark.kind in _NAME_OF_KIND:
            digest = base58.encode(base58.PAYLOAD_HASH, mark.digest or ZERO_DIGEST)
            entry = {"level": mark.level, "round": mark.round, "hash": digest}
            keys.setdefault(holder, {})[_NAME_OF_KIND[mark.kind]] = entry
    return write_json(keys)


def _read_entry(holder: str, entry: LocatedValue, kind: Kind, chain_id: bytes) -> RecordedMark:
    fields = entry.record("level", "round", "hash")
    mark = mark_at(
        kind,
        chain_id,
        fields["level"].integer(0, LEVEL_MAX),
        fields["round"].integer(0, ROUND_MAX),
        fields["hash"].payload(base58.PAYLOAD_HASH),
    )
    return RecordedMark(holder, mark, place=entry.place)
