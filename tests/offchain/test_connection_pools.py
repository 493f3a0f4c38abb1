"""How calls are spread over pools of connections."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import httpx

from workers.offchain.node_service.connection_pools import CONNECTIONS_PER_POOL, ConnectionPools


def test_a_call_gets_the_first_pool_with_room_and_the_least_busy_when_none_has() -> None:
    asyncio.run(_take_many())


async def _take_many() -> None:
    made: list[httpx.AsyncClient] = []

    def make(limits: httpx.Limits) -> httpx.AsyncClient:
        made.append(httpx.AsyncClient(limits=limits))
        return made[-1]

    pools = ConnectionPools(make, pools_max=2)
    with pools.taken(), ExitStack() as calls:
        for _ in range(CONNECTIONS_PER_POOL * 2 - 1):
            calls.enter_context(pools.taken())
        assert len(made) == 2
        with pools.taken() as one, pools.taken() as another:
            assert {id(one), id(another)} == {id(each) for each in made}, "each has one too many"
    with pools.taken() as pool, pools.taken() as again:
        assert pool is again is made[0]
    await pools.aclose()
    assert all(each.is_closed for each in made)
