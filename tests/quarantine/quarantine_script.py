"""Drives the quarantine's core in tests: a clock, a client, a store and a worker at its edge.

After each step the core's invariants are checked: conservation, bounds, one place per item.
"""

from __future__ import annotations

from collections import Counter

import msgspec
from scripted_chain import CHAIN_ID, Block, ScriptedWorker, Vote, digest, encode, genesis

from broker.messages import HELD, Ack, Request
from broker.quarantine.bounds import Bounds
from broker.quarantine.offers import VERIFY_BLOCK, VERIFY_VOTE, VERIFY_VOTES, vote_ids
from broker.quarantine.quarantine import Quarantine
from broker.quarantine.records import (
    Batch,
    ClearedBlock,
    ClearedVote,
    Ended,
    EvidenceRecord,
    HeldRecord,
    Restored,
    SignedRecord,
    untold,
)
from broker.quarantine.turn import SLASHABLE, LoadChange, PeerEvent, Turn, Wanted
from broker.verification import CheckAnswer, CheckSlice

CLIENT = "feeder"
decode_evidence = msgspec.msgpack.Decoder(EvidenceRecord).decode


class Store:
    """What a store holds, in memory: survives the core, as a file survives a process."""

    def __init__(self) -> None:
        self.held: dict[bytes, HeldRecord] = {}
        self.seen: dict[tuple[int, int, int, str], list[SignedRecord]] = {}
        self.blocks: list[ClearedBlock] = []
        self.votes: list[ClearedVote] = []
        self.evidence: list[EvidenceRecord] = []
        self.told: set[bytes] = set()  # operations whose event is in the log
        self.log: list[Ended] = []

    def commit(self, batch: Batch) -> None:
        for held in batch.held:
            self.held[held.key] = held
        for record in batch.seen:
            self._keep(record)
        self.blocks += batch.blocks
        self.votes += batch.votes
        self.evidence += batch.evidence

    def probe(self, record: SignedRecord) -> list[SignedRecord]:
        found = list(self.seen.get(self._place(record), ()))
        self._keep(record)
        return found

    def restored(self) -> Restored:
        told = {(ended.client, ended.id) for ended in self.log}
        return Restored(
            list(self.blocks),
            [(vote.record.hash, vote.record.level) for vote in self.votes],
            [record for records in self.seen.values() for record in records],
            [(e.kind, e.level, e.round, e.delegate) for e in self.evidence],
            [e for e in self.evidence if e.operation not in self.told],
            sorted(self.held.values(), key=lambda record: record.since_unix_ms),
            list(self.log),
            [*untold(self.blocks[::-1], told), *untold(self.votes[::-1], told)],
        )

    @staticmethod
    def _place(record: SignedRecord) -> tuple[int, int, int, str]:
        return (record.kind, record.level, record.round, record.delegate)

    def _keep(self, record: SignedRecord) -> None:
        kept = self.seen.setdefault(self._place(record), [])
        if record.hash not in {other.hash for other in kept}:
            kept.append(record)


class Script:
    """One run. `step` does a turn and all that follows at once; the rest does it bit by bit."""

    def __init__(
        self,
        bounds: Bounds | None = None,
        *,
        worker: ScriptedWorker | None = None,
        start: bool = True,
        validates: bool = True,
    ) -> None:
        self.root = genesis()
        self.worker = worker or ScriptedWorker([self.root])
        self.bounds = bounds or Bounds()
        self.store = Store()
        self.now = 1_000.0
        self.unix_now = float(self.root.header.timestamp_s + 100_000)
        self.validates = validates
        self.events: list[tuple[str, str, str]] = []  # name of the item, event, code
        self.peers: list[PeerEvent] = []
        self.wanted: list[Wanted] = []
        self.load: list[LoadChange] = []
        self.notes: list[str] = []
        self.slashable: list[EvidenceRecord] = []
        self.unanswered: list[CheckSlice] = []
        self.unstored: list[Batch] = []
        self.votes_per_batch: list[int] = []
        self._names: dict[bytes, str] = {}  # by request id
        self._ids = 0
        self.core = self._boot()
        if start:
            self.run()

    # -- time -------------------------------------------------------------------------------------

    def later(self, seconds: float) -> None:
        """Let both clocks go on, and the core take its turns at its deadlines."""
        self.run()
        end = self.now + seconds
        while (at := self.core.deadline()) < end:
            self._advance(max(at, self.now + 0.001))
            self.run()
        self._advance(max(end, self.now))
        self.run()

    def _advance(self, now: float) -> None:
        self.unix_now += now - self.now
        self.now = now

    # -- stimuli ----------------------------------------------------------------------------------

    def block(
        self, block: Block, peer: str = "p", *, name: str = "", id_: bytes | None = None
    ) -> Ack:
        payload = {"peer": peer, "header": block.raw, "operations": block.operations}
        return self._push(VERIFY_BLOCK, encode(payload), name or block.hash.hex()[:8], id_)

    def vote(self, vote: Vote, peer: str = "p", *, name: str = "", id_: bytes | None = None) -> Ack:
        raw = encode(vote)
        return self.raw_vote(raw, peer, name or digest(raw).hex()[:8], id_)

    def raw_vote(self, raw: bytes, peer: str, name: str, id_: bytes | None = None) -> Ack:
        """Push any bytes as a vote."""
        return self._push(VERIFY_VOTE, encode({"peer": peer, "raw": raw}), name, id_)

    def votes(
        self, votes: list[Vote], peer: str = "p", *, names: list[str], id_: bytes | None = None
    ) -> Ack:
        """Push several at once."""
        return self.raw_votes([encode(vote) for vote in votes], peer, names, id_)

    def raw_votes(
        self, raws: list[bytes], peer: str, names: list[str], id_: bytes | None = None
    ) -> Ack:
        if id_ is None:
            self._ids += 1
            id_ = b"together" + self._ids.to_bytes(6) + b"\xff\xff"
        self._names |= zip(vote_ids(id_, len(raws)), names, strict=True)
        return self._push(VERIFY_VOTES, encode({"peer": peer, "raws": raws}), "", id_)

    def raw_block(self, raw: bytes, peer: str, name: str) -> Ack:
        """Push any bytes as a header."""
        payload = {"peer": peer, "header": raw, "operations": [[], [], [], []]}
        return self._push(VERIFY_BLOCK, encode(payload), name, None)

    def _push(self, kind: str, payload: bytes, name: str, id_: bytes | None) -> Ack:
        if id_ is None:
            self._ids += 1
            id_ = self._ids.to_bytes(16, "big")
        self._names[id_] = name
        ack = self.core.pushed(CLIENT, Request(id_, kind, payload), self.now, self.unix_now)
        self._check()
        return ack

    # -- the edge ---------------------------------------------------------------------------------

    def turn(self) -> Turn:
        """One turn: events are logged, slices and the batch wait to be dealt with."""
        turn = self.core.end_turn(self.now, self.unix_now)
        self._check()
        if turn.batch is not None:
            self.store.commit(turn.batch)
            self.unstored.append(turn.batch)
            self.votes_per_batch.append(len(turn.batch.votes))
        for client, event, mark in turn.events:
            if event.event == SLASHABLE:
                record = decode_evidence(event.body)
                self.store.told.add(record.operation)
                self.slashable.append(record)
                continue
            name = self._names[event.id]
            self.events.append((name, event.event, event.code))
            if event.event != HELD:
                self.store.log.append(
                    Ended(
                        client, event.id, mark, event.event, event.delegate, event.code, "",
                        event.body,
                    )
                )  # fmt: skip
        for key in turn.forget:
            self.store.held.pop(key, None)
        for probe in turn.probes:
            self.core.probed(probe, self.store.probe(probe), self.now)
        self.peers += turn.peers
        self.wanted += turn.wanted
        self.load += turn.load
        self.notes += turn.notes
        self.unanswered += turn.slices
        return turn

    def confirm(self) -> None:
        """The store says that everything committed is durable."""
        unstored, self.unstored = self.unstored, []
        for batch in unstored:
            self.core.stored(batch.number, self.now, self.unix_now)
            self._check()

    def answer(self) -> None:
        """The worker answers what it was asked."""
        asked, self.unanswered = self.unanswered, []
        for slice_ in asked:
            self.reply(self.worker.answer(slice_))

    def reply(self, answer: CheckAnswer) -> None:
        self.core.answered([answer], self.now, self.unix_now)
        self._check()

    def step(self) -> bool:
        """A turn, its answers and its store; whether anything happened."""
        turn = self.turn()
        busy = bool(self.unanswered or self.unstored or turn.events)
        self.confirm()
        self.answer()
        return busy

    def run(self) -> None:
        """Steps until nothing happens any more at this moment."""
        for _ in range(100_000):
            if not self.step() and self.core.deadline() > self.now:
                return
        raise AssertionError("it goes on for ever")

    def restart(self, *, after_s: float = 0.0) -> None:
        """The process is killed, and another one starts on what was stored."""
        self.unanswered, self.unstored = [], []
        self._advance(self.now + after_s)
        self.core = self._boot()
        self.core.restored(self.store.restored(), self.now, self.unix_now)
        self._check()

    def _boot(self) -> Quarantine:
        round_ms = self.worker.round_ms
        return Quarantine(CHAIN_ID, self.bounds, self.now, self.unix_now, round_ms=round_ms)

    def _check(self) -> None:
        if self.validates:
            self.core.validate()

    # -- what came of it --------------------------------------------------------------------------

    def ends(self, name: str = "") -> list[str]:
        """The events that ended requests, in order: of one item, or of all."""
        return [e for n, e, _ in self.events if e != HELD and name in ("", n)]

    def last(self, name: str) -> tuple[str, str]:
        """An item's latest event and its code."""
        return [(e, c) for n, e, c in self.events if n == name][-1]

    def counts(self) -> Counter[str]:
        return Counter(self.ends())

    def cleared(self) -> list[str]:
        return [n for n, e, _ in self.events if e == "cleared"]

    def weights(self, peer: str) -> int:
        """What a peer was charged altogether."""
        return sum(event.weight * event.count for event in self.peers if event.peer == peer)


def name_of(block: Block) -> str:
    return block.hash.hex()[:8]


def name_of_vote(vote: Vote) -> str:
    return digest(encode(vote)).hex()[:8]
