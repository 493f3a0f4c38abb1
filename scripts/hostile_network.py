"""The network of `scripts/demo --hostile`: honest towards the outsiders, hostile towards us.

our node A ─────────────── blocks, operations ──────────────► B, the outsiders' node
    ▲                                                         │
    └── injected ◄── cleared ◄── quarantine ◄── foul_play ◄───┘
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from forwarding import Forwarding, Offer
from foul_play import FoulPlay, Outsiders

from broker.client import new_id
from broker.config import QuarantineSettings, quarantine_endpoints
from broker.messages import HELD, Event, Request, Status, StatusWanted
from broker.quarantine.admin_client import QuarantineAdmin
from broker.quarantine.notices import PEER, PeerBody
from broker.quarantine.offers import VERIFY_BLOCK, VERIFY_VOTE, BlockOffer, VoteOffer
from broker.quarantine.records import EvidenceRecord
from broker.quarantine.turn import CLEARED, SLASHABLE
from signers.errors import MalformedBytes
from signers.formats.vote import read_signed_vote
from workers.baker.baker_rpc import BakerRpc
from workers.baker.node_news import MonitoredBlock, proposal_of_block
from workers.baker.stimuli import Rights
from workers.feed.cleared_reader import ClearedReader
from workers.feed.injector import Injector
from workers.feed.notice_reader import NoticeReader
from workers.node.answers import PendingOperation
from workers.node.operation_json import operation_bytes
from workers.node.patience import follow, insist, soon
from workers.node.rpc import VALIDATED_ONLY, ChainRpc
from workers.node.transport import Node, Stream
from workers.pool import Pool
from workers.preparation.preparation_errors import PreparationError

log = logging.getLogger("forgepool.hostile")

CLIENT = "hostile"  # towards the quarantine
TTL_MS = 120_000
QUEUED_MAX = 10_000
END_S_MAX = 10.0

_encode = msgspec.msgpack.encode


class Seen:
    """The hashes of the operations that a node has told of lately; its stream repeats them."""

    def __init__(self) -> None:
        self._hashes: dict[str, None] = {}

    def is_new(self, hash_: str) -> bool:
        if hash_ in self._hashes:
            return False
        self._hashes[hash_] = None
        if len(self._hashes) > QUEUED_MAX:
            del self._hashes[next(iter(self._hashes))]
        return True


class HostileNetwork:
    """What goes between the two nodes, until `end`."""

    def __init__(
        self,
        ours: str,
        theirs: str,
        state_dir: Path,
        outsiders: Outsiders,
        chain_id: str,
        seed: str,
    ) -> None:
        self._urls = (ours, theirs)
        self._endpoints = quarantine_endpoints(state_dir, QuarantineSettings())
        self._outsiders = outsiders
        self._chain_id = chain_id
        self._chance = random.Random(seed)
        self._told_by_a, self._told_by_b = Seen(), Seen()
        self._turn = itertools.count()
        self._rights: dict[int, Rights] = {}
        self.waited: Counter[str] = Counter()  # items that were held, by what for
        self.offences: Counter[str] = Counter()  # told by the quarantine, by kind
        self.evidence: Counter[str] = Counter()  # what our node said to it
        self.banned: set[str] = set()
        self.injected: Counter[str] = Counter()  # into our node
        self.failure = ""
        self._thread = threading.Thread(target=self._run, name="hostile network", daemon=True)

    def start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread.start()

    def end(self) -> None:
        """End, and wait for it."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(END_S_MAX)

    def quarantine_status(self) -> dict[str, Any]:
        """How the quarantine is, in its own words. From any thread; raises BrokerError."""
        with QuarantineAdmin(self._endpoints) as admin:
            answer = admin.ask(StatusWanted())
        return answer.status if isinstance(answer, Status) else {}

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:
            log.exception("hostile_network_failed")
            self.failure = repr(error)
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        nodes = [Node(url) for url in self._urls]
        a, b = (ChainRpc(node, self._chain_id) for node in nodes)
        pool, notices = Pool(self._endpoints, CLIENT), NoticeReader(self._endpoints)
        cleared = ClearedReader(self._endpoints, CLIENT)
        self._a, self._b = a, b
        self._rpc = BakerRpc(nodes[1], self._chain_id)
        self._into_a, self._into_b = Injector(a, cleared, self.injected), Forwarding(b)
        self._to_push: asyncio.PriorityQueue[tuple[float, int, Offer]] = asyncio.PriorityQueue()
        self._told: asyncio.Queue[MonitoredBlock | bytes] = asyncio.Queue(QUEUED_MAX)
        self._forwarded: asyncio.Queue[MonitoredBlock] = asyncio.Queue(QUEUED_MAX)
        self._pool = pool
        work = int(
            (
                await insist(nodes[0], lambda d: a.constants("head", deadline=d))
            ).proof_of_work_threshold
        )
        self._foul = FoulPlay(self._outsiders, self._chance, work)
        rpc_a = BakerRpc(nodes[0], self._chain_id)
        pool.start(self._hear, on_end=self._lose)
        notices.start(self._notice, on_end=self._lose)
        work_of = (
            follow(nodes[0], rpc_a.validated_blocks, self._forwarded.put_nowait),
            follow(
                nodes[0],
                lambda: _operations(nodes[0], self._chain_id),
                self._forward_operations,
            ),
            self._forward_blocks(),
            follow(nodes[1], self._rpc.validated_blocks, self._told.put_nowait),
            follow(nodes[1], self._rpc.consensus_operations, self._votes_told),
            self._make_foul(),
            self._push_in_time(),
            self._into_a.run(),
            self._into_b.run(),
        )
        tasks = [asyncio.create_task(each) for each in work_of]
        tasks.append(asyncio.create_task(self._ended.wait()))
        try:
            await next(asyncio.as_completed(tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            notices.close()
            pool.close()
            cleared.close()
            for node in nodes:
                await node.aclose()

    def _lose(self) -> None:
        self.failure = "the connection to the quarantine was lost"
        self._ended.set()

    # -- from A to B: as it is --------------------------------------------------------------------

    async def _forward_blocks(self) -> None:
        while True:
            block = await self._forwarded.get()
            self._into_b.put(await self._whole(self._a, block))

    def _forward_operations(self, line: list[PendingOperation]) -> None:
        for raw in self._news(line, self._told_by_a):
            self._into_b.put(VoteOffer("A", raw))

    def _news(self, line: list[PendingOperation], seen: Seen) -> Iterator[bytes]:
        for operation in line:
            if seen.is_new(operation.hash):
                raw = operation_bytes(operation, self._outsiders.network)
                if raw is not None:
                    yield raw

    async def _whole(self, chain: ChainRpc, block: MonitoredBlock) -> BlockOffer:
        header = await insist(chain.node, lambda d: chain.raw_header(block.hash, deadline=d))
        operations = proposal_of_block(block).operations or ()
        return BlockOffer("", bytes.fromhex(header), [list(passed) for passed in operations])

    # -- from B to the quarantine -----------------------------------------------------------------

    def _votes_told(self, line: list[PendingOperation]) -> None:
        for raw in self._news(line, self._told_by_b):
            self._told.put_nowait(raw)

    async def _make_foul(self) -> None:
        while True:
            told = await self._told.get()
            if isinstance(told, MonitoredBlock):
                whole = await self._whole(self._b, told)
                rights = await self._rights_at(told.header.level)
                pushes = self._foul.of_block(whole.header, whole.operations, rights)
            else:
                try:
                    level = read_signed_vote(told).level
                except MalformedBytes:
                    continue
                pushes = self._foul.of_vote(told, await self._rights_at(level))
            now = self._loop.time()
            for late_s, offer in pushes:
                self._to_push.put_nowait((now + late_s, next(self._turn), offer))

    async def _rights_at(self, level: int) -> Rights:
        if level not in self._rights:
            self._rights[level] = await insist(
                self._rpc.node, lambda d: self._rpc.rights(level, deadline=d)
            )
            self._rights.pop(level - 8, None)
        return self._rights[level]

    async def _push_in_time(self) -> None:
        while True:
            at, _, offer = await self._to_push.get()
            await asyncio.sleep(max(0.0, at - self._loop.time()))
            is_vote = isinstance(offer, VoteOffer)
            request = Request(
                new_id(), VERIFY_VOTE if is_vote else VERIFY_BLOCK, _encode(offer), ttl_ms=TTL_MS
            )
            self._pool.push(request)

    # -- from the quarantine to A -----------------------------------------------------------------

    def _hear(self, news: Any) -> None:
        if not isinstance(news, Event):
            log.warning("not_taken news=%s", news)
        elif news.event == HELD:
            self.waited[news.code] += 1
        elif news.event == CLEARED:
            self._into_a.look()

    def _notice(self, event: Event) -> None:
        if event.event == PEER:
            body = msgspec.msgpack.decode(event.body, type=PeerBody)
            if body.standing == "ban":
                self.banned.add(body.peer)
        elif event.event == SLASHABLE:
            record = msgspec.msgpack.decode(event.body, type=EvidenceRecord)
            self.offences[("block", "preattestation", "attestation")[record.kind]] += 1
            task = self._loop.create_task(self._denounce(record))
            task.add_done_callback(lambda done: done.exception())

    async def _denounce(self, record: EvidenceRecord) -> None:
        try:
            await self._a.inject_operation(record.operation, deadline=soon())
        except PreparationError as error:
            self.evidence["refused"] += 1
            log.warning("evidence_refused kind=%d level=%d reason=%s", record.kind, record.level,
                        error)  # fmt: skip
        else:
            self.evidence["accepted"] += 1


async def _operations(node: Node, chain_id: str) -> Stream[list[PendingOperation]]:
    """All operations of a mempool."""
    path = f"/chains/{chain_id}/mempool/monitor_operations"
    return await node.lines(path, list[PendingOperation], query=VALIDATED_ONLY)
