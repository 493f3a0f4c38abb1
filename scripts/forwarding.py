"""Passes what one node has on to another, in order and unchecked: the outsiders' own node."""

from __future__ import annotations

import asyncio
import logging

from broker.quarantine.offers import BlockOffer, VoteOffer
from signers.formats import base58
from workers.node.answers import BlockToInject, RawOperation
from workers.node.patience import insist, soon
from workers.node.rpc import ChainRpc
from workers.preparation.preparation_errors import NodeTimeout, NodeUnavailable, PreparationError

log = logging.getLogger("forgepool.hostile")

# More than the node is behind in a demo.
WAITING_MAX = 16_384

Offer = BlockOffer | VoteOffer


class Forwarding:
    """Injects into one node; `put` never waits."""

    def __init__(self, chain: ChainRpc) -> None:
        self._chain = chain
        self._waiting: asyncio.Queue[Offer] = asyncio.Queue(WAITING_MAX)

    def put(self, offer: Offer) -> None:
        self._waiting.put_nowait(offer)

    async def run(self) -> None:
        """Inject until cancelled."""
        while True:
            offer = await self._waiting.get()
            try:
                if isinstance(offer, BlockOffer):
                    await insist(self._chain.node, lambda d, o=offer: self._inject_block(o, d))
                else:
                    await self._chain.inject_operation(offer.raw, deadline=soon())
            except PreparationError as error:
                log.warning("not_forwarded reason=%s", error)

    async def _inject_block(self, offer: BlockOffer, deadline: float) -> None:
        operations = [[_raw(each) for each in passed] for passed in offer.operations]
        try:
            block = BlockToInject(offer.header.hex(), operations)
            await self._chain.inject_block(block, deadline=deadline)
        except (NodeUnavailable, NodeTimeout):
            raise
        except PreparationError as error:  # its own word, which asking again does not change
            log.warning("block_not_forwarded reason=%s", error)


def _raw(operation: bytes) -> RawOperation:
    return RawOperation(base58.encode(base58.BLOCK_HASH, operation[:32]), operation[32:].hex())
