"""Votes: the preattestations and attestations that one level and round ask of many delegates.

Source: protocol ``operation_repr.ml`` (contents and ``Bls_mode``).
"""

from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from signers.errors import MalformedBytes
from signers.formats import codec
from signers.formats.networks import (
    ATTESTATION_TAG,
    ATTESTATION_WATERMARK,
    ATTESTATION_WITH_DAL_TAG,
    BLS_ATTESTATION_TAG,
    BLS_PREATTESTATION_TAG,
    PREATTESTATION_TAG,
    PREATTESTATION_WATERMARK,
    TEZOS,
)
from signers.formats.operation import decode_operation, signature_suffix
from signers.formats.signable import WATERMARK_BYTES, Kind


@dataclass(frozen=True, slots=True)
class VoteTemplate:
    """What all votes of one kind, level and round have in common; a vote adds its slot.

    `kind` is PREATTESTATION or ATTESTATION, `chain_id` 4 bytes, `branch` and `payload_hash`
    32 bytes each.
    """

    kind: Kind
    chain_id: bytes
    branch: bytes
    level: int
    round: int
    payload_hash: bytes
    # What stands before the slot, with the tag, and behind it: made once, since 80,000 votes a
    # second are written from a few templates.
    _head: bytes = field(init=False, repr=False, compare=False)
    _head_with_dal: bytes = field(init=False, repr=False, compare=False)
    _tail: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.kind not in (Kind.PREATTESTATION, Kind.ATTESTATION):
            raise MalformedBytes(f"{self.kind.name} is no vote")
        if (len(self.chain_id), len(self.branch), len(self.payload_hash)) != (4, 32, 32):
            raise MalformedBytes("a chain id has 4 bytes, a branch and a payload hash 32 each")
        if not 0 <= self.level <= codec.INT31_MAX or not 0 <= self.round <= codec.INT31_MAX:
            raise MalformedBytes(f"level {self.level} or round {self.round} is out of range")
        is_attestation = self.kind is Kind.ATTESTATION
        tag = ATTESTATION_TAG if is_attestation else PREATTESTATION_TAG
        tail = self.level.to_bytes(4) + self.round.to_bytes(4) + self.payload_hash
        object.__setattr__(self, "_head", self._before_slot(tag))
        object.__setattr__(self, "_head_with_dal", self._before_slot(ATTESTATION_WITH_DAL_TAG))
        object.__setattr__(self, "_tail", tail)

    def _before_slot(self, tag: int) -> bytes:
        is_attestation = self.kind is Kind.ATTESTATION
        watermark = ATTESTATION_WATERMARK if is_attestation else PREATTESTATION_WATERMARK
        return bytes([watermark]) + self.chain_id + self.branch + bytes([tag])

    def signable(self, slot: int, dal: int | None = None) -> bytes:
        """Return what a tz1, tz2, tz3 or Mavryk key signs: watermark and unsigned operation.

        `slot` is the delegate's first slot; `dal` the set of DAL slots it attests, as one
        number, in an attestation. Raises MalformedBytes.
        """
        if not 0 <= slot <= 0xFFFF:
            raise MalformedBytes(f"slot {slot} is out of range")
        if dal is None:
            return self._head + slot.to_bytes(2) + self._tail
        if self.kind is not Kind.ATTESTATION:
            raise MalformedBytes("a preattestation has no DAL content")
        if dal < 0:
            raise MalformedBytes("a set of DAL slots is negative")
        return self._head_with_dal + slot.to_bytes(2) + self._tail + codec.integer(dal)

    def bls_signable(self) -> bytes:
        """Return what a tz4 key signs on Tezos: neither slot nor DAL, so votes add up."""
        is_attestation = self.kind is Kind.ATTESTATION
        tag = BLS_ATTESTATION_TAG if is_attestation else BLS_PREATTESTATION_TAG
        return self._before_slot(tag) + self._tail

    def operation(self, slot: int, signature: bytes, dal: int | None = None) -> bytes:
        """Return the signed operation that is injected, whatever key has signed it."""
        return self.signable(slot, dal)[WATERMARK_BYTES:] + signature_suffix(signature)


# branch · tag · slot · level · round · payload hash · signature
_SIGNED_VOTE = Struct(">32sBHii32s64s")
_read_signed_vote = _SIGNED_VOTE.unpack
SIGNED_VOTE_BYTES = _SIGNED_VOTE.size  # without DAL content, of all keys but tz4

_KIND_OF_TAG = {
    PREATTESTATION_TAG: Kind.PREATTESTATION,
    ATTESTATION_TAG: Kind.ATTESTATION,
    ATTESTATION_WITH_DAL_TAG: Kind.ATTESTATION,
}


class SignedVote(NamedTuple):
    """A vote as it travels: an operation with one preattestation or attestation.

    `dal` is None in an attestation without DAL content. `signature` has 64 bytes, 96 from a
    tz4 key.
    """

    kind: Kind
    branch: bytes
    slot: int
    level: int
    round: int
    payload_hash: bytes
    dal: int | None
    signature: bytes

    def template(self, chain_id: bytes) -> VoteTemplate:
        """Return what this vote shares with others; it writes the bytes that were signed."""
        return VoteTemplate(
            self.kind, chain_id, self.branch, self.level, self.round, self.payload_hash
        )


def read_signed_vote(data: bytes) -> SignedVote:
    """Read a signed vote from the bytes of its operation.

    Raises MalformedBytes, also for operations that are no single vote.
    """
    if len(data) == SIGNED_VOTE_BYTES:
        branch, tag, slot, level, round_, payload_hash, signature = _read_signed_vote(data)
        kind = _KIND_OF_TAG.get(tag)
        if kind is not None and tag != ATTESTATION_WITH_DAL_TAG and level >= 0 and round_ >= 0:
            return SignedVote(kind, branch, slot, level, round_, payload_hash, None, signature)
    decoded = decode_operation(data, TEZOS)
    content = decoded.contents[0]
    kind = _KIND_OF_TAG.get(content.tag)
    if kind is None or decoded.signature is None:
        raise MalformedBytes(f"a {content.name} is no vote")
    fields = content.fields
    return SignedVote(
        kind,
        decoded.branch,
        fields["slot"],
        fields["level"],
        fields["round"],
        fields["block_payload_hash"],
        fields.get("dal_attestation"),
        decoded.signature,
    )
