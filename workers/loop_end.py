"""How a process with an event loop is told to end."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any


def cancel_on_signals(working: asyncio.Task[Any], parent_fd: int | None) -> None:
    """Cancel the work on SIGTERM, on SIGINT, and when the parent's pipe closes."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, working.cancel)
    if parent_fd is None:
        return

    def read() -> None:
        if not os.read(parent_fd, 64):
            loop.remove_reader(parent_fd)
            working.cancel()

    loop.add_reader(parent_fd, read)
