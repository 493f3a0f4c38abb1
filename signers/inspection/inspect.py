"""Taking bytes apart: what they are, every field and hash of them, and what can be checked.

A report never guesses: what could not be checked for want of a key, a chain or a curve is
None, and only what was checked and is wrong is False.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from signers.errors import MalformedBytes
from signers.formats import base58, block_header, emmy_header, operation, signable
from signers.formats.block_header import BlockHeader
from signers.formats.content_kind import CONSENSUS_PASS
from signers.formats.emmy_header import EmmyHeader
from signers.formats.hashes import blake2b_32, operations_hash, payload_hash
from signers.formats.networks import BLOCK_WATERMARK, GENERIC_WATERMARK, TEZOS, Network
from signers.formats.operation import Operation
from signers.formats.signable import WATERMARK_BYTES, Kind
from signers.keyring.curve import Curve
from signers.keyring.keys import PublicKey, UnsupportedCurve

HEADER, OPERATION, SIGNABLE, BLOCK = "header", "operation", "signable", "block"
KINDS = (BLOCK, HEADER, OPERATION, SIGNABLE)

_LEGACY_BLOCK_WATERMARK = 0x01


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known about bytes besides the bytes: it decides what can be checked.

    `chain_id` has 4 bytes.
    """

    network: Network = TEZOS
    chain_id: bytes | None = None
    public_key: PublicKey | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What bytes turned out to be.

    `hash` is a block hash or an operation hash, None when nobody has signed yet, and for a
    signable the hex of the digest that is signed. `pow_stamp` is the hex of a header's 32
    bytes of proof of work. `error` tells what of a whole block does not decode.
    """

    kind: str
    fields: dict[str, Any]
    hash: str | None
    signature_valid: bool | None = None
    pow_stamp: str | None = None
    operations_hash_valid: bool | None = None
    payload_hash_valid: bool | None = None
    error: str | None = None

    @property
    def is_sound(self) -> bool:
        """Whether everything decoded and no check failed."""
        checks = (self.signature_valid, self.operations_hash_valid, self.payload_hash_valid)
        return self.error is None and False not in checks


def inspect(data: bytes, kind: str | None, surroundings: Surroundings) -> Report:
    """Take apart a header, an operation or a signable; find out which when `kind` is None.

    Raises MalformedBytes when the bytes are not exactly what they are said to be.
    """
    if kind is not None:
        return _INSPECTORS[kind](data, surroundings)
    # The strictest first: a header with a fitness of any length can be made to look like much.
    for inspector in (inspect_signable, inspect_operation, inspect_header):
        try:
            return inspector(data, surroundings)
        except MalformedBytes:
            continue
    raise MalformedBytes("neither a block header nor an operation nor a request to sign")


def inspect_header(data: bytes, surroundings: Surroundings) -> Report:
    """Take a block header apart, signed or not. Raises MalformedBytes."""
    header = _decode_header(data)
    if isinstance(header, EmmyHeader):
        return Report(
            HEADER,
            emmy_header.to_json(header),
            _block_hash_text(data) if header.signature else None,
            _check(header.signature, _emmy_signing_bytes(header, surroundings), surroundings),
            emmy_header.pow_stamp(header).hex(),
        )
    return Report(
        HEADER,
        block_header.to_json(header),
        _block_hash_text(data) if header.signature else None,
        _check(header.signature, _header_signing_bytes(header, surroundings), surroundings),
        block_header.pow_stamp(header).hex(),
    )


def inspect_operation(data: bytes, surroundings: Surroundings) -> Report:
    """Take an operation apart, signed or not. Raises MalformedBytes.

    The reading that takes every byte for contents comes first: an unsigned batch whose last
    content has 64 bytes would also pass for a signed one, while a signature that happens to
    be a content does not occur.
    """
    network = surroundings.network
    try:
        decoded = operation.decode_operation(data, network, signed=False)
    except MalformedBytes as unsigned_error:
        try:
            decoded = operation.decode_operation(data, network)
        except MalformedBytes as signed_error:
            raise MalformedBytes(
                f"not an operation: unsigned, {unsigned_error}; signed, {signed_error}"
            ) from None
    return Report(
        OPERATION,
        operation.to_json(decoded, network),
        _operation_hash_text(data) if decoded.signature else None,
        _check_operation(decoded, surroundings),
    )


def inspect_signable(data: bytes, surroundings: Surroundings) -> Report:
    """Take apart what a signer is asked to sign. Raises MalformedBytes."""
    read = signable.read_signable(data)
    shown: dict[str, Any] = {
        "watermark": f"{data[0]:02x}",
        "signable_kind": read.kind.name.lower(),
    }
    if read.kind is not Kind.GENERIC:
        shown["chain_id"] = base58.encode(base58.CHAIN_ID, read.chain_id)
        shown["level"] = read.level
        shown["round"] = read.round
    if read.kind is Kind.BLOCK:
        shown["header"] = block_header.to_json(block_header.decode(data[WATERMARK_BYTES:]))
    else:
        shown["operation"] = operation.to_json(_decode_signed_part(data), surroundings.network)
    return Report(SIGNABLE, shown, read.digest.hex())


def inspect_block(
    header_data: bytes, passes: Sequence[Sequence[bytes | str]], surroundings: Surroundings
) -> Report:
    """Take a whole block apart and check that header and operations belong together.

    `passes` holds the operations of each validation pass, as bytes, or as operation hashes
    in base58 where only these are known. Raises MalformedBytes when the header does not
    decode; an operation that does not is told in the report's `error`.
    """
    header = _decode_header(header_data)
    of_header = inspect_header(header_data, surroundings)
    tree = [
        [_InBlock.of(item, surroundings, f"operation {at} of pass {index}")
         for at, item in enumerate(row)]
        for index, row in enumerate(passes)
    ]  # fmt: skip
    hashes = [[item.hash for item in row] for row in tree]
    payload_valid = None
    if isinstance(header, BlockHeader):
        payload = [hash_ for row in hashes[CONSENSUS_PASS + 1 :] for hash_ in row]
        payload_valid = header.payload_hash == payload_hash(
            header.predecessor, header.payload_round, payload
        )
    errors = [item.error for row in tree for item in row if item.error is not None]
    return Report(
        BLOCK,
        {
            "header": of_header.fields,
            "operations": [[item.fields for item in row] for row in tree],
        },
        of_header.hash,
        of_header.signature_valid,
        of_header.pow_stamp,
        header.operations_hash == operations_hash(hashes),
        payload_valid,
        errors[0] if errors else None,
    )


@dataclass(frozen=True, slots=True)
class _InBlock:
    """One operation of a block: its hash is certain even when its contents are not."""

    hash: bytes
    fields: dict[str, Any]
    error: str | None = None

    @classmethod
    def of(cls, item: bytes | str, surroundings: Surroundings, place: str) -> "_InBlock":
        if isinstance(item, str):
            return cls(base58.decode(base58.OPERATION_HASH, item), {"hash": item})
        hash_ = blake2b_32(item)
        text = base58.encode(base58.OPERATION_HASH, hash_)
        try:
            decoded = operation.decode_operation(item, surroundings.network)
            shown = operation.to_json(decoded, surroundings.network)
        except MalformedBytes as error:
            return cls(hash_, {"hash": text, "error": str(error)}, f"{place}: {error}")
        return cls(hash_, {"hash": text, **shown})


_INSPECTORS: dict[str, Callable[[bytes, Surroundings], Report]] = {
    HEADER: inspect_header,
    OPERATION: inspect_operation,
    SIGNABLE: inspect_signable,
}


def _decode_header(data: bytes) -> BlockHeader | EmmyHeader:
    try:
        return block_header.decode(data)
    except MalformedBytes as error:
        try:
            return emmy_header.decode(data)
        except MalformedBytes:
            raise error from None


def _decode_signed_part(data: bytes) -> Operation:
    if data[0] == GENERIC_WATERMARK:
        return operation.decode_operation(data[1:], TEZOS, signed=False)
    part = data[WATERMARK_BYTES:]
    try:
        return operation.decode_operation(part, TEZOS, signed=False)
    except MalformedBytes:
        return operation.decode_bls_vote(part)


def _block_hash_text(data: bytes) -> str:
    return base58.encode(base58.BLOCK_HASH, blake2b_32(data))


def _operation_hash_text(data: bytes) -> str:
    return base58.encode(base58.OPERATION_HASH, blake2b_32(data))


def _header_signing_bytes(header: BlockHeader, surroundings: Surroundings) -> bytes | None:
    if surroundings.chain_id is None:
        return None
    return bytes([BLOCK_WATERMARK]) + surroundings.chain_id + block_header.unsigned(header)


def _emmy_signing_bytes(header: EmmyHeader, surroundings: Surroundings) -> bytes | None:
    if surroundings.chain_id is None:
        return None
    head = bytes([_LEGACY_BLOCK_WATERMARK]) + surroundings.chain_id
    return head + emmy_header.unsigned(header)


def _check_operation(decoded: Operation, surroundings: Surroundings) -> bool | None:
    if not operation.needs_signature(decoded):
        return None
    if operation.is_vote(decoded) and surroundings.chain_id is None:
        return None
    is_bls = surroundings.public_key is not None and (surroundings.public_key.curve is Curve.BLS)
    message = operation.signing_bytes(
        decoded,
        surroundings.chain_id,
        bls_votes=is_bls and surroundings.network.protocol.bls_votes,
    )
    return _check(decoded.signature, message, surroundings)


def _check(
    signature: bytes | None, message: bytes | None, surroundings: Surroundings
) -> bool | None:
    if signature is None or message is None or surroundings.public_key is None:
        return None
    # Old protocols had another scheme of BLS than new ones, and bytes do not tell their protocol.
    schemes = {protocol.bls_scheme for protocol in surroundings.network.protocols}
    try:
        return any(surroundings.public_key.verify(message, signature, each) for each in schemes)
    except UnsupportedCurve:
        return None
