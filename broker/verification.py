"""What the quarantine has workers check, and what they answer, as values.

The quarantine parses nothing and a worker remembers nothing: a worker is given raw bytes and where
the asker stands on the chain, and gives back a judgement with the facts that it read. Between them
the broker forwards the bodies unopened (`CheckSlice.body`, `CheckAnswer.body`); how slices find a
worker is in `check_routing.py`.

Hashes are raw bytes here, keys and delegates base58check texts. An item is named by its number,
which the asker chose.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct

# A slice is at most so much estimated CPU: a big block delays the votes beside it by no more.
SLICE_US_MAX = 2_000
# How many ancestors one item may carry: what a head may be ahead of the final block.
ANCESTORS_MAX = 64
# A node's own name for the chain it is on. Good for CHAIN alone, whose answer has the id: who does
# not know the id yet asks by it.
MAIN_CHAIN = "main"
LEVEL_MAX = 0x7FFFFFFF  # a level is a signed number of 32 bits


class Check(IntEnum):
    """What is to be checked; the cheapest sufficient one is asked first."""

    CHAIN = 0  # ask the node where the chain stands
    VOTE = 1  # a consensus vote: structure, chain, window, clock, rights, signature
    HEADER = 2  # the same of a block, and its proof of work: all that needs no predecessor
    BLOCK = 3  # a block with its operations, on top of its predecessor
    EVIDENCE = 4  # make the operation that denounces two conflicting objects


class Judgement(IntEnum):
    """How a check ended. Only INVALID and BODY_INVALID are anybody's fault."""

    VALID = 0
    INVALID = 1  # `reason` says which rule; the bytes will never be valid
    BODY_INVALID = 2  # the operations are not those of the header; the header may be good
    STALE = 3  # below the window of levels or rounds, or too far above it
    EARLY = 4  # not before `until_unix_ms`
    UNVIABLE = 5  # on a branch that lost to finality
    RIGHTS_UNKNOWN = 6  # the node does not tell the rights of that level yet
    ANCESTORS_WANTED = 7  # send the operations of the blocks `wanted` along
    UNCHECKED = 8  # an internal error; says nothing about the item


class Position(Struct, array_like=True, frozen=True, gc=False):
    """Where the asker stands on the chain, and his clock."""

    unix_ms: int
    final_level: int  # blocks at or below it are settled
    head_level: int
    head_round: int
    head_timestamp_s: int
    final: bytes = b""  # hash of the block at `final_level`; empty: not known
    # How far above the head a block may be; beyond is for synchronising, not for waiting.
    levels_ahead: int = 256


class Ancestor(Struct, array_like=True, frozen=True):
    """A block that was cleared before; the worker may not have seen it."""

    header: bytes  # signed
    # None: left out until they are wanted. Votes may be left out: nothing follows from them.
    operations: list[list[bytes]] | None = None


class CheckItem(Struct, array_like=True, frozen=True):
    """One thing to check."""

    number: int
    raw: bytes  # VOTE, HEADER, BLOCK: signed bytes. EVIDENCE: the first object.
    # CHAIN: hash of the highest block of the node that the asker knows; empty: none
    operations: list[list[bytes]] = []  # BLOCK: its four passes
    ancestors: list[Ancestor] = []  # BLOCK: the predecessor, its predecessor, …
    other: bytes = b""  # EVIDENCE: the second object
    branch: bytes = b""  # EVIDENCE: hash of the block that the operation names as its branch
    # EVIDENCE: the slot that votes twice, if one of the two is of several votes added up; else -1
    slot: int = -1


class CheckBody(Struct, array_like=True, frozen=True):
    """What is in `CheckSlice.body`."""

    check: int  # Check
    chain_id: str  # "Net…"; of CHAIN also MAIN_CHAIN
    position: Position
    items: list[CheckItem]


class VoteFacts(Struct, tag=0, array_like=True, frozen=True, gc=False):
    """What a vote says."""

    kind: str  # "preattestation" or "attestation"
    level: int
    round: int
    slot: int
    branch: bytes
    payload_hash: bytes
    delegate: str
    # What two votes of a delegate for one kind, level and round must agree in: a digest of branch
    # and payload hash, and the slot where the protocol denounces a differing slot too.
    statement: bytes


class BlockVote(Struct, array_like=True, frozen=True, gc=False):
    """What a vote that a block holds says, as far as another vote could conflict with it."""

    place: Annotated[int, Meta(ge=0)]  # of its operation in the block's first pass
    kind: Literal["preattestation", "attestation"]
    level: int
    round: int
    delegate: str
    statement: bytes  # as of VoteFacts
    slot: int = -1  # the delegate's, if the operation is of several votes added up


class HeaderFacts(Struct, tag=1, array_like=True, frozen=True, gc=False):
    """What a block's header says."""

    hash: bytes
    predecessor: bytes
    level: int
    round: int
    timestamp_s: int
    payload_hash: bytes
    payload_round: int
    fitness: bytes  # compares like the chain's fitness: the greater is the better head
    delegate: str  # who has the right to bake at this level and round; "" in ChainFacts


class ChainFacts(Struct, tag=2, array_like=True, frozen=True):
    """Where the node says that the chain stands."""

    final: bytes  # hash of the highest final block
    blocks: list[HeaderFacts]  # oldest first, up to the head, from the final or the known block on
    headers: list[bytes]  # the same blocks, signed
    delegates: int  # how many have rights at the head's level
    committee_slots: int
    round_ms: int  # duration of round 0
    chain_id: str  # "Net…"
    operations_ttl: int = 0  # how many levels below the head an operation's branch may be
    # Hashes of the live blocks under the lowest of `blocks`, newest first; empty when `blocks` go
    # down to the one that is known.
    below: list[bytes] = []


class Verdict(Struct, array_like=True, frozen=True, gc=False):
    """How the check of one item ended."""

    number: int
    judgement: int  # Judgement
    reason: str = ""  # a stable code; for everything but VALID
    text: str = ""  # for people
    facts: VoteFacts | HeaderFacts | ChainFacts | None = None  # as far as they were read
    until_unix_ms: int = 0  # EARLY
    wanted: list[bytes] = []  # ANCESTORS_WANTED: hashes
    made: bytes = b""  # EVIDENCE: the unsigned operation with a zero signature, to be injected
    votes: list[BlockVote] = []  # BLOCK, valid: what it holds, in the order of its first pass


class VerdictBody(Struct, array_like=True, frozen=True):
    """What is in `CheckAnswer.body`."""

    verdicts: list[Verdict]  # in the order of the items
    spent_us: int  # CPU of this slice, so that the asker learns what an item costs


# -- what the broker reads ------------------------------------------------------------------------


class CheckSlice(Struct, array_like=True, frozen=True, gc=False):
    """Some items for one worker."""

    number: int  # chosen by the asker, to know the answer by
    cost_us: int  # estimated CPU
    body: bytes  # CheckBody
    ttl_ms: int  # when it has no answer by then, nobody wants one
    # A delegate, whose owner is preferred; "": whoever has the least to do.
    hint: str = ""


class CheckAnswer(Struct, array_like=True, frozen=True, gc=False):
    """The end of one slice: verdicts, or why there are none. Neither is repeated."""

    number: int
    body: bytes = b""  # VerdictBody
    problem: str = ""  # busy, no_worker, worker_lost, malformed
