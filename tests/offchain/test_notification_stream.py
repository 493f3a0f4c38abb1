"""The notification stream against the sandbox, over real sockets: it ends, hangs and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.offchain.served_applications import Served, served, until
from workers.offchain.node_service.notification_stream import NotificationStream
from workers.offchain.stimuli import Notified, StreamOpened

# Nothing is waited for in these tests but what other tasks do.
AT_ONCE_S = 0.001


class Ear:
    """What was heard, in order."""

    def __init__(self) -> None:
        self.heard: list[StreamOpened | Notified] = []

    def openings(self, chain_id: str) -> int:
        return self.heard.count(StreamOpened(chain_id))

    def blocks(self, chain_id: str) -> list[int | None]:
        return [
            each.height
            for each in self.heard
            if isinstance(each, Notified) and (each.chain_id, each.reason) == (chain_id, "NewBlock")
        ]


@asynccontextmanager
async def listening(each: Served, *chains: str) -> AsyncIterator[tuple[NotificationStream, Ear]]:
    """A stream that watches chains, and what it hears."""
    ear = Ear()
    stream = NotificationStream(
        each.url, ear.heard.append, lambda: 1.0, reconnect_first_s=AT_ONCE_S
    )
    for chain in chains:
        stream.watch(chain)
    running = asyncio.create_task(stream.run())
    try:
        yield stream, ear
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def scenario(steps: Callable[[Served], Awaitable[None]], **options: int) -> None:
    async def run() -> None:
        async with served(**options) as each:
            await steps(each)

    asyncio.run(run())


def test_what_happens_after_the_opening_is_heard() -> None:
    async def steps(each: Served) -> None:
        async with listening(each, each.chain) as (_, ear):
            await until(lambda: ear.heard)
            assert ear.heard == [StreamOpened(each.chain)]
            each.request_task("echo", "x")
            each.host.add_blocks(each.chain)
            await until(lambda: len(ear.heard) == 3)
            assert ear.blocks(each.chain) == [0, 1]

    scenario(steps)


def test_other_reasons_are_heard_by_their_names() -> None:
    async def steps(each: Served) -> None:
        async with listening(each, each.chain) as (_, ear):
            await until(lambda: ear.heard)
            names = ["NewRound", "NewIncomingBundle", "BlockExecuted", "NewEvents", "Unheard"]
            each.host.notify(each.chain, [{name: {"new_key": []}} for name in names])
            each.host.notify(each.chain, [{"NewBlock": {"height": 9, "later": {}}}])
            await until(lambda: len(ear.heard) == 7)
            assert [e.reason for e in ear.heard if isinstance(e, Notified)] == [*names, "NewBlock"]
            assert ear.blocks(each.chain) == [9]

    scenario(steps)


def test_a_chain_has_its_own_news() -> None:
    async def steps(each: Served) -> None:
        first, second = each.plan.chains
        async with listening(each, first) as (stream, ear):
            await until(lambda: ear.openings(first))
            stream.watch(second)
            await until(lambda: ear.openings(second))
            each.host.add_blocks(second)
            await until(lambda: ear.blocks(second))
            stream.unwatch(second)
            stream.watch(second)
            await until(lambda: ear.openings(second) == 2)
            each.host.add_blocks(second)
            await until(lambda: len(ear.blocks(second)) == 2)
            assert ear.blocks(first) == []

    scenario(steps, chains=2)


def test_a_second_watcher_is_told_that_the_chain_is_open() -> None:
    async def steps(each: Served) -> None:
        async with listening(each, each.chain) as (stream, ear):
            await until(lambda: ear.openings(each.chain))
            stream.watch(each.chain)
            await until(lambda: ear.openings(each.chain) == 2)
            stream.unwatch(each.chain)
            each.host.add_blocks(each.chain)
            await until(lambda: ear.blocks(each.chain))

    scenario(steps)


def test_a_stream_that_drops_comes_back_and_says_so() -> None:
    async def steps(each: Served) -> None:
        async with listening(each, each.chain) as (_, ear):
            await until(lambda: ear.openings(each.chain) == 1)
            each.host.switches.refuse_streams = True
            each.server.drop_streams()
            await until(lambda: each.server.refused_streams >= 2)
            each.host.add_blocks(each.chain, 3)
            each.host.switches.refuse_streams = False
            await until(lambda: ear.openings(each.chain) == 2)
            each.host.add_blocks(each.chain)
            await until(lambda: ear.blocks(each.chain))
            assert ear.blocks(each.chain) == [3], "what was missed must be asked for"

    scenario(steps)


@pytest.mark.parametrize("text", ["nonsense", '{"type":"next","id":"1"}', "x" * 2_000_000])
def test_a_server_that_speaks_nonsense_is_left_and_met_again(text: str) -> None:
    async def steps(each: Served) -> None:
        async with listening(each, each.chain) as (_, ear):
            await until(lambda: ear.openings(each.chain) == 1)
            each.server.say_to_streams(text)
            await until(lambda: ear.openings(each.chain) == 2)

    scenario(steps)


def test_a_server_that_only_knows_the_old_protocol_is_listened_to() -> None:
    async def steps(each: Served) -> None:
        each.host.switches.legacy_streams = True
        async with listening(each, each.chain) as (_, ear):
            await until(lambda: ear.openings(each.chain) == 1)
            # Nothing answers a subscription there: blocks are made until one is heard.
            while not ear.blocks(each.chain):
                each.host.add_blocks(each.chain)
                await asyncio.sleep(AT_ONCE_S)

    scenario(steps)


def test_a_block_is_told_as_often_as_the_sandbox_is_asked_to() -> None:
    async def steps(each: Served) -> None:
        each.host.switches.copies_of_new_block = 2
        async with listening(each, each.chain) as (_, ear):
            await until(lambda: ear.openings(each.chain) == 1)
            each.host.add_blocks(each.chain, 2)
            await until(lambda: len(ear.blocks(each.chain)) == 4)
            assert ear.blocks(each.chain) == [0, 0, 1, 1]

    scenario(steps)


@pytest.mark.parametrize("after", [False, True])
def test_a_block_is_told_before_or_after_the_reply(after: bool) -> None:
    async def steps(each: Served) -> None:
        each.host.switches.tell_after_reply = after
        async with listening(each, each.chain) as (_, ear):
            await until(lambda: ear.openings(each.chain) == 1)
            body = b'{"query":"mutation { requestTask(operator: \\"echo\\", input: \\"\\") }"}'
            await each.node.submit(each.application, body, 10.0)
            await until(lambda: ear.blocks(each.chain))
            assert ear.blocks(each.chain) == [0]

    scenario(steps)


def test_a_server_that_is_away_is_named_once_for_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not with the password of its address."""

    async def steps(each: Served) -> None:
        await each.server.stop()
        pauses: list[float] = []

        def chance() -> float:
            pauses.append(0)
            return 1.0

        url = each.url.replace("//", "//user:secret@")
        stream = NotificationStream(url, lambda _: None, chance, reconnect_first_s=AT_ONCE_S)
        running = asyncio.create_task(stream.run())
        await until(lambda: len(pauses) >= 3)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        [line] = [r.getMessage() for r in caplog.records if "notifications_lost" in r.msg]
        assert line.startswith(
            f"notifications_lost url={each.url.replace('http', 'ws')}/ws reason="
        )

    scenario(steps)
