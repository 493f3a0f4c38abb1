"""The verifier's process: a child of a worker, without keys, nice.

`python -m workers.verification.verifier_process FD` serves the socket FD of its worker until that
closes. One event loop hears slices and the node; between two slices it looks for what has come.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import time
from math import inf

from broker import wire
from broker.collector import tune_collector
from broker.messages import CheckSlices, SlicesChecked
from broker.telemetry import log_to_stderr
from broker.verification import SLICE_US_MAX
from signers.formats.networks import Network, network_by_name
from workers.frames import BrokenFrame, frame_of, read_frame
from workers.give_way import give_way
from workers.node.transport import Node
from workers.preparation.preparation_errors import PreparationError
from workers.verification.lane import Lane
from workers.verification.node_answers import NodeAnswers
from workers.verification.node_questions import NodeQuestion, NotTold, Told
from workers.verification.verifier_setup import decode_setup

log = logging.getLogger("forgepool.verifier")

LOOK_S = SLICE_US_MAX / 1e6
# Of slices of 2 ms. No answer waits for more turns of 2 ms than that either: a big block may take
# many, and whoever asked for the others thinks them lost after a while.
ANSWERS_AT_ONCE = 16
READ_AHEAD_BYTES = 1024 * 1024  # some messages of slices with votes, or a part of a block
# How much of an explanation is passed on; a node's trace can be long.
TEXT_MAX = 1000


class VerifierProcess:
    """The loop around the lane."""

    def __init__(self, network: Network, node: Node | None, writer: asyncio.StreamWriter) -> None:
        # The CPU time of this thread: a busy machine does not make a check more expensive.
        self._lane = Lane(
            network, clock=time.monotonic, cpu=time.thread_time, has_node=node is not None
        )
        self._node_answers = None if node is None else NodeAnswers(node, network)
        self._writer = writer
        self._turns_held = 0  # since the first of the lane's answers
        self._news = asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Work until the worker has closed its end. Raises BrokenFrame, MalformedMessage."""
        async with asyncio.TaskGroup() as group:
            working = group.create_task(self._work())
            while (body := await read_frame(reader)) is not None:
                message = wire.decode_broker_message(body)
                if not isinstance(message, CheckSlices):
                    raise BrokenFrame(f"a {type(message).__name__} instead of slices")
                for each in message.slices:
                    self._lane.take(each, time.monotonic())
                self._news.set()
            working.cancel()
        for asking in self._asking:
            asking.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def _work(self) -> None:
        lane = self._lane
        while True:
            self._news.clear()
            now = time.monotonic()
            lane.wake(now)
            lane.work(now, LOOK_S)
            self._ask()
            await self._answer()
            if lane:
                await asyncio.sleep(0)
            else:
                await self._wait(lane.deadline())

    async def _wait(self, until: float) -> None:
        """Until there are slices, an answer of the node, or a moment has come."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(None if until == inf else until):
                await self._news.wait()

    async def _answer(self) -> None:
        lane = self._lane
        if not lane.answers:
            return
        self._turns_held += 1
        if lane and max(len(lane.answers), self._turns_held) < ANSWERS_AT_ONCE:
            return  # more is to come in a moment, and a message costs as much as two votes
        self._turns_held = 0
        answers, lane.answers = lane.answers, []
        self._writer.write(frame_of(wire.encode(SlicesChecked(answers))))
        await self._writer.drain()

    def _ask(self) -> None:
        questions, self._lane.questions = self._lane.questions, []
        for question in questions:
            asking = asyncio.create_task(self._ask_node(question))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)

    async def _ask_node(self, asked: NodeQuestion) -> None:
        told: Told | NotTold
        assert self._node_answers is not None  # without a node the lane asks nothing
        deadline = asyncio.get_running_loop().time() + asked.ttl_ms / 1000
        try:
            told = await self._node_answers.answer(
                asked.chain_id, asked.question, deadline=deadline
            )
        except PreparationError as error:
            told = NotTold(error.code, str(error)[:TEXT_MAX])
        except Exception as error:
            # A bug: the question ends, the others go on, and the trace is there for who is paged.
            log.exception("question_failed question=%r", asked.question)
            told = NotTold(PreparationError.code, repr(error)[:TEXT_MAX])
        self._lane.answered(asked.number, told, time.monotonic())
        self._news.set()


async def serve(channel: socket.socket) -> None:
    """Verify for whoever holds the other end of `channel`, until it closes."""
    reader, writer = await asyncio.open_connection(sock=channel, limit=READ_AHEAD_BYTES)
    body = await read_frame(reader)
    if body is None:
        return
    setup = decode_setup(body)
    log_to_stderr(f"{setup.worker}/verifier")
    node = Node(setup.node) if setup.node else None
    try:
        tune_collector()
        await VerifierProcess(network_by_name(setup.network), node, writer).run(reader)
    finally:
        if node is not None:
            await node.aclose()
        writer.close()


def main() -> None:
    """Serve the socket whose descriptor is the first argument."""
    # A signal to the whole group reaches us too; when to end is our worker's decision, which it
    # says by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    give_way()
    log_to_stderr("verifier")  # until the setup says whose
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
