"""Operations that somebody gave to the node: read once, carried as a value from then on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from signers.errors import MalformedBytes
from signers.formats import operation as codec
from signers.formats.anonymous_operation import DOUBLE_BAKING_EVIDENCE, SEED_NONCE_REVELATION
from signers.formats.consensus_operation import (
    ATTESTATION,
    ATTESTATION_WITH_DAL,
    DOUBLE_ATTESTATION_EVIDENCE,
    DOUBLE_CONSENSUS_OPERATION_EVIDENCE,
    DOUBLE_PREATTESTATION_EVIDENCE,
    PREATTESTATION,
)
from signers.formats.content_kind import ContentKind
from signers.formats.hashes import blake2b_32
from signers.formats.manager_operation import DELEGATION, REVEAL, REVEAL_WITHOUT_PROOF, TRANSACTION
from signers.formats.networks import TEZOS, DalVotes, Network, Protocol
from signers.formats.operation import Operation
from workers.sandbox.refusal import ErrorKind, Refusal, shell_error

BRANCH_BYTES = 32

_EVIDENCE_OF_SLOT = (DOUBLE_BAKING_EVIDENCE, DOUBLE_CONSENSUS_OPERATION_EVIDENCE)
_EVIDENCE = (
    DOUBLE_BAKING_EVIDENCE,
    DOUBLE_ATTESTATION_EVIDENCE,
    DOUBLE_PREATTESTATION_EVIDENCE,
)
# The names of what denounces double signing.
EVIDENCE = frozenset(kind.name for kind in (*_EVIDENCE_OF_SLOT, *_EVIDENCE))


def kinds_of(network: Network, protocol: Protocol) -> Mapping[str, ContentKind]:
    """Return the kinds of operation that the chain plays under a protocol, by their names."""
    reveal = REVEAL if network is TEZOS else REVEAL_WITHOUT_PROOF
    kinds = [PREATTESTATION, ATTESTATION, SEED_NONCE_REVELATION, reveal, TRANSACTION, DELEGATION]
    if protocol.dal_votes is DalVotes.IN_ATTESTATION:
        kinds.append(ATTESTATION_WITH_DAL)
    kinds += _EVIDENCE_OF_SLOT if protocol.votes_in_lowest_slot else _EVIDENCE
    return {kind.name: kind for kind in kinds}


@dataclass(frozen=True)
class SignedOperation:
    """An operation, its hash and its bytes as they came, branch first and signature last."""

    hash: bytes
    signed: bytes
    operation: Operation

    @cached_property
    def unsigned(self) -> bytes:
        """The bytes that the signature covers, the watermark aside."""
        suffix = codec.signature_suffix(self.operation.signature or b"")
        return self.signed[: len(self.signed) - len(suffix)]

    @property
    def kind(self) -> ContentKind:
        """The kind of the first content."""
        return self.operation.contents[0].kind

    @property
    def validation_pass(self) -> int:
        """The list of a block that it goes into."""
        return self.operation.validation_pass or 0

    @property
    def size_bytes(self) -> int:
        return len(self.signed)


def read_operation(
    signed: bytes, network: Network, kinds: Mapping[str, ContentKind]
) -> SignedOperation:
    """Read the bytes of a signed operation.

    Raises MalformedBytes when they are none, or one of another protocol's layout; Refusal when
    it is a kind of operation that this chain does not play.
    """
    operation = codec.decode_operation(signed, network)
    for content in operation.contents:
        played = kinds.get(content.name)
        if played is None:
            raise unsupported(content.name)
        if played is not content.kind:
            raise MalformedBytes(f"a {content.name} in the layout of another protocol")
    return SignedOperation(blake2b_32(signed), signed, operation)


def unsupported(kind: str) -> Refusal:
    """Return the refusal of an operation that is good elsewhere."""
    text = f"The sandbox does not play operations of kind {kind}."
    return Refusal(
        shell_error(ErrorKind.PERMANENT, "sandbox.unsupported_operation", text, operation=kind)
    )
