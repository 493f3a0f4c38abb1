"""Listeners: what they get, and how far behind they may be."""

import asyncio

from workers.sandbox.streams import BACKLOG_MAX, Listener, Streams, Topic


async def heard(listener: Listener) -> list[bytes]:
    return [line async for line in listener]


def test_a_listener_gets_what_it_wants_until_the_end() -> None:
    async def scenario() -> None:
        streams = Streams()
        listener = streams.listen(Topic.HEADS, lambda n: b"%d" % n if n % 2 else None)
        other = streams.listen(Topic.OPERATIONS, lambda n: b"%d" % n)
        for number in range(5):
            streams.publish(Topic.HEADS, number)
        streams.end(Topic.HEADS)
        streams.publish(Topic.HEADS, 7)
        assert await heard(listener) == [b"1", b"3"]
        streams.leave(listener)
        streams.end_all()
        assert await heard(other) == []

    asyncio.run(scenario())


def test_a_listener_that_does_not_read_is_cut_off() -> None:
    async def scenario() -> None:
        streams = Streams()
        listener = streams.listen(Topic.HEADS, lambda n: b"x")
        for number in range(BACKLOG_MAX + 10):
            streams.publish(Topic.HEADS, number)
        assert listener.cut_off
        assert len(await heard(listener)) == BACKLOG_MAX

    asyncio.run(scenario())
