"""Gives a node what the quarantine has cleared, in the order in which it was cleared.

A block is injected alone, since the node takes its children only behind it; the votes between two
blocks go together. While the node is away, everything waits up to a bound.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque

from broker.quarantine.items import BlockOffer, VoteOffer
from signers.formats import base58
from signers.formats.hashes import blake2b_32
from workers.feed.pushed_items import Offer
from workers.node.answers import BlockToInject, RawOperation
from workers.node.patience import insist, soon
from workers.node.rpc import ChainRpc
from workers.preparation.preparation_errors import (
    NodeTimeout,
    NodeUnavailable,
    PreparationError,
)

log = logging.getLogger("forgepool.feed")

# A node that stays away for longer than it takes to fill this has to catch up by itself.
WAITING_MAX = 16_384
# Votes under way at once: a node takes some milliseconds for each.
VOTES_AT_ONCE = 32


class Injector:
    """Injects into one node; `put` never waits."""

    def __init__(
        self, chain: ChainRpc, counts: Counter[str], *, waiting_max: int = WAITING_MAX
    ) -> None:
        self._chain = chain
        self._waiting_max = waiting_max
        self._counts = counts
        self._waiting: deque[Offer] = deque()
        self._filled = asyncio.Event()

    def put(self, offer: Offer) -> None:
        """Inject this behind all others. What finds no room is counted, and dropped."""
        if len(self._waiting) >= self._waiting_max:
            self._counts["not_injected"] += 1
            log.error("not_injected reason=%d wait already", self._waiting_max)
            return
        self._waiting.append(offer)
        self._filled.set()

    async def run(self) -> None:
        """Inject until cancelled."""
        while True:
            await self._filled.wait()
            if isinstance(self._waiting[0], BlockOffer):
                await self._inject_block(self._waiting[0])
                self._waiting.popleft()
            else:
                votes = self._next_votes()
                await asyncio.gather(*map(self._inject_vote, votes))
                for _ in votes:
                    self._waiting.popleft()
            if not self._waiting:
                self._filled.clear()

    def _next_votes(self) -> list[VoteOffer]:
        votes: list[VoteOffer] = []
        for each in self._waiting:
            if not isinstance(each, VoteOffer) or len(votes) == VOTES_AT_ONCE:
                break
            votes.append(each)
        return votes

    async def _inject_block(self, offer: BlockOffer) -> None:
        block = BlockToInject(
            offer.header.hex(), [[_raw(each) for each in passed] for passed in offer.operations]
        )
        hash_ = base58.encode(base58.BLOCK_HASH, blake2b_32(offer.header))

        async def inject(deadline: float) -> PreparationError | None:
            try:
                await self._chain.inject_block(block, deadline=deadline)
            except (NodeUnavailable, NodeTimeout):
                raise
            except PreparationError as error:
                return error  # the node's own word, which asking again does not change
            return None

        refusal = await insist(self._chain.node, inject)
        if refusal is None:
            self._counts["blocks_injected"] += 1
            log.info("block_injected hash=%s", hash_)
        else:
            self._counts["blocks_not_injected"] += 1
            log.warning("block_not_injected hash=%s reason=%s", hash_, refusal)

    async def _inject_vote(self, offer: VoteOffer) -> None:
        try:
            await self._chain.inject_operation(offer.raw, deadline=soon())
        except PreparationError as error:
            self._counts["votes_not_injected"] += 1
            log.warning("vote_not_injected reason=%s", error)
        else:
            self._counts["votes_injected"] += 1


def _raw(operation: bytes) -> RawOperation:
    return RawOperation(base58.encode(base58.BLOCK_HASH, operation[:32]), operation[32:].hex())
