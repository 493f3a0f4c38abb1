"""The pool as an event loop uses it: pushes go in, news comes out, nothing blocks.

The client library is synchronous, so it lives in a thread of its own, which a push wakes.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from broker.client import Client
from broker.config import Endpoints
from broker.messages import Request
from broker.sockets import CurveIdentity

log = logging.getLogger("forgepool.pool")

# A push and the end wake the thread; this is only how long it sleeps when nothing happens.
POLL_S = 1.0
END_S_MAX = 5.0


class Pool:
    """A client of the pool, in a thread."""

    def __init__(
        self, endpoints: Endpoints, name: str, *, curve: CurveIdentity | None = None
    ) -> None:
        self._endpoints = endpoints
        self._curve = curve
        self._name = name
        self._outbox: deque[Request] = deque()
        self._report: Mapping[str, int] | None = None
        self.has_failed = False  # and `on_end` was called
        self._ended = threading.Event()
        self._waking = threading.Lock()
        self._wakes_soon = False
        self._client: Client | None = None  # once the thread has connected
        self._thread = threading.Thread(target=self._run, name="pool", daemon=True)

    def start(self, on_news: Callable[[object], None], on_end: Callable[[], object]) -> None:
        """Connect. Both functions are called in the running event loop.

        `on_news` gets whatever the pool says; after `on_end` nothing will come any more.
        """
        self._loop = asyncio.get_running_loop()
        self._on_news = on_news
        self._on_end = on_end
        self._thread.start()

    def push(self, request: Request) -> None:
        """Ask for work; its end comes as news."""
        self._outbox.append(request)
        if not self._wakes_soon:  # one call of the system for all pushes of a turn of the loop
            self._wakes_soon = True
            self._loop.call_soon(self._wake)

    def report(self, numbers: Mapping[str, int]) -> None:
        """Have `status` show these numbers of this service, within a second."""
        self._report = numbers

    @property
    def is_live(self) -> bool:
        """Whether the broker hears us now."""
        client = self._client
        return client is not None and client.live

    def begin_to_close(self) -> None:
        """Disconnect, without waiting for it."""
        self._ended.set()
        self._wake()

    def close(self) -> None:
        """Disconnect; what is still open ends in the pool without us."""
        self.begin_to_close()
        self._thread.join(END_S_MAX)

    def _wake(self) -> None:
        self._wakes_soon = False
        with self._waking:  # not while the thread closes it
            if self._client is not None:
                self._client.wake()

    def _run(self) -> None:
        try:
            with Client(self._endpoints, self._name, curve=self._curve) as client:
                self._client = client
                try:
                    while not self._ended.is_set():
                        self._push_all(client)
                        if (report := self._report) is not None:
                            self._report = None
                            client.report(report)
                        news = client.poll(POLL_S)
                        if news:
                            self._loop.call_soon_threadsafe(self._deliver, news)
                finally:
                    with self._waking:
                        self._client = None
        except Exception:
            log.exception("pool_client_failed")
            self.has_failed = True
            self._loop.call_soon_threadsafe(self._on_end)

    def _push_all(self, client: Client) -> None:
        requests = []
        while self._outbox:
            requests.append(self._outbox.popleft())
        if requests:
            client.push_all(requests)

    def _deliver(self, news: Sequence[object]) -> None:
        for each in news:
            self._on_news(each)
