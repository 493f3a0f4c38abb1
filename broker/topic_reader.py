"""Reads one topic without losing an event unnoticed: order, gaps, replay.

Numbers run without gaps within a broker's epoch. An event that arrives behind a gap waits until
the missing ones were replayed; a head (a message without events) shows that the last one was lost.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from broker.messages import Event, Events, Gone, Replay, Replayed

REPLAY_AGAIN_S = 1.0  # a replay that was not answered is asked for again
AHEAD_EVENTS_MAX = 200_000  # held behind a gap; beyond it they are dropped and replayed later
FORMER_EPOCHS_MAX = 16  # remembered, since what was on its way may arrive after a restart is known


@dataclass(frozen=True, slots=True)
class EventsLost:
    """Events that the broker's log does not keep any more."""

    topic: str
    epoch: str
    first: int
    last: int  # 0: not known


@dataclass(slots=True)
class TopicReader:
    """The place of one reader in one topic."""

    topic: str
    epoch: str = ""  # of the broker, as last heard
    expected: int = 0  # number of the next event; 0: wherever the stream is
    _former: deque[str] = field(default_factory=lambda: deque(maxlen=FORMER_EPOCHS_MAX))
    # After restarts of the broker: its former epochs, and the number that was expected there.
    _tails: deque[tuple[str, int]] = field(default_factory=deque)
    _ahead: dict[int, Event] = field(default_factory=dict)  # events behind a gap, or the tail
    _replay_at: float | None = None

    def events(self, message: Events, now: float) -> tuple[list[Event], bool]:
        """Take what was published on the topic.

        Returns the events that are now in order, and whether the broker was restarted.
        """
        restarted = self.heard_epoch(message.epoch, now)
        if message.epoch != self.epoch:
            return [], restarted  # a straggler; what it brings is in the former epoch's tail
        if not message.events:
            if self.expected == 0:
                self.expected = message.first
            elif message.first > self.expected:
                self._want_replay(now)
            return [], restarted
        return self._in_order(message.first, message.events, now), restarted

    def replayed(self, message: Replayed, now: float) -> list[Event]:
        """Take a part of a replay's answer."""
        if self._tails and message.epoch == self._tails[0][0]:
            return self._of_tail(message, now)
        if message.epoch != self.epoch:
            return []
        if not message.more:
            self._replay_at = None
        return self._in_order(message.first, message.events, now)

    def gone(self, message: Gone, now: float) -> tuple[list[Event], EventsLost | None]:
        """The missing events are not kept: go on behind them."""
        if self._tails and message.epoch == self._tails[0][0]:
            first = self._tails[0][1]
            if message.oldest > first:  # the log goes on behind a hole
                self._tails[0], self._replay_at = (message.epoch, message.oldest), now
                return [], EventsLost(self.topic, message.epoch, first, message.oldest - 1)
            return self._end_tail(now), EventsLost(self.topic, message.epoch, first, 0)
        if message.epoch != self.epoch or self._replay_at is None:
            return [], None
        first, self.expected = (
            self.expected,
            min([*self._ahead, max(message.oldest, self.expected)]),
        )
        if self.expected == first:
            return [], None  # the broker could not read it now: it is asked again
        self._replay_at = None
        lost = EventsLost(self.topic, self.epoch, first, self.expected - 1)
        return self._closed_up(now), lost

    def heard_epoch(self, epoch: str, now: float) -> bool:
        """Note the broker's epoch; True when it is another than before: the broker restarted.

        What it had logged before its end and not published is asked for first.
        """
        if epoch == self.epoch or epoch in self._former:
            return False
        restarted = bool(self.epoch)
        if restarted:
            self._former.append(self.epoch)
            if self.expected:
                self._tails.append((self.epoch, self.expected))
            self.expected = 1
            self._ahead.clear()
            self._replay_at = now
        self.epoch = epoch
        return restarted

    def _of_tail(self, message: Replayed, now: float) -> list[Event]:
        """A part of what a former epoch's log still had; an empty answer ends it."""
        epoch, expected = self._tails[0]
        if message.first > expected:
            return []  # the answer to an older question; it is asked again
        fresh = message.events[max(0, expected - message.first) :]
        if fresh:
            self._tails[0] = (epoch, expected + len(fresh))
            if not message.more:
                self._replay_at = now
            return fresh
        return [] if message.more else self._end_tail(now)

    def _end_tail(self, now: float) -> list[Event]:
        self._tails.popleft()
        self._replay_at = now if self._tails else None
        return self._closed_up(now)

    def _in_order(self, first: int, events: list[Event], now: float) -> list[Event]:
        if self.expected in (0, first) and not self._ahead and not self._tails:
            self.expected = first + len(events)
            return events
        for number, event in enumerate(events, first):
            fits = number == self.expected or len(self._ahead) < AHEAD_EVENTS_MAX
            if number >= self.expected and fits:
                self._ahead[number] = event
        return self._closed_up(now)

    def _closed_up(self, now: float) -> list[Event]:
        """Those that waited behind the gap and are next now."""
        if self._tails:
            return []
        ready: list[Event] = []
        while (event := self._ahead.pop(self.expected, None)) is not None:
            self.expected += 1
            ready.append(event)
        if self._ahead:
            self._want_replay(now)
        return ready

    def _want_replay(self, now: float) -> None:
        if self._replay_at is None:
            self._replay_at = now

    def deadline(self) -> float | None:
        """When to call `replay_due` at the latest."""
        return self._replay_at

    def replay_due(self, now: float) -> Replay | None:
        """What to ask the broker for, when there is a gap."""
        if self._replay_at is None or now < self._replay_at:
            return None
        self._replay_at = now + REPLAY_AGAIN_S
        if self._tails:
            return Replay(self.topic, *self._tails[0])
        return Replay(self.topic, self.epoch, max(1, self.expected))
