"""The one end of every request: its event, and what else follows from it."""

from __future__ import annotations

import msgspec

from broker.messages import Event
from broker.quarantine.accounting import Accounting
from broker.quarantine.cleared_chain import ClearedChain
from broker.quarantine.held_blocks import HeldBlocks
from broker.quarantine.items import Item, block_fingerprint
from broker.quarantine.missing_blocks import MissingBlocks
from broker.quarantine.moment import Moment
from broker.quarantine.records import ClearedBlock, ClearedBody, ClearedVote, held_key
from broker.quarantine.requests import Requests
from broker.quarantine.turn import CLEARED, Turn
from broker.verification import HeaderFacts

_encode = msgspec.msgpack.Encoder().encode


class Ends:
    """Ends requests; `turn` is the one being filled."""

    def __init__(
        self,
        moment: Moment,
        *,
        accounting: Accounting,
        chain: ClearedChain,
        held: HeldBlocks,
        missing: MissingBlocks,
        requests: Requests,
    ) -> None:
        self.turn = Turn.empty()
        self._moment = moment
        self._accounting = accounting
        self._chain = chain
        self._held = held
        self._missing = missing
        self._requests = requests

    def take_turn(self) -> Turn:
        """The turn that was filled; another one begins."""
        turn = self.turn
        self.turn = Turn.empty()
        return turn

    def end(self, item: Item, event: str, code: str = "", text: str = "") -> None:
        """The end of an item; it must have left its area."""
        facts = item.facts
        delegate, body = "", b""
        if facts is not None:
            delegate = facts.delegate
            if event == CLEARED:
                body = _encode(ClearedBody.of(facts, item.hash))
        ended = Event(item.id, delegate, event, body, code, text)
        turn = self.turn
        turn.events.append((item.client, ended, item.fingerprint))
        if item.kept:
            turn.forget.append(held_key(item.client, item.id, item.fingerprint))
        self._requests.close(item, ended)
        self._accounting.ended(item.place, event, code)
        item.peer.open -= 1
        if item.operations is not None:
            self._unlinked(item)

    def cleared_votes(self, items: list[Item], votes: list[ClearedVote]) -> None:
        """The same for votes that are stored: nothing but their number tells many from one."""
        turn, requests = self.turn, self._requests
        add, forget = turn.events.append, turn.forget.append
        pop_open, pop_vote, put_ended = requests.open.pop, requests.votes.pop, requests.ended.put
        for item, vote in zip(items, votes, strict=True):
            record, client, id_, mark = vote.record, item.client, item.id, item.fingerprint
            body = _encode(ClearedBody(record.kind, item.hash, record.level, record.round))
            ended = Event(id_, record.delegate, CLEARED, body)
            add((client, ended, mark))
            if item.kept:
                forget(held_key(client, id_, mark))
            key = (client, id_)
            pop_open(key, None)
            pop_vote(item.hash, None)
            put_ended(key, (mark, ended))
            item.peer.open -= 1
        self._accounting.stored(len(items))

    def at_once(self, client: str, id_: bytes, mark: bytes, event: str, code: str) -> None:
        """The end of a request that never became an item."""
        self._at_once(client, mark, Event(id_, "", event, b"", code))

    def cleared_before(self, cleared: ClearedBlock | ClearedVote) -> None:
        """The end of an item that was stored before a kill, and not told."""
        if isinstance(cleared, ClearedVote):
            record = cleared.record
            mark, delegate = record.hash, record.delegate
            body = ClearedBody(record.kind, mark, record.level, record.round)
        else:
            facts = cleared.facts
            mark = block_fingerprint(facts.hash, cleared.operations or [])
            delegate, body = facts.delegate, ClearedBody.of(facts, facts.hash)
        ended = Event(cleared.id, delegate, CLEARED, _encode(body))
        self._at_once(cleared.client, mark, ended)

    def _at_once(self, client: str, mark: bytes, ended: Event) -> None:
        self.turn.events.append((client, ended, mark))
        self._requests.ended.put((client, ended.id), (mark, ended))
        self._accounting.passed(ended.event, ended.code)

    def _unlinked(self, item: Item) -> None:
        """A block has ended: who waits for it, and did it wait for anybody?"""
        held = self._held
        if item.hash not in self._chain and not self._requests.has_block(item.hash):
            waiting = held.waiting_for(item.hash)
            if waiting:
                self._missing.want(item.hash, waiting[0].senders, self._moment.now)
        self.waits_no_more(item)

    def waits_no_more(self, item: Item) -> None:
        """A block is not held any more: its predecessor may be wanted by nobody."""
        facts = item.facts
        if isinstance(facts, HeaderFacts) and not self._held.awaits(facts.predecessor):
            self._missing.found(facts.predecessor)
