"""Gives a node what the quarantine has cleared, in the order in which it was cleared.

The quarantine's store is the queue, and the node itself tells where to begin: at its head. So
nothing is kept here that a kill could lose. A block is injected alone, since the node takes its
children only behind it; the votes between two looks go together.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable
from typing import Protocol

from broker.quarantine.administration import ClearedSince
from broker.quarantine.records import ClearedBlock, ClearedVote
from signers.formats import base58
from workers.node.answers import BlockToInject, RawOperation
from workers.node.patience import insist, soon
from workers.node.rpc import ChainRpc
from workers.preparation.preparation_errors import (
    NodeError,
    NodeTimeout,
    NodeUnavailable,
    NotOnNode,
    PreparationError,
)

log = logging.getLogger("forgepool.feed")

# Votes under way at once: a node takes some milliseconds for each.
VOTES_AT_ONCE = 32
# Between two looks: what clears one by one goes together, and the quarantine is spared.
PACE_S = 0.05
# Without word that something was cleared: what was pushed before a kill may be held still.
LOOK_S = 2.0


class Cleared(Protocol):
    """Where what was cleared is read: the quarantine, or a store in tests."""

    def begin(self, *, blocks_from: int, votes_from: int) -> None: ...

    def read(self) -> Awaitable[ClearedSince | None]: ...


class Injector:
    """Injects into one node; `look` never waits."""

    def __init__(self, chain: ChainRpc, cleared: Cleared, counts: Counter[str]) -> None:
        self._chain = chain
        self._cleared = cleared
        self._counts = counts
        self._level = 0  # the highest of a block that the node was given, or had
        self._look = asyncio.Event()

    def look(self) -> None:
        """Something was cleared."""
        self._look.set()

    async def run(self) -> None:
        """Inject until cancelled."""
        await self._begin()
        while True:
            self._look.clear()
            told = await self._cleared.read()
            if told is None:
                await self._begin()
                continue
            for block in told.blocks:
                await self._give_block(block)
            await self._give_votes(told.votes)
            if not told.more:
                await self._wait()

    async def _begin(self) -> None:
        """Go on from where the node is.

        Its head's predecessor is final when the head has a child; so of two levels another block
        than the node's may be the one to build on.
        """
        head = await insist(
            self._chain.node, lambda deadline: self._chain.header("head", deadline=deadline)
        )
        self._level = head.level
        self._cleared.begin(blocks_from=max(0, head.level - 1), votes_from=head.level)
        log.info("injecting from_level=%d", head.level)

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(LOOK_S):
                await self._look.wait()
        except TimeoutError:
            return
        await asyncio.sleep(PACE_S)

    async def _give_block(self, block: ClearedBlock) -> None:
        name = base58.encode(base58.BLOCK_HASH, block.facts.hash)
        self._level = max(self._level, block.facts.level)
        if await self._has(name):
            return
        operations = [[_raw(each) for each in passed] for passed in block.operations or ()]
        content = BlockToInject(block.header.hex(), operations)

        async def inject(deadline: float) -> PreparationError | None:
            try:
                await self._chain.inject_block(content, deadline=deadline)
            except (NodeUnavailable, NodeTimeout):
                raise
            except PreparationError as error:
                return error  # the node's own word, which asking again does not change
            return None

        refusal = await insist(self._chain.node, inject)
        if refusal is None:
            self._counts["blocks_injected"] += 1
            log.info("block_injected hash=%s", name)
        else:
            self._counts["blocks_not_injected"] += 1
            log.warning("block_not_injected hash=%s reason=%s", name, refusal)

    async def _has(self, name: str) -> bool:
        """Whether the node has the block already."""

        async def ask(deadline: float) -> bool:
            try:
                await self._chain.hash(name, deadline=deadline)
            except (NotOnNode, NodeError):
                return False
            return True

        return await insist(self._chain.node, ask)

    async def _give_votes(self, votes: list[ClearedVote]) -> None:
        """Those that can be in a block to come: for the highest level, and for the one below."""
        useful = [vote.record.raw for vote in votes if vote.record.level >= self._level - 1]
        self._counts["votes_outdated"] += len(votes) - len(useful)
        for first in range(0, len(useful), VOTES_AT_ONCE):
            await asyncio.gather(*map(self._give_vote, useful[first : first + VOTES_AT_ONCE]))

    async def _give_vote(self, raw: bytes) -> None:
        try:
            await self._chain.inject_operation(raw, deadline=soon())
        except PreparationError as error:
            self._counts["votes_not_injected"] += 1
            log.warning("vote_not_injected reason=%s", error)
        else:
            self._counts["votes_injected"] += 1


def _raw(operation: bytes) -> RawOperation:
    return RawOperation(base58.encode(base58.BLOCK_HASH, operation[:32]), operation[32:].hex())
