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
is in one place; in = out + held + in flight; a child is asked about only when its parent is
stored; no container is above its bound.
"""

from __future__ import annotations

from hashlib import blake2b
from math import inf

import msgspec
from msgspec import Struct

from broker.messages import ACCEPTED, REFUSED, Ack, Event, Request
from broker.messages import DUPLICATE as ACK_DUPLICATE
from broker.quarantine.accounting import Accounting
from broker.quarantine.areas import BoundedMap, BoundedQueue
from broker.quarantine.backoff import Backoff
from broker.quarantine.bounds import Bounds
from broker.quarantine.cleared_chain import ClearedChain
from broker.quarantine.flights import EvidenceJob, Flight, Flights
from broker.quarantine.held_blocks import HeldBlocks
from broker.quarantine.held_briefly import HeldForRights, HeldForTime
from broker.quarantine.held_votes import HeldVotes
from broker.quarantine.items import (
    HELD_FROM,
    PASSES,
    VERIFY_BLOCK,
    VERIFY_VOTE,
    Item,
    Place,
    block_fingerprint,
    decode_block_offer,
    decode_vote_offer,
)
from broker.quarantine.known_hashes import INVALID, KnownHashes
from broker.quarantine.known_hashes import UNVIABLE as LOST
from broker.quarantine.lanes import Lane, Lanes, Waiting
from broker.quarantine.load import Load
from broker.quarantine.missing_blocks import MissingBlocks
from broker.quarantine.peers import BAN, DISCONNECT, Peer, Peers
from broker.quarantine.records import (
    OFFENCE_OF,
    Batch,
    ClearedBlock,
    ClearedVote,
    EvidenceRecord,
    HeldRecord,
    Offence,
    Restored,
    VoteRecord,
)
from broker.quarantine.requests import Requests
from broker.quarantine.slashing_table import SlashingTable, Standing
from broker.quarantine.turn import (
    CLEARED,
    DUPLICATE,
    EXPIRED,
    HELD,
    REJECTED,
    SHED,
    SLASHABLE,
    STALE,
    UNVIABLE,
    PeerEvent,
    Turn,
    Wanted,
)
from broker.verification import (
    ANCESTORS_MAX,
    ChainFacts,
    Check,
    CheckAnswer,
    CheckBody,
    CheckItem,
    CheckSlice,
    HeaderFacts,
    Judgement,
    Position,
    Verdict,
    VerdictBody,
    VoteFacts,
)

# Weights, as facts and Octez have them: no honest node relays what costs 20.
WEIGHT_DEFAULT = -10
WEIGHTS = {"bad_signature": -20, "no_rights": -20, "not_enough_work": -20}
BODY_WEIGHT = -20
OVER_QUOTA_WEIGHT = -1
# Each signature over one header gives a hash of its own: to remember those would only push
# others out.
NOT_REMEMBERED = frozenset({"bad_signature"})
# Why something was not checked that says nothing about the item: it waits as for rights.
NODE_REASONS = frozenset({"node_unavailable", "chain_unknown", "state_unknown"})

CHAIN_EVERY_S = 1.0  # while there is traffic
SYNC_ASK_EVERY_S = 10.0  # blocks far above the head lead to one question in this time
ROUND_MS_DEFAULT = 10_000  # until the chain has told
BUSY_RETRY_MS = 200
# How often one block may ask for the operations of its ancestors.
ANCESTOR_ROUNDS = 8
WEIGHINGS_MAX = 4_096  # different offences of peers in one turn; more are felt but not told

_encode = msgspec.msgpack.Encoder().encode
_decode_verdicts = msgspec.msgpack.Decoder(VerdictBody).decode


class HeldItem(Struct, frozen=True):
    """A held item, for people."""

    hash: bytes
    kind: str
    reason: str
    delegate: str
    level: int
    round: int
    peers: tuple[str, ...]
    waits_for: bytes  # hash of the parent, or the payload hash; else empty
    since_unix_ms: int


class _Storing:
    """A batch, and whose ends depend on it."""

    __slots__ = ("batch", "blocks", "jobs", "settles", "votes")

    def __init__(self, number: int) -> None:
        self.batch = Batch(number, [], [], [], [], [])
        self.blocks: list[Item | None] = []  # None: the node told of it
        self.votes: list[Item] = []
        self.jobs: list[EvidenceJob] = []
        self.settles = b""  # hash of the block that the node says is final


class Quarantine:
    """The quarantine; see the module's text."""

    def __init__(self, chain_id: str, bounds: Bounds, now: float, unix_now: float) -> None:
        """An empty quarantine of a chain ("Net…")."""
        self.chain_id = chain_id
        self.bounds = bounds
        self.accounting = Accounting()
        self.chain = ClearedChain(bounds)
        self.known = KnownHashes(bounds)
        self.peers = Peers(bounds)
        self.table = SlashingTable(bounds)
        self.missing = MissingBlocks(bounds)
        self.held_blocks = HeldBlocks(bounds)
        self.held_votes = HeldVotes(bounds)
        self.held_for_time = HeldForTime(bounds)
        self.held_for_rights = HeldForRights(bounds)
        self.lanes = Lanes(bounds)
        self.flights = Flights(bounds)
        self.load = Load(bounds)
        open_max = sum(lane.queue.max for lane in self.lanes.all) + bounds.storing
        open_max += bounds.held_votes + bounds.held_blocks
        self.requests = Requests(open_max, bounds.ended_requests)
        self.late_answers = 0
        self.detection_skipped = 0
        self.too_old = 0  # below the detection depth
        self.probes_shed = 0
        self.evidence_lost = 0
        self.third_conflicts = 0
        self._open_votes: BoundedMap[bytes, Item] = BoundedMap(open_max)
        self._open_blocks: BoundedMap[bytes, tuple[Item, ...]] = BoundedMap(open_max)
        self._released: BoundedQueue[Item] = BoundedQueue(bounds.held_votes)
        self._offences: BoundedMap[tuple[int, int, int, str], EvidenceJob] = BoundedMap(
            bounds.evidence
        )
        self._storing: BoundedMap[int, _Storing] = BoundedMap(bounds.storing)
        self._storing_items = 0
        self._weighings: BoundedMap[tuple[str, str, int], int] = BoundedMap(WEIGHINGS_MAX)
        self._now = now
        self._unix_now = unix_now
        self._next_number = 1
        self._filling = _Storing(self._number())
        self._turn = Turn.empty()
        self._busy = Backoff(0.001, 0.016)  # workers have no credit
        self._nobody = Backoff(0.064, 1.024)  # there are no workers, or no chain to check against
        self._chain_at = now
        self._chain_asked = 0  # number of the slice
        self._node_head = b""
        self._traffic = True
        self._sync_asked_at = -inf
        self._answered_at = -inf
        self._round_ms = ROUND_MS_DEFAULT

    # -- stimuli ----------------------------------------------------------------------------------

    def restored(self, kept: Restored, now: float, unix_now: float) -> None:
        """What was stored before a restart: called once, before anything else.

        Held items are checked again from their bytes; nothing that was found out about them is
        believed. What was cleared while they were held ends as cleared; what expired, expires.
        """
        self._set_time(now, unix_now)
        for ended in kept.ended:
            event = Event(ended.id, ended.delegate, ended.event, b"", ended.code, ended.text)
            self.requests.ended.put((ended.client, ended.id), (ended.fingerprint, event))
        for block in kept.blocks:
            self.chain.add(block)
            self.known.seen.put(block.facts.level, block.facts.hash, None)
        for hash_, level in kept.votes:
            self.known.seen.put(level, hash_, None)
        for offence in kept.denounced:
            self.table.denounce(offence)
        for record in kept.seen:
            if self.table.enter(record) is Standing.SECOND:
                self._denounce(record)
        for evidence in kept.untold:
            self._tell_slashable(evidence)
        if self.chain.head is not None:
            self._head_moved()
        for held in kept.held:
            self._take_back(held)

    def pushed(self, client: str, request: Request, now: float, unix_now: float) -> Ack:
        """A client pushes an item that a peer has sent."""
        self._now, self._unix_now = now, unix_now
        try:
            if request.kind == VERIFY_VOTE:
                vote = decode_vote_offer(request.payload)
                raw, operations, name, hint = vote.raw, None, vote.peer, vote.delegate
            elif request.kind == VERIFY_BLOCK:
                block = decode_block_offer(request.payload)
                raw, operations, name = block.header, block.operations, block.peer
                hint = request.delegate or ""
            else:
                text = f"unknown kind {request.kind[:64]!r}"
                return Ack(request.id, REFUSED, "unknown_kind", text)
        except msgspec.MsgspecError as e:
            return Ack(request.id, REFUSED, "malformed", str(e))
        if not name or len(name) > 128:
            return Ack(request.id, REFUSED, "malformed", "a peer has a name of 1 to 128 letters")
        hash_ = blake2b(raw, digest_size=32).digest()
        mark = hash_ if operations is None else block_fingerprint(hash_, operations)
        again = self._pushed_again(client, request.id, mark)
        if again is not None:
            return again
        if self.requests.open.full:
            return Ack(request.id, REFUSED, "busy", "", BUSY_RETRY_MS)
        self._traffic = True
        peer = self.peers.meet(name, now)
        if peer is None:
            self._end_at_once(client, request.id, mark, SHED, "too_many_peers")
        elif operations is None:
            self._take_vote(client, request.id, hash_, raw, peer, hint)
        else:
            self._take_block(client, request.id, hash_, mark, raw, operations, peer, hint)
        return Ack(request.id, ACCEPTED)

    def answered(self, answers: list[CheckAnswer], now: float, unix_now: float) -> None:
        """Slices have come back, with verdicts or without."""
        self._set_time(now, unix_now)
        for answer in answers:
            flight = self.flights.pop(answer.number)
            if flight is None:
                self.late_answers += 1  # its items were asked again; this says nothing new
            elif answer.problem:
                self._unanswered(flight, answer.problem)
            else:
                self._answered(flight, answer.body)

    def stored(self, number: int, now: float, unix_now: float) -> None:
        """A batch is durable: what is in it is cleared, and what waits for it is released."""
        self._set_time(now, unix_now)
        storing = self._storing.pop(number)
        if storing is None:
            return
        self._storing_items -= len(storing.votes) + len(storing.blocks)
        for item, block in zip(storing.blocks, storing.batch.blocks, strict=True):
            self._block_stored(item, block)
        if storing.settles:
            self.chain.settle(storing.settles)
            self._head_moved()
        put = self.known.seen.put
        for vote in storing.votes:
            assert vote.facts is not None
            put(vote.facts.level, vote.hash, None)
            self._end(vote, CLEARED)
        for job, evidence in zip(storing.jobs, storing.batch.evidence, strict=True):
            self._offences.pop(job.offence)
            self.table.denounce(job.offence)
            self._tell_slashable(evidence)

    def probed(self, record: VoteRecord, found: list[VoteRecord], now: float) -> None:
        """The store tells what it had for the place of a probe; it has kept the probe if nothing.

        `found` is in the order in which it was stored.
        """
        self._now = now
        conflicting = [old for old in found if old.statement != record.statement]
        if conflicting:
            self._denounce(record, conflicting[0])

    def drop(self, hash_: bytes, now: float) -> int:
        """An operator drops what is held under a hash; how many items."""
        self._now = now
        dropped = [item for item in self._held_items() if item.hash == hash_]
        for item in dropped:
            self._leave(item)
            self._end(item, SHED, "dropped")
        return len(dropped)

    def release(self, hash_: bytes, now: float) -> int:
        """An operator has what is held under a hash checked again now; how many items."""
        self._now = now
        found = [item for item in self._held_items() if item.hash == hash_]
        for item in found:
            self._leave(item)
            self._queue(item)
        return len(found)

    # -- the turn ---------------------------------------------------------------------------------

    def deadline(self) -> float:
        """When `end_turn` must be called at the latest, by the monotonic clock."""
        at = min(
            self.flights.deadline(),
            self.missing.deadline(),
            self.held_for_rights.deadline(),
            self.held_for_time.deadline(self._now, self._unix_now),
        )
        for area in (self.held_blocks, self.held_votes, self.held_for_time):
            oldest = area.oldest()
            if oldest is not None and oldest.expires < at:
                at = oldest.expires
        if self._released and self._storing_items < self.bounds.storing:
            return self._now
        if not self._chain_asked and (self._traffic or self.requests.open):
            at = min(at, max(self._chain_at, self._nobody.until))
        waits_until = max(self._busy.until, self._nobody.until)
        if waits_until > self._now and self.lanes.waiting:
            at = min(at, waits_until)
        return at

    def end_turn(self, now: float, unix_now: float) -> Turn:
        """What is to be done about everything since the last turn."""
        self._set_time(now, unix_now)
        self._expire()
        self._look_again()
        self._let_votes_go()
        self._ask()
        turn = self._turn
        self._turn = Turn.empty()
        turn.wanted += self.missing.due(self.held_blocks.waiting_by_root, now)
        turn.load += self.load.look(len(self.lanes.votes), len(self.lanes.headers))
        turn.peers = self._peer_events()
        storing = self._filling
        if not storing.batch.empty or storing.settles:
            turn.batch = storing.batch
            self._storing.put(storing.batch.number, storing)
            self._filling = _Storing(self._number())
        return turn

    def held(self) -> list[HeldItem]:
        """What is held, for people."""
        return [_shown(item) for item in self._held_items()]

    def gauges(self) -> dict[str, int]:
        """How full every area is."""
        return {
            "in_flight": self.accounting.in_flight,
            "held": self.accounting.held,
            "lane_votes": len(self.lanes.votes),
            "lane_headers": len(self.lanes.headers),
            "lane_blocks": len(self.lanes.blocks),
            "lane_evidence": len(self.lanes.evidence),
            "slices": len(self.flights),
            "storing": self._storing_items,
            "released": len(self._released),
            "held_for_parent": len(self.held_blocks),
            "held_for_parent_bytes": self.held_blocks.bytes,
            "held_for_target": len(self.held_votes),
            "held_for_time": len(self.held_for_time),
            "held_for_rights": len(self.held_for_rights),
            "missing": len(self.missing),
            "bad": len(self.known.bad),
            "seen": len(self.known.seen),
            "isolated": len(self.known.isolated),
            "cleared_blocks": len(self.chain),
            "cleared_bytes": self.chain.bytes,
            "table": len(self.table.firsts),
            "seconds": len(self.table.seconds),
            "denounced": len(self.table.denounced),
            "evidence": len(self._offences),
            "open_requests": len(self.requests.open),
            "ended_requests": len(self.requests.ended),
            "peers": len(self.peers),
        }

    # -- taking in --------------------------------------------------------------------------------

    def _pushed_again(self, client: str, id_: bytes, mark: bytes) -> Ack | None:
        """The answer to a request id that is known."""
        key = (client, id_)
        known = self.requests.open.get(key)
        if known is not None:
            same = known.fingerprint == mark
        else:
            ended = self.requests.ended.get(key)
            if ended is None:
                return None
            same = ended[0] == mark
            if same:
                self._turn.events.append((client, ended[1]))
                self._turn.fingerprints.append(mark)
        if same:
            return Ack(id_, ACK_DUPLICATE)
        return Ack(id_, REFUSED, "id_reused", "this id stands for another item")

    def _take_vote(
        self, client: str, id_: bytes, hash_: bytes, raw: bytes, peer: Peer, hint: str
    ) -> None:
        now = self._now
        bounds = self.bounds
        if peer.score < DISCONNECT and peer.score_at(now) <= BAN:
            return self._end_at_once(client, id_, hash_, SHED, "peer_banned")
        if not self.peers.may_send_vote(peer, now):
            return self._over_quota(client, id_, hash_, peer, "peer_rate")
        if len(raw) > bounds.vote_bytes_max:
            self._weigh(peer.name, "too_big", WEIGHT_DEFAULT)
            return self._end_at_once(client, id_, hash_, REJECTED, "too_big")
        known = self._open_votes.get(hash_)
        if known is not None:
            return self._duplicate(client, id_, hash_, peer, known)
        if hash_ in self.known.seen:
            return self._duplicate(client, id_, hash_, peer, None)
        if self.known.why_bad(hash_):
            self._weigh(peer.name, "known_invalid", WEIGHT_DEFAULT)
            return self._end_at_once(client, id_, hash_, REJECTED, "known_invalid")
        if self.known.is_isolated(hash_, now):
            return self._end_at_once(client, id_, hash_, SHED, "isolated")
        if peer.votes_queued >= bounds.ingress_votes_per_peer:
            return self._over_quota(client, id_, hash_, peer, "peer_queue")
        if len(self.lanes.votes) >= bounds.ingress_votes:
            self._shed_oldest_vote()
        item = self._open(client, id_, hash_, hash_, raw, None, peer, hint)
        self._open_votes.put(hash_, item)
        self._queue(item)
        return None

    def _take_block(
        self,
        client: str,
        id_: bytes,
        hash_: bytes,
        mark: bytes,
        raw: bytes,
        operations: list[list[bytes]],
        peer: Peer,
        hint: str,
    ) -> None:
        now = self._now
        bounds = self.bounds
        if peer.score < DISCONNECT and peer.score_at(now) <= BAN:
            return self._end_at_once(client, id_, mark, SHED, "peer_banned")
        if not self.peers.may_send_block(peer, now):
            return self._over_quota(client, id_, mark, peer, "peer_rate")
        size = sum(len(operation) for passed in operations for operation in passed)
        if (
            len(raw) > bounds.header_bytes_max
            or size > bounds.operations_bytes_max
            or len(operations) != PASSES
        ):
            self._weigh(peer.name, "too_big", WEIGHT_DEFAULT)
            return self._end_at_once(client, id_, mark, REJECTED, "too_big")
        others = self._open_blocks.get(hash_) or ()
        for known in others:
            if known.fingerprint == mark:
                return self._duplicate(client, id_, mark, peer, known)
        if hash_ in self.known.seen or hash_ in self.chain:
            return self._duplicate(client, id_, mark, peer, None)
        why = self.known.why_bad(hash_)
        if why == INVALID:
            self._weigh(peer.name, "known_invalid", WEIGHT_DEFAULT)
            return self._end_at_once(client, id_, mark, REJECTED, "known_invalid")
        if why:
            return self._end_at_once(client, id_, mark, UNVIABLE, "known_unviable")
        if self.known.is_isolated(mark, now):
            return self._end_at_once(client, id_, mark, SHED, "isolated")
        if len(others) >= bounds.bodies:
            return self._end_at_once(client, id_, mark, SHED, "too_many_bodies")
        if peer.blocks_queued >= bounds.ingress_blocks_per_peer:
            return self._over_quota(client, id_, mark, peer, "peer_queue")
        if len(self.lanes.headers) >= bounds.ingress_blocks:
            return self._end_at_once(client, id_, mark, SHED, "ingress_full")
        item = self._open(client, id_, hash_, mark, raw, operations, peer, hint)
        self._open_blocks.put(hash_, (*others, item))
        self.missing.found(hash_)
        self._queue(item)
        return None

    def _open(
        self,
        client: str,
        id_: bytes,
        hash_: bytes,
        mark: bytes,
        raw: bytes,
        operations: list[list[bytes]] | None,
        peer: Peer,
        hint: str,
    ) -> Item:
        item = Item(
            self._number(), client, id_, hash_, mark, raw, operations, peer, (peer.name,), hint,
            int(self._unix_now * 1000),
        )  # fmt: skip
        peer.open += 1
        self.requests.open.put((client, id_), item)
        self.accounting.taken()
        return item

    def _duplicate(
        self, client: str, id_: bytes, mark: bytes, peer: Peer, known: Item | None
    ) -> None:
        """The same bytes are here or were cleared: no fault, and one more who may have it."""
        code = "cleared"
        if known is not None:
            code = "open"
            if len(known.senders) < self.bounds.sources and peer.name not in known.senders:
                known.senders = (*known.senders, peer.name)
            if known.place == Place.FOR_PARENT:
                assert isinstance(known.facts, HeaderFacts)
                root = self.held_blocks.deepest_unknown(known.facts.predecessor)
                if root in self.missing:
                    self.missing.want(root, (peer.name,), self._now)
        self._weigh(peer.name, "duplicate", 0)
        self._end_at_once(client, id_, mark, DUPLICATE, code)

    def _over_quota(self, client: str, id_: bytes, mark: bytes, peer: Peer, code: str) -> None:
        self._weigh(peer.name, code, OVER_QUOTA_WEIGHT if peer.breaches(self._now) else 0)
        self._end_at_once(client, id_, mark, SHED, code)

    def _shed_oldest_vote(self) -> None:
        oldest = self.lanes.votes.queue.popleft()
        assert isinstance(oldest, Item)
        oldest.peer.votes_queued -= 1
        self._end(oldest, SHED, "ingress_full")

    def _take_back(self, record: HeldRecord) -> None:
        """An item that was held before a restart."""
        if (record.client, record.id) in self.requests.ended:
            self._turn.forget.append(record.fingerprint)
            return
        name = record.peers[0] if record.peers else ""
        peer = self.peers.meet(name, self._now)
        if peer is None or self.requests.open.full:
            self._turn.forget.append(record.fingerprint)
            self._end_at_once(record.client, record.id, record.fingerprint, SHED, "too_many_peers")
            return
        item = self._open(
            record.client, record.id, record.hash, record.fingerprint, record.raw,
            record.operations, peer, "",
        )  # fmt: skip
        item.senders = record.peers
        item.kept = True
        age_s = max(0.0, self._unix_now - record.since_unix_ms / 1000)
        item.since_unix_ms = record.since_unix_ms
        item.held_since = self._now - age_s
        bounds = self.bounds
        if item.is_block:
            self._open_blocks.put(item.hash, (*(self._open_blocks.get(item.hash) or ()), item))
            life_s = bounds.held_block_s
        else:
            self._open_votes.put(item.hash, item)
            life_s = self._vote_life_s()
        if item.hash in self.known.seen or item.hash in self.chain:
            self._end(item, CLEARED)
        elif age_s >= life_s:
            self._end(item, EXPIRED, "restart")
        else:
            self._queue(item)

    # -- asking workers ---------------------------------------------------------------------------

    def _queue(self, item: Item) -> None:
        """The item waits for a worker: its first check, or a block's second one."""
        item.place = self._moved(item, Place.LANE)
        if item.operations is None:
            lane = self.lanes.votes
            item.peer.votes_queued += 1
        else:
            lane = self.lanes.headers if item.facts is None else self.lanes.blocks
            item.peer.blocks_queued += 1
        put = lane.queue.put_first if item.tries else lane.queue.put
        if not put(item):
            self._unqueued(item)
            self._end(item, SHED, "ingress_full")

    def _unqueued(self, item: Item) -> None:
        if item.operations is None:
            item.peer.votes_queued -= 1
        else:
            item.peer.blocks_queued -= 1

    def _ask(self) -> None:
        """Give workers as much as they have credit for."""
        now = self._now
        if now < self._busy.until or now < self._nobody.until:
            return
        self._ask_chain()
        position = self.chain.position(int(self._unix_now * 1000))
        if position is None:
            return
        while len(self.flights) < self.bounds.slices_in_flight:
            lane = self.lanes.next(self._closed_lanes())
            if lane is None:
                return
            self._ask_next(lane, position)

    def _closed_lanes(self) -> tuple[Lane, ...]:
        """The lanes whose answers would have no room."""
        lanes, bounds = self.lanes, self.bounds
        closed: tuple[Lane, ...] = ()
        if self._storing_items + self.flights.items + len(self._released) >= bounds.storing:
            closed = (lanes.votes, lanes.blocks)
        ahead = len(lanes.blocks) + self.flights.items + len(self.held_blocks)
        if ahead >= lanes.blocks.queue.max:
            closed = (*closed, lanes.headers)
        return closed

    def _ask_next(self, lane: Lane, position: Position) -> None:
        check = lane.check
        single = check in (Check.BLOCK, Check.EVIDENCE)
        taken = lane.take(1 if single else self.flights.fits(check))
        going: list[Waiting] = []
        asked: list[CheckItem] = []
        hint = ""
        for waiting in taken:
            if isinstance(waiting, EvidenceJob):
                branch = self.chain.final_hash()
                first, second = waiting.first.raw, waiting.second.raw
                asked.append(CheckItem(waiting.number, first, [], [], second, branch))
                going.append(waiting)
                continue
            self._unqueued(waiting)
            if waiting.operations is not None and not self._still_wanted(waiting):
                continue
            waiting.place = Place.ASKED  # from LANE: both are in flight
            hint = waiting.hint
            asked.append(self._check_item(check, waiting))
            going.append(waiting)
        if going:
            self._send(check, tuple(going), asked, position, hint)

    def _still_wanted(self, item: Item) -> bool:
        """Whether a block that waited is still to be checked; else it has ended, or is held."""
        if item.hash in self.chain:
            self._end(item, DUPLICATE, "cleared")
            return False
        if item.facts is not None:
            assert isinstance(item.facts, HeaderFacts)
            if item.facts.predecessor not in self.chain:
                self._stale_or_held(item)
                return False
        return True

    def _check_item(self, check: Check, item: Item) -> CheckItem:
        if check is not Check.BLOCK:
            return CheckItem(item.number, item.raw)
        assert isinstance(item.facts, HeaderFacts)
        ancestors = self.chain.ancestors(item.facts.predecessor, item.wanted)
        return CheckItem(item.number, item.raw, item.operations or [], ancestors)

    def _send(
        self,
        check: Check,
        items: tuple[Waiting, ...],
        asked: list[CheckItem],
        position: Position,
        hint: str,
    ) -> int:
        number = self._number()
        body = _encode(CheckBody(check, self.chain_id, position, asked))
        cost_us = int(self.flights.cost_us(check) * max(1, len(items)))
        ttl_ms = int(self.bounds.slice_s * 1000)
        self._turn.slices.append(CheckSlice(number, cost_us, body, ttl_ms, hint))
        self.flights.add(Flight(number, check, items, self._now))
        return number

    def _ask_chain(self) -> None:
        """Ask the node where it stands: at the start, and each second while something goes on."""
        if self._chain_asked or self._now < self._chain_at:
            return
        if not (self._traffic or self.requests.open):
            return
        self._traffic = False
        self._chain_at = self._now + CHAIN_EVERY_S
        nowhere = Position(int(self._unix_now * 1000), 0, 0, 0, 0)
        position = self.chain.position(nowhere.unix_ms) or nowhere
        asked = [CheckItem(self._next_number, self._node_head)]
        self._chain_asked = self._send(Check.CHAIN, (), asked, position, "")

    # -- answers ----------------------------------------------------------------------------------

    def _unanswered(self, flight: Flight, problem: str) -> None:
        """A slice came back without verdicts, or not at all."""
        if flight.number == self._chain_asked:
            self._chain_asked = 0
            self._nobody.failed(self._now)
            return
        if problem == "busy":
            self._busy.failed(self._now)
        elif problem == "no_worker":
            self._nobody.failed(self._now)
        blameless = problem in ("busy", "no_worker", "stalled")
        for waiting in reversed(flight.items):
            if blameless:
                self._queue_again(waiting)
            else:
                self._in_vain(waiting, problem)

    def _queue_again(self, waiting: Waiting) -> None:
        """Through no fault of its own it is asked again, first of all."""
        if isinstance(waiting, EvidenceJob):
            self.lanes.evidence.queue.put_first(waiting)
            return
        waiting.place = Place.LANE
        self._put_first(waiting)

    def _put_first(self, item: Item) -> None:
        if item.operations is None:
            lane = self.lanes.votes
            item.peer.votes_queued += 1
        else:
            lane = self.lanes.headers if item.facts is None else self.lanes.blocks
            item.peer.blocks_queued += 1
        if not lane.queue.put_first(item):
            self._unqueued(item)
            self._end(item, SHED, "ingress_full")

    def _in_vain(self, waiting: Waiting, problem: str) -> None:
        """Asked in vain: again, alone; after some times it is isolated, never called bad."""
        waiting.tries += 1
        if waiting.tries < self.bounds.tries:
            self._queue_again(waiting)
            return
        if isinstance(waiting, EvidenceJob):
            self._offences.pop(waiting.offence)
            self.evidence_lost += 1
            self._turn.notes.append(f"no evidence could be made of {waiting.offence}: {problem}")
            return
        self.known.isolate(waiting.fingerprint, self._now)
        kind = "block" if waiting.is_block else "vote"
        self._turn.notes.append(
            f"{kind} {waiting.hash.hex()} from {waiting.senders[0]} could not be checked "
            f"{waiting.tries} times: {problem}"
        )
        self._end(waiting, SHED, "isolated", problem)

    def _answered(self, flight: Flight, body: bytes) -> None:
        self._busy.succeeded()
        self._nobody.succeeded()
        self._answered_at = self._now
        try:
            answer = _decode_verdicts(body)
        except msgspec.MsgspecError:
            self._unanswered(flight, "malformed")
            return
        self.flights.spent(flight, answer.spent_us)
        if flight.number == self._chain_asked:
            self._chain_asked = 0
            self._chain_told(answer.verdicts)
            return
        verdicts = answer.verdicts
        check = flight.check
        for place, waiting in enumerate(flight.items):
            # Verdicts come in the order of the items; whatever else comes is no answer.
            verdict = verdicts[place] if place < len(verdicts) else None
            if verdict is None or verdict.number != waiting.number:
                self._in_vain(waiting, "malformed")
            elif isinstance(waiting, EvidenceJob):
                self._evidence_made(waiting, verdict)
            elif check is Check.VOTE and verdict.judgement == Judgement.VALID:
                if isinstance(verdict.facts, VoteFacts) and verdict.facts.kind in OFFENCE_OF:
                    self._vote_holds(waiting, verdict.facts)
                else:
                    self._in_vain(waiting, "malformed")
            else:
                self._judged(check, waiting, verdict)

    def _judged(self, check: Check, item: Item, verdict: Verdict) -> None:
        """Everything but a valid vote."""
        facts = verdict.facts
        judgement = verdict.judgement
        if judgement == Judgement.VALID:
            if not isinstance(facts, HeaderFacts) or facts.hash != item.hash:
                self._in_vain(item, "malformed")
            elif check is Check.HEADER:
                self._header_holds(item, facts)
            else:
                self._block_holds(item)
        elif judgement == Judgement.INVALID:
            self._reject(item, verdict.reason, WEIGHTS.get(verdict.reason, WEIGHT_DEFAULT),
                         verdict.text, remembered=verdict.reason not in NOT_REMEMBERED)  # fmt: skip
        elif judgement == Judgement.BODY_INVALID:
            self._reject(item, verdict.reason, BODY_WEIGHT, verdict.text, remembered=False)
        elif judgement == Judgement.STALE:
            if isinstance(facts, HeaderFacts):
                self._ask_for_sync(facts.level, item)
            self._end(item, STALE, verdict.reason, verdict.text)
        elif judgement == Judgement.EARLY:
            if isinstance(facts, HeaderFacts | VoteFacts):
                item.facts = facts
            item.again_unix_ms = verdict.until_unix_ms
            self._hold_for_time(item)
        elif judgement == Judgement.UNVIABLE:
            level = facts.level if isinstance(facts, HeaderFacts | VoteFacts) else 0
            self._unviable(item, verdict.reason, level)
        elif judgement == Judgement.RIGHTS_UNKNOWN:
            self._hold_for_rights(item)
        elif judgement == Judgement.ANCESTORS_WANTED and check is Check.BLOCK:
            item.wanted = verdict.wanted[:ANCESTORS_MAX]
            item.wanted_times += 1
            if item.wanted_times > ANCESTOR_ROUNDS:
                self._in_vain(item, "ancestors_wanted")
            else:
                self._queue_again(item)
        elif verdict.reason in NODE_REASONS:
            self._hold_for_rights(item)
        else:
            self._in_vain(item, verdict.reason or "unchecked")

    def _vote_holds(self, item: Item, facts: VoteFacts) -> None:
        """Rights and signature of a vote hold."""
        item.facts = facts
        record = VoteRecord(
            OFFENCE_OF[facts.kind], facts.level, facts.round, facts.delegate, facts.statement,
            item.hash, item.raw,
        )  # fmt: skip
        item.record = record
        standing = self.table.enter(record)
        if standing is Standing.FIRST:
            if self._detects:
                self._filling.batch.seen.append(record)
            else:
                self.detection_skipped += 1
        elif not self._may_proceed(item, record, standing):
            return
        if self.chain.has_payload(facts.level, facts.round, facts.payload_hash):
            self._store_vote(item)
        elif self.chain.head is not None and facts.level <= self.chain.head.facts.level - 2:
            self._end(item, STALE, "too_old")
        else:
            self._hold_vote(item)

    def _may_proceed(self, item: Item, record: VoteRecord, standing: Standing) -> bool:
        """What follows from what the delegate signed before; whether the item goes on."""
        if standing is Standing.EXCESS:
            self.third_conflicts += 1
            self._end(item, SHED, "third_conflict")
            return False
        if standing is Standing.SAME:
            kept = self.table.kept(record)
            if kept is None or kept.hash == item.hash:
                return True  # the very same, which came to nothing when it came before
            if kept.hash in self._open_votes or kept.hash in self.known.seen:
                for sender in item.senders:
                    self._weigh(sender, "duplicate", 0)
                self._end(item, DUPLICATE, "same_statement")
                return False
            self.table.replace(record)
        elif standing is Standing.TOO_OLD:
            self.too_old += 1
        elif not self._detects:
            self.detection_skipped += 1
        elif standing is Standing.SECOND:
            self._filling.batch.seen.append(record)
            self._denounce(record)
        elif standing is Standing.DEEP:
            if len(self._turn.probes) < self.bounds.probes:
                self._turn.probes.append(record)
            else:
                self.probes_shed += 1
        return True

    @property
    def _detects(self) -> bool:
        return not self.load.high or self.bounds.detects_under_load

    def _header_holds(self, item: Item, facts: HeaderFacts) -> None:
        """A header was made by who may bake it."""
        first_time = item.facts is None
        item.facts = facts
        if facts.predecessor == item.hash:
            return self._reject(item, "own_predecessor", WEIGHT_DEFAULT)
        why = self.known.why_bad(facts.predecessor)
        if why == INVALID:
            return self._reject(item, "bad_ancestor", WEIGHT_DEFAULT)
        if why:
            return self._unviable(item, "lost_ancestor", facts.level)
        record = VoteRecord(
            int(Offence.BLOCK), facts.level, facts.round, facts.delegate, item.hash, item.hash,
            item.raw,
        )  # fmt: skip
        item.record = record
        standing = self.table.enter(record)
        if standing is Standing.FIRST and first_time:
            if self._detects:
                self._filling.batch.seen.append(record)
            else:
                self.detection_skipped += 1
        elif standing is not Standing.FIRST and not self._may_proceed(item, record, standing):
            return None
        if item.hash in self.chain:
            return self._end(item, DUPLICATE, "cleared")
        if facts.predecessor in self.chain:
            return self._queue(item)
        return self._stale_or_held(item)

    def _block_holds(self, item: Item) -> None:
        """A block holds on its predecessor: store it, then the rest."""
        if item.hash in self.chain:
            return self._end(item, DUPLICATE, "cleared")
        assert isinstance(item.facts, HeaderFacts)
        block = ClearedBlock(
            item.facts, item.raw, item.operations, item.senders, item.client, item.id
        )
        item.place = self._moved(item, Place.STORING)
        self._filling.batch.blocks.append(block)
        self._filling.blocks.append(item)
        self._storing_items += 1
        return None

    def _store_vote(self, item: Item) -> None:
        assert item.record is not None
        item.place = self._moved(item, Place.STORING)
        vote = ClearedVote(item.record, item.senders, item.client, item.id)
        self._filling.batch.votes.append(vote)
        self._filling.votes.append(item)
        self._storing_items += 1

    def _block_stored(self, item: Item | None, block: ClearedBlock) -> None:
        """Parent stored, event, then the children: in this order."""
        facts = block.facts
        already = facts.hash in self.chain
        moved = self.chain.add(block)
        self.known.seen.put(facts.level, facts.hash, None)
        self.missing.found(facts.hash)
        if item is not None:
            if already:
                self._end(item, DUPLICATE, "cleared")
            else:
                self._end(item, CLEARED)
        for same in self._open_blocks.get(facts.hash) or ():
            if same.place >= HELD_FROM:
                self._leave(same)
                self._end(same, DUPLICATE, "cleared")
        if moved:
            self._head_moved()
        for child in self.held_blocks.release(facts.hash):
            self._queue(child)
        for vote in self.held_votes.release(facts.level, facts.round, facts.payload_hash):
            vote.place = self._moved(vote, Place.RELEASED)
            self._released.put(vote)

    def _chain_told(self, verdicts: list[Verdict]) -> None:
        """The node's blocks are as good as cleared, once they are stored like those."""
        facts = verdicts[0].facts if verdicts else None
        if not isinstance(facts, ChainFacts) or len(facts.blocks) != len(facts.headers):
            self._nobody.failed(self._now)
            return
        self._round_ms = facts.round_ms
        for block, header in zip(facts.blocks, facts.headers, strict=True):
            self._node_head = block.hash
            if block.hash in self.chain:
                continue
            self._filling.batch.blocks.append(ClearedBlock(block, header, None, ()))
            self._filling.blocks.append(None)
            self._storing_items += 1
            record = VoteRecord(
                int(Offence.BLOCK), block.level, block.round, block.delegate, block.hash,
                block.hash, header,
            )  # fmt: skip
            standing = self.table.enter(record)
            if self._detects and standing in (Standing.FIRST, Standing.SECOND):
                self._filling.batch.seen.append(record)
                if standing is Standing.SECOND:
                    self._denounce(record)
        self._filling.settles = facts.final

    # -- offences ---------------------------------------------------------------------------------

    def _denounce(self, record: VoteRecord, other: VoteRecord | None = None) -> None:
        """A delegate has signed two conflicting things: have evidence made, once."""
        if other is None:
            other = self.table.first_of(record)
        assert other is not None
        delegate = record.delegate or other.delegate
        offence = (record.kind, record.level, record.round, delegate)
        if not delegate or offence in self._offences or self.table.is_denounced(offence):
            return
        first, second = sorted((record, other), key=lambda signed: signed.hash)
        job = EvidenceJob(self._number(), offence, first, second)
        if self._offences.put(offence, job):
            self.lanes.evidence.queue.put(job)
        else:
            self.evidence_lost += 1

    def _evidence_made(self, job: EvidenceJob, verdict: Verdict) -> None:
        if verdict.judgement != Judgement.VALID or not verdict.made:
            self._in_vain(job, verdict.reason or "malformed")
            return
        kind, level, round_, delegate = job.offence
        record = EvidenceRecord(
            kind, level, round_, delegate, job.first.raw, job.second.raw, verdict.made
        )
        self._filling.batch.evidence.append(record)
        self._filling.jobs.append(job)

    def _tell_slashable(self, record: EvidenceRecord) -> None:
        event = Event(b"", record.delegate, SLASHABLE, _encode(record))
        self._turn.events.append(("", event))
        self._turn.fingerprints.append(b"")

    # -- holding ----------------------------------------------------------------------------------

    def _stale_or_held(self, item: Item) -> None:
        """The predecessor of a block is not cleared."""
        facts = item.facts
        assert isinstance(facts, HeaderFacts)
        if facts.level <= self.chain.final_level:
            return self._end(item, STALE, "below_final")
        gone = self.held_blocks.put(item)
        for other in gone:
            if other is not item:
                self._end(other, SHED, "held_full")
        if item in gone:
            return self._end(item, SHED, "held_full")
        item.expires = self._expiry(item, self.bounds.held_block_s)
        self._hold(item, Place.FOR_PARENT, "parent")
        root = self.held_blocks.deepest_unknown(facts.predecessor)
        if root not in self._open_blocks and root not in self.held_blocks:
            self.missing.want(root, item.senders, self._now)
        return None

    def _hold_vote(self, item: Item) -> None:
        gone = self.held_votes.put(item)
        if gone is not None:
            self._end(gone, SHED, "held_full")
        if gone is not item:
            item.expires = self._expiry(item, self._vote_life_s())
            self._hold(item, Place.FOR_TARGET, "target")

    def _hold_for_time(self, item: Item) -> None:
        if self.held_for_time.put(item):
            item.expires = self._now + self.bounds.held_for_time_s
            self._hold(item, Place.FOR_TIME, "time")
        else:
            self._end(item, SHED, "held_full")

    def _hold_for_rights(self, item: Item) -> None:
        if not item.rights_until:
            item.rights_until = self._now + self.bounds.held_for_rights_s
        if item.rights_until <= self._now:
            self._end(item, EXPIRED, "rights")
        elif self.held_for_rights.put(item, self._now):
            self._hold(item, Place.FOR_RIGHTS, "rights")
        else:
            self._end(item, SHED, "held_full")

    def _hold(self, item: Item, place: Place, reason: str) -> None:
        """Tell once that an item is held, and keep its bytes."""
        item.place = self._moved(item, place)
        if item.kept:
            return
        item.kept = True
        self._filling.batch.held.append(
            HeldRecord(
                item.fingerprint, item.hash, VERIFY_BLOCK if item.is_block else VERIFY_VOTE,
                item.client, item.id, item.senders, item.raw, item.operations,
                item.since_unix_ms, reason,
            )
        )  # fmt: skip
        event = Event(item.id, item.delegate, HELD, b"", reason)
        self._turn.events.append((item.client, event))
        self._turn.fingerprints.append(item.fingerprint)

    def _leave(self, item: Item) -> None:
        """Take a held item out of its area; what becomes of it is for the caller to say."""
        if item.place == Place.FOR_PARENT:
            self.held_blocks.remove(item)
        elif item.place == Place.FOR_TARGET:
            self.held_votes.remove(item)
        elif item.place == Place.FOR_TIME:
            self.held_for_time.remove(item)
        elif item.place == Place.FOR_RIGHTS:
            self.held_for_rights.remove(item)
        else:
            self._released.remove(item)

    def _expiry(self, item: Item, life_s: float) -> float:
        """Counted from when it was first held: going round the areas gains no time."""
        if item.held_since is None:
            item.held_since = self._now
        return item.held_since + life_s

    def _vote_life_s(self) -> float:
        return self.bounds.held_vote_rounds * self._round_ms / 1000

    def _expire(self) -> None:
        """Drop what has been held too long; nothing is checked again for that."""
        now = self._now
        for area, code in (
            (self.held_blocks, "parent"), (self.held_votes, "target"), (self.held_for_time, "time")
        ):  # fmt: skip
            while (oldest := area.oldest()) is not None and oldest.expires <= now:
                self._leave(oldest)
                self._end(oldest, EXPIRED, code)
        while (flight := self.flights.overdue(now)) is not None:
            # Without any answer since, all workers are stalled, and no item is to blame.
            moving = self._answered_at > flight.asked_at
            self._unanswered(flight, "timeout" if moving else "stalled")

    def _look_again(self) -> None:
        """Items whose time has come, or about whose rights the node may know by now."""
        if self.held_for_time:
            for item in self.held_for_time.ready(int(self._unix_now * 1000)):
                self._leave(item)
                item.facts = None  # the clock may have been set: everything is checked again
                self._queue(item)
        for item in self.held_for_rights.ready(self._now):
            self._leave(item)
            item.facts = None if item.is_block and item.record is None else item.facts
            self._queue(item)

    def _let_votes_go(self) -> None:
        """Votes whose proposal was cleared, as many as the store has room for."""
        if self._released:
            room = self.bounds.storing - self._storing_items
            for item in self._released.take(min(room, self.bounds.release_per_turn)):
                self._store_vote(item)

    def _head_moved(self) -> None:
        """Forget what is too far below the head, whether or not anything became final."""
        assert self.chain.head is not None
        level = self.chain.head.facts.level
        self.known.seen.prune(level - self.bounds.seen_levels)
        self.known.final(self.chain.final_level)
        self.table.head(level)
        for vote in self.held_votes.below(level - 1):
            self._leave(vote)
            self._end(vote, EXPIRED, "too_old")
        for block in self.held_blocks.values():
            if block.facts is not None and block.facts.level <= self.chain.final_level:
                self._leave(block)
                self._end(block, EXPIRED, "too_old")

    # -- ending -----------------------------------------------------------------------------------

    def _reject(
        self, item: Item, code: str, weight: int, text: str = "", *, remembered: bool = True
    ) -> None:
        """The item is somebody's fault: of everybody who sent it."""
        for sender in item.senders:
            self._weigh(sender, code, weight)
        level = 0 if item.facts is None else item.facts.level
        if remembered:
            self.known.mark_bad(item.hash, INVALID, level)
        self._end(item, REJECTED, code, text)
        if remembered and item.is_block:
            for child in self._bury(item.hash, INVALID):
                self._end(child, REJECTED, "bad_ancestor")

    def _unviable(self, item: Item, code: str, level: int) -> None:
        """A block or vote on a branch that has lost: nobody's fault."""
        self.known.mark_bad(item.hash, LOST, level)
        self._end(item, UNVIABLE, code)
        if item.is_block:
            for child in self._bury(item.hash, LOST):
                self._end(child, UNVIABLE, "lost_ancestor")

    def _bury(self, hash_: bytes, why: str) -> list[Item]:
        """All that is held on top of a bad block; out of its area, marked, not yet ended."""
        buried = self.held_blocks.descendants(hash_)
        for child in buried:
            assert child.facts is not None
            self.known.mark_bad(child.hash, why, child.facts.level)
            self.held_blocks.remove(child)
        self.missing.found(hash_)
        return buried

    def _end(self, item: Item, event: str, code: str = "", text: str = "") -> None:
        """The one end of an item, wherever it is; it must have left its area."""
        facts = item.facts
        ended = Event(item.id, "" if facts is None else facts.delegate, event, b"", code, text)
        turn = self._turn
        turn.events.append((item.client, ended))
        turn.fingerprints.append(item.fingerprint)
        if item.kept:
            turn.forget.append(item.fingerprint)
        self.requests.close(item, ended)
        self.accounting.ended(item.place, event, code)
        item.peer.open -= 1
        if item.operations is None:
            self._open_votes.pop(item.hash)
        else:
            self._block_ended(item)

    def _block_ended(self, item: Item) -> None:
        left = tuple(other for other in self._open_blocks.get(item.hash) or () if other is not item)
        if left:
            self._open_blocks.put(item.hash, left)
            return
        self._open_blocks.pop(item.hash)
        if item.hash in self.chain:
            return
        waiting = self.held_blocks.waiting_for(item.hash)
        if waiting:
            self.missing.want(item.hash, waiting[0].senders, self._now)
        facts = item.facts
        if isinstance(facts, HeaderFacts) and not self.held_blocks.awaits(facts.predecessor):
            self.missing.found(facts.predecessor)

    def _end_at_once(self, client: str, id_: bytes, mark: bytes, event: str, code: str) -> None:
        """The end of a request that never became an item."""
        ended = Event(id_, "", event, b"", code)
        self._turn.events.append((client, ended))
        self._turn.fingerprints.append(mark)
        self.requests.ended.put((client, id_), (mark, ended))
        self.accounting.taken()
        self.accounting.ended(Place.LANE, event, code)

    # -- peers and the rest -----------------------------------------------------------------------

    def _weigh(self, name: str, reason: str, weight: int) -> None:
        """Something a peer did; told at the end of the turn."""
        if weight:
            peer = self.peers.get(name)
            if peer is not None:
                peer.weigh(weight, self._now)
        key = (name, reason, weight)
        self._weighings.put(key, (self._weighings.get(key) or 0) + 1)

    def _peer_events(self) -> list[PeerEvent]:
        events: list[PeerEvent] = []
        for key in self._weighings.list_keys():
            name, reason, weight = key
            count = self._weighings.pop(key) or 0
            peer = self.peers.get(name)
            score = 0.0 if peer is None else peer.score_at(self._now)
            standing = "ban" if score <= BAN else "disconnect" if score <= DISCONNECT else ""
            events.append(PeerEvent(name, reason, weight, count, round(score), standing))
        return events

    def _ask_for_sync(self, level: int, item: Item) -> None:
        """A block far above the head: we lag, or it does not exist. Ask once in a while."""
        head = self.chain.head
        if head is None or level <= head.facts.level:
            return
        if self._now - self._sync_asked_at >= SYNC_ASK_EVERY_S:
            self._sync_asked_at = self._now
            self._turn.wanted.append(Wanted(b"", item.senders, 1, level))

    def _held_items(self) -> list[Item]:
        return [item for item in self.requests.open.values() if item.place >= HELD_FROM]

    def _moved(self, item: Item, to: Place) -> int:
        self.accounting.moved(item.place, to)
        return int(to)

    def _number(self) -> int:
        number = self._next_number
        self._next_number = number + 1
        return number

    def _set_time(self, now: float, unix_now: float) -> None:
        self._now = max(now, self._now)
        self._unix_now = unix_now

    # -- invariants -------------------------------------------------------------------------------

    def validate(self) -> None:
        """Raise AssertionError if the items and the areas do not add up."""
        places: dict[int, int] = {}
        for item in self.requests.open.values():
            places[item.place] = places.get(item.place, 0) + 1
        held = sum(count for place, count in places.items() if place >= HELD_FROM)
        assert self.accounting.balance == 0, "an item was lost, or counted twice"
        assert held == self.accounting.held, (places, self.accounting.held)
        assert sum(places.values()) - held == self.accounting.in_flight
        areas: dict[Place, int] = {
            Place.FOR_PARENT: len(self.held_blocks),
            Place.FOR_TARGET: len(self.held_votes),
            Place.FOR_TIME: len(self.held_for_time),
            Place.FOR_RIGHTS: len(self.held_for_rights),
            Place.RELEASED: len(self._released),
        }
        for place, count in areas.items():
            assert places.get(place, 0) == count, (place, places, areas)
        lanes = (self.lanes.votes, self.lanes.headers, self.lanes.blocks)
        assert places.get(Place.LANE, 0) == sum(len(lane) for lane in lanes)
        asked = sum(
            isinstance(waiting, Item) for flight in self.flights.values()
            for waiting in flight.items
        )  # fmt: skip
        assert places.get(Place.ASKED, 0) == asked
        bounds = self.bounds
        assert len(self.held_blocks) <= bounds.held_blocks
        assert self.held_blocks.bytes <= bounds.held_blocks_bytes
        for hash_ in [item.hash for item in self.held_blocks.values()]:
            assert hash_ not in self.chain
        for item in self.held_blocks.values():
            assert isinstance(item.facts, HeaderFacts)
            assert item.facts.predecessor not in self.chain, "a child was not released"
        for vote in self.held_votes.values():
            facts = vote.facts
            assert isinstance(facts, VoteFacts)
            assert not self.chain.has_payload(facts.level, facts.round, facts.payload_hash)
        queued: dict[str, int] = {}
        for peer in self.peers.values():
            assert peer.votes_queued >= 0
            assert peer.blocks_queued >= 0
            assert peer.held_blocks >= 0
            queued[peer.name] = peer.open
        assert sum(queued.values()) == len(self.requests.open)


def _shown(item: Item) -> HeldItem:
    facts = item.facts
    reasons = {
        Place.FOR_PARENT: "parent", Place.FOR_TARGET: "target", Place.FOR_TIME: "time",
        Place.FOR_RIGHTS: "rights", Place.RELEASED: "released",
    }  # fmt: skip
    waits_for = b""
    if isinstance(facts, HeaderFacts):
        waits_for = facts.predecessor
    elif isinstance(facts, VoteFacts):
        waits_for = facts.payload_hash
    return HeldItem(
        item.hash,
        VERIFY_BLOCK if item.is_block else VERIFY_VOTE,
        reasons[Place(item.place)],
        item.delegate,
        0 if facts is None else facts.level,
        0 if facts is None else facts.round,
        item.senders,
        waits_for,
        item.since_unix_ms,
    )
