"""Chains to bake in tests, and nodes that serve them on real sockets."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

# `bakery` is shared with other folders' tests, which pytest imports without a package.
sys.path.insert(0, str(Path(__file__).parent))

from bakery import ACCOUNTS, BAKERS, STRANGERS, Bakery, Passes, genesis_of

from signers.formats import base58, block_header
from signers.formats.networks import MAVRYK, TEZOS
from workers.sandbox.accounts import SandboxKey
from workers.sandbox.block_tree import Block
from workers.sandbox.chain import Chain
from workers.sandbox.genesis import Genesis
from workers.sandbox.node import SandboxNode
from workers.sandbox.rpc import RpcServer
from workers.sandbox.services import services_of


@pytest.fixture
def genesis() -> Callable[..., Genesis]:
    return genesis_of


@pytest.fixture(params=["mavryk", "tezos"])
def network(request: pytest.FixtureRequest) -> Any:
    return {"mavryk": MAVRYK, "tezos": TEZOS}[request.param]


@pytest.fixture
def bakery() -> Bakery:
    """A chain of Mavryk Boreas that nobody has baked yet."""
    return Bakery(Chain(genesis_of()))


@pytest.fixture
def new_bakery() -> Callable[..., Bakery]:
    """Make a bakery on a network, with some constants changed."""

    def make(*args: Any, bakers: Sequence[SandboxKey] = BAKERS, **kwargs: Any) -> Bakery:
        return Bakery(Chain(genesis_of(*args, bakers=bakers, **kwargs)), bakers=bakers)

    return make


@pytest.fixture
def accounts() -> list[SandboxKey]:
    return ACCOUNTS


@pytest.fixture
def strangers() -> list[SandboxKey]:
    """Keys that the chain has never heard of."""
    return STRANGERS


class Rpc:
    """A node that listens on a real socket, and a client to it."""

    def __init__(self, bakery: Bakery, server: RpcServer, http: httpx.AsyncClient) -> None:
        self.bakery = bakery
        self.stop = server.stop
        self.http = http

    async def get(self, path: str, **query: Any) -> Any:
        """The JSON of an answer, whose form is checked on the way."""
        response = await self.http.get(path, params=query or None)
        assert response.status_code == 200, response.text
        return self.read(response)

    async def post(self, path: str, body: Any, **query: Any) -> Any:
        response = await self.http.post(path, json=body, params=query or None)
        assert response.status_code == 200, response.text
        return self.read(response)

    async def refused(self, path: str, body: Any, **query: Any) -> Any:
        """The trace of a call that the chain refuses."""
        response = await self.http.post(path, json=body, params=query or None)
        assert response.status_code == 500, response.text
        return self.read(response)

    @staticmethod
    def read(response: httpx.Response) -> Any:
        assert response.headers["content-type"] == "application/json"
        assert response.content.endswith(b"\n")
        assert response.content.count(b"\n") == 1
        return response.json()

    async def inject_block(self, raw: bytes, passes: Passes, **query: Any) -> Any:
        self.bakery.now = max(self.bakery.now, float(block_header.decode(raw).timestamp))
        return await self.http.post(
            "/injection/block", json=block_body(raw, passes), params=query or None
        )

    async def bake(self, managers: Sequence[bytes] = (), **where: Any) -> Block:
        """Bake the next block through the RPC."""
        predecessor = where.get("predecessor") or self.bakery.head
        passes = self.bakery.passes(self.bakery.attestations(predecessor), managers)
        raw = self.bakery.signed(self.bakery.header(passes, **where))
        response = await self.inject_block(raw, passes)
        assert response.status_code == 200, response.text
        return self.bakery.head


def block_body(raw: bytes, passes: Passes) -> dict[str, Any]:
    """What `injection/block` is given."""
    return {
        "data": raw.hex(),
        "operations": [
            [
                {
                    "branch": base58.encode(base58.BLOCK_HASH, signed[:32]),
                    "data": signed[32:].hex(),
                }
                for signed in one_pass
            ]
            for one_pass in passes
        ],
    }


@pytest.fixture
def serve() -> Callable[..., None]:
    """Run a scenario against the node of a bakery; its clock is the bakery's."""

    def run(bakery: Bakery, scenario: Callable[[Rpc], Awaitable[None]], **options: Any) -> None:
        async def main() -> None:
            node = SandboxNode(bakery.chain)
            server = RpcServer(
                services_of(node),
                node.streams,
                node.dialect.protocol_prefix,
                lambda: bakery.now,
                chain_id=node.chain_id,
                **options,
            )
            port = await server.start("127.0.0.1", 0)
            try:
                base_url = f"http://127.0.0.1:{port}"
                # Plain HTTP: nobody's certificates are to be read, which takes longer than a test.
                async with httpx.AsyncClient(base_url=base_url, timeout=20, verify=False) as http:
                    await scenario(Rpc(bakery, server, http))
            finally:
                await server.stop()

        asyncio.run(main())

    return run
