"""A chain made up for tests, and a worker that judges its blocks and votes by what they say.

The bytes are MessagePack instead of the chain's own format, hashes are real. What a signature is
worth is written in it: `good`, or anything else for a forged one.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec
from msgspec import Struct

from broker.verification import (
    BlockVote,
    ChainFacts,
    Check,
    CheckAnswer,
    CheckBody,
    CheckItem,
    CheckSlice,
    HeaderFacts,
    Judgement,
    Verdict,
    VerdictBody,
    VoteFacts,
)

CHAIN_ID = "NetXscripted"
GOOD = b"good"
ROUND_S = 8
WINDOW_ABOVE = 256

encode = msgspec.msgpack.encode


def digest(raw: bytes) -> bytes:
    return blake2b(raw, digest_size=32).digest()


class Header(Struct, tag="block", array_like=True, frozen=True):
    """A block's header."""

    predecessor: bytes
    level: int
    round: int
    timestamp_s: int
    payload_hash: bytes
    baker: str
    operations_hash: bytes
    nonce: int = 0
    bad: str = ""  # a reason for which the block is invalid on its predecessor
    signature: bytes = GOOD


class Vote(Struct, tag="vote", array_like=True, frozen=True):
    """A consensus vote; or those of several delegates ("d+e") that a baker has added up."""

    kind: str
    level: int
    round: int
    slot: int
    branch: bytes
    payload_hash: bytes
    delegate: str
    signature: bytes = GOOD


_decode = msgspec.msgpack.Decoder(Header | Vote).decode
decode_body = msgspec.msgpack.Decoder(CheckBody).decode
OPERATIONS: list[list[bytes]] = [[], [], [], [b"transfer"]]


class Block:
    """A header with its operations, as a peer would send it."""

    def __init__(self, header: Header, operations: list[list[bytes]] = OPERATIONS) -> None:
        self.header = header
        self.operations = operations
        self.raw = encode(header)
        self.hash = digest(self.raw)

    @property
    def facts(self) -> HeaderFacts:
        h = self.header
        return HeaderFacts(
            self.hash, h.predecessor, h.level, h.round, h.timestamp_s, h.payload_hash, h.round,
            h.level.to_bytes(8, "big", signed=True) + h.round.to_bytes(4, "big"), h.baker,
        )  # fmt: skip

    def child(self, *, round_: int = 0, nonce: int = 0, bad: str = "", baker: str = "") -> Block:
        """A good block on top of this one, unless it is told to be a bad one."""
        h = self.header
        level = h.level + 1
        payload = digest(b"payload" + self.hash + bytes([nonce % 256]))
        return Block(
            Header(
                self.hash, level, round_, h.timestamp_s + ROUND_S * (1 + round_), payload,
                baker or f"baker{level}r{round_}", digest(encode(OPERATIONS)), nonce, bad,
            )
        )  # fmt: skip

    def holding(self, *votes: Vote) -> Block:
        """The same block with these votes in it, signed for."""
        operations = [[encode(vote) for vote in votes], *self.operations[1:]]
        digest_ = digest(encode(operations))
        return Block(msgspec.structs.replace(self.header, operations_hash=digest_), operations)

    def chain(self, count: int) -> list[Block]:
        """So many blocks on top of each other, this one not included."""
        blocks: list[Block] = []
        top = self
        for _ in range(count):
            top = top.child()
            blocks.append(top)
        return blocks


def genesis(level: int = 100, timestamp_s: int = 1_700_000_000) -> Block:
    """The block that the node has when a test begins."""
    header = Header(bytes(32), level, 0, timestamp_s, digest(b"genesis"), "baker", b"")
    return Block(header)


def vote_for(
    block: Block, delegate: str, kind: str = "attestation", *, signature: bytes = GOOD
) -> Vote:
    """A delegate's vote for a block, which names its predecessor as its branch."""
    h = block.header
    return Vote(kind, h.level, h.round, 0, h.predecessor, h.payload_hash, delegate, signature)


class ScriptedWorker:
    """Answers slices; a test may give it verdicts of its own by item bytes."""

    def __init__(
        self, node: list[Block], *, slot_counts: bool = True, window: int = WINDOW_ABOVE
    ) -> None:
        self.node = node  # what the node has, oldest first
        self.chain_id = CHAIN_ID
        self.slot_counts = slot_counts  # whether a differing slot is an offence, as on Mavryk
        self.window = window  # levels above the head that are looked at
        self.round_ms = ROUND_S * 1000
        self.votes_window = 1  # levels below the head
        self.ttl = 360  # levels below the head that a branch may be
        self.below = [node[0].header.predecessor]  # hashes of the live blocks under those of `node`
        self.overrides: dict[bytes, Verdict] = {}  # by raw; `number` is filled in
        self.overrides_header: dict[bytes, Verdict] = {}  # the same for HEADER only
        self.overrides_block: dict[bytes, Verdict] = {}  # and for BLOCK only
        self.checked: list[tuple[int, bytes]] = []  # check and hash, in the order of asking
        self.evidence: list[tuple[bytes, bytes]] = []
        self.asked_parents: list[tuple[bytes, list[bytes]]] = []

    def answer(self, asked: CheckSlice) -> CheckAnswer:
        body = decode_body(asked.body)
        verdicts = [self._judge(body, item) for item in body.items]
        spent_us = 50 * len(verdicts)
        return CheckAnswer(asked.number, encode(VerdictBody(verdicts, spent_us)))

    def _judge(self, body: CheckBody, item: CheckItem) -> Verdict:
        self.checked.append((body.check, digest(item.raw)))
        told = self.overrides.get(item.raw)
        if body.check == Check.BLOCK:
            told = self.overrides_block.get(item.raw, told)
        if body.check == Check.HEADER:
            told = self.overrides_header.get(item.raw, told)
        if told is not None:
            return msgspec.structs.replace(told, number=item.number)
        if body.check == Check.CHAIN:
            return self._chain(item)
        if body.check == Check.EVIDENCE:
            self.evidence.append((item.raw, item.other))
            made = b"denounce %d " % item.slot + digest(item.raw + item.other)
            return Verdict(item.number, Judgement.VALID, made=made)
        try:
            read = _decode(item.raw)
        except msgspec.MsgspecError:
            return Verdict(item.number, Judgement.INVALID, "malformed")
        if isinstance(read, Vote) != (body.check == Check.VOTE):
            return Verdict(item.number, Judgement.INVALID, "malformed")
        if isinstance(read, Vote):
            return self._vote(body, item, read)
        return self._block(body, item, Block(read, item.operations))

    def _chain(self, item: CheckItem) -> Verdict:
        blocks = [block.facts for block in self.node]
        headers = [block.raw for block in self.node]
        facts = ChainFacts(
            blocks[0].hash, blocks, headers, 400, 7000, self.round_ms, self.chain_id, self.ttl,
            self.below,
        )  # fmt: skip
        return Verdict(item.number, Judgement.VALID, facts=facts)

    def _vote(self, body: CheckBody, item: CheckItem, vote: Vote) -> Verdict:
        head = body.position.head_level
        if not head - self.votes_window <= vote.level <= head + 3:
            return Verdict(item.number, Judgement.STALE, "too_old")
        if vote.signature[: len(GOOD)] != GOOD:
            return Verdict(item.number, Judgement.INVALID, "bad_signature")
        facts = VoteFacts(
            vote.kind, vote.level, vote.round, vote.slot, vote.branch, vote.payload_hash,
            vote.delegate, self._statement(vote),
        )  # fmt: skip
        return Verdict(item.number, Judgement.VALID, facts=facts)

    def _statement(self, vote: Vote) -> bytes:
        said = vote.branch + vote.payload_hash
        return digest(said + vote.slot.to_bytes(2, "big") if self.slot_counts else said)

    def _votes_in_block(self, place: int, raw: bytes) -> list[BlockVote]:
        try:
            vote = _decode(raw)
        except msgspec.MsgspecError:
            return []  # a test needed bytes, and no vote
        at = place, vote.kind, vote.level, vote.round
        names, said = vote.delegate.split("+"), self._statement(vote)
        slots = range(10, 10 + len(names)) if len(names) > 1 else [-1]
        return [BlockVote(*at, name, said, slot) for name, slot in zip(names, slots, strict=True)]

    def _block(self, body: CheckBody, item: CheckItem, block: Block) -> Verdict:
        h, facts = block.header, block.facts
        where = body.position
        if h.level <= where.final_level:
            return Verdict(item.number, Judgement.STALE, "too_old", facts=facts)
        if h.level > where.head_level + self.window:
            return Verdict(item.number, Judgement.STALE, "too_far", facts=facts)
        early_ms = h.timestamp_s * 1000 - where.unix_ms
        if early_ms > ROUND_S * 1000:
            return Verdict(item.number, Judgement.STALE, "far_too_early", facts=facts)
        if h.signature != GOOD:
            return Verdict(item.number, Judgement.INVALID, "bad_signature", facts=facts)
        if early_ms > 1000:
            until = h.timestamp_s * 1000
            return Verdict(item.number, Judgement.EARLY, "too_early", "", facts, until)
        if body.check == Check.HEADER:
            return Verdict(item.number, Judgement.VALID, facts=facts)
        self.asked_parents.append((block.hash, [digest(a.header) for a in item.ancestors]))
        if h.bad:
            return Verdict(item.number, Judgement.INVALID, h.bad, facts=facts)
        if digest(encode(block.operations)) != h.operations_hash:
            return Verdict(item.number, Judgement.BODY_INVALID, "wrong_operations_hash", "", facts)
        votes = [
            vote
            for place, raw in enumerate(block.operations[0])
            for vote in self._votes_in_block(place, raw)
        ]
        return Verdict(item.number, Judgement.VALID, facts=facts, votes=votes)
