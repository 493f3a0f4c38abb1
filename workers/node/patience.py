"""Asking a node until it answers, and following its streams through its restarts.

A node that is away is told of at once and then now and again, not at each attempt; one that stays
away, as an error. Nobody gives up: a node that comes back is used as if nothing had been.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from workers.node.transport import Node, Stream
from workers.preparation.preparation_errors import PreparationError

log = logging.getLogger("forgepool.node")
T = TypeVar("T")

# An answer that takes longer comes too late for whoever bakes or votes on it.
CALL_S_MAX = 5.0
RETRY_S = 0.25
NODE_NEWS_S = 10.0  # how often a node that is away is told of
TROUBLE_S = 10.0  # a node that restarts is back by then
ADVICE = "does the node run, and is this the URL of its RPC? It is asked on"


def soon() -> float:
    """The deadline of a call that begins now."""
    return asyncio.get_running_loop().time() + CALL_S_MAX


class Complaint:
    """One trouble with the node at `origin`, told of now and again, until there is an answer."""

    def __init__(self, name: str, origin: str) -> None:
        self._name = name
        self._origin = origin
        self._since: float | None = None
        self._again_at = 0.0

    def tell(self, error: PreparationError, now: float) -> None:
        """The node was asked in vain."""
        if self._since is None:
            self._since = now
        if now < self._again_at:
            return
        self._again_at = now + NODE_NEWS_S
        for_s = now - self._since
        if for_s < TROUBLE_S:
            log.warning("%s node=%s reason=%s", self._name, self._origin, error)
        else:
            log.error("node_in_trouble node=%s for_s=%d reason=%s; %s", self._origin, for_s, error,
                      ADVICE)  # fmt: skip

    def settled(self) -> None:
        """The node has answered."""
        self._since = None


async def insist(node: Node, ask: Callable[[float], Awaitable[T]]) -> T:
    """Ask the node, with a deadline for each attempt, until it answers."""
    complaint = Complaint("node_asked_again", node.origin)
    while True:
        try:
            return await ask(soon())
        except PreparationError as error:
            complaint.tell(error, asyncio.get_running_loop().time())
            await asyncio.sleep(RETRY_S)


async def follow(
    node: Node,
    open_stream: Callable[[], Awaitable[Stream[T]]],
    take: Callable[[T], None],
    on_open: Callable[[], None] | None = None,
) -> None:
    """Read a stream for ever; `on_open` is called whenever it was opened anew.

    One that its node ends in an orderly way, as that of the mempool at each head, is opened at
    once again.
    """
    complaint = Complaint("stream_broken", node.origin)
    while True:
        try:
            stream = await open_stream()
            complaint.settled()
            try:
                if on_open is not None:
                    on_open()
                async for line in stream:
                    take(line)
            finally:
                await stream.aclose()
        except PreparationError as error:
            complaint.tell(error, asyncio.get_running_loop().time())
            await asyncio.sleep(RETRY_S)
