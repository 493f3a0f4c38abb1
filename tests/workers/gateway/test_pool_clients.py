"""The gateway's clients of the pool: one for each who has authenticated, and not too many."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.config import Endpoints, resolve_endpoints
from broker.messages import SIGN, Request
from workers.gateway import pool_clients
from workers.gateway.pool_clients import PoolClients
from workers.pool import Pool

REQUEST = Request(bytes(16), SIGN, b"\x03", "mv1x", ttl_ms=10)


@pytest.mark.parametrize(
    ("tells_apart", "names"), [(True, ["gateway", "gateway.a", "gateway.b"]), (False, ["gateway"])]
)
def test_clients_are_named_and_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tells_apart: bool, names: list[str]
) -> None:
    """No broker is there: a pool that does not answer is no reason to take everybody."""
    monkeypatch.setattr(pool_clients, "CLIENTS_MAX", 2)
    endpoints = resolve_endpoints(tmp_path, Endpoints())
    connected: list[str] = []

    def connect(name: str) -> Pool:
        connected.append(name)
        return Pool(endpoints, name)

    async def ask() -> list[bool]:
        clients = PoolClients(connect, "gateway", tells_apart=tells_apart)
        clients.start(lambda news: None, lambda: None)
        taken = [clients.push(client, REQUEST) for client in ("", "a", "b", "a", "c")]
        assert not clients.is_live
        assert not clients.has_failed
        clients.close()
        return taken

    taken = asyncio.run(ask())
    assert connected == names
    assert taken == [True, True, True, True, not tells_apart]
