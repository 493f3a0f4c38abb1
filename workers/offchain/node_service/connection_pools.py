"""Connections to one server, in pools that stay small.

What a request costs in an HTTP pool grows with the connections and waiting requests in it: of 64 at
once each takes six times the CPU time of 8 at once (httpcore looks at all of them, each time).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx

CONNECTIONS_PER_POOL = 8
# Proxies close idle connections after about a minute; forgetting them first avoids the race.
KEEP_ALIVE_S = 30.0


class ConnectionPools:
    """Gives each call a pool that has a connection for it, while there are as many as that."""

    def __init__(
        self, make: Callable[[httpx.Limits], httpx.AsyncClient], *, pools_max: int
    ) -> None:
        self._make = make
        self._pools_max = pools_max
        self._pools: list[httpx.AsyncClient] = []
        self._calls: list[int] = []  # under way, of each

    @contextmanager
    def taken(self) -> Iterator[httpx.AsyncClient]:
        """A pool for one call: the first with room, so that few connections are kept open."""
        number = self._with_room()
        self._calls[number] += 1
        try:
            yield self._pools[number]
        finally:
            self._calls[number] -= 1

    def _with_room(self) -> int:
        for number, calls in enumerate(self._calls):
            if calls < CONNECTIONS_PER_POOL:
                return number
        if len(self._pools) == self._pools_max:
            return self._calls.index(min(self._calls))
        limits = httpx.Limits(
            max_connections=CONNECTIONS_PER_POOL,
            max_keepalive_connections=CONNECTIONS_PER_POOL,
            keepalive_expiry=KEEP_ALIVE_S,
        )
        self._pools.append(self._make(limits))
        self._calls.append(0)
        return len(self._pools) - 1

    async def aclose(self) -> None:
        for pool in self._pools:
            await pool.aclose()
