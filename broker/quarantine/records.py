"""What the store keeps for the quarantine, as values."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import TypeVar

from msgspec import Struct

from broker.verification import HeaderFacts, VoteFacts

# What a delegate may sign only once for a level and round.
BLOCK = 0
KIND_OF_VOTE = {"preattestation": 1, "attestation": 2}


class SignedRecord(Struct, array_like=True, frozen=True, gc=False):
    """Something that a delegate has signed, which another signature could conflict with.

    A block's `statement` is its hash: two blocks that differ in anything conflict.
    """

    kind: int  # BLOCK or one of KIND_OF_VOTE
    level: int
    round: int
    delegate: str  # "": the node's own block, whose baker it did not name
    statement: bytes
    hash: bytes
    raw: bytes
    slot: int = -1  # the delegate's, if `raw` is of several votes added up


class HeldRecord(Struct, array_like=True, frozen=True):
    """A held item as it was sent: after a restart everything is checked again from here."""

    fingerprint: bytes
    hash: bytes
    kind: str  # verify_block, verify_vote
    client: str
    id: bytes
    peers: tuple[str, ...]  # senders
    raw: bytes
    operations: list[list[bytes]] | None  # None: a vote
    since_unix_ms: int  # first seen
    reason: str  # parent, target, time, rights

    @property
    def key(self) -> bytes:
        """What tells it from the record of another request for the same bytes."""
        return held_key(self.client, self.id, self.fingerprint)


def held_key(client: str, id_: bytes, fingerprint: bytes) -> bytes:
    """The key of a request's held record: one that is forgotten late takes no other along."""
    return fingerprint + id_ + client.encode()


class ClearedBlock(Struct, array_like=True, frozen=True):
    """A block that holds, on its predecessors."""

    facts: HeaderFacts
    header: bytes  # signed
    operations: list[list[bytes]] | None  # None: not known, or no longer in memory
    senders: tuple[str, ...]
    client: str = ""  # who asked, under which id; "": the node told of it
    id: bytes = b""

    @property
    def of_node(self) -> bool:
        """Whether the node has it for certain: it told of it."""
        return not self.client


class ClearedVote(Struct, array_like=True, frozen=True, gc=False):
    """A vote for a block that holds."""

    record: SignedRecord
    senders: tuple[str, ...]
    client: str
    id: bytes


# kind, level, round, delegate
Offence = tuple[int, int, int, str]


class EvidenceRecord(Struct, array_like=True, frozen=True, gc=False):
    """Two conflicting objects and the operation that denounces them. Also the body of `slashable`.

    `first` is the one with the lower hash, as the protocol orders them.
    """

    kind: int  # BLOCK or one of KIND_OF_VOTE
    level: int
    round: int
    delegate: str
    first: bytes
    second: bytes
    operation: bytes  # unsigned, with a zero signature: ready to be injected


class ClearedBody(Struct, array_like=True, frozen=True, gc=False):
    """Body of `cleared`: what it was, for those who did not push it."""

    kind: int  # BLOCK or one of KIND_OF_VOTE
    hash: bytes
    level: int
    round: int

    @classmethod
    def of(cls, facts: HeaderFacts | VoteFacts, hash_: bytes) -> ClearedBody:
        """What is said of a block or vote with these facts."""
        kind = BLOCK if isinstance(facts, HeaderFacts) else KIND_OF_VOTE[facts.kind]
        return cls(kind, hash_, facts.level, facts.round)


class Batch(Struct):
    """What the store must have, in one transaction, before `stored(number)` is said."""

    number: int
    held: list[HeldRecord]
    seen: list[SignedRecord]  # first of its kind, or the one that conflicts with it
    blocks: list[ClearedBlock]  # in this order
    votes: list[ClearedVote]
    evidence: list[EvidenceRecord]

    @property
    def empty(self) -> bool:
        return not (self.held or self.seen or self.blocks or self.votes or self.evidence)


class Ended(Struct, frozen=True, gc=False):
    """How a request ended before a restart, from the event log."""

    client: str
    id: bytes
    fingerprint: bytes
    event: str
    delegate: str
    code: str
    text: str
    body: bytes = b""


class Restored(Struct):
    """What the store and the event log hold when the quarantine starts."""

    blocks: list[ClearedBlock]  # cleared, oldest first
    votes: list[tuple[bytes, int]]  # cleared: hash and level
    seen: list[SignedRecord]
    denounced: list[Offence]  # of all evidence
    untold: list[EvidenceRecord]  # evidence whose event is not in the log
    held: list[HeldRecord]  # oldest first
    ended: list[Ended]  # oldest first
    untold_cleared: list[ClearedBlock | ClearedVote] = []  # whose event is not in the log


Cleared = TypeVar("Cleared", ClearedBlock, ClearedVote)


def untold(newest_first: Iterable[Cleared], told: Container[tuple[str, bytes]]) -> list[Cleared]:
    """Of what was cleared, that of which nobody was told before a kill; oldest first.

    Events are logged in the order of clearing, so it is what comes after the last one that was
    told. With none of those in the log nothing is known, and nothing told again.

    Args:
        told: client and id of requests that have ended lately, by the log.
    """
    found: list[Cleared] = []
    for each in newest_first:
        if (each.client, each.id) in told:
            return found[::-1]
        if each.client:
            found.append(each)
    return []
