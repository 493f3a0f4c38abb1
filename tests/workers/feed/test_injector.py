"""What was cleared reaches a real node in its order, also one that was away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from bakery import Bakery, genesis_of
from served_node import ServedNode, offer_of, serving

from broker.quarantine.items import VoteOffer
from workers.feed.injector import Injector
from workers.sandbox.chain import Chain

Scenario = Callable[[Injector, ServedNode, Counter[str]], Awaitable[None]]
LATER = 10_000.0  # the node's clock is far behind all blocks


def play(scenario: Scenario, **bounds: int) -> Counter[str]:
    """Run a scenario against an empty node; what was counted."""
    counts: Counter[str] = Counter()

    async def main() -> None:
        bakery = Bakery(Chain(genesis_of()))
        bakery.now += LATER
        async with serving(bakery) as (served, _, chain):
            injector = Injector(chain, counts, **bounds)
            running = asyncio.create_task(injector.run())
            try:
                async with asyncio.timeout(20):
                    await scenario(injector, served, counts)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
    return counts


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_blocks_and_votes_go_in_as_they_come() -> None:
    theirs = Bakery(Chain(genesis_of()))
    blocks = [theirs.bake() for _ in range(3)]

    async def scenario(injector: Injector, served: ServedNode, counts: Counter[str]) -> None:
        for block in blocks:
            injector.put(offer_of(block))
            for vote in theirs.attestations(block):
                injector.put(VoteOffer("p", vote))
        await until(lambda: counts["votes_injected"] == 3 * len(theirs.bakers))
        assert served.bakery.head.hash == blocks[-1].hash

    assert play(scenario)["blocks_injected"] == 3


def test_what_the_node_refuses_holds_up_nothing() -> None:
    theirs = Bakery(Chain(genesis_of()))
    first, second, third = (theirs.bake() for _ in range(3))
    vote = theirs.attestations(first)[0]

    async def scenario(injector: Injector, served: ServedNode, counts: Counter[str]) -> None:
        injector.put(offer_of(first))
        injector.put(offer_of(third))  # its predecessor is not there
        injector.put(VoteOffer("p", vote[:-1] + bytes([vote[-1] ^ 1])))
        injector.put(offer_of(second))
        await until(lambda: counts["blocks_injected"] == 2)
        assert served.bakery.head.hash == second.hash

    counts = play(scenario)
    assert (counts["blocks_not_injected"], counts["votes_not_injected"]) == (1, 1)


def test_a_node_that_is_away_gets_everything_when_it_is_back() -> None:
    theirs = Bakery(Chain(genesis_of()))
    blocks = [theirs.bake() for _ in range(2)]

    async def scenario(injector: Injector, served: ServedNode, counts: Counter[str]) -> None:
        await served.stop()
        for block in blocks:
            injector.put(offer_of(block))
        await asyncio.sleep(0)
        await served.start()
        await until(lambda: counts["blocks_injected"] == 2)

    assert play(scenario)["blocks_not_injected"] == 0


def test_what_finds_no_room_is_counted() -> None:
    theirs = Bakery(Chain(genesis_of()))
    block = offer_of(theirs.bake())

    async def scenario(injector: Injector, served: ServedNode, counts: Counter[str]) -> None:
        for _ in range(3):
            injector.put(block)
        await until(lambda: counts["blocks_injected"] == 1)

    assert play(scenario, waiting_max=1)["not_injected"] == 2
