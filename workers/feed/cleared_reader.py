"""Reads on in what the quarantine has cleared of one client, for an event loop.

The client library is synchronous, so it is asked in a thread, one question at a time.
"""

from __future__ import annotations

import asyncio
import logging

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
    """What was cleared of a client, in order, from a place on."""

    def __init__(
        self, endpoints: Endpoints, client: str, curve: CurveIdentity | None = None
    ) -> None:
        self._endpoints = endpoints
        self._curve = curve
        self._client = client
        self._wanted: ClearedSinceWanted | None = None
        self._epoch = ""
        self._complain_at = 0.0

    def begin(self, *, blocks_from: int, votes_from: int) -> None:
        """Read from the first that is not below these levels."""
        self._wanted = ClearedSinceWanted(self._client, blocks_from, votes_from)
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

    async def _insist(self, wanted: ClearedSinceWanted) -> ClearedSince:
        while True:
            try:
                return await asyncio.to_thread(self._ask, wanted)
            except BrokerError as error:
                now = asyncio.get_running_loop().time()
                if now >= self._complain_at:
                    self._complain_at = now + AWAY_NEWS_S
                    log.warning("quarantine_away reason=%s", error)
            await asyncio.sleep(AGAIN_S)

    def _ask(self, wanted: ClearedSinceWanted) -> ClearedSince:
        # A connection for each question: a late answer is never taken for that to another one.
        with QuarantineAdmin(self._endpoints, self._curve) as admin:
            answer = admin.ask(wanted, ANSWER_S)
        assert isinstance(answer, ClearedSince)
        return answer
