"""What a pushed item must pass before anybody looks into it: the cheapest checks first.

The peer's tokens, the size, the hash: known as open, cleared, bad or isolated; then the places in
the queue. Whatever does not pass has ended, with an event; the rest waits for a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b

from broker.messages import ACCEPTED, REFUSED, Ack, Request
from broker.messages import DUPLICATE as KNOWN_REQUEST
from broker.quarantine.accounting import Accounting
from broker.quarantine.bounds import Bounds
from broker.quarantine.chain_watch import ChainWatch
from broker.quarantine.cleared_chain import ClearedChain
from broker.quarantine.conduct import NOTHING, REJECTED_DEFAULT, Conduct
from broker.quarantine.ends import Ends
from broker.quarantine.holding import Holding
from broker.quarantine.items import FOR_PARENT, Item, block_fingerprint, body_bytes
from broker.quarantine.known_hashes import INVALID, KnownHashes
from broker.quarantine.lanes import Lanes
from broker.quarantine.missing_blocks import MissingBlocks
from broker.quarantine.moment import Moment
from broker.quarantine.offers import (
    PASSES,
    decode_block_offer,
    decode_vote_offer,
    decode_votes_offer,
    vote_ids,
)
from broker.quarantine.peers import DISCONNECT, Peer, Peers
from broker.quarantine.records import HeldRecord
from broker.quarantine.requests import Requests
from broker.quarantine.turn import CLEARED, DUPLICATE, EXPIRED, REJECTED, SHED, UNVIABLE
from broker.verification import HeaderFacts

BUSY_RETRY_MS = 200


class Intake:
    """Takes items in, from clients and from before a restart."""

    def __init__(
        self,
        bounds: Bounds,
        moment: Moment,
        number: Callable[[], int],
        *,
        accounting: Accounting,
        chain: ClearedChain,
        conduct: Conduct,
        ends: Ends,
        holding: Holding,
        known: KnownHashes,
        lanes: Lanes,
        missing: MissingBlocks,
        peers: Peers,
        requests: Requests,
        watch: ChainWatch,
    ) -> None:
        """An intake into these areas; `number` gives each item its own."""
        self._bounds = bounds
        self._moment = moment
        self._number = number
        self._accounting = accounting
        self._chain = chain
        self._conduct = conduct
        self._ends = ends
        self._holding = holding
        self._known = known
        self._lanes = lanes
        self._missing = missing
        self._peers = peers
        self._requests = requests
        self._watch = watch
        self.looked_at = 0  # items of requests, whether or not they were taken

    def vote(self, client: str, request: Request) -> Ack:
        """A vote was pushed. Raises one of UNDECODABLE for a payload that is none."""
        self.looked_at += 1
        offer = decode_vote_offer(request.payload)
        raw, id_ = offer.raw, request.id
        hash_ = blake2b(raw, digest_size=32).digest()
        requests = self._requests
        if requests.knows((client, id_)):
            return self._pushed_again(client, id_, hash_)
        if requests.open.full:
            return Ack(id_, REFUSED, "busy", "", BUSY_RETRY_MS)
        self._take_vote(client, id_, hash_, raw, self._sender(offer.peer), offer.delegate)
        return Ack(id_, ACCEPTED)

    def votes(self, client: str, request: Request) -> Ack:
        """Several votes of one peer were pushed, each as a request of its own. Raises likewise."""
        self.looked_at += 1
        offer = decode_votes_offer(request.payload)
        ids = vote_ids(request.id, len(offer.raws))
        self.looked_at += len(ids)
        requests = self._requests
        new: list[tuple[bytes, bytes, bytes]] = []  # id, hash, bytes
        known: list[tuple[bytes, bytes, bytes]] = []
        for id_, raw in zip(ids, offer.raws, strict=True):
            if raw:  # else it has ended, and the client has heard of it
                vote = id_, blake2b(raw, digest_size=32).digest(), raw
                (known if requests.knows((client, id_)) else new).append(vote)
        if requests.open.count() + len(new) > requests.open.max:
            return Ack(request.id, REFUSED, "busy", "", BUSY_RETRY_MS)
        for id_, hash_, _ in known:
            answer = self._pushed_again(client, id_, hash_)
            if answer.status == REFUSED:
                return Ack(request.id, REFUSED, answer.code, answer.text)
        if not new:
            if not known:
                return Ack(request.id, REFUSED, "malformed", "there is no vote in it")
            return Ack(request.id, KNOWN_REQUEST)
        peer = self._sender(offer.peer)
        for id_, hash_, raw in new:
            self._take_vote(client, id_, hash_, raw, peer, "")
        return Ack(request.id, ACCEPTED)

    def _sender(self, name: str) -> Peer:
        """The peer that has sent something just now."""
        self._watch.traffic = True
        return self._peers.get(name) or self._peers.meet(name, self._moment.now)

    def _take_vote(
        self, client: str, id_: bytes, hash_: bytes, raw: bytes, peer: Peer, hint: str
    ) -> None:
        """Let a vote that nobody has pushed under this id wait for a worker, or end it."""
        now, known = self._moment.now, self._known
        if peer.score < DISCONNECT and peer.banned(now):
            self._ends.at_once(client, id_, hash_, SHED, "peer_banned")
            return
        if peer.tokens_votes < 1.0 and not self._peers.refill_votes(peer, now):
            self._over_quota(client, id_, hash_, peer, "peer_rate")
            return
        peer.tokens_votes -= 1.0
        same = self._requests.votes.get(hash_)
        if same is not None or known.seen.has(hash_):
            self._duplicate(client, id_, hash_, peer, same)
            return
        too_big, is_bad = len(raw) > self._bounds.vote_bytes_max, known.bad_votes.has(hash_)
        if too_big or is_bad or known.isolated.count():
            end = self._refused(INVALID if is_bad else "", hash_, too_big, peer)
            if end is not None:
                self._ends.at_once(client, id_, hash_, *end)
                return
        if peer.votes_queued >= self._bounds.ingress_votes_per_peer:
            self._over_quota(client, id_, hash_, peer, "peer_queue")
            return
        if self._lanes.votes.queue.count() >= self._bounds.ingress_votes:
            self._shed_oldest_vote()
        self._open(client, id_, hash_, hash_, raw, None, peer, hint)

    def block(self, client: str, request: Request) -> Ack:
        """A block was pushed. Raises likewise."""
        self.looked_at += 1
        offer = decode_block_offer(request.payload)
        raw, operations, id_ = offer.header, offer.operations, request.id
        hash_ = blake2b(raw, digest_size=32).digest()
        mark = block_fingerprint(hash_, operations)
        requests, now, bounds = self._requests, self._moment.now, self._bounds
        if requests.knows((client, id_)):
            return self._pushed_again(client, id_, mark)
        if requests.open.full:
            return Ack(id_, REFUSED, "busy", "", BUSY_RETRY_MS)
        peer = self._sender(offer.peer)
        if peer.banned(now):
            self._ends.at_once(client, id_, mark, SHED, "peer_banned")
        elif peer.tokens_blocks < 1.0 and not self._peers.refill_blocks(peer, now):
            self._over_quota(client, id_, mark, peer, "peer_rate")
        else:
            peer.tokens_blocks -= 1.0
            others = requests.blocks.get(hash_, ())
            same = [other for other in others if other.fingerprint == mark]
            size = body_bytes(operations)
            too_big = (
                len(raw) > bounds.header_bytes_max
                or size > bounds.operations_bytes_max
                or len(operations) != PASSES
            )
            if same or hash_ in self._known.seen or hash_ in self._chain:
                self._duplicate(client, id_, mark, peer, same[0] if same else None)
            elif end := self._refused(self._known.why_bad(hash_), mark, too_big, peer):
                self._ends.at_once(client, id_, mark, *end)
            elif len(others) >= bounds.bodies:
                self._ends.at_once(client, id_, mark, SHED, "too_many_bodies")
            elif peer.blocks_queued >= bounds.ingress_blocks_per_peer:
                self._over_quota(client, id_, mark, peer, "peer_queue")
            elif (
                self._lanes.headers.queue.count() >= bounds.ingress_blocks
                or self._lanes.bytes + len(raw) + size > bounds.ingress_blocks_bytes
            ):
                self._ends.at_once(client, id_, mark, SHED, "ingress_full")
            else:
                self._missing.found(hash_)
                hint = request.delegate or ""
                self._open(client, id_, hash_, mark, raw, operations, peer, hint)
        return Ack(id_, ACCEPTED)

    def _pushed_again(self, client: str, id_: bytes, mark: bytes) -> Ack:
        """The answer to a request id that is known."""
        key = (client, id_)
        known = self._requests.open.get(key)
        if known is not None:
            same = known.fingerprint == mark
        else:
            fingerprint, event = self._requests.ended.get(key, (b"", None))
            same = fingerprint == mark
            if same and event is not None:
                self._ends.turn.events.append((client, event, mark))
        if same:
            return Ack(id_, KNOWN_REQUEST)
        return Ack(id_, REFUSED, "id_reused", "this id stands for another item")

    def _refused(self, why: str, mark: bytes, too_big: bool, peer: Peer) -> tuple[str, str] | None:
        """The end, without any check, of bytes that are too many or known (`why` as bad)."""
        if too_big:
            self._conduct.weigh((peer.name,), "too_big", REJECTED_DEFAULT, self._moment.now)
            return (REJECTED, "too_big")
        if why == INVALID:
            self._conduct.weigh((peer.name,), "known_invalid", REJECTED_DEFAULT, self._moment.now)
            return (REJECTED, "known_invalid")
        if why:
            return (UNVIABLE, "known_unviable")
        if self._known.is_isolated(mark, self._moment.now):
            return (SHED, "isolated")
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
        restored: HeldRecord | None = None,
    ) -> None:
        """A request becomes an item, and waits for its first check."""
        item = Item(
            self._number(), client, id_, hash_, mark, raw, operations, peer, (peer.name,), hint,
            self._moment.unix_ms,
        )  # fmt: skip
        peer.open += 1
        self._accounting.received += 1
        self._accounting.in_flight += 1
        if restored is not None:
            age_s = max(0.0, self._moment.unix_now - restored.since_unix_ms / 1000)
            item.kept = True
            item.senders = restored.peers
            item.since_unix_ms = restored.since_unix_ms
            item.held_since = self._moment.now - age_s
        self._requests.add(item)
        if not self._lanes.put(item):
            self._ends.end(item, SHED, "ingress_full")

    def take_back(self, record: HeldRecord) -> None:
        """An item that was held before a restart: the pipeline runs again from its bytes."""
        client, id_, mark = record.client, record.id, record.fingerprint
        if (client, id_) in self._requests.ended:
            self._ends.turn.forget.append(
                record.key
            )  # it has ended, only its record was not forgotten
            return
        is_block = record.operations is not None
        life_s = (
            self._bounds.held_block_s
            if is_block
            else self._watch.vote_life_s(self._bounds.held_vote_rounds)
        )
        end: tuple[str, str] | None = None
        block = self._chain.get(record.hash)
        if block is not None and (block.client, block.id) != (client, id_):
            end = (DUPLICATE, "cleared")  # as a body of another request, or the node's
        elif block is not None or record.hash in self._known.seen:
            end = (CLEARED, "")
        elif self._moment.unix_now - record.since_unix_ms / 1000 >= life_s:
            end = (EXPIRED, record.reason)
        elif any(i.fingerprint == mark for i in self._known_as(record.hash)):
            end = (DUPLICATE, "open")
        elif self._requests.open.full:
            end = (SHED, "ingress_full")
        if end is not None:
            self._ends.turn.forget.append(record.key)
            self._ends.at_once(client, id_, mark, *end)
            return
        peer = self._peers.meet(record.peers[0], self._moment.now)
        self._open(client, id_, record.hash, mark, record.raw, record.operations, peer, "", record)

    def _known_as(self, hash_: bytes) -> Iterable[Item]:
        """The open items with a hash."""
        vote = self._requests.votes.get(hash_)
        return self._requests.blocks.get(hash_, ()) if vote is None else (vote,)

    def _duplicate(
        self, client: str, id_: bytes, mark: bytes, peer: Peer, known: Item | None
    ) -> None:
        """The same bytes are here or were cleared: no fault, and one more who may have it."""
        if known is not None:
            if len(known.senders) < self._bounds.sources and peer.name not in known.senders:
                known.senders = (*known.senders, peer.name)
            if known.place == FOR_PARENT and isinstance(known.facts, HeaderFacts):
                root = self._holding.blocks.deepest_unknown(known.facts.predecessor)
                if root in self._missing:
                    self._missing.want(root, (peer.name,), self._moment.now)
        self._conduct.weigh((peer.name,), "duplicate", NOTHING, self._moment.now)
        code = "cleared" if known is None else "open"
        self._ends.at_once(client, id_, mark, DUPLICATE, code)

    def _over_quota(self, client: str, id_: bytes, mark: bytes, peer: Peer, code: str) -> None:
        self._conduct.over_quota(peer, code, self._moment.now)
        self._ends.at_once(client, id_, mark, SHED, code)

    def _shed_oldest_vote(self) -> None:
        for oldest in self._lanes.take(self._lanes.votes, 1):
            assert isinstance(oldest, Item)
            self._ends.end(oldest, SHED, "ingress_full")
