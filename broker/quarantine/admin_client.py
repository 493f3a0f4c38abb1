"""Asks a running quarantine on its admin socket."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import zmq

from broker import wire
from broker.config import Endpoints
from broker.errors import FixRequest, NoAnswer
from broker.messages import Problem
from broker.quarantine.administration import Answer, Question, decode_answer
from broker.sockets import CurveIdentity, connect, receive, send

CALL_S = 5.0
SEND_AGAIN_S = 0.02  # until the connection is there


class QuarantineRefused(FixRequest):
    """The quarantine cannot do what it was asked; the text says why."""

    code = "quarantine_refused"
    advice = "Do what the text says, then ask again."


class QuarantineAdmin:
    """A connection to the admin socket of a quarantine."""

    def __init__(self, endpoints: Endpoints, curve: CurveIdentity | None = None) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = connect(self._context, zmq.DEALER, endpoints.admin, curve)

    def ask(self, question: Question, timeout_s: float = CALL_S) -> Answer:
        """The answer to a question.

        Raises:
            NoAnswer: nobody answered in time.
            QuarantineRefused: it could not be done.
        """
        until = time.monotonic() + timeout_s
        while not send(self._socket, [wire.encode(question)]):
            if time.monotonic() > until:
                raise nobody_answered()
            time.sleep(SEND_AGAIN_S)
        if not self._socket.poll(max(0, int((until - time.monotonic()) * 1000))):
            raise nobody_answered()
        frames = receive(self._socket)
        assert frames is not None
        answer = decode_answer(frames[-1])
        if isinstance(answer, Problem):
            raise QuarantineRefused(f"{answer.code}: {answer.text}")
        return answer

    def close(self) -> None:
        self._socket.close(0)
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def nobody_answered() -> NoAnswer:
    """No quarantine was there to answer."""
    return NoAnswer(
        "no quarantine has answered. Is `forgepool serve --quarantine` (or `forgepool quarantine "
        "run`) running, and is --state-dir the right one?"
    )
