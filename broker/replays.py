"""Replays of logged events, many at once, each in steps that delay nobody for long."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

from broker.event_log import EventLog
from broker.messages import Gone, Replay, Replayed

log = logging.getLogger("forgepool.replays")

REPLAYS_MAX = 64  # under way at once

Peer = TypeVar("Peer", bound=Hashable)


class Replays(Generic[Peer]):
    """The replays under way, in the order in which they have their next step."""

    def __init__(self, events: EventLog, answer: Callable[[Peer, Replayed | Gone], None]) -> None:
        self._events = events
        self._answer = answer
        self._under_way: dict[
            tuple[Peer, str, str, int], tuple[Replay, Iterator[list[Replayed | Gone]]]
        ] = {}

    def __bool__(self) -> bool:
        return bool(self._under_way)

    def start(self, peer: Peer, replay: Replay, upto: int | None) -> None:
        """Begin to answer, unless that is under way; who hears nothing asks again.

        `upto` is the topic's next number, where it is known.
        """
        asked = (peer, replay.topic, replay.epoch, replay.first)
        if len(self._under_way) >= REPLAYS_MAX or asked in self._under_way:
            return
        steps = self._events.replay(replay.topic, replay.epoch, replay.first, upto)
        self._under_way[asked] = replay, steps

    def step(self) -> None:
        """One bounded step of one replay; the others have theirs in later turns."""
        if not self._under_way:
            return
        asked = next(iter(self._under_way))
        replay, steps = self._under_way.pop(asked)
        peer = asked[0]
        try:
            for reply in next(steps):
                self._answer(peer, reply)
            self._under_way[asked] = replay, steps  # last in line again
        except StopIteration:
            pass
        except OSError as e:
            log.warning("replay_failed topic=%s error=%s", replay.topic, e)
            self._answer(peer, Gone(replay.topic, replay.epoch, 0))
