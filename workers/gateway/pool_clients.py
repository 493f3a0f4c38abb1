"""The gateway's clients of the pool: one for whoever asks, and one for each who has authenticated.

The pool's policy tells clients apart by their names at the broker, so what an authenticated client
asks for comes from ``<name>.<key hash>``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broker.messages import Request
from workers.pool import Pool

# Each is a thread and two connections. Authorized keys are a handful of bakers.
CLIENTS_MAX = 64


class PoolClients:
    """Clients that are connected when they are first needed."""

    def __init__(
        self, connect: Callable[[str], Pool], name: str, *, tells_apart: bool = True
    ) -> None:
        """Args: `connect` makes the pool's client of a name; `name` is that of the gateway.

        `tells_apart` is False where the broker takes one name from us alone: a certificate's.
        """
        self._tells_apart = tells_apart
        self._connect = connect
        self._name = name
        self._pools = {"": connect(name)}

    def start(self, on_news: Callable[[object], None], on_end: Callable[[], object]) -> None:
        """Connect; the functions are those of `Pool.start`."""
        self._on_news, self._on_end = on_news, on_end
        self._pools[""].start(on_news, on_end)

    def push(self, client: str, request: Request) -> bool:
        """Ask for work in a client's name; False when there are too many clients."""
        client = client if self._tells_apart else ""
        pool = self._pools.get(client)
        if pool is None:
            if len(self._pools) > CLIENTS_MAX:
                return False
            pool = self._pools[client] = self._connect(f"{self._name}.{client}")
            pool.start(self._on_news, self._on_end)
        pool.push(request)
        return True

    def report(self, numbers: Mapping[str, int]) -> None:
        """Have `status` show how the gateway is."""
        self._pools[""].report(numbers)

    @property
    def is_live(self) -> bool:
        """Whether the broker hears us now."""
        return self._pools[""].is_live

    @property
    def has_failed(self) -> bool:
        return any(pool.has_failed for pool in self._pools.values())

    def close(self) -> None:
        """Disconnect all of them at once: each takes up to half a second."""
        for pool in self._pools.values():
            pool.begin_to_close()
        for pool in self._pools.values():
            pool.close()
