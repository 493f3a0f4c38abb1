"""The shapes of what a node answers, and of what is sent to it, field for field as JSON has them.

Only fields that are used are read; a node may send more. Hashes stay texts and 64-bit numbers,
which JSON carries as strings, stay strings; `chain_view` makes values of them. The shapes hold
for Octez and Mavryk nodes; a field that one of the two lacks is optional.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

Json = dict[str, Any]


# -- blocks ---------------------------------------------------------------------------------------


class Header(Struct):
    """A block header as `header` prints it. Genesis and activation blocks have no payload."""

    hash: str
    chain_id: str
    level: int
    proto: int
    predecessor: str
    timestamp: str  # RFC 3339, whole seconds, Z
    fitness: list[str]  # hex
    payload_hash: str | None = None


class Protocols(Struct):
    """Which protocol made a block and which makes the next."""

    protocol: str
    next_protocol: str


class LevelInfo(Struct):
    """Where a level stands in its cycle."""

    level: int
    cycle: int
    expected_commitment: bool  # whether its block must commit to a seed nonce


class Constants(Struct):
    """What forging needs of the protocol's constants."""

    minimal_block_delay: str  # seconds
    delay_increment_per_round: str  # seconds
    proof_of_work_threshold: str  # a signed 64-bit number
    hard_gas_limit_per_block: str
    hard_gas_limit_per_operation: str
    hard_storage_limit_per_operation: str


class ConsensusConstants(Struct):
    """What checking blocks and votes needs besides."""

    consensus_committee_size: int
    max_operations_time_to_live: int
    max_operation_data_length: int
    consensus_threshold: int | None = None  # Mavryk
    consensus_threshold_size: int | None = None  # Tezos
    swrr_new_baker_lottery_enable: bool = False  # Tezos: bakers are drawn by themselves

    @property
    def threshold(self) -> int:
        """How many slots make a quorum. Raises ValueError when the node does not say."""
        for number in (self.consensus_threshold_size, self.consensus_threshold):
            if number is not None:
                return number
        raise ValueError("the constants name no consensus threshold")


class Validator(Struct):
    """A delegate of a level's committee; Tezos says `rounds` for what Mavryk calls `slots`."""

    delegate: str
    consensus_key: str  # hash
    slots: list[int] = []
    rounds: list[int] = []
    companion_key: str | None = None  # hash


class LevelValidators(Struct):
    """An entry of `helpers/validators`: a whole level on Tezos, one delegate on Mavryk."""

    level: int
    all_bakers_attest_activated: bool = False  # then votes have powers that are not slots
    delegates: list[Validator] = []
    delegate: str = ""
    consensus_key: str = ""
    slots: list[int] = []


class Baker(Struct):
    """An entry of `helpers/baking_rights`: who bakes a round of a level."""

    level: int
    round: int
    delegate: str
    consensus_key: str  # hash


class KeyOfDelegate(Struct):
    """A consensus or companion key, active or to be."""

    pkh: str
    pk: str


class ConsensusKey(Struct):
    """The consensus or the companion key of a delegate, and those that come later."""

    active: KeyOfDelegate | None = None
    pendings: list[KeyOfDelegate] = []


class Account(Struct):
    """An implicit account; one that was never used has a balance of zero."""

    balance: str
    counter: str  # the last one used


# -- operations -----------------------------------------------------------------------------------


class PendingOperation(Struct):
    """A valid operation of the mempool."""

    hash: str
    branch: str
    contents: list[Json]
    signature: str | None = None  # absent on unsigned anonymous operations


class PendingOperations(Struct):
    """The mempool. Version 1 (older Mavryk) calls `applied` what version 2 calls `validated`."""

    validated: list[PendingOperation] = []
    applied: list[PendingOperation] = []

    @property
    def valid(self) -> list[PendingOperation]:
        return self.validated or self.applied


class RawOperation(Struct):
    """Branch, and hex of everything behind it."""

    branch: str
    data: str


class ForgeRequest(Struct):
    """Body of `helpers/forge/operations`: an unsigned operation."""

    branch: str
    contents: list[Json]


class ParseRequest(Struct):
    """Body of `helpers/parse/operations`."""

    operations: list[RawOperation]
    check_signature: bool = False


class ParsedOperation(Struct):
    """An operation that the node has taken apart."""

    branch: str
    contents: list[Json]
    signature: str | None = None


# -- a block to try or to inject ------------------------------------------------------------------


class PreapplyRequest(Struct):
    """Body of `helpers/preapply/block`: header contents and four lists of operations."""

    protocol_data: Json
    operations: list[list[Json]]


class PreappliedPass(Struct):
    """One pass of a preapplied block; operations of the other classes cannot be in the block."""

    applied: list[RawOperation]


class Shell(Struct):
    """A shell header."""

    level: int
    proto: int
    predecessor: str
    timestamp: str
    validation_pass: int
    operations_hash: str
    fitness: list[str]
    context: str


class PreappliedBlock(Struct):
    """The block that the node made of a draft."""

    shell_header: Shell
    operations: list[PreappliedPass]


class BlockToInject(Struct):
    """Body of `injection/block`: the signed header in hex and four lists of operations."""

    data: str
    operations: list[list[RawOperation]]
