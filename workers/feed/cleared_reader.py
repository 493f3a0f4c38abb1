"""Reads on in what the quarantine has cleared, for an event loop.

The client library is synchronous, so its connection lives in a thread, which has one question at a
time.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from msgspec.structs import replace

from broker.config import Endpoints
from broker.errors import BrokerError
from broker.quarantine.admin_client import QuarantineAdmin
from broker.quarantine.administration import ClearedSince, ClearedSinceWanted
from broker.sockets import CurveIdentity

log = logging.getLogger("forgepool.feed")

ANSWER_S = 2.0  # it answers in milliseconds, or is away
AGAIN_S = 0.5
AWAY_NEWS_S = 10.0  # how often a quarantine that is away is told of


class ClearedReader:
    """What was cleared, in order, from a place on."""

    def __init__(self, endpoints: Endpoints, curve: CurveIdentity | None = None) -> None:
        self._endpoints = endpoints
        self._curve = curve
        self._wanted: ClearedSinceWanted | None = None
        self._epoch = ""
        self._complain_at = 0.0
        self._thread = ThreadPoolExecutor(1, "cleared")
        self._admin: QuarantineAdmin | None = None  # of the thread

    def begin(self, *, blocks_from: int, votes_from: int) -> None:
        """Read from the first that is not below these levels."""
        self._wanted = ClearedSinceWanted(blocks_from, votes_from)
        self._epoch = ""

    async def read(self) -> ClearedSince | None:
        """What comes next; None when the quarantine was started anew: then `begin`.

        A quarantine that is away is asked until it answers.
        """
        assert self._wanted is not None
        told = await self._insist(self._wanted)
        if self._epoch not in ("", told.epoch):
            return None
        self._epoch = told.epoch
        self._wanted = replace(
            self._wanted, blocks_after=told.blocks_upto, votes_after=told.votes_upto
        )
        return told

    def close(self) -> None:
        """Disconnect; a question that is under way has its `ANSWER_S` still."""
        self._thread.submit(self._disconnect).result()
        self._thread.shutdown()

    async def _insist(self, wanted: ClearedSinceWanted) -> ClearedSince:
        loop = asyncio.get_running_loop()
        while True:
            try:
                return await loop.run_in_executor(self._thread, self._ask, wanted)
            except BrokerError as error:
                now = loop.time()
                if now >= self._complain_at:
                    self._complain_at = now + AWAY_NEWS_S
                    log.warning("quarantine_away reason=%s", error)
            await asyncio.sleep(AGAIN_S)

    def _ask(self, wanted: ClearedSinceWanted) -> ClearedSince:
        if self._admin is None:
            self._admin = QuarantineAdmin(self._endpoints, self._curve)
        try:
            answer = self._admin.ask(wanted, ANSWER_S)
        except BrokerError:
            self._disconnect()  # a late answer must not be taken for that to the next question
            raise
        assert isinstance(answer, ClearedSince)
        return answer

    def _disconnect(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None
