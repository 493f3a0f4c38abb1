"""Operations as people send them to the node's helpers: JSON that becomes an operation.

Numbers that do not fit into 32 bits are strings, the others are numbers; what is the other way
round is refused, as a node refuses it. Source: protocol ``operation_repr.ml``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType

from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.block_header import BlockHeader, Fitness
from signers.formats.codec import INT31_MAX, Reader
from signers.formats.layout import ENTRYPOINT
from signers.formats.networks import (
    ATTESTATION_TAG,
    ATTESTATION_WITH_DAL_TAG,
    PREATTESTATION_TAG,
    TEZOS,
)
from signers.formats.operation import Content, Operation
from workers.node.micheline_json import from_json as micheline_from_json
from workers.preparation.chain_view import unix_seconds
from workers.sandbox.directory import BadCall
from workers.sandbox.names import Names, read_public_key, read_signature
from workers.sandbox.operation_json import OLD_NAMES
from workers.sandbox.operations import unsupported
from workers.sandbox.rules import Rules

Json = dict[str, Any]

# A JSON operation with more contents than any that fits into a block is not worth reading.
CONTENTS_MAX = 1000
_UINT8_MAX = 0xFF
_UINT16_MAX = 0xFFFF
# Amounts have 64 bits; the widest set of DAL slots has a few hundred.
_DECIMAL_DIGITS_MAX = 200
_ENTRYPOINT_BYTES_MAX = 31
_NONCE_BYTES = 32
_MANAGER_PASS = 3
_UNSIGNED = bytes(64)
_UNIT = b"\x03\x0b"

_TAGS = {
    "preattestation": PREATTESTATION_TAG,
    "attestation": ATTESTATION_TAG,
    "attestation_with_dal": ATTESTATION_WITH_DAL_TAG,
    "seed_nonce_revelation": 0x01,
    "double_attestation_evidence": 0x02,
    "double_consensus_operation_evidence": 0x02,
    "double_baking_evidence": 0x03,
    "double_preattestation_evidence": 0x07,
    "reveal": 107,
    "transaction": 108,
    "delegation": 110,
}
_NEW_NAMES = {old: new for new, old in OLD_NAMES.items()}


class UnsignedJson(Struct):
    """An operation as people send it, without its signature."""

    branch: str
    contents: list[Json]


class SignedJson(Struct):
    """An operation as people send it; an anonymous one needs no signature."""

    branch: str
    contents: list[Json]
    signature: str | UnsetType = UNSET
    protocol: str | UnsetType = UNSET


def read_unsigned(sent: UnsignedJson | SignedJson, rules: Rules) -> Operation:
    """Return the operation that JSON describes, unsigned.

    Raises BadCall when it describes none, Refusal when this chain does not play it.
    """
    if not 0 < len(sent.contents) <= CONTENTS_MAX:
        raise BadCall("Failed to parse the request body: contents: none, or too many")
    try:
        branch = base58.decode(base58.BLOCK_HASH, sent.branch)
        contents = tuple(_read_content(content, rules) for content in sent.contents)
    except (MalformedBytes, KeyError, TypeError, ValueError) as error:
        raise BadCall(f"Failed to parse the request body: {_describe(error)}") from None
    if len(contents) > 1 and any(each.kind.validation_pass != _MANAGER_PASS for each in contents):
        raise BadCall("Failed to parse the request body: only manager operations are batched")
    return Operation(branch, contents, None)


def signature_of(sent: SignedJson) -> bytes:
    """Return the signature of a sent operation, zeros when it has none. Raises BadCall."""
    if isinstance(sent.signature, UnsetType):
        return _UNSIGNED
    try:
        return read_signature(sent.signature)
    except MalformedBytes as error:
        raise BadCall(f"Failed to parse the request body: signature: {error}") from None


def _read_content(sent: Json, rules: Rules) -> Content:
    name = _text(sent["kind"])
    name = _NEW_NAMES.get(name, name)
    kind = rules.kinds.get(name)
    if kind is None:
        raise unsupported(name)
    fields = {key: _READERS[key](sent[key], rules.names) for key in _REQUIRED[name]}
    for key in _OPTIONAL.get(name, ()):
        value = sent.get(key)
        fields[key] = None if value is None else _READERS[key](value, rules.names)
    return Content(_TAGS[name], kind, fields)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a string is due")
    return value


def _decimal(value: Any) -> int:
    digits = _text(value)
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= _DECIMAL_DIGITS_MAX):
        raise ValueError("a decimal number in a string is due")
    return int(digits)


def _number(value: Any, maximum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
        raise TypeError(f"a number up to {maximum} is due")
    return value


def _nonce(value: Any) -> bytes:
    nonce = bytes.fromhex(_text(value))
    if len(nonce) != _NONCE_BYTES:
        raise ValueError("a nonce has 32 bytes")
    return nonce


def _parameters(value: Any) -> dict[str, bytes] | None:
    name = _text(value["entrypoint"])
    expression = micheline_from_json(value["value"])
    entrypoint = _ENTRYPOINT_OF_NAME.get(name)
    if entrypoint is None:
        raw = name.encode()
        if len(raw) > _ENTRYPOINT_BYTES_MAX:
            raise ValueError("an entrypoint has at most 31 bytes")
        entrypoint = _NAMED_ENTRYPOINT + bytes([len(raw)]) + raw
    # Unit for the default entrypoint is what no parameters mean, and is written like that.
    if name == "default" and expression == _UNIT:
        return None
    return {"entrypoint": entrypoint, "value": expression}


def _header(value: Any) -> BlockHeader:
    """A signed header, as evidence of double baking holds it."""
    nonce_hash = value.get("seed_nonce_hash")
    return BlockHeader(
        level=_number(value["level"], INT31_MAX),
        proto=_number(value["proto"], _UINT8_MAX),
        predecessor=base58.decode(base58.BLOCK_HASH, _text(value["predecessor"])),
        timestamp=unix_seconds(_text(value["timestamp"])),
        validation_passes=_number(value["validation_pass"], _UINT8_MAX),
        operations_hash=base58.decode(base58.OPERATIONS_HASH, _text(value["operations_hash"])),
        fitness=Fitness(tuple(bytes.fromhex(_text(each)) for each in value["fitness"])),
        context=base58.decode(base58.CONTEXT_HASH, _text(value["context"])),
        payload_hash=base58.decode(base58.PAYLOAD_HASH, _text(value["payload_hash"])),
        payload_round=_number(value["payload_round"], INT31_MAX),
        proof_of_work_nonce=bytes.fromhex(_text(value["proof_of_work_nonce"])),
        seed_nonce_hash=None
        if nonce_hash is None
        else base58.decode(base58.NONCE_HASH, _text(nonce_hash)),
        # A header without the second vote has zero bits there, as one that says "on".
        per_block_votes=_VOTE_CODES[_text(value["liquidity_baking_toggle_vote"])]
        | _VOTE_CODES[_text(value.get("adaptive_issuance_vote", "on"))] << 2,
        signature=read_signature(_text(value["signature"])),
    )


def _inlined_vote(value: Any, names: Names) -> dict[str, Any]:
    """A signed vote, as evidence of double voting holds it."""
    sent = value["operations"]
    name = _NEW_NAMES.get(_text(sent["kind"]), sent["kind"])
    if name not in _VOTE_NAMES:
        raise ValueError("evidence of double voting holds two votes")
    fields = {key: _READERS[key](sent[key], names) for key in _REQUIRED[name]}
    return {
        "branch": base58.decode(base58.BLOCK_HASH, _text(value["branch"])),
        "operations": (_TAGS[name], fields),
        "signature": read_signature(_text(value["signature"])),
    }


def _describe(error: Exception) -> str:
    return f"missing field {error}" if isinstance(error, KeyError) else str(error)


def _entrypoints() -> Mapping[str, bytes]:
    """Return the entrypoints that have a tag of their own, by name."""
    tags = {}
    for tag in range(0xFF):
        try:
            raw = ENTRYPOINT.read(Reader(bytes([tag])))
        except MalformedBytes:
            break
        tags[ENTRYPOINT.show(raw, TEZOS)] = raw
    return tags


_ENTRYPOINT_OF_NAME = _entrypoints()
_NAMED_ENTRYPOINT = b"\xff"

_VOTE_CODES = {"on": 0, "off": 1, "pass": 2}
_VOTE_FIELDS = ("slot", "level", "round", "block_payload_hash")
_MANAGER_FIELDS = ("source", "fee", "counter", "gas_limit", "storage_limit")
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "preattestation": _VOTE_FIELDS,
    "attestation": _VOTE_FIELDS,
    "attestation_with_dal": (*_VOTE_FIELDS, "dal_attestation"),
    "seed_nonce_revelation": ("level", "nonce"),
    "double_baking_evidence": ("bh1", "bh2"),
    "double_attestation_evidence": ("op1", "op2"),
    "double_preattestation_evidence": ("op1", "op2"),
    "double_consensus_operation_evidence": ("slot", "op1", "op2"),
    "reveal": (*_MANAGER_FIELDS, "public_key"),
    "transaction": (*_MANAGER_FIELDS, "amount", "destination"),
    "delegation": _MANAGER_FIELDS,
}
_VOTE_NAMES = frozenset({"preattestation", "attestation", "attestation_with_dal"})
_OPTIONAL: Mapping[str, tuple[str, ...]] = {
    "reveal": ("proof",),
    "transaction": ("parameters",),
    "delegation": ("delegate",),
}


def _read_decimal(value: Any, _: Names) -> int:
    return _decimal(value)


def _read_level(value: Any, _: Names) -> int:
    return _number(value, INT31_MAX)


def _read_address(value: Any, names: Names) -> bytes:
    return names.read_address(_text(value))


_READERS: Mapping[str, Callable[[Any, Names], Any]] = {
    "source": _read_address,
    "fee": _read_decimal,
    "counter": _read_decimal,
    "gas_limit": _read_decimal,
    "storage_limit": _read_decimal,
    "amount": _read_decimal,
    "dal_attestation": _read_decimal,
    "destination": lambda value, names: names.read_contract(_text(value)),
    "parameters": lambda value, _: _parameters(value),
    "delegate": _read_address,
    "public_key": lambda value, _: read_public_key(_text(value)),
    "proof": lambda value, _: base58.decode(base58.BLS_SIGNATURE, _text(value)),
    "slot": lambda value, _: _number(value, _UINT16_MAX),
    "level": _read_level,
    "round": _read_level,
    "block_payload_hash": lambda value, _: base58.decode(base58.PAYLOAD_HASH, _text(value)),
    "nonce": lambda value, _: _nonce(value),
    "bh1": lambda value, _: _header(value),
    "bh2": lambda value, _: _header(value),
    "op1": lambda value, names: _inlined_vote(value, names),
    "op2": lambda value, names: _inlined_vote(value, names),
}
