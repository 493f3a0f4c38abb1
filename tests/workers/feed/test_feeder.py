"""What a feeder makes of a real node's streams and of the quarantine's words."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from bakery import Bakery, genesis_of
from served_node import ServedNode, offer_of, serving

from broker.config import Endpoints
from broker.errors import Misconfigured
from broker.messages import PAYLOAD_BYTES_MAX, Event, Request
from broker.quarantine.notices import WANTED, WantedBody
from broker.quarantine.offers import VERIFY_BLOCK, VERIFY_VOTES, BlockOffer, VotesOffer, vote_ids
from broker.quarantine.turn import CLEARED, REJECTED, SHED, STALE
from signers.formats import base58
from signers.formats.networks import MAVRYK
from workers.baker.baker_rpc import BakerRpc
from workers.feed import feeder as feeder_module
from workers.feed.feeder import CATCH_UP_LEVELS, Feeder
from workers.feed.feeding import FeedOptions, feed
from workers.feed.pushed_items import PushedItems
from workers.node.rpc import ChainRpc
from workers.sandbox.block_tree import Block
from workers.sandbox.chain import Chain

PEER = "strangers"


class Quarantine:
    """Takes what is pushed; the test says what becomes of it."""

    def __init__(self) -> None:
        self.pushed: list[Request] = []
        self.level = 1

    @property
    def blocks(self) -> list[BlockOffer]:
        return [
            msgspec.msgpack.decode(each.payload, type=BlockOffer)
            for each in self.pushed
            if each.kind == VERIFY_BLOCK
        ]

    @property
    def votes(self) -> list[bytes]:
        """All that came from the one peer, in order."""
        offers = [
            msgspec.msgpack.decode(each.payload, type=VotesOffer)
            for each in self.pushed
            if each.kind == VERIFY_VOTES
        ]
        assert all(each.peer == PEER for each in offers)
        return [raw for each in offers for raw in each.raws]

    async def at(self) -> int:
        return self.level

    async def has(self, blocks: int, votes: int = 0) -> None:
        """Wait until so much was pushed."""
        while len(self.blocks) < blocks or len(self.votes) < votes:
            await asyncio.sleep(0.005)


class Played:
    """A feeder between a node and the test."""

    def __init__(self, node: ServedNode, feeder: Feeder, quarantine: Quarantine) -> None:
        self.node = node
        self.feeder = feeder
        self.quarantine = quarantine

    def end(self, number: int, event: str, code: str = "") -> None:
        """Say how what was pushed so manieth has ended, each vote of it."""
        pushed = self.quarantine.pushed[number]
        ids = [pushed.id]
        if pushed.kind == VERIFY_VOTES:
            offer = msgspec.msgpack.decode(pushed.payload, type=VotesOffer)
            ids = vote_ids(pushed.id, len(offer.raws))
        for id in ids:
            self.feeder.hear(Event(id, "", event, b"", code))

    def want(self, block: bytes, *sources: str, ask: int = 1, level: int = 0) -> None:
        body = msgspec.msgpack.encode(WantedBody(block, sources, ask, level))
        self.feeder.notice(Event(b"", "", WANTED, body))


def play(
    scenario: Callable[[Played], Awaitable[None]], bakery: Bakery, into: Any = None
) -> Counter[str]:
    counts: Counter[str] = Counter()

    async def main() -> None:
        quarantine = Quarantine()
        async with serving(bakery) as (served, node, chain):
            rpc = BakerRpc(node, served.sandbox.chain_id)
            feeder = Feeder(
                PEER, MAVRYK, chain, rpc, quarantine.pushed.append, into, quarantine.at, counts
            )
            running = asyncio.create_task(feeder.run())
            try:
                async with asyncio.timeout(20):
                    await scenario(Played(served, feeder, quarantine))
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    return counts


@pytest.fixture
def bakery() -> Bakery:
    return Bakery(Chain(genesis_of()))


def test_the_head_and_every_block_from_then_on(bakery: Bakery) -> None:
    blocks = [bakery.bake([bakery.transfer_of(0)]), bakery.bake()]

    async def scenario(played: Played) -> None:
        await played.quarantine.has(1)
        blocks.append(played.node.bake())
        await played.quarantine.has(2)
        assert played.quarantine.blocks == [offer_of(block) for block in blocks[1:]]

    assert play(scenario, bakery)["blocks_pushed"] == 2


def test_what_is_wanted_is_fetched_if_it_may_be_here(bakery: Bakery) -> None:
    first, *_ = blocks = [bakery.bake([bakery.transfer_of(0)]), bakery.bake(), bakery.bake()]

    async def scenario(played: Played) -> None:
        quarantine = played.quarantine
        await quarantine.has(1)
        played.want(blocks[1].hash, "somebody else")
        played.want(bytes(32), PEER)  # no node has it
        played.want(first.hash, "somebody else", PEER)
        await quarantine.has(2)
        played.want(blocks[1].hash, "somebody else", ask=2)
        await quarantine.has(3)
        assert quarantine.blocks[1:] == [offer_of(first), offer_of(blocks[1])]

    assert play(scenario, bakery)["blocks_not_fetched"] == 1


def test_blocks_that_no_honest_node_would_show_end_nothing(
    bakery: Bakery, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_hex, too_big, good = bakery.bake(), bakery.bake(), bakery.bake()
    operations, raw_header = BakerRpc.operations, ChainRpc.raw_header

    async def show_operations(rpc: BakerRpc, hash_: bytes, *args: Any, **other: Any) -> Any:
        if hash_ == too_big.hash:
            return ((), (), (), (bytes(PAYLOAD_BYTES_MAX),))
        return await operations(rpc, hash_, *args, **other)

    async def show_header(rpc: ChainRpc, name: str, **other: Any) -> str:
        if name == base58.encode(base58.BLOCK_HASH, no_hex.hash):
            return "no hex"
        return await raw_header(rpc, name, **other)

    monkeypatch.setattr(BakerRpc, "operations", show_operations)
    monkeypatch.setattr(ChainRpc, "raw_header", show_header)

    async def scenario(played: Played) -> None:
        await played.quarantine.has(1)  # the head
        for block in (no_hex, too_big, good):
            played.want(block.hash, PEER)
        await played.quarantine.has(2)
        assert played.quarantine.blocks[1] == offer_of(good)

    assert play(scenario, bakery)["blocks_not_fetched"] == 2


def test_a_quarantine_that_is_far_behind_gets_what_comes_next(bakery: Bakery) -> None:
    blocks: list[Block] = [bakery.bake() for _ in range(5)]

    async def scenario(played: Played) -> None:
        quarantine = played.quarantine
        await quarantine.has(1)
        quarantine.level = 3
        played.want(b"", PEER, level=6)
        await quarantine.has(4)
        assert quarantine.blocks[1:] == [offer_of(block) for block in blocks[2:]]

    play(scenario, bakery)


def test_it_goes_on_so_many_levels_at_a_time(bakery: Bakery) -> None:
    bakery.bake_to(CATCH_UP_LEVELS + 4)

    async def scenario(played: Played) -> None:
        quarantine = played.quarantine
        await quarantine.has(1)
        played.end(0, STALE, "too_far")
        played.want(b"", PEER, level=bakery.head.level)
        await quarantine.has(1 + CATCH_UP_LEVELS)
        quarantine.level += CATCH_UP_LEVELS
        for number in range(CATCH_UP_LEVELS):
            played.end(1 + number, CLEARED)
        await quarantine.has(1 + CATCH_UP_LEVELS + 3)
        assert quarantine.blocks[-1] == offer_of(bakery.head)

    play(scenario, bakery)


def test_what_was_shed_is_pushed_again_once_there_was_a_step(bakery: Bakery) -> None:
    blocks = [bakery.bake() for _ in range(3)]

    async def scenario(played: Played) -> None:
        quarantine = played.quarantine
        await quarantine.has(1)
        played.end(0, SHED, "held_full")
        played.want(blocks[0].hash, PEER)
        await quarantine.has(2)
        assert len(quarantine.blocks) == 2, "nothing was cleared"
        quarantine.level = 2
        played.end(1, CLEARED)
        await quarantine.has(4)
        assert quarantine.blocks[2:] == [offer_of(block) for block in blocks[1:]]

    play(scenario, bakery)


def test_votes_are_pushed_once(bakery: Bakery) -> None:
    bakery.bake()

    async def scenario(played: Played) -> None:
        votes = bakery.attestations(bakery.head)
        for vote in votes:
            played.node.vote(vote)
        await played.quarantine.has(1, len(votes))
        played.node.bake()  # the mempool's stream begins anew
        more = bakery.attestations(bakery.head)
        for vote in more:
            played.node.vote(vote)
        await played.quarantine.has(2, len(votes) + len(more))
        assert set(played.quarantine.votes) == {*votes, *more}
        assert len(played.quarantine.votes) == len(votes) + len(more)

    assert play(scenario, bakery)["votes_pushed"] == 2 * len(bakery.bakers)


def test_what_the_node_says_at_once_is_pushed_at_once(bakery: Bakery) -> None:
    bakery.bake()
    votes = bakery.attestations(bakery.head)
    for vote in votes:
        assert bakery.inject_operation(vote).refusal is None

    async def scenario(played: Played) -> None:
        quarantine = played.quarantine
        await quarantine.has(1, len(votes))
        assert sorted(each.kind for each in quarantine.pushed) == [VERIFY_BLOCK, VERIFY_VOTES]
        assert sorted(quarantine.votes) == sorted(votes)
        for number in range(2):
            played.end(number, CLEARED)

    assert play(scenario, bakery)[CLEARED] == len(votes) + 1


def test_of_many_votes_those_are_pushed_that_have_room(
    bakery: Bakery, monkeypatch: pytest.MonkeyPatch
) -> None:
    bakery.bake()
    votes = bakery.attestations(bakery.head)
    room = len(votes)  # and there is a block too, which may come first
    monkeypatch.setattr(feeder_module, "PushedItems", lambda: PushedItems(open_max=room))
    for vote in votes:
        assert bakery.inject_operation(vote).refusal is None

    async def scenario(played: Played) -> None:
        quarantine = played.quarantine
        while not played.feeder.counts["not_pushed"]:
            await asyncio.sleep(0.005)
        assert len(quarantine.votes) + len(quarantine.blocks) == room
        assert set(quarantine.votes) <= set(votes)
        for number in range(len(quarantine.pushed)):
            played.end(number, CLEARED)
        played.node.bake()
        await quarantine.has(1)

    assert play(scenario, bakery)[CLEARED] == room


def test_a_quarantine_that_ends_nothing_is_not_pushed_without_end(
    bakery: Bakery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeder_module, "PushedItems", lambda: PushedItems(open_max=2))
    blocks = [bakery.bake(), bakery.bake()]

    async def scenario(played: Played) -> None:
        quarantine = played.quarantine
        await quarantine.has(1)
        vote, *others = bakery.attestations(bakery.head)
        played.node.vote(vote)
        await quarantine.has(1, 1)
        for other in others:
            played.node.vote(other)
        missed = played.node.bake()
        while played.feeder.counts["not_pushed"] <= len(others):
            await asyncio.sleep(0.005)
        assert len(quarantine.pushed) == 2
        quarantine.level = blocks[-1].level
        played.end(1, CLEARED)
        played.end(0, CLEARED)
        await quarantine.has(2)
        assert quarantine.blocks[1] == offer_of(missed), "it was fetched again"

    play(scenario, bakery)


class Looks:
    """Counts how often it is told to look at what was cleared."""

    def __init__(self) -> None:
        self.count = 0

    def look(self) -> None:
        self.count += 1

    async def run(self) -> None:
        await asyncio.Event().wait()


def test_whatever_was_cleared_is_worth_a_look(bakery: Bakery) -> None:
    blocks = [bakery.bake(), bakery.bake()]
    into = Looks()

    async def scenario(played: Played) -> None:
        await played.quarantine.has(1)
        played.want(blocks[0].hash, PEER)
        await played.quarantine.has(2)
        played.end(1, CLEARED)
        played.end(0, REJECTED, "bad_ancestor")

    counts = play(scenario, bakery, into)
    assert into.count == 1
    assert (counts[CLEARED], counts[REJECTED], counts["rejected_bad_ancestor"]) == (1, 1, 1)


def test_a_node_that_comes_back_is_followed_again(bakery: Bakery) -> None:
    bakery.bake()

    async def scenario(played: Played) -> None:
        await played.quarantine.has(1)
        await played.node.stop()
        missed = bakery.bake()
        await played.node.start()
        await played.quarantine.has(2)
        assert played.quarantine.blocks[1] == offer_of(missed)

    play(scenario, bakery)


def test_nodes_of_two_chains_are_a_mistake(bakery: Bakery, tmp_path: Any) -> None:
    async def main() -> None:
        other = Bakery(Chain(replace(genesis_of(), seed=b"another")))
        async with serving(bakery) as (one, _, _), serving(other) as (two, _, _):
            nowhere = Endpoints(*(f"ipc://{tmp_path}/{name}" for name in "rae"))
            await feed(FeedOptions(nowhere, None, one.url, two.url, PEER, "feed", None))

    with pytest.raises(Misconfigured, match="on different chains"):
        asyncio.run(main())
