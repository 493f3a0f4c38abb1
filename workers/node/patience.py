"""Asking a node until it answers, and following its streams through its restarts.

A node that is away is told of at once and then now and again, not at each attempt.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from workers.node.transport import Stream
from workers.preparation.preparation_errors import PreparationError

log = logging.getLogger("forgepool.node")
T = TypeVar("T")

# An answer that takes longer comes too late for whoever bakes or votes on it.
CALL_S_MAX = 5.0
RETRY_S = 0.25
NODE_NEWS_S = 10.0  # how often a node that is away is told of


def soon() -> float:
    """The deadline of a call that begins now."""
    return asyncio.get_running_loop().time() + CALL_S_MAX


class _Complaint:
    """One trouble, told of now and again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._again_at = 0.0

    def tell(self, error: PreparationError) -> None:
        now = asyncio.get_running_loop().time()
        if now >= self._again_at:
            self._again_at = now + NODE_NEWS_S
            log.warning("%s reason=%s", self._name, error)


async def insist(ask: Callable[[float], Awaitable[T]]) -> T:
    """Ask the node, with a deadline for each attempt, until it answers."""
    complaint = _Complaint("node_asked_again")
    while True:
        try:
            return await ask(soon())
        except PreparationError as error:
            complaint.tell(error)
            await asyncio.sleep(RETRY_S)


async def follow(
    open_stream: Callable[[], Awaitable[Stream[T]]],
    take: Callable[[T], None],
    on_open: Callable[[], None] | None = None,
) -> None:
    """Read a stream for ever; `on_open` is called whenever it was opened anew.

    One that its node ends in an orderly way, as that of the mempool at each head, is opened at
    once again.
    """
    complaint = _Complaint("stream_broken")
    while True:
        try:
            stream = await open_stream()
            try:
                if on_open is not None:
                    on_open()
                async for line in stream:
                    take(line)
            finally:
                await stream.aclose()
        except PreparationError as error:
            complaint.tell(error)
            await asyncio.sleep(RETRY_S)
