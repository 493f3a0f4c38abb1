"""How the RPC of a Mavryk node differs from that of a Tezos node, as data.

Paths, status codes, streams and most shapes are the same. Source: the encodings of
tezos/tezos-mirror ``proto_025`` and mavryk-network/mavryk-protocol ``proto_001``,
``proto_002``, and the recorded answers in their ``tezt/tests/expected``.
"""

from __future__ import annotations

from dataclasses import dataclass

from signers.formats.networks import Protocol


@dataclass(frozen=True, slots=True)
class Dialect:
    """The words and fields of one protocol's RPC."""

    protocol_prefix: str  # of error ids
    coin: str  # in error ids: tez.subtraction_underflow
    smallest_unit: str  # in the mempool's words: needed_fee_in_mutez
    nano_unit: str  # in the mempool's filter: minimal_nanotez_per_byte
    chain_name: str  # must contain SANDBOXED, by which pytezos knows a young chain
    version: dict[str, object]  # of the node's software
    account_says_revealed: bool
    adaptive_issuance_vote: bool
    attesting_power: str  # in attestation_rights
    validators_by_level: bool
    metadata_counts_votes: bool
    versions: frozenset[str]  # of blocks and operations that may be asked for
    mempool_versions: frozenset[str]
    wraps_injection_errors: bool
    forges_signed_operations: bool


_TEZOS = Dialect(
    protocol_prefix="proto.025-PsUshuai.",
    coin="tez",
    smallest_unit="mutez",
    nano_unit="nanotez",
    chain_name="SANDBOXED_TEZOS",
    version={"major": 25, "minor": 0, "build": 0, "additional_info": "release"},
    account_says_revealed=True,
    adaptive_issuance_vote=False,
    attesting_power="attesting_power",
    validators_by_level=True,
    metadata_counts_votes=True,
    versions=frozenset({"1"}),
    mempool_versions=frozenset({"2"}),
    wraps_injection_errors=True,
    forges_signed_operations=True,
)


def _mavryk(protocol_prefix: str) -> Dialect:
    return Dialect(
        protocol_prefix=protocol_prefix,
        coin="mav",
        smallest_unit="mumav",
        nano_unit="nanomav",
        chain_name="SANDBOXED_MAVRYK",
        version={"major": 20, "minor": 0, "additional_info": "release"},
        account_says_revealed=False,
        adaptive_issuance_vote=True,
        attesting_power="attestation_power",
        validators_by_level=False,
        metadata_counts_votes=False,
        versions=frozenset({"0", "1"}),
        mempool_versions=frozenset({"1", "2"}),
        wraps_injection_errors=False,
        forges_signed_operations=False,
    )


_DIALECTS = {
    "Ushuaia": _TEZOS,
    "Boreas": _mavryk("proto.002-PtBoreas."),
    "Atlas": _mavryk("proto.001-PtAtLas."),
}

# The protocols that the sandbox can play, by network and by the name of its recorded constants.
PROTOCOLS = {"mavryk": ("boreas", "atlas"), "tezos": ("ushuaia",)}


def dialect_of(protocol: Protocol) -> Dialect:
    """Return the dialect of a protocol that the sandbox can play."""
    return _DIALECTS[protocol.name]
