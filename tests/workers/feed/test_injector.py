"""What was cleared reaches a real node in its order, out of a real store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from bakery import Bakery, genesis_of
from msgspec.structs import replace
from served_node import ServedNode, serving

from broker.quarantine.administration import ClearedSince, ClearedSinceWanted
from broker.quarantine.cleared_since import read_cleared_since
from broker.quarantine.records import Batch, ClearedBlock, ClearedVote, SignedRecord
from broker.quarantine.store import QuarantineStore
from signers.formats.hashes import blake2b_32
from workers.feed import injector as injector_module
from workers.feed.injector import Injector
from workers.node.rpc import ChainRpc
from workers.sandbox.block_tree import Block
from workers.sandbox.chain import Chain
from workers.verification.ancestor_block import read_ancestor

CLIENT = "feed-strangers"
LATER = 10_000.0  # the node's clock is far behind all blocks


class Store:
    """The quarantine's store, and a reader of it that begins where the injector says."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.path = directory / "quarantine.db"
        self.epoch = "first"
        self._store = QuarantineStore(self.path, "NetXtest")
        self._seen_epoch = ""
        self._numbers = 0

    def clear(self, *items: Block | tuple[int, bytes], client: str = CLIENT) -> None:
        """These blocks and votes (with their levels) clear in one batch."""
        self._numbers += 1
        id_ = self._numbers.to_bytes(16, "big")
        batch = Batch(self._numbers, [], [], [], [], [])
        for item in items:
            if isinstance(item, Block):
                operations = [[each.signed for each in one_pass] for one_pass in item.operations]
                facts = read_ancestor(item.raw_header).facts()
                block = ClearedBlock(facts, item.raw_header, operations, ("p",), client, id_)
                batch.blocks.append(block)
            else:
                level, raw = item
                record = SignedRecord(2, level, 0, "d", b"", blake2b_32(raw), raw)
                batch.votes.append(ClearedVote(record, ("p",), client, id_))
        self._store.commit([batch])

    def begin(self, *, blocks_from: int, votes_from: int) -> None:
        self._wanted = ClearedSinceWanted(blocks_from, votes_from)
        self._seen_epoch = self.epoch

    async def read(self) -> ClearedSince | None:
        if self._seen_epoch != self.epoch:
            return None
        told = read_cleared_since(self.path, self.epoch, self._wanted)
        self._wanted = replace(
            self._wanted, blocks_after=told.blocks_upto, votes_after=told.votes_upto
        )
        return told

    def close(self) -> None:
        self._store.close()


class Played:
    """A node, a store, and injectors between them."""

    def __init__(self, served: ServedNode, chain: ChainRpc, store: Store) -> None:
        self.served = served
        self.store = store
        self.counts: Counter[str] = Counter()
        self._chain = chain
        self._running: asyncio.Task[None] | None = None

    def start(self) -> Injector:
        injector = Injector(self._chain, self.store, self.counts)
        self._running = asyncio.create_task(injector.run())
        return injector

    async def end(self) -> None:
        """The injector is gone, with all that it knew."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def has(self, **counts: int) -> None:
        while any(self.counts[name] < count for name, count in counts.items()):
            await asyncio.sleep(0.005)


def play(scenario: Callable[[Played], Awaitable[None]], directory: Path) -> Counter[str]:
    """Run a scenario with an empty node and an empty store; what was counted."""

    async def main() -> Counter[str]:
        bakery = Bakery(Chain(genesis_of()))
        bakery.now += LATER
        async with serving(bakery) as (served, _, chain):
            played = Played(served, chain, Store(directory))
            try:
                async with asyncio.timeout(20):
                    await scenario(played)
            finally:
                await played.end()
                played.store.close()
            return played.counts

    return asyncio.run(main())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(injector_module, "LOOK_S", 0.01)


@pytest.fixture
def theirs() -> Bakery:
    return Bakery(Chain(genesis_of()))


def votes_for(bakery: Bakery, block: Block) -> list[tuple[int, bytes]]:
    return [(block.level, vote) for vote in bakery.attestations(block)]


def test_blocks_and_votes_go_in_as_they_clear(theirs: Bakery, tmp_path: Path) -> None:
    blocks = [theirs.bake() for _ in range(3)]

    async def scenario(played: Played) -> None:
        injector = played.start()
        for block in blocks:
            played.store.clear(block)
            played.store.clear(*votes_for(theirs, block))
            injector.look()
        await played.has(votes_injected=len(theirs.bakers), blocks_injected=3)
        assert played.served.bakery.head.hash == blocks[-1].hash

    assert play(scenario, tmp_path)["votes_not_injected"] == 0


def test_what_the_node_refuses_holds_up_nothing(theirs: Bakery, tmp_path: Path) -> None:
    first, second, third = (theirs.bake() for _ in range(3))
    vote = theirs.attestations(first)[0]

    async def scenario(played: Played) -> None:
        played.store.clear(first, third)  # the third's predecessor is not there
        played.store.clear((third.level, vote[:-1] + bytes([vote[-1] ^ 1])))
        played.store.clear(second)
        played.start()
        await played.has(blocks_injected=2, votes_not_injected=1)
        assert played.served.bakery.head.hash == second.hash

    assert play(scenario, tmp_path)["blocks_not_injected"] == 1


def test_a_node_that_is_away_gets_everything_when_it_is_back(
    theirs: Bakery, tmp_path: Path
) -> None:
    blocks = [theirs.bake() for _ in range(3)]

    async def scenario(played: Played) -> None:
        played.store.clear(blocks[0])
        played.start()
        await played.has(blocks_injected=1)
        await played.served.stop()
        played.store.clear(*blocks[1:])
        await asyncio.sleep(0)
        await played.served.start()
        await played.has(blocks_injected=3)

    assert play(scenario, tmp_path)["blocks_not_injected"] == 0


def test_what_cleared_while_it_was_dead_is_injected_whoever_pushed_it(
    theirs: Bakery, tmp_path: Path
) -> None:
    blocks = [theirs.bake() for _ in range(5)]

    async def scenario(played: Played) -> None:
        played.store.clear(blocks[0], blocks[1], *votes_for(theirs, blocks[1]))
        played.start()
        await played.has(blocks_injected=2, votes_injected=len(theirs.bakers))
        await played.end()
        played.store.clear(blocks[2], *votes_for(theirs, blocks[2]))
        played.store.clear(blocks[3], client="somebody")
        played.store.clear(blocks[4], *votes_for(theirs, blocks[4]))
        played.start()
        await played.has(blocks_injected=5, votes_outdated=2 * len(theirs.bakers))
        await played.has(votes_injected=2 * len(theirs.bakers))
        assert played.served.bakery.head.hash == blocks[4].hash

    counts = play(scenario, tmp_path)
    assert counts["blocks_injected"] == 5, "what the node had was not given again"
    assert not counts["blocks_not_injected"] + counts["votes_not_injected"]


def test_a_quarantine_of_another_epoch_is_read_from_where_the_node_is(
    theirs: Bakery, tmp_path: Path
) -> None:
    blocks = [theirs.bake() for _ in range(2)]

    async def scenario(played: Played) -> None:
        played.store.clear(blocks[0])
        played.start()
        await played.has(blocks_injected=1)
        new = Store(tmp_path / "new")  # its places count from the beginning again
        new.clear(blocks[1])
        new.close()
        played.store.path, played.store.epoch = new.path, "second"
        await played.has(blocks_injected=2)

    play(scenario, tmp_path)
