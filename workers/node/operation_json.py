"""Operations of the mempool, which a node prints as JSON, back to the bytes that it received.

Only the kinds that fill blocks are written here; for any other the node itself is asked to
forge (`helpers/forge/operations`). Nothing is taken on trust: bytes count only if their hash is
the operation's, so a kind that is written wrongly here is merely left to the node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from signers.errors import MalformedBytes
from signers.formats import anonymous_operation as anonymous
from signers.formats import base58
from signers.formats import consensus_operation as consensus
from signers.formats import manager_operation as manager
from signers.formats.codec import Reader
from signers.formats.content_kind import ContentKind
from signers.formats.hashes import blake2b_32
from signers.formats.layout import ENTRYPOINT
from signers.formats.networks import TEZOS, BlsScheme, Network
from signers.formats.operation import Content, Operation, encode
from workers.node.answers import Json, PendingOperation
from workers.node.micheline_json import from_json
from workers.preparation.operation_validation import PUBLIC_KEYS

# An anonymous operation that nobody signs carries zeros in place of a signature.
_UNSIGNED = bytes(64)
_SIGNATURES = (
    base58.GENERIC_SIGNATURE,
    base58.ED25519_SIGNATURE,
    base58.SECP256K1_SIGNATURE,
    base58.P256_SIGNATURE,
    base58.BLS_SIGNATURE,
)
_IMPLICIT, _ORIGINATED = 0, 1
_KINDS: Mapping[str, tuple[int, ContentKind]] = {
    "preattestation": (0x14, consensus.PREATTESTATION),
    "attestation": (0x15, consensus.ATTESTATION),
    "attestation_with_dal": (0x17, consensus.ATTESTATION_WITH_DAL),
    # What older nodes of Mavryk call the same.
    "preendorsement": (0x14, consensus.PREATTESTATION),
    "endorsement": (0x15, consensus.ATTESTATION),
    "endorsement_with_dal": (0x17, consensus.ATTESTATION_WITH_DAL),
    "seed_nonce_revelation": (0x01, anonymous.SEED_NONCE_REVELATION),
    "ballot": (0x06, anonymous.BALLOT),
    "transaction": (108, manager.TRANSACTION),
    "delegation": (110, manager.DELEGATION),
}
_REVEAL_TAG = 107
_BALLOTS = {"yay": 0, "nay": 1, "pass": 2}


def operation_bytes(pending: PendingOperation, network: Network) -> bytes | None:
    """The signed bytes of an operation, or None when they must be asked from the node."""
    try:
        contents = tuple(_content(content, network) for content in pending.contents)
        signed = encode(Operation(branch_of(pending.branch), contents, signature_of(pending)))
    except (MalformedBytes, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        # JSON of any shape: what cannot be read here is not written here.
        return None
    return signed if is_hash_of(pending.hash, signed) else None


def is_hash_of(text: str, signed: bytes) -> bool:
    """Whether signed bytes have this operation hash."""
    return base58.encode(base58.OPERATION_HASH, blake2b_32(signed)) == text


@lru_cache(maxsize=1024)
def branch_of(text: str) -> bytes:
    """The bytes of a branch. Raises MalformedBytes."""
    return base58.decode(base58.BLOCK_HASH, text)


def signature_of(pending: PendingOperation) -> bytes:
    """The bytes of an operation's signature. Raises MalformedBytes."""
    if pending.signature is None:
        return _UNSIGNED
    return base58.decode(_SIGNATURES, pending.signature)


def _content(content: Json, network: Network) -> Content:
    name = content["kind"]
    if name == "reveal":
        tag, kind = _REVEAL_TAG, _reveal_kind(network)
    else:
        tag, kind = _KINDS[name]
    fields = {key: _READERS[key](value, network) for key, value in content.items() if key != "kind"}
    fields.setdefault("parameters", None)
    fields.setdefault("delegate", None)
    fields.setdefault("proof", None)
    return Content(tag, kind, fields)


def _reveal_kind(network: Network) -> ContentKind:
    proven = network.protocol.bls_scheme is BlsScheme.POSSESSION
    return manager.REVEAL if proven else manager.REVEAL_WITHOUT_PROOF


def _number(value: Any, _: Network) -> int:
    return int(value)


@lru_cache(maxsize=64)
def _payload_hash_of(text: str) -> bytes:
    return base58.decode(base58.PAYLOAD_HASH, text)


def _payload_hash(text: str, _: Network) -> bytes:
    return _payload_hash_of(text)


def _key_hash(text: str, network: Network) -> bytes:
    return key_hash_of(text, network.key_hash_prefixes)


@lru_cache(maxsize=16_384)
def key_hash_of(text: str, prefixes: tuple[base58.Prefix, ...]) -> bytes:
    """The tagged public key hash that an address stands for. Raises MalformedBytes."""
    prefix, payload = base58.read(prefixes, text)
    return bytes([prefixes.index(prefix)]) + payload


def public_key_of(text: str) -> bytes:
    """The tagged public key that a text stands for. Raises MalformedBytes."""
    prefix, payload = base58.read(PUBLIC_KEYS, text)
    return bytes([PUBLIC_KEYS.index(prefix)]) + payload


def _public_key(text: str, _: Network) -> bytes:
    return public_key_of(text)


def _destination(text: str, network: Network) -> tuple[int, bytes]:
    if text.startswith("KT1"):
        return _ORIGINATED, base58.decode(base58.CONTRACT, text)
    return _IMPLICIT, _key_hash(text, network)


def _entrypoints() -> dict[str, bytes]:
    """The entrypoints that have a tag of their own, read off the layout."""
    known = {}
    for tag in range(0xFF):
        raw = bytes([tag])
        try:
            known[ENTRYPOINT.show(ENTRYPOINT.read(Reader(raw)), TEZOS)] = raw
        except MalformedBytes:
            break
    return known


_ENTRYPOINT_TAGS = _entrypoints()
_NAMED_ENTRYPOINT = 0xFF


def _parameters(value: Json, _: Network) -> dict[str, bytes]:
    name = value["entrypoint"]
    text = name.encode()
    raw = _ENTRYPOINT_TAGS.get(name) or bytes([_NAMED_ENTRYPOINT, len(text)]) + text
    return {"entrypoint": raw, "value": from_json(value["value"])}


_READERS: Mapping[str, Callable[[Any, Network], Any]] = {
    "slot": _number,
    "level": _number,
    "round": _number,
    "block_payload_hash": _payload_hash,
    "dal_attestation": _number,
    "nonce": lambda text, _: bytes.fromhex(text),
    "source": _key_hash,
    "period": _number,
    "proposal": lambda text, _: base58.decode(base58.PROTOCOL_HASH, text),
    "ballot": lambda word, _: _BALLOTS[word],
    "fee": _number,
    "counter": _number,
    "gas_limit": _number,
    "storage_limit": _number,
    "amount": _number,
    "destination": _destination,
    "parameters": _parameters,
    "delegate": _key_hash,
    "public_key": _public_key,
    "proof": lambda text, _: base58.decode(base58.BLS_SIGNATURE, text),
}
