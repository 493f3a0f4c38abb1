"""Streams of the RPC: who listens, and what each listener has still to read.

A listener has a bounded backlog. One that does not read is cut off rather than remembered
without end; it sees its stream end and comes back, as after any break.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from enum import Enum, auto
from typing import Any, NamedTuple

# A listener this far behind, in values, has stopped reading: a busy level sends a few hundred.
BACKLOG_MAX = 4096


class Topic(Enum):
    """What can be listened to."""

    HEADS = auto()
    VALIDATED_BLOCKS = auto()
    OPERATIONS = auto()
    NEVER = auto()  # for streams of this node that have nothing more to say


class Listener:
    """One open stream; iterate over it to get what was published, until it ends.

    `want` turns what is published into the JSON value to send, or None to leave it out.
    """

    def __init__(self, topic: Topic, want: Callable[[Any], bytes | None]) -> None:
        self.topic = topic
        self.cut_off = False
        self._want = want
        self._backlog: asyncio.Queue[bytes | None] = asyncio.Queue()

    def publish(self, value: Any) -> None:
        """Give the listener a value, or cut it off when it has not read for too long."""
        line = self._want(value)
        if line is None or self.cut_off:
            return
        if self._backlog.qsize() >= BACKLOG_MAX:
            self.cut_off = True
            self.end()
            return
        self._backlog.put_nowait(line)

    def end(self) -> None:
        """End the stream behind what is still to be read."""
        self._backlog.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (line := await self._backlog.get()) is not None:
            yield line


class OpenStream(NamedTuple):
    """The answer of a service that goes on: what is sent at once, and who waits for the rest.

    Without a listener the stream ends behind `first`.
    """

    first: list[bytes]
    listener: Listener | None


class Streams:
    """Everybody who listens to this node."""

    def __init__(self) -> None:
        self._listeners: dict[Topic, set[Listener]] = {topic: set() for topic in Topic}

    def listen(self, topic: Topic, want: Callable[[Any], bytes | None]) -> Listener:
        """Return a new listener; `leave` must follow."""
        listener = Listener(topic, want)
        self._listeners[topic].add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        self._listeners[listener.topic].discard(listener)

    def publish(self, topic: Topic, value: Any) -> None:
        for listener in self._listeners[topic]:
            listener.publish(value)

    def end(self, topic: Topic) -> None:
        """End every stream of a topic, as a change of head ends those of the mempool."""
        for listener in self._listeners[topic]:
            listener.end()
        self._listeners[topic].clear()

    def end_all(self) -> None:
        for topic in Topic:
            self.end(topic)
