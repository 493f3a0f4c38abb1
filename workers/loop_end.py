"""How a process with an event loop is told to end."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any


def cancel_on_signals(working: asyncio.Task[Any], parent_fd: int | None) -> None:
    """Cancel the work on SIGTERM, on SIGINT, and when the parent's pipe closes.

    Once: some senders signal a process and then its group, and the second must not cut short what
    the first has begun to close.
    """
    loop = asyncio.get_running_loop()

    def end() -> None:
        if not working.cancelling():
            working.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    if parent_fd is None:
        return

    def read() -> None:
        if not os.read(parent_fd, 64):
            loop.remove_reader(parent_fd)
            end()

    loop.add_reader(parent_fd, read)
