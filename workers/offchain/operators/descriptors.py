"""The descriptors of all children, as one descriptor that the event loop watches.

A run has four and is often over in two milliseconds; to tell the event loop of each would cost a
quarter of that. An epoll(7) of our own costs a tenth of it, and can be watched itself.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

READABLE, WRITABLE = select.EPOLLIN, select.EPOLLOUT
EVENTS_MAX = 64  # at a time; the others of the loop get their turn between them


class Descriptors:
    """Calls back whenever a descriptor can be read, or written."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._calls: dict[int, Callable[[], object]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._dispatch)

    def watch(self, descriptor: int, events: int, call: Callable[[], object]) -> None:
        """Call whenever one of the events is there."""
        self._epoll.register(descriptor, events)
        self._calls[descriptor] = call

    def forget(self, descriptor: int) -> None:
        """Call no more; before it is closed."""
        del self._calls[descriptor]
        self._epoll.unregister(descriptor)

    def _dispatch(self) -> None:
        found = [(d, self._calls[d]) for d, _ in self._epoll.poll(0, EVENTS_MAX)]
        for descriptor, call in found:
            # A call before this may have closed it, and opened another one of the same number.
            if self._calls.get(descriptor) is call:
                call()

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
