"""Views of predecessors: asked from a node once each, and the latest remembered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from workers.node.rpc import ChainRpc
from workers.preparation.chain_view import ChainView, chain_view

# The head, its rivals and the blocks just before; a view takes about 40 KiB.
VIEWS_KEPT_MAX = 16


class PredecessorViews:
    """What one node told about the blocks that others were built on."""

    def __init__(self) -> None:
        self._views: OrderedDict[tuple[str, str], ChainView] = OrderedDict()

    async def view(self, chain: ChainRpc, predecessor: str, *, deadline: float) -> ChainView:
        """The view of a block. Raises PreparationError."""
        key = (chain.chain, predecessor)
        if key not in self._views:
            self._views[key] = await ask_for_view(chain, predecessor, deadline=deadline)
            if len(self._views) > VIEWS_KEPT_MAX:
                self._views.popitem(last=False)
        return self._views[key]


async def ask_for_view(chain: ChainRpc, predecessor: str, *, deadline: float) -> ChainView:
    """Ask a node all that forging needs to know about a block, six questions at once.

    Raises PreparationError.
    """
    try:
        async with asyncio.TaskGroup() as group:
            header = group.create_task(chain.header(predecessor, deadline=deadline))
            protocols = group.create_task(chain.protocols(predecessor, deadline=deadline))
            level = group.create_task(chain.level_after(predecessor, deadline=deadline))
            context = group.create_task(
                chain.resulting_context_hash(predecessor, deadline=deadline)
            )
            live_blocks = group.create_task(chain.live_blocks(predecessor, deadline=deadline))
            constants = group.create_task(chain.constants(predecessor, deadline=deadline))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return chain_view(
        header.result(),
        protocols.result(),
        level.result(),
        context.result(),
        live_blocks.result(),
        constants.result(),
    )
