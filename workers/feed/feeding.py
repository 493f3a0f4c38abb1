"""Runs the adapter: two nodes, the quarantine, and an end."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass

from broker.config import Endpoints
from broker.errors import BrokerError, Misconfigured, NoAnswer
from broker.messages import Status, StatusWanted
from broker.quarantine.admin_client import QuarantineAdmin
from broker.sockets import CurveIdentity
from workers.baker.baker_rpc import BakerRpc
from workers.feed.cleared_reader import ClearedReader
from workers.feed.feeder import Feeder
from workers.feed.injector import Injector
from workers.feed.notice_reader import NoticeReader
from workers.loop_end import cancel_on_signals
from workers.node.rpc import ChainRpc
from workers.node.served_chain import ServedChain, served_chain
from workers.node.transport import Node
from workers.pool import Pool

log = logging.getLogger("forgepool.feed")

# So often the counts go to the log, when they have changed.
COUNTS_S = 60.0


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """What the command was asked for, settled."""

    endpoints: Endpoints  # the quarantine's
    curve: CurveIdentity | None
    followed: str  # URL of the node that is followed
    into: str  # URL of the node that gets what was cleared; "": none
    peer: str
    client: str  # towards the quarantine
    parent_fd: int | None


class ConnectionLost(BrokerError):
    """The connection to the quarantine has failed in a way that only a restart helps."""

    code = "connection_lost"
    advice = "Start the adapter again; its log says what happened."


async def feed(options: FeedOptions) -> Counter[str]:
    """Feed until a signal comes or the parent is gone; return what was done.

    Raises Misconfigured, ConnectionLost.
    """
    counts: Counter[str] = Counter()
    feeding = asyncio.create_task(_feed(options, counts))
    cancel_on_signals(feeding, options.parent_fd)
    try:
        await feeding
    except asyncio.CancelledError:
        log.info("feed_ended %s", _line(counts))
    return counts


async def _feed(options: FeedOptions, counts: Counter[str]) -> None:
    followed, into = Node(options.followed), Node(options.into) if options.into else None
    pool = Pool(options.endpoints, options.client, curve=options.curve)
    notices = NoticeReader(options.endpoints, options.curve)
    cleared = ClearedReader(options.endpoints, options.curve)
    try:
        served = await served_chain(followed)
        if into is not None and (found := await served_chain(into)) != served:
            raise Misconfigured(
                f"the nodes are on different chains: {served.chain_id} is followed, "
                f"{found.chain_id} is to be fed"
            )
        await _check_quarantine(options, served)
        feeder = Feeder(
            options.peer,
            served.network,
            ChainRpc(followed, served.chain_id),
            BakerRpc(followed, served.chain_id),
            pool.push,
            None if into is None else Injector(ChainRpc(into, served.chain_id), cleared, counts),
            lambda: asyncio.to_thread(_level_of, options),
            counts,
        )
        log.info("feeding chain=%s peer=%s", served.chain_id, options.peer)
        lost = asyncio.get_running_loop().create_future()

        def lose() -> None:
            if not lost.done():
                lost.set_exception(ConnectionLost("the client of the quarantine has failed"))

        pool.start(feeder.hear, on_end=lose)
        try:
            notices.start(feeder.notice, on_end=lose)
            try:
                await _until_lost(lost, feeder, counts)
            finally:
                notices.close()
        finally:
            pool.close()
    finally:
        cleared.close()
        await followed.aclose()
        if into is not None:
            await into.aclose()


async def _until_lost(lost: asyncio.Future[None], feeder: Feeder, counts: Counter[str]) -> None:
    """Feed, and say now and then how much."""
    tasks = [asyncio.create_task(feeder.run()), asyncio.create_task(_tell(counts))]
    try:
        await next(asyncio.as_completed([lost, *tasks]))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _tell(counts: Counter[str]) -> None:
    told = ""
    while True:
        await asyncio.sleep(COUNTS_S)
        if (line := _line(counts)) != told:
            told = line
            log.info("fed %s", line)


def _line(counts: Counter[str]) -> str:
    return " ".join(f"{name}={count}" for name, count in sorted(counts.items()) if count)


async def _check_quarantine(options: FeedOptions, served: ServedChain) -> None:
    """Whether the quarantine is of this chain; one that is away is waited for later."""
    try:
        chain_id = (await asyncio.to_thread(_status, options)).get("chain_id")
    except NoAnswer as error:
        log.warning("quarantine_away reason=%s", error)
        return
    if chain_id not in (None, served.chain_id):
        raise Misconfigured(f"the node is on {served.chain_id}, the quarantine on {chain_id}")


def _status(options: FeedOptions) -> dict[str, object]:
    with QuarantineAdmin(options.endpoints, options.curve) as admin:
        answer = admin.ask(StatusWanted())
    return answer.status if isinstance(answer, Status) else {}


def _level_of(options: FeedOptions) -> int:
    """The level that the quarantine has reached; 0 when it does not say."""
    try:
        level = _status(options).get("head_level")
    except BrokerError as error:
        log.warning("quarantine_away reason=%s", error)
        return 0
    return level if isinstance(level, int) else 0
