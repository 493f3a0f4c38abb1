"""Consensus operations: votes on blocks, aggregates of votes, and evidence of double votes.

Source: protocol ``operation_repr.ml``; for the oldest DAL votes the schemas of protocols 016
and 017 in Octez ``client-libs/kaitai-struct-files``.
"""

from signers.formats import layout as lay
from signers.formats.content_kind import ANONYMOUS_PASS, CONSENSUS_PASS, ContentKind
from signers.formats.layout import Layout, listed, optional, record, sized
from signers.formats.networks import (
    ATTESTATION_TAG,
    ATTESTATION_WITH_DAL_TAG,
    ATTESTATIONS_AGGREGATE_TAG,
    BLS_ATTESTATION_TAG,
    BLS_PREATTESTATION_TAG,
    PREATTESTATION_TAG,
    PREATTESTATIONS_AGGREGATE_TAG,
)

_VOTE_FIELDS = {
    "slot": lay.U16,
    "level": lay.LEVEL,
    "round": lay.ROUND,
    "block_payload_hash": lay.PAYLOAD_HASH,
}
# Slots are what differs between the votes of one aggregate, and what a tz4 key leaves out.
_COMMON_CONTENT = record(level=lay.LEVEL, round=lay.ROUND, block_payload_hash=lay.PAYLOAD_HASH)


def _consensus_kind(name: str, layout: Layout) -> ContentKind:
    return ContentKind(name, CONSENSUS_PASS, layout)


def _aggregate_kind(name: str, committee: Layout) -> ContentKind:
    layout = record(consensus_content=_COMMON_CONTENT, committee=committee)
    return ContentKind(name, CONSENSUS_PASS, layout, needs_signature=False)


PREATTESTATION = _consensus_kind("preattestation", record(**_VOTE_FIELDS))
ATTESTATION = _consensus_kind("attestation", record(**_VOTE_FIELDS))
ATTESTATION_WITH_DAL = _consensus_kind(
    "attestation_with_dal", record(**_VOTE_FIELDS, dal_attestation=lay.DAL_SLOTS)
)
PREATTESTATIONS_AGGREGATE = _aggregate_kind("preattestations_aggregate", listed(lay.U16))
ATTESTATIONS_AGGREGATE = _aggregate_kind(
    "attestations_aggregate",
    listed(record(slot=lay.U16, dal_attestation=optional(lay.DAL_SLOTS))),
)
# Rio's first form of it named no DAL slots.
ATTESTATIONS_AGGREGATE_OF_SLOTS = _aggregate_kind("attestations_aggregate", listed(lay.U16))
# Mavryk Atlas and Oxford vote on data availability in an operation of its own.
DAL_ATTESTATION = _consensus_kind(
    "dal_attestation", record(attestation=lay.DAL_SLOTS, level=lay.LEVEL, slot=lay.U16)
)
DAL_ATTESTATION_OF_KEY = _consensus_kind(
    "dal_attestation", record(attestor=lay.KEY_HASH, attestation=lay.DAL_SLOTS, level=lay.LEVEL)
)

# What a tz4 key signs in place of its vote.
BLS_VOTES = {
    BLS_PREATTESTATION_TAG: ContentKind("bls_mode_preattestation", None, _COMMON_CONTENT),
    BLS_ATTESTATION_TAG: ContentKind("bls_mode_attestation", None, _COMMON_CONTENT),
}


def _inlined(kinds: dict[int, ContentKind]) -> Layout:
    """A consensus operation inside of another, its signature plain to the end."""
    contents = lay.chosen(
        "consensus operation",
        "kind",
        {tag: (kind.name, kind.layout) for tag, kind in kinds.items()},
    )
    return sized(
        record(branch=lay.BLOCK_HASH, operations=contents, signature=lay.SIGNATURE_TO_THE_END)
    )


_ANY_VOTE = _inlined(
    {
        PREATTESTATION_TAG: PREATTESTATION,
        ATTESTATION_TAG: ATTESTATION,
        ATTESTATION_WITH_DAL_TAG: ATTESTATION_WITH_DAL,
        PREATTESTATIONS_AGGREGATE_TAG: PREATTESTATIONS_AGGREGATE,
        ATTESTATIONS_AGGREGATE_TAG: ATTESTATIONS_AGGREGATE,
    }
)
_ANY_ATTESTATION = _inlined(
    {ATTESTATION_TAG: ATTESTATION, ATTESTATION_WITH_DAL_TAG: ATTESTATION_WITH_DAL}
)
_ANY_PREATTESTATION = _inlined({PREATTESTATION_TAG: PREATTESTATION})


def _evidence_kind(name: str, **fields: Layout) -> ContentKind:
    return ContentKind(name, ANONYMOUS_PASS, record(**fields), needs_signature=False)


# Since Seoul one kind of evidence serves all votes and names the slot that voted twice.
DOUBLE_CONSENSUS_OPERATION_EVIDENCE = _evidence_kind(
    "double_consensus_operation_evidence", slot=lay.U16, op1=_ANY_VOTE, op2=_ANY_VOTE
)
DOUBLE_ATTESTATION_EVIDENCE = _evidence_kind(
    "double_attestation_evidence", op1=_ANY_ATTESTATION, op2=_ANY_ATTESTATION
)
DOUBLE_PREATTESTATION_EVIDENCE = _evidence_kind(
    "double_preattestation_evidence", op1=_ANY_PREATTESTATION, op2=_ANY_PREATTESTATION
)

_SHARD_WITH_PROOF = record(shard=lay.tupled(lay.I32, listed(lay.fixed(32))), proof=lay.fixed(48))
DAL_ENTRAPMENT_EVIDENCE = _evidence_kind(
    "dal_entrapment_evidence",
    attestation=_ANY_VOTE,
    consensus_slot=lay.U16,
    slot_index=lay.U8,
    lag_index=optional(lay.U8),
    shard_with_proof=_SHARD_WITH_PROOF,
)
DAL_ENTRAPMENT_EVIDENCE_OF_ONE_LAG = _evidence_kind(
    "dal_entrapment_evidence",
    attestation=_ANY_VOTE,
    consensus_slot=lay.U16,
    slot_index=lay.U8,
    shard_with_proof=_SHARD_WITH_PROOF,
)
DAL_ENTRAPMENT_EVIDENCE_OF_ONE_VOTE = _evidence_kind(
    "dal_entrapment_evidence",
    attestation=_ANY_ATTESTATION,
    slot_index=lay.U8,
    shard_with_proof=_SHARD_WITH_PROOF,
)
