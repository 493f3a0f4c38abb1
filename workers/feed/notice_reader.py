"""Hears what the quarantine says of its own accord, for an event loop.

The client library is synchronous, so its watcher lives in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from broker.client import Watcher
from broker.config import Endpoints
from broker.messages import CLIENT_TOPIC, Event
from broker.quarantine.notices import NOTICES
from broker.sockets import CurveIdentity

log = logging.getLogger("forgepool.feed")

POLL_S = 0.5  # the longest that the end waits for the thread
END_S_MAX = 5.0


class NoticeReader:
    """The topic of the quarantine's notices."""

    def __init__(self, endpoints: Endpoints, curve: CurveIdentity | None = None) -> None:
        self._endpoints = endpoints
        self._curve = curve
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def start(self, on_notice: Callable[[Event], None], on_end: Callable[[], object]) -> None:
        """Call `on_notice` in the running event loop, and `on_end` when reading has failed."""
        self._loop = asyncio.get_running_loop()
        self._on_notice = on_notice
        self._on_end = on_end
        self._thread.start()

    def close(self) -> None:
        """Stop reading; for one that was started."""
        self._ended.set()
        self._thread.join(END_S_MAX)

    def _run(self) -> None:
        watcher = Watcher(self._endpoints, CLIENT_TOPIC + NOTICES, curve=self._curve)
        try:
            while not self._ended.is_set():
                for news in watcher.poll(POLL_S):
                    if isinstance(news, Event):
                        self._loop.call_soon_threadsafe(self._on_notice, news)
        except Exception:
            log.exception("notices_failed")
            self._loop.call_soon_threadsafe(self._on_end)
        finally:
            watcher.close()
