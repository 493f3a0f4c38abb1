"""One question at a time to its answer: past the gate, to the pool and back, and a line in the log.

Identical questions that are open at once wait for one end of the pool.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from broker.client_session import Refused
from broker.messages import Ack, Event, Request
from signers.backends.socket_protocol import (
    AskNonce,
    AskNonceHash,
    AskPossessionProof,
    AskPublicKey,
    AskSupportsNonces,
)
from signers.backends.socket_protocol import Request as Question
from signers.errors import MalformedBytes
from signers.formats.networks import Network
from signers.formats.tagged_keys import hash_text
from workers.gateway.answers import UNAVAILABLE, Answer, Denial, Signature
from workers.gateway.client_directory import ClientDirectory
from workers.gateway.gate import Ask, Gate, OfKey
from workers.gateway.tally import Tally

log = logging.getLogger("forgepool.gateway")

# Each holds what is signed, at most 64 KiB, here, in the broker and in a worker.
OPEN_MAX = 4_096
# An end at the deadline is still on its way: the broker looks once a turn, a worker commits.
GRACE_S = 0.5


# What the log calls a question that has no bytes to sign.
_KIND: dict[type[Question], str] = {
    AskPossessionProof: " kind=possession",
    AskNonce: " kind=nonce",
    AskNonceHash: " kind=nonce_hash",
    AskSupportsNonces: " kind=nonce_support",
    AskPublicKey: " kind=public_key",
}


class _Open(NamedTuple):
    ask: Ask
    answer: asyncio.Future[Answer]


class Desk:
    """Where the listeners bring their questions.

    `push` gives a client's request to the pool; `hear` must be called with the pool's news.
    """

    def __init__(
        self,
        gate: Gate,
        directory: ClientDirectory,
        push: Callable[[str, Request], bool],
    ) -> None:
        self._gate = gate
        self._directory = directory
        self._push = push
        self._open: dict[bytes, _Open] = {}
        self.tally = Tally()

    @property
    def open(self) -> int:
        """How many requests wait for the pool."""
        return len(self._open)

    async def drain(self, wait_s: float) -> None:
        """Wait until what is open now has ended."""
        if self._open:
            answers = [entry.answer for entry in self._open.values()]
            _, late = await asyncio.wait(answers, timeout=wait_s)
            if late:
                log.warning("ends_with_open_requests count=%d", len(late))

    async def answer(self, question: Question, client: str) -> Answer:
        """Answer a question; `client` is where it came from, for the log."""
        began = time.monotonic()
        listing = self._directory.listing()
        admitted = self._gate.admit(question, listing)
        if isinstance(admitted, Ask):
            answer = await self._ask(admitted)
        else:
            answer = admitted
            await asyncio.sleep(0)  # who sends thousands of these at once holds up nobody
        took_s = time.monotonic() - began
        self.tally.ended(answer, took_s if isinstance(admitted, Ask) else None)
        is_told = isinstance(admitted, Ask) or isinstance(answer, Denial)
        if is_told and isinstance(question, OfKey):
            what = _what(question, admitted, listing.network)
            _tell(f"client={client} {what} ms={took_s * 1000:.1f}", answer)
        else:
            log.debug("answered client=%s question=%s", client, type(question).__name__)
        return answer

    async def _ask(self, ask: Ask) -> Answer:
        entry = self._open.get(ask.request.id)
        if entry is None:
            if len(self._open) >= OPEN_MAX:
                text = f"{OPEN_MAX} requests are open"
                return Denial(UNAVAILABLE, "busy", text, may_repeat=True)
            if not self._push(ask.client, ask.request):
                text = "too many clients are authenticated"
                return Denial(UNAVAILABLE, "busy", text, may_repeat=True)
            entry = _Open(ask, asyncio.get_running_loop().create_future())
            self._open[ask.request.id] = entry
        wait_s = (ask.request.ttl_ms or 0) / 1000 + GRACE_S
        await asyncio.wait((entry.answer,), timeout=wait_s)  # others may wait for it, too
        if entry.answer.done():
            return entry.answer.result()
        text = "the pool has not answered in time; it may still sign: ask for the same again"
        return Denial(UNAVAILABLE, "no_answer", text, may_repeat=True)

    def hear(self, news: object) -> None:
        """Take news of the pool: the end of a request."""
        match news:
            case Event(id=id) | Refused(ack=Ack(id=id)):
                entry = self._open.pop(id, None)
                if entry is not None:
                    entry.answer.set_result(self._gate.conclude(entry.ask, news))


def _what(question: OfKey, admitted: Ask | Answer, network: Network) -> str:
    """Key, client, kind, level and round of a question, as far as they are known."""
    kind = _KIND.get(type(question), "")
    if not isinstance(admitted, Ask):
        try:
            return f"key={hash_text(question.key_hash, network)}{kind}"
        except MalformedBytes:
            return f"key=?{kind}"
    if admitted.signable is not None:
        signed, _, level, round_, _ = admitted.signable
        kind = f" kind={signed.name.lower()} level={level} round={round_}"
    by = f" by={admitted.client}" if admitted.client else ""
    return f"key={admitted.request.delegate}{by}{kind}"


def _tell(what: str, answer: Answer) -> None:
    if isinstance(answer, Denial):
        status, code, text = answer.status, answer.code, answer.text
        log.warning("not_signed %s status=%d code=%s text=%r", what, status, code, text)
    else:
        log.info("%s %s", "signed" if isinstance(answer, Signature) else "answered", what)
