"""A node that serves a chain on a real socket, inside of the test's event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bakery import Bakery

from broker.quarantine.offers import BlockOffer
from workers.node.rpc import ChainRpc
from workers.node.transport import Node
from workers.sandbox.block_tree import Block
from workers.sandbox.node import SandboxNode
from workers.sandbox.rpc import RpcServer
from workers.sandbox.services import services_of


class ServedNode:
    """A node that can be away, and the client that asks it."""

    def __init__(self, bakery: Bakery) -> None:
        self.bakery = bakery
        self.sandbox = SandboxNode(bakery.chain)
        self.port = 0
        self._server: RpcServer | None = None

    async def start(self) -> None:
        """Listen, on the port of the time before if there was one."""
        self._server = RpcServer(
            services_of(self.sandbox),
            self.sandbox.streams,
            self.sandbox.dialect.protocol_prefix,
            lambda: self.bakery.now,
            chain_id=self.sandbox.chain_id,
        )
        self.port = await self._server.start("127.0.0.1", self.port)
        self.url = f"http://127.0.0.1:{self.port}"

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._server = None

    def bake(self) -> Block:
        """Bake a block with all votes for its predecessor, and tell the streams."""
        bakery = self.bakery
        passes = bakery.passes(bakery.attestations(bakery.head))
        outcome = bakery.inject(bakery.signed(bakery.header(passes)), passes)
        assert outcome.refusal is None
        self.sandbox.publish(outcome.events)
        return bakery.head

    def vote(self, raw: bytes) -> None:
        outcome = self.bakery.inject_operation(raw)
        assert outcome.refusal is None
        self.sandbox.publish(outcome.events)


@asynccontextmanager
async def serving(bakery: Bakery) -> AsyncIterator[tuple[ServedNode, Node, ChainRpc]]:
    """A served node, the client to it, and its chain."""
    served = ServedNode(bakery)
    await served.start()
    node = Node(served.url)
    try:
        yield served, node, ChainRpc(node, served.sandbox.chain_id)
    finally:
        await node.aclose()
        await served.stop()


def offer_of(block: Block) -> BlockOffer:
    """A block as it is pushed."""
    operations = [[each.signed for each in one_pass] for one_pass in block.operations]
    return BlockOffer("strangers", block.raw_header, operations)
