"""What checks need to know of a node, as questions and answers.

Checks never wait for a node and read none of its JSON: what they lack becomes a question, whose
answer comes as values. Hashes and keys are raw bytes, delegates texts.
"""

from __future__ import annotations

from msgspec import Struct


class RulesWanted(Struct, frozen=True):
    """Protocol and constants, as of the head."""


class RightsWanted(Struct, frozen=True):
    """Who has the slots of a level."""

    level: int


class ChainWanted(Struct, frozen=True):
    """The head and its ancestors."""

    known: bytes  # hash of the highest block that the asker knows; empty: none


class StateWanted(Struct, frozen=True):
    """What a block left behind: of the first of `blocks` that the node knows."""

    blocks: tuple[bytes, ...]  # hashes: a block, its predecessor, …
    sources: tuple[bytes, ...]  # tagged key hashes


class IncludedWanted(Struct, frozen=True):
    """Which operations some blocks hold."""

    blocks: tuple[bytes, ...]


Question = RulesWanted | RightsWanted | ChainWanted | StateWanted | IncludedWanted


class NodeQuestion(Struct, frozen=True):
    """A question to the node, for which checks wait."""

    number: int  # chosen by whoever asks, never used twice
    chain_id: str  # "Net…"
    question: Question
    ttl_ms: int


class RulesTold(Struct, frozen=True):
    """Protocol and constants."""

    protocol: str  # "P…"
    minimal_block_delay_s: int
    delay_increment_per_round_s: int
    proof_of_work_threshold: int  # unsigned
    gas_per_block: int
    gas_per_operation: int
    storage_per_operation: int
    committee_size: int
    consensus_threshold: int
    operations_ttl: int
    operation_bytes_max: int


class VoterTold(Struct, array_like=True, frozen=True):
    """One delegate of a committee."""

    delegate: str
    consensus_hash: str
    key: bytes  # tagged
    slots: tuple[int, ...]  # ascending
    companion_hash: str | None = None
    companion: bytes | None = None  # tagged


class RightsTold(Struct, frozen=True):
    """The committee of a level."""

    level: int
    voters: list[VoterTold]
    # By round, without slots, where bakers are drawn by themselves; empty: the slots tell.
    bakers: list[VoterTold] = []


class ChainTold(Struct, frozen=True):
    """Where the chain stands."""

    rules: RulesTold
    final: bytes
    headers: list[bytes]  # oldest first
    delegates: int
    chain_id: str
    below: list[bytes] = []  # hashes under the lowest header, newest first, unless that is known


class AccountTold(Struct, array_like=True, frozen=True):
    """An implicit account."""

    source: bytes
    balance: int
    counter: int
    public_key: bytes | None


class StateTold(Struct, frozen=True):
    """What a block left behind."""

    base: int  # which of the blocks asked for it is
    branch: list[bytes]  # the block, its predecessor, …: what operations may name
    accounts: list[AccountTold]


class IncludedTold(Struct, frozen=True):
    """The hashes of the operations in passes 1 and 2 of each block.

    What tells of votes and of manager operations that they are repeated is their level, and their
    counters.
    """

    operations: list[list[bytes]]


Told = RulesTold | RightsTold | ChainTold | StateTold | IncludedTold


class NotTold(Struct, frozen=True):
    """Why the node has not answered: a code of `preparation_errors.py` and one sentence."""

    code: str
    text: str
