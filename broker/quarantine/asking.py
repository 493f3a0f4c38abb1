"""What the quarantine asks its workers, and what comes back without an answer.

    lanes ──► slices, as many as workers have credit for ──► the broker
      ▲                                  │
      └── again, before all others ◄─────┴── busy, no worker, lost, late

Nobody is asked before the chain is known, nor for what the store would have no room for. What is
asked in vain three times is isolated. A worker that ends takes all that it has in hand along, so
last tries of what was lost so are made one at a time: what ends workers takes nothing else to its
last try's end.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from broker.quarantine.accounting import Accounting
from broker.quarantine.backoff import Backoff
from broker.quarantine.bounds import Bounds
from broker.quarantine.chain_watch import ChainWatch
from broker.quarantine.cleared_chain import ClearedChain
from broker.quarantine.ends import Ends
from broker.quarantine.flights import EvidenceJob, Flight, Flights, Waiting
from broker.quarantine.holding import Holding
from broker.quarantine.items import ASKED, LANE, Item
from broker.quarantine.known_hashes import KnownHashes
from broker.quarantine.lanes import Lane, Lanes
from broker.quarantine.moment import Moment
from broker.quarantine.offences import Offences
from broker.quarantine.peers import Peers
from broker.quarantine.requests import Requests
from broker.quarantine.storing import Storing
from broker.quarantine.turn import DUPLICATE, SHED
from broker.verification import Check, CheckItem, HeaderFacts, Position

# Problems of a slice that say nothing about its items.
BLAMELESS = frozenset({"busy", "no_worker", "stalled"})


class Asking:
    """Slices for workers; `ends.turn` gets them."""

    def __init__(
        self,
        bounds: Bounds,
        moment: Moment,
        number: Callable[[], int],
        *,
        accounting: Accounting,
        chain: ClearedChain,
        ends: Ends,
        flights: Flights,
        hold_block: Callable[[Item, HeaderFacts], None],
        holding: Holding,
        known: KnownHashes,
        lanes: Lanes,
        offences: Offences,
        peers: Peers,
        requests: Requests,
        storing: Storing,
        watch: ChainWatch,
    ) -> None:
        """Ask of these areas; `hold_block` takes a block whose predecessor is known no more."""
        self._bounds = bounds
        self._moment = moment
        self._number = number
        self._accounting = accounting
        self._chain = chain
        self._ends = ends
        self._flights = flights
        self._hold_block = hold_block
        self._holding = holding
        self._known = known
        self._lanes = lanes
        self._offences = offences
        self._peers = peers
        self._requests = requests
        self._storing = storing
        self._watch = watch
        self._busy = Backoff(0.001, 0.016)  # workers have no credit
        self._nobody = Backoff(0.064, 1.024)  # there are no workers
        self._answered_at = -inf
        self._last_try = 0  # number of the slice with one

    def deadline(self) -> float:
        """When to ask next."""
        # Nobody is asked before this, neither about the chain nor about what waits.
        now, asks_from = self._moment.now, max(self._busy.until, self._nobody.until)
        asks_at = self._watch.deadline(self._requests.open.count() > 0)
        if asks_from > now and self._lanes.waiting:
            asks_at = min(asks_at, asks_from)
        return max(asks_at, asks_from)

    def answered(self) -> None:
        """A worker has answered."""
        self._busy.succeeded()
        self._nobody.succeeded()
        self._answered_at = self._moment.now

    def give_up_overdue(self) -> None:
        """Slices that should have been answered by now."""
        while (flight := self._flights.overdue(self._moment.now)) is not None:
            # Without any answer since, all workers are stalled, and no item is to blame.
            moving = self._answered_at > flight.asked_at
            self.unanswered(flight, "timeout" if moving else "stalled")

    def queue(self, item: Item) -> None:
        """The item waits for its next check: a block's second one when its header holds."""
        self._accounting.moved(item.place, LANE)
        item.place = LANE
        if not self._lanes.put(item):
            self._ends.end(item, SHED, "ingress_full")

    def ask(self) -> None:
        """Give workers as much as they have credit for."""
        now = self._moment.now
        if now < self._busy.until or now < self._nobody.until:
            return
        unix_ms = self._moment.unix_ms
        position = self._chain.position(unix_ms)
        if self._watch.due(now, self._requests.open.count() > 0):
            number = self._number()
            asked = [CheckItem(number, self._watch.node_head)]
            where = position or Position(unix_ms, 0, 0, 0, 0)
            slice_ = self._flights.start(number, Check.CHAIN, [], asked, where, "", now)
            self._ends.turn.slices.append(slice_)
            self._watch.asked(number, now)
        if position is None or self._watch.blind(now):
            return
        while not self._flights.full:
            lane = self._next_lane()
            if lane is None:
                return
            taken = self._lanes.take(lane, self._flights.fits(lane.check))
            if lane is not self._lanes.votes or self._peers.has_banned:
                taken = [waiting for waiting in taken if self._still_wanted(waiting)]
            if taken:
                self._send(lane.check, taken, position)

    def _next_lane(self) -> Lane | None:
        """Whose turn it is; a last try waits while another one is made."""
        closed = self._closed_lanes()
        if self._flights.has(self._last_try):
            last = (lane for lane in self._lanes.all if self._is_last_try(lane.queue.first()))
            closed = (*closed, *last)
        return self._lanes.next(closed)

    def _is_last_try(self, waiting: Waiting | None) -> bool:
        # Not of what was only late: on a busy machine that may be all there is.
        if waiting is None or not waiting.was_lost:
            return False
        return waiting.tries == self._bounds.tries - 1

    def _closed_lanes(self) -> tuple[Lane, ...]:
        """The lanes whose answers would find no room."""
        lanes, asked = self._lanes, self._flights.asked
        closed: tuple[Lane, ...] = ()
        valid = asked(Check.VOTE) + asked(Check.BLOCK) + self._holding.released.count()
        if valid >= self._storing.room:
            closed = (lanes.votes, lanes.blocks)
        ahead = lanes.blocks.queue.count() + asked(Check.BLOCK) + asked(Check.HEADER)
        # What is held is given to the store too, with its operations.
        if not self._storing.room or ahead + len(self._holding.blocks) >= lanes.blocks.queue.max:
            closed = (*closed, lanes.headers)
        return closed

    def _send(self, check: Check, items: list[Waiting], position: Position) -> None:
        number = self._number()
        asked: list[CheckItem] = []
        for waiting in items:
            if isinstance(waiting, EvidenceJob):
                asked.append(self._evidence_item(waiting))
                continue
            waiting.place = ASKED  # from LANE: both are in flight
            if check is Check.BLOCK:
                asked.append(self._block_item(waiting))
            else:
                asked.append(CheckItem(waiting.number, waiting.raw))
        first = items[0]
        if self._is_last_try(first):
            self._last_try = number
        hint = first.hint if len(items) == 1 and isinstance(first, Item) else ""
        slice_ = self._flights.start(number, check, items, asked, position, hint, self._moment.now)
        self._ends.turn.slices.append(slice_)

    def _block_item(self, item: Item) -> CheckItem:
        assert isinstance(item.facts, HeaderFacts)
        ancestors = self._chain.ancestors(item.facts.predecessor, item.wanted)
        return CheckItem(item.number, item.raw, item.operations or [], ancestors)

    def _evidence_item(self, job: EvidenceJob) -> CheckItem:
        branch = self._chain.final_hash()
        one, other = job.first, job.second
        slot = max(one.slot, other.slot)
        return CheckItem(job.number, one.raw, [], [], other.raw, branch, slot)

    def _still_wanted(self, waiting: Waiting) -> bool:
        """Whether what has waited is still to be checked; else it has ended, or is held."""
        if isinstance(waiting, EvidenceJob):
            return True
        if waiting.facts is None and self._sent_by_banned(waiting):
            self._ends.end(waiting, SHED, "peer_banned")
            return False
        if waiting.operations is None:
            return True
        if waiting.hash in self._chain:
            self._ends.end(waiting, DUPLICATE, "cleared")
            return False
        facts = waiting.facts
        if isinstance(facts, HeaderFacts) and facts.predecessor not in self._chain:
            self._hold_block(waiting, facts)
            return False
        return True

    def _sent_by_banned(self, item: Item) -> bool:
        """Whether all who have sent it were banned while it waited: it would cost a check."""
        now, peers = self._moment.now, self._peers
        if not item.peer.banned(now):
            return False
        senders = [peers.get(name) for name in item.senders]
        return all(peer is not None and peer.banned(now) for peer in senders)

    def unanswered(self, flight: Flight, problem: str) -> None:
        """A slice came back without verdicts, or not at all."""
        if problem == "busy":
            self._busy.failed(self._moment.now)
        elif problem == "no_worker":
            self._nobody.failed(self._moment.now)
        if self._watch.is_answer(flight.number):
            self._watch.failed(self._moment.now)
            return
        for waiting in reversed(flight.items):
            if problem in BLAMELESS:
                self.ask_again(waiting)
            else:
                self.in_vain(waiting, problem)

    def ask_again(self, waiting: Waiting) -> None:
        """It is asked about once more, before all others."""
        if isinstance(waiting, EvidenceJob):
            if not self._lanes.evidence.queue.put_first(waiting):
                self._offences.lose(waiting)
            return
        waiting.place = LANE  # from ASKED: both are in flight
        if not self._lanes.put_first(waiting):
            self._ends.end(waiting, SHED, "ingress_full")

    def in_vain(self, waiting: Waiting, problem: str) -> None:
        """Asked in vain: again, alone; after some times it is isolated, never called bad."""
        waiting.tries += 1
        waiting.was_lost = waiting.was_lost or problem == "worker_lost"
        if waiting.tries < self._bounds.tries:
            self.ask_again(waiting)
        elif isinstance(waiting, EvidenceJob):
            self._offences.lose(waiting)
            self._ends.turn.notes.append(
                f"no evidence could be made of {waiting.offence}: {problem}"
            )
        else:
            self._known.isolate(waiting.fingerprint, self._moment.now)
            kind = "block" if waiting.is_block else "vote"
            self._ends.turn.notes.append(
                f"{kind} {waiting.hash.hex()} from {waiting.senders[0]} could not be checked "
                f"{waiting.tries} times: {problem}"
            )
            self._ends.end(waiting, SHED, "isolated", problem)
