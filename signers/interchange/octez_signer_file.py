"""The files of octez-signer's ``--check-high-watermark``: one for each kind, all chains in each.

A mark from before rounds has no round; octez-signer compares it by its level alone, so here it
closes its level. The signature is what octez-signer answers to a repeat.

Source: Octez ``src/bin_signer/handler.ml``. The files of votes were renamed in Octez 23; Mavryk
has the older names.
"""

from collections.abc import Iterable
from typing import Any, Final

from signers.formats import base58
from signers.formats.networks import Network
from signers.formats.signable import Kind
from signers.interchange.located_json import LocatedValue, write_json
from signers.interchange.recorded_mark import (
    LEVEL_MAX,
    ZERO_DIGEST,
    RecordedMark,
    mark_at,
    signature_prefixes,
    signature_text,
)
from signers.marks.watermark import ROUND_MAX

NEW_NAMES: Final = {
    Kind.BLOCK: "block_high_watermarks",
    Kind.PREATTESTATION: "preattestation_high_watermarks",
    Kind.ATTESTATION: "attestation_high_watermarks",
}
OLD_NAMES: Final = {
    Kind.BLOCK: "block_high_watermarks",
    Kind.PREATTESTATION: "preendorsement_high_watermarks",
    Kind.ATTESTATION: "endorsement_high_watermarks",
}
KIND_OF_NAME: Final = {
    name: kind for names in (NEW_NAMES, OLD_NAMES) for kind, name in names.items()
}


def read_octez_signer_file(
    document: LocatedValue, kind: Kind, network: Network
) -> list[RecordedMark]:
    """Read the marks of one kind, of every chain in the file. Raises MalformedMarks."""
    return [
        _read_entry(holder, entry, kind, _chain_of(chain, keys), network)
        for chain, keys in document.members().items()
        for holder, entry in keys.members().items()
    ]


def write_octez_signer_file(
    recorded: Iterable[RecordedMark], kind: Kind, network: Network
) -> bytes:
    """Write the marks of one kind; one without a digest equals nothing that can be asked."""
    chains: dict[str, dict[str, Any]] = {}
    for holder, mark, signature, *_ in recorded:
        if mark.kind is not kind:
            continue
        digest = mark.digest or ZERO_DIGEST
        entry = {"level": mark.level, "round": mark.round, "hash": digest.hex()}
        if signature is not None:
            entry["signature"] = signature_text(signature, holder, network)
        chain = base58.encode(base58.CHAIN_ID, mark.chain_id)
        chains.setdefault(chain, {})[holder] = entry
    return write_json(chains)


def _chain_of(chain: str, at: LocatedValue) -> bytes:
    return LocatedValue(chain, at.place).payload(base58.CHAIN_ID)


def _read_entry(
    holder: str, entry: LocatedValue, kind: Kind, chain_id: bytes, network: Network
) -> RecordedMark:
    LocatedValue(holder, entry.place).payload(network.key_hash_prefixes)
    fields = entry.record("level", "hash", optional=("round", "signature"))
    level = fields["level"].integer(0, LEVEL_MAX)
    round_ = fields["round"].integer(0, ROUND_MAX) if "round" in fields else None
    digest = fields["hash"].hexadecimal(32)
    signature = None
    if "signature" in fields:
        signature = fields["signature"].payload(signature_prefixes(holder, network))
    mark = mark_at(kind, chain_id, level, round_, digest)
    return RecordedMark(holder, mark, signature if mark.digest else None, place=entry.place)
