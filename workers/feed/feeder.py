"""Follows a node, and has the quarantine judge what it says.

    node ── blocks, votes ──► quarantine ── cleared ──► another node
      ▲                           │
      └────────── wanted ─────────┘

What is cleared, whoever has pushed it, is injected in that order, so a block comes behind its
predecessor and a vote behind the block that it is for. A node's streams tell only what is new; so
the head is fetched whenever they begin anew, and what leads up to it when the quarantine wants it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from broker.client import new_id
from broker.client_session import Refused
from broker.messages import HELD, PAYLOAD_BYTES_MAX, Event, Request
from broker.quarantine.notices import WANTED, WantedBody
from broker.quarantine.offers import (
    VERIFY_BLOCK,
    VERIFY_VOTES,
    VOTES_MAX,
    BlockOffer,
    VotesOffer,
    vote_ids,
)
from broker.quarantine.turn import CLEARED, DUPLICATE, OUTCOMES, REJECTED, SHED
from broker.wire import portions
from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.networks import Network
from workers.baker.baker_rpc import BakerRpc
from workers.baker.node_news import MonitoredBlock, proposal_of_block
from workers.baker.stimuli import Passes
from workers.feed.injector import Injector
from workers.feed.pushed_items import PushedItems
from workers.node.answers import PendingOperation
from workers.node.operation_json import operation_bytes
from workers.node.patience import RETRY_S, follow, soon
from workers.node.rpc import ChainRpc
from workers.preparation.preparation_errors import (
    NodeAnswerMalformed,
    NodeUnavailable,
    PreparationError,
)

log = logging.getLogger("forgepool.feed")

# Longer than anything is held: the quarantine ends each item by itself.
TTL_MS = 120_000
# Blocks to be fetched: what the quarantine asks for in a turn, for a few turns.
FETCH_MAX = 256
# As many as the quarantine holds of one peer.
CATCH_UP_LEVELS = 32
# The first ask is for those who named the block; a later one for everybody.
ASK_OF_EVERYBODY = 2

_decode_wanted = msgspec.msgpack.Decoder(WantedBody).decode
_encode = msgspec.msgpack.encode


class Feeder:
    """Feeds the quarantine from one node.

    Args:
        peer: the name that the quarantine judges this node by.
        chain, rpc: the chain on the node that is followed.
        push: gives a request to the quarantine; its news goes to `hear`, its notices to `notice`.
        injector: takes what was cleared to another node; None: there is none.
        level_of_ours: the level that the quarantine has reached.
    """

    def __init__(
        self,
        peer: str,
        network: Network,
        chain: ChainRpc,
        rpc: BakerRpc,
        push: Callable[[Request], None],
        injector: Injector | None,
        level_of_ours: Callable[[], Awaitable[int]],
        counts: Counter[str],
    ) -> None:
        self.counts = counts
        self._peer = peer
        self._network = network
        self._chain = chain
        self._rpc = rpc
        self._push = push
        self._injector = injector
        self._level_of_ours = level_of_ours
        self._pushed = PushedItems()
        # Since we last caught up: whether there is more to push, and whether there was a step.
        self._behind = self._stepped = False
        # A block that was told whole, the name of one, or "" for what leads up to the head.
        self._to_fetch: deque[MonitoredBlock | str] = deque()
        self._fetch_now = asyncio.Event()

    async def run(self) -> None:
        """Feed until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(
                follow(
                    self._rpc.node,
                    self._rpc.validated_blocks,
                    self._want,
                    lambda: self._want("head"),
                )
            )
            group.create_task(
                follow(self._rpc.node, self._rpc.consensus_operations, self._votes_seen)
            )
            group.create_task(self._fetch())
            if self._injector is not None:
                group.create_task(self._injector.run())

    # -- blocks -----------------------------------------------------------------------------------

    def notice(self, event: Event) -> None:
        """Take what the quarantine says of its own accord."""
        if event.event != WANTED:
            return
        try:
            wanted = _decode_wanted(event.body)
        except msgspec.MsgspecError:
            log.error("malformed_notice body=%s", event.body.hex()[:128])
            return
        if self._peer in wanted.sources or wanted.ask >= ASK_OF_EVERYBODY:
            name = base58.encode(base58.BLOCK_HASH, wanted.hash) if wanted.hash else ""
            log.info("block_wanted block=%s level=%d", name or "-", wanted.level)
            self._want(name)

    def _want(self, block: MonitoredBlock | str) -> None:
        if isinstance(block, str) and block in self._to_fetch:
            return
        if len(self._to_fetch) >= FETCH_MAX:
            self.counts["blocks_skipped"] += 1
            log.warning("block_skipped reason=%d are to be fetched already", FETCH_MAX)
            return
        self._to_fetch.append(block)
        self._fetch_now.set()

    async def _fetch(self) -> None:
        while True:
            await self._fetch_now.wait()
            block = self._to_fetch[0]
            try:
                if block == "":
                    await self._catch_up()
                else:
                    await self._fetch_block(block)
            except NodeUnavailable:
                await asyncio.sleep(RETRY_S)  # the streams say that it is away
                continue
            except (PreparationError, MalformedBytes, ValueError) as error:  # ValueError: no hex
                self.counts["blocks_not_fetched"] += 1
                name = block if isinstance(block, str) else block.hash
                log.warning("block_not_fetched block=%s reason=%s", name or "-", error)
            self._to_fetch.popleft()
            if not self._to_fetch:
                self._fetch_now.clear()

    async def _catch_up(self) -> None:
        """The quarantine is far behind: give it what comes next."""
        first = await self._level_of_ours() + 1
        head = await self._chain.header("head", deadline=soon())
        for level in range(first, min(first + CATCH_UP_LEVELS, head.level + 1)):
            await self._fetch_block(str(level))
        self._behind |= first + CATCH_UP_LEVELS <= head.level

    async def _fetch_block(self, block: MonitoredBlock | str) -> None:
        operations: Passes | None = None
        if isinstance(block, MonitoredBlock):
            name = block.hash
            operations = proposal_of_block(block).operations
        else:
            name = await self._chain.hash(block, deadline=soon())
        hash_ = base58.decode(base58.BLOCK_HASH, name)
        if operations is None:
            operations = await self._rpc.operations(hash_, self._network, deadline=soon())
        header = bytes.fromhex(await self._chain.raw_header(name, deadline=soon()))
        offer = BlockOffer(self._peer, header, [list(passed) for passed in operations])
        id, payload = new_id(), _encode(offer)
        if len(payload) > PAYLOAD_BYTES_MAX:
            # The quarantine would hang up on us, and nothing else would get through.
            raise NodeAnswerMalformed(f"block {name} has {len(payload)} bytes")
        if self._has_room(id, name, len(payload), is_block=True):
            self._push(Request(id, VERIFY_BLOCK, payload, ttl_ms=TTL_MS))
            self.counts["blocks_pushed"] += 1
        else:
            self._behind = True  # fetched again when there is room

    # -- votes ------------------------------------------------------------------------------------

    def _votes_seen(self, line: list[PendingOperation]) -> None:
        """What the node says at once is pushed at once."""
        new: dict[str, bytes] = {}
        for operation in line:
            if operation.hash in new or self._pushed.is_known(operation.hash):
                continue
            raw = operation_bytes(operation, self._network)
            if raw is None:
                self.counts["votes_unreadable"] += 1
                log.debug("vote_unreadable hash=%s", operation.hash)
                continue
            new[operation.hash] = raw
        for some in portions(list(new.items()), lambda named: len(named[1])):
            for i in range(0, len(some), VOTES_MAX):
                self._give_votes(some[i : i + VOTES_MAX])

    def _give_votes(self, votes: list[tuple[str, bytes]]) -> None:
        """Push those for which there is room."""
        id, raws = new_id(), list[bytes]()
        ids = vote_ids(id, len(votes))
        for hash_, raw in votes:
            if self._has_room(ids[len(raws)], hash_, len(raw), request=id):
                raws.append(raw)
        if raws:
            payload = _encode(VotesOffer(self._peer, raws))
            self._push(Request(id, VERIFY_VOTES, payload, ttl_ms=TTL_MS))
            self.counts["votes_pushed"] += len(raws)

    # -- the quarantine ---------------------------------------------------------------------------

    def _has_room(
        self, id: bytes, hash_: str, size: int, *, is_block: bool = False, request: bytes = b""
    ) -> bool:
        """Whether an item may be pushed under this id; its end is waited for then."""
        if self._pushed.put(id, hash_, size, is_block=is_block, request=request):
            return True
        self.counts["not_pushed"] += 1
        level = logging.WARNING if self.counts["not_pushed"] == 1 else logging.DEBUG
        log.log(level, "not_pushed hash=%s; too many have not ended, more are only counted",
                hash_)  # fmt: skip
        return False

    def hear(self, news: Any) -> None:
        """Take how an item ended, or that it could not be pushed."""
        match news:
            case Event(event=event, id=id) if event in OUTCOMES:
                self.counts[event] += 1
                if self._pushed.end(id):
                    self._block_ended(event)
                if event in (CLEARED, DUPLICATE) and self._injector is not None:
                    self._injector.look()
                elif event in (REJECTED, SHED):
                    self._complain(event, news.code, news.text)
            case Event(event=event) if event == HELD:
                self.counts[HELD] += 1
            case Refused(ack):
                self.counts["not_taken"] += 1
                self._pushed.end(ack.id)
                log.warning("not_taken code=%s text=%s", ack.code, ack.text)
            case _:
                log.warning("events_lost news=%s", news)

    def _block_ended(self, event: str) -> None:
        """When all have ended, there is room for what comes next.

        But only if there was a step: who is shed whatever he sends must not send it for ever.
        """
        self._behind |= event == SHED
        self._stepped |= event == CLEARED
        if self._behind and self._stepped and not self._pushed.blocks:
            self._behind = self._stepped = False
            self._want("")

    def _complain(self, event: str, code: str, text: str) -> None:
        """Count what was refused by its reason; the log tells of the first of each."""
        name = f"{event}_{code}"
        self.counts[name] += 1
        level = logging.WARNING if self.counts[name] == 1 else logging.DEBUG
        log.log(level, "%s code=%s text=%s; more of these are only counted", event, code, text)
