"""The notifications of a node service: one connection, kept up for as long as we live.

A thin loop around `notification_session`. A connection that breaks, hangs or speaks nonsense is
made again after a pause; `StreamOpened` then says that what was missed must be asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from math import inf
from urllib.parse import urlsplit, urlunsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from workers.offchain.node_service.jittered_pause import JitteredPause
from workers.offchain.node_service.notification_session import (
    Lost,
    NotificationSession,
    Output,
    Say,
)
from workers.offchain.node_service.notifications import LEGACY_SUBPROTOCOL, SUBPROTOCOL
from workers.offchain.offchain_errors import MalformedFrame, StreamBroken
from workers.offchain.stimuli import Notified, StreamOpened

log = logging.getLogger("forgepool.tasks")

# A connection that takes longer to open is tried anew.
CONNECT_S_MAX = 10.0
# A connection that answers no ping for so long is dead, though nobody has closed it.
PING_S = 15.0
PING_ANSWER_S_MAX = 15.0
# A notification is under 1 KiB; one that lists events may have many.
FRAME_BYTES_MAX = 1024 * 1024
# Before a connection is made again.
RECONNECT_FIRST_S = 0.5
RECONNECT_LONGEST_S = 30.0
# So often at most the log says that there is no connection, while that goes on.
LOST_SAID_S = 10.0
# A server that closes without an answer to our farewell is not waited for.
FAREWELL_S_MAX = 1.0

News = StreamOpened | Notified


class NotificationStream:
    """What happens on the chains that are watched. `hear` is called with all of it, in order."""

    def __init__(
        self,
        node_service: str,
        hear: Callable[[News], None],
        chance: Callable[[], float],
        *,
        reconnect_first_s: float = RECONNECT_FIRST_S,
    ) -> None:
        self._url = _stream_url(node_service)
        self._shown_url = str(httpx.URL(self._url).copy_with(userinfo=b""))  # no password
        self._hear = hear
        self._chance = chance
        self._pause = JitteredPause(reconnect_first_s, RECONNECT_LONGEST_S, chance)
        self._watchers: Counter[str] = Counter()  # by chain
        self._open: set[str] = set()
        self._session: NotificationSession | None = None
        self._outbox: asyncio.Queue[str] = asyncio.Queue()
        self._listening: asyncio.Timeout | None = None
        self._lost_said_at = -inf

    def watch(self, chain_id: str) -> None:
        """Listen to a chain; each watcher of it must `unwatch` it in the end.

        The news of a chain is open when `hear` is told so, which it also is when it has been open
        for another watcher.
        """
        self._watchers[chain_id] += 1
        if self._watchers[chain_id] == 1:
            if self._session is not None:
                self._perform(self._session.watch(chain_id, _now()))
        elif chain_id in self._open:
            asyncio.get_running_loop().call_soon(self._hear, StreamOpened(chain_id))

    def unwatch(self, chain_id: str) -> None:
        """One watcher of a chain is gone."""
        self._watchers[chain_id] -= 1
        if self._watchers[chain_id] > 0:
            return
        del self._watchers[chain_id]
        self._open.discard(chain_id)
        if self._session is not None:
            self._perform(self._session.unwatch(chain_id))

    async def run(self) -> None:
        """Keep the stream up until cancelled."""
        while True:
            try:
                await self._connect_once()
            except (OSError, InvalidHandshake, ConnectionClosed) as error:
                self._say_lost(_reason(error))
            except (MalformedFrame, StreamBroken) as error:
                self._say_lost(f"{error.code}: {error}")
            self._open.clear()
            await asyncio.sleep(self._pause.next_s())

    def _say_lost(self, reason: str) -> None:
        if _now() - self._lost_said_at >= LOST_SAID_S:
            self._lost_said_at = _now()
            log.warning("notifications_lost url=%s reason=%s", self._shown_url, reason)

    async def _connect_once(self) -> None:
        async with _Straight(
            self._url,
            subprotocols=[Subprotocol(SUBPROTOCOL), Subprotocol(LEGACY_SUBPROTOCOL)],
            compression=None,
            proxy=None,
            open_timeout=CONNECT_S_MAX,
            ping_interval=PING_S,
            ping_timeout=PING_ANSWER_S_MAX,
            close_timeout=FAREWELL_S_MAX,
            max_size=FRAME_BYTES_MAX,
        ) as connection:
            self._outbox = asyncio.Queue()
            self._session = NotificationSession(
                list(self._watchers),
                legacy=connection.subprotocol == LEGACY_SUBPROTOCOL,
                chance=self._chance,
                now=_now(),
            )
            sending = asyncio.create_task(self._send(connection))
            try:
                self._perform(self._session.begin())
                await self._listen(connection, self._session)
            finally:
                self._session = None
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def _listen(self, connection: ClientConnection, session: NotificationSession) -> None:
        while True:
            frame = await self._next_frame(connection, session)
            now = _now()
            self._perform(session.tick(now) if frame is None else session.handle(frame, now))

    async def _next_frame(
        self, connection: ClientConnection, session: NotificationSession
    ) -> str | bytes | None:
        """What the server sends next; None when the session's deadline comes first."""
        try:
            async with asyncio.timeout_at(session.deadline()) as self._listening:
                return await connection.recv()
        except TimeoutError:
            return None
        finally:
            self._listening = None

    async def _send(self, connection: ClientConnection) -> None:
        """Send what is to be said; a connection that breaks is the listener's to notice."""
        try:
            while True:
                await connection.send(await self._outbox.get())
        except ConnectionClosed:
            pass

    def _perform(self, outputs: list[Output]) -> None:
        for output in outputs:
            match output:
                case Say():
                    self._outbox.put_nowait(output.text)
                case Lost():
                    self._open.discard(output.chain_id)
                    log.warning(
                        "subscription_lost chain=%s reason=%s", output.chain_id, output.text
                    )
                case StreamOpened():
                    self._open.add(output.chain_id)
                    self._pause.reset()
                    self._hear(output)
                case Notified():
                    self._hear(output)
        listening = self._listening
        if self._session is not None and listening is not None and not listening.expired():
            listening.reschedule(self._session.deadline())


class _Straight(connect):
    """A connection to the address that was given, and to no other that the server names."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def _stream_url(node_service: str) -> str:
    parts = urlsplit(node_service.rstrip("/"))
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    return urlunsplit((scheme, parts.netloc, parts.path + "/ws", "", ""))


def _now() -> float:
    return asyncio.get_running_loop().time()


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
