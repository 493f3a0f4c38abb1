"""The block preparer: the child process of a worker that prepares its blocks.

`python -m workers.preparation.preparer_process FD` serves the socket FD of its parent until that
closes. One event loop waits for nodes and clients at once; what computes gives way after each
slice, so a node that hangs, or a proof of work that takes seconds, delays no other job.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from functools import partial

from broker.telemetry import log_to_stderr
from signers.formats.networks import network_by_name
from workers.frames import BrokenFrame, read_frame
from workers.node.transport import Node
from workers.preparation.block_preparation import BlockPreparation
from workers.preparation.preparation_errors import PreparationError
from workers.preparation.preparation_job import (
    CancelJob,
    Order,
    Outcome,
    PreparationFailed,
    PreparationJob,
    PreparerSetup,
    decode_order,
    encode_frame,
)

log = logging.getLogger("forgepool.preparer")

# How much of an explanation is passed on; a node's trace can be long.
TEXT_MAX = 1000


async def serve(channel: socket.socket) -> None:
    """Prepare blocks for whoever holds the other end of `channel`, until it closes."""
    reader, writer = await asyncio.open_connection(sock=channel)
    setup = await _next_order(reader)
    if not isinstance(setup, PreparerSetup):
        raise BrokenFrame("the first frame must be the setup")
    network = network_by_name(setup.network)
    nodes = {name: Node(url) for name, url in setup.nodes.items()}
    preparation = BlockPreparation(nodes, network, randomness=os.urandom)
    jobs: dict[int, asyncio.Task[None]] = {}
    try:
        while (order := await _next_order(reader)) is not None:
            match order:
                case PreparationJob():
                    work = asyncio.create_task(_perform(preparation, order, writer))
                    jobs[order.job] = work
                    work.add_done_callback(partial(_forget, jobs, order.job))
                case CancelJob() if order.job in jobs:
                    jobs[order.job].cancel()
    finally:
        for job in list(jobs.values()):
            job.cancel()
        await asyncio.gather(*jobs.values(), return_exceptions=True)
        for node in nodes.values():
            await node.aclose()
        writer.close()


async def _perform(
    preparation: BlockPreparation, job: PreparationJob, writer: asyncio.StreamWriter
) -> None:
    """Prepare one block, and send the outcome, whatever that is."""
    outcome: Outcome
    deadline = asyncio.get_running_loop().time() + job.ttl_ms / 1000
    try:
        outcome = await preparation.prepare(job, deadline=deadline)
    except PreparationError as error:
        outcome = PreparationFailed(job.job, error.code, str(error)[:TEXT_MAX])
    except Exception as error:
        # A bug: the job ends, the others go on, and the trace is there for whoever is paged.
        log.exception("preparation_failed job=%d", job.job)
        outcome = PreparationFailed(job.job, PreparationError.code, repr(error)[:TEXT_MAX])
    writer.write(encode_frame(outcome))
    await writer.drain()


def _forget(jobs: dict[int, asyncio.Task[None]], job: int, _: asyncio.Task[None]) -> None:
    del jobs[job]


async def _next_order(reader: asyncio.StreamReader) -> Order | None:
    """The next order of the worker; None when it has closed its end."""
    body = await read_frame(reader)
    return None if body is None else decode_order(body)


def main() -> None:
    """Serve the socket whose descriptor is the first argument."""
    # A signal to the whole group reaches us too; when to end is our worker's decision, which it
    # says by closing the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log_to_stderr("preparer")
    asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
