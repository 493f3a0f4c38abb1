"""How a process of the pool is told to end: a signal, or the closed pipe of its supervisor."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable


def end_on_signals(parent_fd: int | None) -> tuple[Callable[[], bool], list[int]]:
    """Whether a signal has asked us to end, and the descriptors that tell of such news."""
    wanted_to_end: list[bool] = []
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.detach())
    signal.signal(signal.SIGTERM, lambda *_: wanted_to_end.append(True))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it is the supervisor's, who asks for a reload
    if parent_fd is None:
        signal.signal(signal.SIGINT, lambda *_: wanted_to_end.append(True))
    else:  # Ctrl-C reaches the whole foreground group; the supervisor decides what it means
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    wakers = [woken.detach(), *([parent_fd] if parent_fd is not None else [])]
    return lambda: bool(wanted_to_end), wakers
