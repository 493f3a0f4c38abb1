"""The quarantine's state machine: what the network sends ends exactly once, and only if it holds
as cleared.

    pushed ──► LANE ──► ASKED ──► STORING ──► cleared
                ▲  ◄──────┤  retry
                │         ├──► duplicate, stale, rejected, unviable, shed
                └── HELD ◄┘    for parent, target, time, rights
                     └──► expired, shed

A block is asked about twice: its header, which needs no predecessor, so that only real bakers can
fill the holding area; and with its operations, on its predecessor. Pure: stimuli and the time go
in, `end_turn` gives what to do, `deadline` when to call again at the latest.

What holds at every moment (checked by `validate`, which tests call after each step): every item
is in one place; in = out + held + in flight; no item waits for what is cleared; no area is above
its bound.
"""

from __future__ import annotations

from itertools import count
from math import inf

import msgspec

from broker.messages import HELD, REFUSED, Ack, Event, Request
from broker.quarantine.accounting import Accounting
from broker.quarantine.asking import Asking
from broker.quarantine.block_votes import block_votes
from broker.quarantine.bounds import Bounds
from broker.quarantine.chain_watch import ChainWatch
from broker.quarantine.cleared_chain import FINAL_BELOW_HEAD, ClearedChain
from broker.quarantine.conduct import (
    NOTHING,
    REJECTED_DEFAULT,
    REJECTED_WEIGHTS,
    WRONG_BODY,
    Conduct,
)
from broker.quarantine.ends import Ends
from broker.quarantine.flights import EvidenceJob, Flight, Flights
from broker.quarantine.held_item import HeldItem
from broker.quarantine.holding import REASONS, Holding
from broker.quarantine.intake import Intake
from broker.quarantine.invariants import validate
from broker.quarantine.items import (
    FOR_PARENT,
    FOR_RIGHTS,
    FOR_TARGET,
    FOR_TIME,
    HELD_FROM,
    RELEASED,
    STORING,
    Item,
)
from broker.quarantine.known_hashes import INVALID, LOST, KnownHashes
from broker.quarantine.lanes import Lanes
from broker.quarantine.load import Load
from broker.quarantine.missing_blocks import MissingBlocks
from broker.quarantine.moment import Moment
from broker.quarantine.offences import Offences
from broker.quarantine.offers import UNDECODABLE, VERIFY_BLOCK, VERIFY_VOTE, VERIFY_VOTES
from broker.quarantine.peers import Peers
from broker.quarantine.records import (
    BLOCK,
    KIND_OF_VOTE,
    ClearedBlock,
    ClearedVote,
    EvidenceRecord,
    HeldRecord,
    Restored,
    SignedRecord,
)
from broker.quarantine.requests import Requests
from broker.quarantine.slashing_table import EXCESS, FIRST, SAME
from broker.quarantine.storing import Storing
from broker.quarantine.turn import (
    CLEARED,
    DUPLICATE,
    EXPIRED,
    REJECTED,
    SHED,
    SLASHABLE,
    STALE,
    UNVIABLE,
    Turn,
    Wanted,
)
from broker.verification import (
    ANCESTORS_MAX,
    BlockVote,
    ChainFacts,
    Check,
    CheckAnswer,
    HeaderFacts,
    Judgement,
    Verdict,
    VerdictBody,
    VoteFacts,
)

# Each signature over one header gives a hash of its own: to remember those as bad would only push
# others out.
NOT_REMEMBERED = frozenset({"bad_signature"})
# Why something was not checked that says nothing about the item: it waits as for rights.
NODE_REASONS = frozenset({"node_unavailable", "chain_unknown", "state_unknown"})
# No worker can check such a signature: to ask another one would give anybody three checks free.
UNSUPPORTED_KEY = "unsupported_key"

SYNC_ASK_EVERY_S = 10.0  # blocks far above the head lead to one question in this time
# How often one block may ask for the operations of its ancestors: each time it gets one at least.
ANCESTOR_ROUNDS = ANCESTORS_MAX

_encode = msgspec.msgpack.Encoder().encode
_decode_verdicts = msgspec.msgpack.Decoder(VerdictBody).decode


class Quarantine:
    """The quarantine; see the module's text."""

    def __init__(
        self, chain_id: str, bounds: Bounds, now: float, unix_now: float, *, round_ms: int
    ) -> None:
        """An empty quarantine of a chain ("Net…"), whose round 0 lasts so long."""
        self.bounds = bounds
        self.accounting = Accounting()
        self.chain = ClearedChain(bounds)
        self.known = KnownHashes(bounds)
        self.peers = Peers(bounds)
        self.conduct = Conduct(self.peers)
        self.offences = Offences(bounds)
        self.missing = MissingBlocks(bounds)
        self.holding = Holding(bounds)
        self.lanes = Lanes(bounds)
        self.flights = Flights(chain_id, bounds)
        self.storing = Storing(bounds.storing, bounds.storing_bytes, 1)
        self.load = Load(bounds)
        self.requests = Requests(bounds.open, bounds.ended_requests)
        self.watch = ChainWatch(now, round_ms)
        self.late_answers = 0
        self._moment = Moment(now, unix_now)
        self._number = count(2).__next__  # for items, slices, batches and evidence alike
        self.ends = Ends(
            self._moment,
            accounting=self.accounting,
            chain=self.chain,
            held=self.holding.blocks,
            missing=self.missing,
            requests=self.requests,
        )
        self._intake = Intake(
            bounds,
            self._moment,
            self._number,
            accounting=self.accounting,
            chain=self.chain,
            conduct=self.conduct,
            ends=self.ends,
            holding=self.holding,
            known=self.known,
            lanes=self.lanes,
            missing=self.missing,
            peers=self.peers,
            requests=self.requests,
            watch=self.watch,
        )
        self._asking = Asking(
            bounds,
            self._moment,
            self._number,
            accounting=self.accounting,
            chain=self.chain,
            ends=self.ends,
            flights=self.flights,
            hold_block=self._hold_block,
            holding=self.holding,
            known=self.known,
            lanes=self.lanes,
            offences=self.offences,
            peers=self.peers,
            requests=self.requests,
            storing=self.storing,
            watch=self.watch,
        )
        self._sync_asked_at = -inf
        self._warned = False  # that the network has outgrown the bounds

    # -- stimuli ----------------------------------------------------------------------------------

    def restored(self, kept: Restored, now: float, unix_now: float) -> None:
        """What was stored before a restart: called once, before anything else.

        Held items are checked again from their bytes; nothing that was found out about them is
        believed. What was cleared while they were held ends as cleared; what expired, expires.
        """
        self._moment.set(now, unix_now)
        for ended in kept.ended:
            event = Event(ended.id, ended.delegate, ended.event, ended.body, ended.code, ended.text)
            self.requests.ended.put((ended.client, ended.id), (ended.fingerprint, event))
        for block in kept.blocks:
            self.chain.add(block)
            self.known.seen.put(block.facts.level, block.facts.hash, None)
        if self.chain.head is not None:
            # Before anything signed is entered: the store forgets evidence sooner than that.
            self._head_moved()
        for hash_, level in kept.votes:
            self.known.seen.put(level, hash_, None)
        for offence in kept.denounced:
            self.offences.table.denounced.put(offence[1], offence, None)
        for record in kept.seen:
            # What is new to the table is not new to the store: only a conflict is of interest.
            self._note(record, self.offences.table.enter(record), keep=False)
        for evidence in kept.untold:
            self._tell_slashable(evidence)
        for cleared in kept.untold_cleared:
            self.ends.cleared_before(cleared)
        for held in kept.held:
            self._intake.take_back(held)

    def pushed(self, client: str, request: Request, now: float, unix_now: float) -> Ack:
        """A client pushes an item, or several votes, that a peer has sent."""
        self._moment.set(now, unix_now)
        try:
            if request.kind == VERIFY_VOTES:
                return self._intake.votes(client, request)
            if request.kind == VERIFY_VOTE:
                return self._intake.vote(client, request)
            if request.kind == VERIFY_BLOCK:
                return self._intake.block(client, request)
        except UNDECODABLE as e:
            return Ack(request.id, REFUSED, "malformed", str(e))
        return Ack(request.id, REFUSED, "unknown_kind", f"unknown kind {request.kind[:64]!r}")

    @property
    def looked_at(self) -> int:
        """How many items pushes have had looked at, whatever came of them."""
        return self._intake.looked_at

    def answered(self, answers: list[CheckAnswer], now: float, unix_now: float) -> None:
        """Slices have come back, with verdicts or without."""
        self._moment.set(now, unix_now)
        for answer in answers:
            flight = self.flights.land(answer.number)
            if flight is None:
                self.late_answers += 1  # its items were asked again; this says nothing new
            elif answer.problem:
                self._asking.unanswered(flight, answer.problem)
            else:
                self._verdicts(flight, answer.body)

    def stored(self, number: int, now: float, unix_now: float) -> None:
        """A batch is durable: what is in it is cleared, and what waits for it is released."""
        self._moment.set(now, unix_now)
        depending = self.storing.stored(number)
        if depending is None:
            return
        batch = depending.batch
        for item, block in zip(depending.blocks, batch.blocks, strict=True):
            self._block_stored(item, block)
        if depending.final:
            self.watch.known(self._moment.now)
            if self.chain.settle(depending.final):
                self._head_moved()
        seen = self.known.seen.put
        for cleared in batch.votes:
            record = cleared.record
            seen(record.level, record.hash, None)
        self.ends.cleared_votes(depending.votes, batch.votes)
        for job, evidence in zip(depending.jobs, batch.evidence, strict=True):
            self.offences.told(job)
            self._tell_slashable(evidence)

    def probed(self, record: SignedRecord, found: list[SignedRecord], now: float) -> None:
        """The store tells what it had for the place of a probe, oldest first.

        It has kept the probe beside that, unless there were two already.
        """
        self._moment.set(now, self._moment.unix_now)
        for other in found:
            if other.statement != record.statement:
                self._add_job(self.offences.denounce(record, other, self._number()))
                return

    def drop(self, hash_: bytes, now: float) -> int:
        """An operator drops what is held under a hash; how many items."""
        self._moment.set(now, self._moment.unix_now)
        found = [item for item in self._held() if item.hash == hash_]
        for item in found:
            self.holding.remove(item)
            self.ends.end(item, SHED, "dropped")
        return len(found)

    def release(self, hash_: bytes, now: float) -> int:
        """An operator has what is held under a hash checked again now; how many items."""
        self._moment.set(now, self._moment.unix_now)
        found = [item for item in self._held() if item.hash == hash_]
        for item in found:
            self.holding.remove(item)
            self.ends.waits_no_more(item)
            item.facts = None
            self._asking.queue(item)
        return len(found)

    # -- the turn ---------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When `end_turn` must be called at the latest, by the monotonic clock."""
        now = self._moment.now
        if self.holding.released and self.storing.room:
            return now
        at = min(
            self.flights.deadline(),
            self.missing.deadline(),
            self.holding.deadline(now, self._moment.unix_now),
        )
        return min(at, self._asking.deadline())

    def end_turn(self, now: float, unix_now: float) -> Turn:
        """What is to be done about everything since the last turn."""
        self._moment.set(now, unix_now)
        self._expire()
        self._look_again()
        self._let_votes_go()
        self._asking.ask()
        turn = self.ends.take_turn()
        turn.wanted += self.missing.due(self.holding.blocks.waiting_by_root, now)
        turn.load = self.load.look(self.lanes.votes.queue.count(), self.lanes.headers.queue.count())
        self.offences.next_turn(active=not self.load.high or self.bounds.detects_under_load)
        turn.peers = self.conduct.told(now)
        turn.batch = self.storing.send(self._number())
        return turn

    def held(self) -> list[HeldItem]:
        """What is held, for people."""
        return [HeldItem.of(item, REASONS[item.place]) for item in self._held()]

    def gauges(self) -> dict[str, int]:
        """How full every area is."""
        lanes, holding, known = self.lanes, self.holding, self.known
        table = self.offences.table
        return {
            "in_flight": self.accounting.in_flight,
            "held": self.accounting.held,
            "lane_votes": lanes.votes.queue.count(),
            "lane_headers": lanes.headers.queue.count(),
            "lane_blocks": lanes.blocks.queue.count(),
            "lane_evidence": lanes.evidence.queue.count(),
            "slices": len(self.flights),
            "storing": self.storing.items,
            "released": holding.released.count(),
            "held_for_parent": len(holding.blocks),
            "held_for_parent_bytes": holding.blocks.bytes,
            "held_for_target": len(holding.votes),
            "held_for_time": len(holding.for_time),
            "held_for_rights": len(holding.for_rights),
            "missing": len(self.missing),
            "bad": len(known.bad),
            "bad_votes": len(known.bad_votes),
            "seen": len(known.seen),
            "isolated": len(known.isolated),
            "cleared_blocks": len(self.chain),
            "cleared_bytes": self.chain.bytes,
            "live_blocks": self.chain.live_blocks,
            "table": len(table.firsts),
            "seconds": len(table.seconds),
            "denounced": len(table.denounced),
            "evidence": len(self.offences),
            "open_requests": len(self.requests.open),
            "ended_requests": len(self.requests.ended),
            "peers": len(self.peers),
            "peers_banned": self.peers.banned(self._moment.now),
        }

    # -- answers ----------------------------------------------------------------------------------

    def _verdicts(self, flight: Flight, body: bytes) -> None:
        self._asking.answered()
        try:
            answer = _decode_verdicts(body)
        except UNDECODABLE:
            self._asking.unanswered(flight, "malformed")
            return
        if self.watch.is_answer(flight.number):
            self._chain_told(answer.verdicts)
            return
        self.flights.spent(flight, answer.spent_us)
        verdicts, check = answer.verdicts, flight.check
        for place, waiting in enumerate(flight.items):
            # Verdicts come in the order of the items; whatever else comes is no answer.
            verdict = verdicts[place] if place < len(verdicts) else None
            if verdict is None or verdict.number != waiting.number:
                self._asking.in_vain(waiting, "malformed")
            elif isinstance(waiting, EvidenceJob):
                self._evidence_judged(waiting, verdict)
            elif verdict.judgement == 0 and isinstance(verdict.facts, VoteFacts):  # VALID
                if check is Check.VOTE and verdict.facts.kind in KIND_OF_VOTE:
                    self._vote_holds(waiting, verdict.facts)
                else:
                    self._asking.in_vain(waiting, "malformed")
            else:
                self._judged(check, waiting, verdict)

    def _judged(self, check: Check, item: Item, verdict: Verdict) -> None:
        """Everything but a valid vote."""
        facts, code, text = verdict.facts, verdict.reason, verdict.text
        match verdict.judgement:
            case Judgement.VALID:
                if not isinstance(facts, HeaderFacts) or facts.hash != item.hash:
                    self._asking.in_vain(item, "malformed")
                elif check is Check.HEADER:
                    self._header_holds(item, facts)
                else:
                    self._note_votes(item, verdict.votes)
                    self._block_holds(item, facts)
            case Judgement.INVALID:
                weight = REJECTED_WEIGHTS.get(code, REJECTED_DEFAULT)
                self._reject(item, code, weight, text, remembered=code not in NOT_REMEMBERED)
            case Judgement.BODY_INVALID:
                self._reject(item, code, WRONG_BODY, text, remembered=False)
            case Judgement.STALE:
                if isinstance(facts, HeaderFacts):
                    self._ask_for_sync(facts.level, item)
                self.ends.end(item, STALE, code, text)
            case Judgement.EARLY:
                if isinstance(facts, HeaderFacts | VoteFacts):
                    item.facts = facts
                item.again_unix_ms = verdict.until_unix_ms
                self._hold_for_time(item)
            case Judgement.UNVIABLE if item.is_block:
                level = facts.level if isinstance(facts, HeaderFacts) else 0
                self._unviable(item, code, level)
            case Judgement.RIGHTS_UNKNOWN:
                self._hold_for_rights(item)
            case Judgement.ANCESTORS_WANTED:
                self._give_ancestors(item, verdict.wanted)
            case Judgement.UNCHECKED if code == UNSUPPORTED_KEY:
                self.ends.end(item, SHED, code, text)
            case _ if code in NODE_REASONS:
                self._hold_for_rights(item)
            case _:
                self._asking.in_vain(item, code or "unchecked")

    def _vote_holds(self, item: Item, facts: VoteFacts) -> None:
        """Rights and signature of a vote hold."""
        item.facts = facts
        level = facts.level
        record = SignedRecord(
            KIND_OF_VOTE[facts.kind], level, facts.round, facts.delegate, facts.statement,
            item.hash, item.raw,
        )  # fmt: skip
        item.record = record
        if not self._may_proceed(item, record):
            return
        if self.chain.takes(facts):
            self._store_vote(item, record)
        elif self.chain.has_lost(facts.branch):
            self.ends.end(item, UNVIABLE, "off_final_branch")
        elif level <= self.chain.head_level - FINAL_BELOW_HEAD:
            self.ends.end(item, STALE, "too_old")
        else:
            self._hold_vote(item)

    def _header_holds(self, item: Item, facts: HeaderFacts) -> None:
        """A header was made by who may bake it."""
        item.facts = facts
        item.rights_until = 0.0  # what its second check may wait for is something else
        why = self.known.why_bad(facts.predecessor)
        if facts.predecessor == item.hash:
            self._reject(item, "own_predecessor", REJECTED_DEFAULT)
        elif why == INVALID:
            self._reject(item, "bad_ancestor", REJECTED_DEFAULT)
        elif why:
            self._unviable(item, "lost_ancestor", facts.level)
        elif self._may_proceed(item, _signed(facts, item.raw)):
            if item.hash in self.chain:
                self.ends.end(item, DUPLICATE, "cleared")
            elif facts.predecessor in self.chain:
                self._asking.queue(item)
            else:
                self._hold_block(item, facts)

    def _may_proceed(self, item: Item, record: SignedRecord) -> bool:
        """What follows from what the delegate signed before; whether the item goes on."""
        table = self.offences.table
        standing = table.enter(record)
        if standing == FIRST and self.offences.active:
            self.storing.filling.batch.seen.append(record)  # what nearly every vote is
            return True
        if standing == EXCESS:
            # What another baker has built on may be what the network goes on with.
            if record.kind == BLOCK and self.holding.blocks.awaits(record.hash):
                return True
            self.ends.end(item, SHED, "third_conflict")
            return False
        if standing == SAME:
            kept = table.kept(record)
            if kept is None or kept.hash == item.hash:
                return True  # the very same, which came to nothing when it came before
            if self.requests.votes.has(kept.hash) or kept.hash in self.known.seen:
                self.conduct.weigh(item.senders, "duplicate", NOTHING, self._moment.now)
                self.ends.end(item, DUPLICATE, "same_statement")
                return False
            table.replace(record)
            if kept.slot >= 0 and self.offences.active:  # the store has nothing that says this
                self.storing.filling.batch.seen.append(record)
            return True
        self._note(record, standing)
        return True

    def _give_ancestors(self, item: Item, wanted: list[bytes]) -> None:
        """The worker's node lacks blocks below: what is in them goes along, a portion at a time."""
        item.wanted = self.chain.portion(wanted[:ANCESTORS_MAX])
        item.wanted_times += 1
        if not item.wanted:  # only the node can tell, once it has them
            self._hold_for_rights(item)
        elif item.wanted_times <= ANCESTOR_ROUNDS:
            item.hint = item.delegate  # so that the same worker gets all portions, while it is free
            self._asking.ask_again(item)
        else:
            self._asking.in_vain(item, "ancestors_wanted")

    def _block_holds(self, item: Item, facts: HeaderFacts) -> None:
        """A block holds on its predecessor: store it, then the rest."""
        if item.hash in self.chain:
            self.ends.end(item, DUPLICATE, "cleared")
            return
        block = ClearedBlock(facts, item.raw, item.operations, item.senders, item.client, item.id)
        item.facts = facts
        item.place = STORING  # from ASKED: both are in flight
        self.storing.block(item, block)

    def _store_vote(self, item: Item, record: SignedRecord) -> None:
        """A vote holds, and so does the block that it is for."""
        if item.place >= HELD_FROM:
            self.accounting.moved(item.place, STORING)
        item.place = STORING
        self.storing.vote(item, ClearedVote(record, item.senders, item.client, item.id))

    def _block_stored(self, item: Item | None, block: ClearedBlock) -> None:
        """Parent stored, its event, then the children: in this order."""
        facts = block.facts
        already = facts.hash in self.chain
        moved = self.chain.add(block)
        self.known.seen.put(facts.level, facts.hash, None)
        self.missing.found(facts.hash)
        if item is None and self.known.forgive(facts.hash):
            self._tell(f"block {facts.hash.hex()} was judged to be bad, and the node has it")
        if item is not None:
            self.ends.end(item, *((DUPLICATE, "cleared") if already else (CLEARED, "")))
        for same in self.requests.blocks.get(facts.hash, ()):
            if same.place >= HELD_FROM:
                self.holding.remove(same)
                self.ends.end(same, DUPLICATE, "cleared")
        if moved:
            self._head_moved()
        for child in self.holding.blocks.release(facts.hash):
            self._asking.queue(child)
        self._release_votes(self.holding.votes.of(facts.level, facts.round))

    def _release_votes(self, held: list[Item]) -> None:
        """Let those of these go that wait for nothing any more."""
        for vote in held:
            assert isinstance(vote.facts, VoteFacts)
            if not self.chain.takes(vote.facts):
                continue
            self.holding.remove(vote)
            if self.holding.released.put(vote):
                vote.place = RELEASED  # from FOR_TARGET: both are held
            else:  # many are being let go still, and as many were held again meanwhile
                self.ends.end(vote, SHED, "held_full")

    def _chain_told(self, verdicts: list[Verdict]) -> None:
        """The node's blocks are as good as cleared, once they are stored like those."""
        facts = verdicts[0].facts if verdicts else None
        if not isinstance(facts, ChainFacts) or len(facts.blocks) != len(facts.headers):
            self.watch.failed(self._moment.now)
            return
        if facts.chain_id != self.flights.chain_id:
            self._tell(f"the node is on chain {facts.chain_id}, we are on {self.flights.chain_id}")
            self.watch.failed(self._moment.now)
            return
        if not facts.final or not self.storing.room:
            self.watch.failed(self._moment.now)  # asked again; the store would not take more
            return
        self.watch.round_ms = facts.round_ms
        if facts.blocks:
            self.chain.told_below(facts.blocks[0].level, facts.below, facts.operations_ttl)
            if facts.below:
                self._release_votes(self.holding.votes.values())
        if facts.delegates > self.bounds.delegates and not self._warned:
            self._warned = True
            self._tell(
                f"{facts.delegates} delegates have rights, and the quarantine's bounds are for "
                f"{self.bounds.delegates}: start it again, or set `delegates`"
            )
        for block, header in zip(facts.blocks, facts.headers, strict=True):
            self.watch.node_head = block.hash
            if not self.chain.node_has(block.hash):
                self.storing.block(None, ClearedBlock(block, header, None, ()))
                record = _signed(block, header)
                self._note(record, self.offences.table.enter(record))
        self.storing.filling.final = facts.final

    # -- offences ---------------------------------------------------------------------------------

    def _note(self, record: SignedRecord, standing: int, *, keep: bool = True) -> None:
        """Something signed is new: have the store keep it, and denounce it if it conflicts."""
        seen: list[SignedRecord] = []
        probes: list[SignedRecord] = []
        if keep:
            seen, probes = self.storing.filling.batch.seen, self.ends.turn.probes
        job = self.offences.note(record, standing, seen, probes, self._number())
        self._add_job(job)

    def _note_votes(self, item: Item, votes: list[BlockVote]) -> None:
        """The votes in a valid block: one of them may conflict with what its delegate sent us.

        Those that were added up are not stored: 400 times the 3 KB of one operation for each block.
        """
        if item.operations is None or not self.offences.may_look_at(len(votes)):
            return
        for record in block_votes(item.operations, votes, self.known.seen):
            standing = self.offences.table.enter(record)
            if standing != SAME:  # most were held, or sent in another block
                self._note(record, standing, keep=record.slot < 0)

    def _add_job(self, job: EvidenceJob | None) -> None:
        if job is not None and not self.lanes.evidence.queue.put(job):
            self.offences.lose(job)

    def _evidence_judged(self, job: EvidenceJob, verdict: Verdict) -> None:
        if verdict.judgement == Judgement.VALID and verdict.made:
            self.storing.evidence(job, self.offences.made(job, verdict))
        else:
            self._asking.in_vain(job, verdict.reason or "malformed")

    def _tell_slashable(self, record: EvidenceRecord) -> None:
        event = Event(b"", record.delegate, SLASHABLE, _encode(record))
        self.ends.turn.events.append(("", event, b""))

    # -- holding ----------------------------------------------------------------------------------

    def _hold_block(self, item: Item, facts: HeaderFacts) -> None:
        """The predecessor of a block is not cleared."""
        if facts.level <= self.chain.final_level:
            self.ends.end(item, STALE, "below_final")
            return
        held = self.holding.blocks
        gone = held.put(item, self.requests.has_block)
        if item in gone:
            self.ends.end(item, SHED, "held_full")
        else:
            self._hold(item, FOR_PARENT, self.bounds.held_block_s)
            root = held.deepest_unknown(facts.predecessor)
            if root not in held and not self.requests.has_block(root):
                self.missing.want(root, item.senders, self._moment.now)
        for other in gone:
            if other is not item:
                self.ends.end(other, SHED, "held_full")

    def _hold_vote(self, item: Item) -> None:
        gone = self.holding.votes.put(item)
        if gone is not None:
            self.ends.end(gone, SHED, "held_full")
        if gone is not item:
            self._hold(item, FOR_TARGET, self.watch.vote_life_s(self.bounds.held_vote_rounds))

    def _hold_for_time(self, item: Item) -> None:
        if self.holding.for_time.put(item):
            self._hold(item, FOR_TIME, self.bounds.held_for_time_s)
        else:
            self.ends.end(item, SHED, "held_full")

    def _hold_for_rights(self, item: Item) -> None:
        if not item.rights_until:
            item.rights_until = self._moment.now + self.bounds.held_for_rights_s
        if item.rights_until <= self._moment.now:
            self.ends.end(item, EXPIRED, "rights")
        elif self.holding.for_rights.put(item, self._moment.now):
            self._hold(item, FOR_RIGHTS, self.bounds.held_for_rights_s)
        else:
            self.ends.end(item, SHED, "held_full")

    def _hold(self, item: Item, place: int, life_s: float) -> None:
        """An item is in an area; the first time this is told, and its bytes are kept."""
        self.accounting.moved(item.place, place)
        item.place = place
        if item.held_since is None:
            item.held_since = self._moment.now
        # From when it was first held: going round the areas gains no time.
        item.expires = item.held_since + life_s
        if item.kept:
            return
        item.kept = True
        reason = REASONS[place]
        record = HeldRecord(
            item.fingerprint, item.hash, VERIFY_BLOCK if item.is_block else VERIFY_VOTE,
            item.client, item.id, item.senders, item.raw, item.operations, item.since_unix_ms,
            reason,
        )  # fmt: skip
        self.storing.held(record, item.bytes)
        event = Event(item.id, item.delegate, HELD, b"", reason)
        self.ends.turn.events.append((item.client, event, item.fingerprint))

    def _expire(self) -> None:
        """Drop what has been held too long; nothing is checked again for that."""
        while (item := self.holding.next_expired(self._moment.now)) is not None:
            self.holding.remove(item)
            self.ends.end(item, EXPIRED, REASONS[item.place])
        self._asking.give_up_overdue()

    def _look_again(self) -> None:
        """Items whose time has come, or about whose rights the node may know by now."""
        holding = self.holding
        early = holding.for_time.ready(self._moment.unix_ms) if holding.for_time else []
        for item in early:
            holding.remove(item)
            item.facts = None  # the clock may have been set: everything is checked again
            self._asking.queue(item)
        for item in holding.for_rights.ready(self._moment.now):
            holding.remove(item)
            self._asking.queue(item)

    def _let_votes_go(self) -> None:
        """Votes whose proposal was cleared, as many as the store has room for."""
        if self.holding.released:
            most = min(self.storing.room, self.bounds.release_per_turn)
            for item in self.holding.released.take(most):
                assert item.record is not None
                self._store_vote(item, item.record)

    def _head_moved(self) -> None:
        """Forget what is too far below the head, whether or not anything became final."""
        level, final = self.chain.head_level, self.chain.final_level
        self.known.seen.prune(level - self.bounds.seen_levels)
        self.known.final(final)
        self.offences.table.head(level)
        for item in self.holding.below(level, final):
            self.holding.remove(item)
            self.ends.end(item, EXPIRED, "too_old")

    # -- ending -----------------------------------------------------------------------------------

    def _reject(
        self, item: Item, code: str, weight: int, text: str = "", *, remembered: bool = True
    ) -> None:
        """The item is somebody's fault: of everybody who sent it."""
        self.conduct.weigh(item.senders, code, weight, self._moment.now)
        if not remembered:
            self.ends.end(item, REJECTED, code, text)
            return
        if not item.is_block:
            self.known.bad_votes.put(item.hash, None)
            self.ends.end(item, REJECTED, code, text)
            return
        self.known.mark_bad(item.hash, INVALID, item.level)
        self.ends.end(item, REJECTED, code, text)
        for child in self._buried(item, INVALID):
            self.ends.end(child, REJECTED, "bad_ancestor")

    def _unviable(self, item: Item, code: str, level: int) -> None:
        """A block on a branch that has lost: nobody's fault."""
        self.known.mark_bad(item.hash, LOST, level)
        self.ends.end(item, UNVIABLE, code)
        for child in self._buried(item, LOST):
            self.ends.end(child, UNVIABLE, "lost_ancestor")

    def _buried(self, item: Item, why: str) -> list[Item]:
        """What is held on top of a bad block: marked, out of its area, not yet ended."""
        buried = self.holding.blocks.descendants(item.hash)
        for child in buried:
            self.known.mark_bad(child.hash, why, child.level)
            self.holding.remove(child)
        self.missing.found(item.hash)
        return buried

    # -- the rest ---------------------------------------------------------------------------------

    def _ask_for_sync(self, level: int, item: Item) -> None:
        """A block far above the head: we lag, or it does not exist. Ask once in a while."""
        if (
            level > self.chain.head_level
            and self._moment.now >= self._sync_asked_at + SYNC_ASK_EVERY_S
        ):
            self._sync_asked_at = self._moment.now
            self.ends.turn.wanted.append(Wanted(b"", item.senders, 1, level))

    def _tell(self, note: str) -> None:
        """A line for the process log."""
        self.ends.turn.notes.append(note)

    def _held(self) -> list[Item]:
        return [item for item in self.requests.open.values() if item.place >= HELD_FROM]

    def validate(self) -> None:
        """Raise AssertionError if the items and the areas do not add up."""
        validate(self)


def _signed(facts: HeaderFacts, raw: bytes) -> SignedRecord:
    """A block as the slashing table has it: two that differ in anything conflict."""
    return SignedRecord(
        BLOCK, facts.level, facts.round, facts.delegate, facts.hash, facts.hash, raw
    )
