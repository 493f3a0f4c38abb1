"""Operations: a branch, one or more contents, and a signature.

Layout: branch 32 (the block whose descendants may include the operation) · contents, each a
tag and its fields · signature. A signature of 64 bytes simply follows. A longer one is cut so
that 64 bytes still end the operation: ``ff03`` and 96 bytes for BLS, ``ff04`` and 2420 for
ML-DSA.

What a tag means depends on the protocol, which the bytes do not tell. So protocols stand here
in *eras*, spans of protocols with the same layouts, and an operation is read in the newest era
in which every byte of it makes sense.

Source: protocol ``operation_repr.ml`` of 012 to 025 and of Mavryk 001 and 002; the schemas in
Octez ``client-libs/kaitai-struct-files``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from signers.errors import MalformedBytes
from signers.formats import anonymous_operation as anonymous
from signers.formats import base58
from signers.formats import consensus_operation as consensus
from signers.formats import manager_operation as manager
from signers.formats import rollup_operation as rollup
from signers.formats.codec import Reader
from signers.formats.content_kind import CONSENSUS_PASS, MANAGER_PASS, ContentKind
from signers.formats.hashes import HASH_BYTES, blake2b_32
from signers.formats.networks import (
    ATTESTATION_TAG,
    ATTESTATION_WATERMARK,
    ATTESTATION_WITH_DAL_TAG,
    ATTESTATIONS_AGGREGATE_TAG,
    BLS_ATTESTATION_TAG,
    BLS_PREATTESTATION_TAG,
    DAL_ATTESTATION_TAG,
    DAL_ATTESTATION_WATERMARK,
    GENERIC_WATERMARK,
    MAVRYK,
    PREATTESTATION_TAG,
    PREATTESTATION_WATERMARK,
    PREATTESTATIONS_AGGREGATE_TAG,
    TEZOS,
    Network,
)

# Protocols admit 32 KiB; only aggregates, which no protocol bounds but by the whole consensus
# pass, can be longer, and 7,000 slots with DAL content stay under this.
OPERATION_BYTES_MAX = 512 * 1024

_SHORT_SIGNATURE_BYTES = 64
_SIGNATURE_HEAD_TAG = 0xFF
# Behind ff: the curve, and how long its signature is.
_LONG_SIGNATURES = {0x03: 96, 0x04: 2420}
_TAG_OF_LONG_SIGNATURE = {length: tag for tag, length in _LONG_SIGNATURES.items()}

Era = Mapping[int, ContentKind]

_USHUAIA: Era = {
    0x01: anonymous.SEED_NONCE_REVELATION,
    0x02: consensus.DOUBLE_CONSENSUS_OPERATION_EVIDENCE,
    0x03: anonymous.DOUBLE_BAKING_EVIDENCE,
    0x04: anonymous.ACTIVATE_ACCOUNT,
    0x05: anonymous.PROPOSALS,
    0x06: anonymous.BALLOT,
    0x08: anonymous.VDF_REVELATION,
    0x09: anonymous.DRAIN_DELEGATE,
    0x11: anonymous.FAILING_NOOP,
    PREATTESTATION_TAG: consensus.PREATTESTATION,
    ATTESTATION_TAG: consensus.ATTESTATION,
    ATTESTATION_WITH_DAL_TAG: consensus.ATTESTATION_WITH_DAL,
    0x18: consensus.DAL_ENTRAPMENT_EVIDENCE,
    PREATTESTATIONS_AGGREGATE_TAG: consensus.PREATTESTATIONS_AGGREGATE,
    ATTESTATIONS_AGGREGATE_TAG: consensus.ATTESTATIONS_AGGREGATE,
    107: manager.REVEAL,
    108: manager.TRANSACTION,
    109: manager.ORIGINATION,
    110: manager.DELEGATION,
    111: manager.REGISTER_GLOBAL_CONSTANT,
    112: manager.SET_DEPOSITS_LIMIT,
    113: manager.INCREASE_PAID_STORAGE,
    114: manager.UPDATE_CONSENSUS_KEY,
    115: manager.UPDATE_COMPANION_KEY,
    158: manager.TRANSFER_TICKET,
    200: rollup.SMART_ROLLUP_ORIGINATE,
    201: rollup.SMART_ROLLUP_ADD_MESSAGES,
    202: rollup.SMART_ROLLUP_CEMENT,
    203: rollup.SMART_ROLLUP_PUBLISH,
    204: rollup.SMART_ROLLUP_REFUTE,
    205: rollup.SMART_ROLLUP_TIMEOUT,
    206: rollup.SMART_ROLLUP_EXECUTE_OUTBOX_MESSAGE,
    207: rollup.SMART_ROLLUP_RECOVER_BOND,
    230: manager.DAL_PUBLISH_COMMITMENT,
    250: manager.ZK_ROLLUP_ORIGINATION,
    251: manager.ZK_ROLLUP_PUBLISH,
    252: manager.ZK_ROLLUP_UPDATE,
}
_SEOUL: Era = {**_USHUAIA, 0x18: consensus.DAL_ENTRAPMENT_EVIDENCE_OF_ONE_LAG}
_RIO: Era = {
    **_SEOUL,
    0x02: consensus.DOUBLE_ATTESTATION_EVIDENCE,
    0x07: consensus.DOUBLE_PREATTESTATION_EVIDENCE,
    0x18: consensus.DAL_ENTRAPMENT_EVIDENCE_OF_ONE_VOTE,
    ATTESTATIONS_AGGREGATE_TAG: consensus.ATTESTATIONS_AGGREGATE_OF_SLOTS,
    107: manager.REVEAL_WITHOUT_PROOF,
    114: manager.UPDATE_CONSENSUS_KEY_OF_RIO,
}
_PARIS: Era = {**_RIO, 114: manager.UPDATE_CONSENSUS_KEY_WITHOUT_PROOF}
_OXFORD: Era = {
    **_PARIS,
    DAL_ATTESTATION_TAG: consensus.DAL_ATTESTATION,
    230: manager.DAL_PUBLISH_SLOT_HEADER,
}
_NAIROBI: Era = {
    **_OXFORD,
    DAL_ATTESTATION_TAG: consensus.DAL_ATTESTATION_OF_KEY,
    200: rollup.SMART_ROLLUP_ORIGINATE_WITH_PROOF,
    202: rollup.SMART_ROLLUP_CEMENT_COMMITMENT,
    230: manager.DAL_PUBLISH_SLOT_HEADER_AT_LEVEL,
}
_MUMBAI: Era = {
    **_NAIROBI,
    150: rollup.TX_ROLLUP_ORIGINATION,
    151: rollup.TX_ROLLUP_SUBMIT_BATCH,
    152: rollup.TX_ROLLUP_COMMIT,
    153: rollup.TX_ROLLUP_RETURN_BOND,
    154: rollup.TX_ROLLUP_FINALIZE_COMMITMENT,
    155: rollup.TX_ROLLUP_REMOVE_COMMITMENT,
    156: rollup.TX_ROLLUP_REJECTION,
    157: rollup.TX_ROLLUP_DISPATCH_TICKETS,
}
_JAKARTA: Era = {
    **_MUMBAI,
    108: manager.TRANSACTION_ALSO_TO_ROLLUP,
    156: rollup.TX_ROLLUP_REJECTION_OF_JAKARTA,
}
# Atlas has the layouts of Oxford, Boreas those of Paris, and neither what Tezos got later.
_NOT_ON_MAVRYK = (0x18, PREATTESTATIONS_AGGREGATE_TAG, ATTESTATIONS_AGGREGATE_TAG, 115)
_BOREAS: Era = {tag: kind for tag, kind in _PARIS.items() if tag not in _NOT_ON_MAVRYK}
_ATLAS: Era = {tag: kind for tag, kind in _OXFORD.items() if tag not in _NOT_ON_MAVRYK}
_ERAS = {
    TEZOS.name: (_USHUAIA, _SEOUL, _RIO, _PARIS, _OXFORD, _NAIROBI, _MUMBAI, _JAKARTA),
    MAVRYK.name: (_BOREAS, _ATLAS),
}

# What stands under the generic watermark, by the names of the node's JSON.
GENERIC_KINDS = frozenset(
    kind.name
    for eras in _ERAS.values()
    for era in eras
    for kind in era.values()
    if kind.validation_pass != CONSENSUS_PASS
)

# The watermark of a vote; every other operation is signed under the generic one.
_WATERMARKS = {
    PREATTESTATION_TAG: PREATTESTATION_WATERMARK,
    ATTESTATION_TAG: ATTESTATION_WATERMARK,
    ATTESTATION_WITH_DAL_TAG: ATTESTATION_WATERMARK,
    DAL_ATTESTATION_TAG: DAL_ATTESTATION_WATERMARK,
}
_BLS_TAGS = {
    PREATTESTATION_TAG: BLS_PREATTESTATION_TAG,
    ATTESTATION_TAG: BLS_ATTESTATION_TAG,
    ATTESTATION_WITH_DAL_TAG: BLS_ATTESTATION_TAG,
}


@dataclass(frozen=True, slots=True)
class Content:
    """One thing that an operation does: a vote, a transaction, …

    `fields` holds raw values under the names of the node's JSON: whole numbers, bytes,
    records as dicts, None for what is absent.
    """

    tag: int
    kind: ContentKind = field(repr=False, compare=False)
    fields: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What the node calls this kind."""
        return self.kind.name


@dataclass(frozen=True, slots=True)
class Operation:
    """A branch (32 bytes), contents, and a signature that is None as long as nobody signed.

    Only manager operations come in batches; every other has one content.
    """

    branch: bytes
    contents: tuple[Content, ...]
    signature: bytes | None

    @property
    def validation_pass(self) -> int | None:
        """The list of a block that this operation goes into: 0 consensus … 3 manager."""
        return self.contents[0].kind.validation_pass


def decode_operation(data: bytes, network: Network, signed: bool = True) -> Operation:
    """Read an operation of any protocol of a network; the bytes must end exactly with it.

    Raises MalformedBytes when no era of the network accounts for every byte.
    """
    if len(data) > OPERATION_BYTES_MAX:
        raise MalformedBytes(f"an operation of {len(data)} bytes is longer than any")
    failure = None
    for era in _ERAS[network.name]:
        try:
            return _decode_in_era(data, era, signed)
        except MalformedBytes as error:
            # The newest era's complaint is the one that helps.
            failure = failure or error
    assert failure is not None
    raise failure


def decode_bls_vote(data: bytes) -> Operation:
    """Read what a tz4 key signs for its vote: an operation without slot, DAL and signature.

    Raises MalformedBytes.
    """
    return _decode_in_era(data, consensus.BLS_VOTES, signed=False)


def encode(operation: Operation) -> bytes:
    """Write an operation, with its signature when it has one."""
    return unsigned(operation) + signature_suffix(operation.signature or b"")


def unsigned(operation: Operation) -> bytes:
    """Write branch and contents: what is signed, the watermark aside."""
    contents = (
        bytes([content.tag]) + content.kind.layout.write(content.fields)
        for content in operation.contents
    )
    return operation.branch + b"".join(contents)


def hash(operation: Operation) -> bytes:
    """Hash a signed operation: its name. Raises MalformedBytes when it is unsigned."""
    if operation.signature is None:
        raise MalformedBytes("an unsigned operation has no operation hash")
    return blake2b_32(encode(operation))


def signing_bytes(operation: Operation, chain_id: bytes | None, *, bls_votes: bool) -> bytes:
    """Write the bytes that are signed, watermark first.

    `bls_votes` says that a tz4 key signs on a network whose votes then leave out slot and
    DAL. Raises MalformedBytes for a vote without a chain id (4 bytes).
    """
    content = operation.contents[0]
    watermark = _WATERMARKS.get(content.tag)
    if watermark is None:
        return bytes([GENERIC_WATERMARK]) + unsigned(operation)
    if chain_id is None:
        raise MalformedBytes("a vote is signed for a chain, and no chain id is given")
    head = bytes([watermark]) + chain_id
    if bls_votes and content.tag in _BLS_TAGS:
        tag = _BLS_TAGS[content.tag]
        vote = Content(tag, consensus.BLS_VOTES[tag], content.fields)
        return head + unsigned(replace(operation, contents=(vote,)))
    return head + unsigned(operation)


def is_vote(operation: Operation) -> bool:
    """Whether a delegate signs it under a consensus watermark."""
    return operation.contents[0].tag in _WATERMARKS


def needs_signature(operation: Operation) -> bool:
    """Whether one key must have signed it; evidence, revelations and aggregates need none."""
    return operation.contents[0].kind.needs_signature


def to_json(operation: Operation, network: Network) -> dict[str, Any]:
    """Show an operation with the names and texts of the node's JSON.

    Raises MalformedBytes when a key is of a curve that the network does not have.
    """
    shown: dict[str, Any] = {
        "branch": base58.encode(base58.BLOCK_HASH, operation.branch),
        "contents": [
            {"kind": content.name, **content.kind.layout.show(content.fields, network)}
            for content in operation.contents
        ],
    }
    if operation.signature is not None and any(operation.signature):
        shown["signature"] = base58.signature_text(operation.signature)
    return shown


def signature_suffix(signature: bytes) -> bytes:
    """Write a signature as it ends an operation; none for no bytes. Raises MalformedBytes."""
    if len(signature) in (0, _SHORT_SIGNATURE_BYTES):
        return signature
    tag = _TAG_OF_LONG_SIGNATURE.get(len(signature))
    if tag is None:
        raise MalformedBytes(f"no signature has {len(signature)} bytes")
    return bytes([_SIGNATURE_HEAD_TAG, tag]) + signature


def _decode_in_era(data: bytes, era: Era, signed: bool) -> Operation:
    end = len(data) - (_SHORT_SIGNATURE_BYTES if signed else 0)
    reader = Reader(data, end=end)
    branch = reader.take(HASH_BYTES)
    contents: list[Content] = []
    signature = data[end:] if signed else None
    while reader.remaining:
        tag = reader.u8()
        if tag == _SIGNATURE_HEAD_TAG and signed and contents:
            signature = _read_long_signature(data, reader)
            break
        kind = era.get(tag)
        if kind is None:
            raise MalformedBytes(f"no operation has the tag {tag:02x}")
        contents.append(Content(tag, kind, kind.layout.read(reader)))
    if not contents:
        raise MalformedBytes("an operation has no contents")
    if len(contents) > 1 and any(
        content.kind.validation_pass != MANAGER_PASS for content in contents
    ):
        raise MalformedBytes("only manager operations come in batches")
    return Operation(branch, tuple(contents), signature)


def _read_long_signature(data: bytes, reader: Reader) -> bytes:
    length = _LONG_SIGNATURES.get(reader.u8())
    if length is None or reader.remaining != length - _SHORT_SIGNATURE_BYTES:
        raise MalformedBytes("the operation does not end in a signature of its curve")
    return data[-length:]
