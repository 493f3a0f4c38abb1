"""One connection to a node service's notifications, without the connection.

    connect ── connection_init ──▶ acknowledged ── subscribe, ping ──▶ pong: the chain is open

A server reads frames in their order: when it has answered the ping behind a subscription it knows
the subscription, so nothing that happens from then on is missed, and what happened before must be
asked for. The legacy protocol has no ping; there a subscription counts as open when it is sent.

A subscription that the server ends or refuses is made again after a pause, the connection stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import inf

from msgspec import Struct

from workers.offchain.node_service.jittered_pause import JitteredPause
from workers.offchain.node_service.notifications import (
    CONNECTION_INIT,
    PING,
    PONG,
    Acknowledged,
    ConnectionRefused,
    Pinged,
    Ponged,
    SubscriptionEnded,
    SubscriptionRefused,
    Told,
    read_frame,
    subscribe,
    unsubscribe,
)
from workers.offchain.offchain_errors import StreamBroken
from workers.offchain.stimuli import Notified, StreamOpened

# A server that takes longer to acknowledge a connection or to answer a ping hangs.
ANSWER_S_MAX = 10.0
# Before a subscription is made again that the server has ended, or does not grant.
RESUBSCRIBE_FIRST_S = 1.0
RESUBSCRIBE_LONGEST_S = 60.0


class Say(Struct, frozen=True):
    """Send this text."""

    text: str


class Lost(Struct, frozen=True):
    """A subscription has ended, and why; it is made again."""

    chain_id: str
    text: str


Output = Say | StreamOpened | Notified | Lost


class _Subscription:
    """The news of one chain; it has a new name each time that it is made."""

    def __init__(self, chain_id: str, chance: Callable[[], float]) -> None:
        self.chain_id = chain_id
        self.name = ""  # empty: not made just now
        self.again_at = inf
        self.pause = JitteredPause(RESUBSCRIBE_FIRST_S, RESUBSCRIBE_LONGEST_S, chance)


class NotificationSession:
    """Subscriptions to the chains of `chain_ids` over one connection."""

    def __init__(
        self, chain_ids: Iterable[str], *, legacy: bool, chance: Callable[[], float], now: float
    ) -> None:
        self._legacy = legacy
        self._chance = chance
        self._chains = {each: _Subscription(each, chance) for each in chain_ids}
        self._named: dict[str, _Subscription] = {}
        self._names_given = 0
        self._is_acknowledged = False
        self._answer_due = now + ANSWER_S_MAX
        self._pings: deque[tuple[str, float]] = deque()  # subscription, answer due at

    def begin(self) -> list[Output]:
        """What is said first."""
        return [Say(CONNECTION_INIT)]

    def watch(self, chain_id: str, now: float) -> list[Output]:
        """Listen to one more chain."""
        subscription = self._chains[chain_id] = _Subscription(chain_id, self._chance)
        return self._subscribe(subscription, now) if self._is_acknowledged else []

    def unwatch(self, chain_id: str) -> list[Output]:
        """Listen no longer to a chain."""
        subscription = self._chains.pop(chain_id)
        if self._named.pop(subscription.name, None) is None:
            return []
        return [Say(unsubscribe(subscription.name, legacy=self._legacy))]

    def handle(self, text: str | bytes, now: float) -> list[Output]:
        """What follows from a frame of the server.

        Raises:
            MalformedFrame, StreamBroken: the connection is of no use any more.
        """
        frame = read_frame(text)
        match frame:
            case Acknowledged():
                return self._acknowledged(now)
            case ConnectionRefused():
                raise StreamBroken(f"the server refuses the connection: {frame.text}")
            case Told():
                return self._told(frame)
            case SubscriptionRefused():
                return self._lost(frame.subscription, frame.text, now)
            case SubscriptionEnded():
                return self._lost(frame.subscription, "the server has ended it", now)
            case Pinged():
                return [Say(PONG)]
            case Ponged():
                return self._ponged()
        return []

    def deadline(self) -> float:
        """When `tick` is due."""
        answer_due = self._pings[0][1] if self._pings else inf
        if not self._is_acknowledged:
            answer_due = self._answer_due
        again_at = min((each.again_at for each in self._chains.values()), default=inf)
        return min(answer_due, again_at)

    def tick(self, now: float) -> list[Output]:
        """What follows from time alone. Raises StreamBroken when the server is silent."""
        if not self._is_acknowledged and now >= self._answer_due:
            raise StreamBroken(f"not acknowledged within {ANSWER_S_MAX:g} s")
        if self._pings and now >= self._pings[0][1]:
            raise StreamBroken(f"no answer to a ping within {ANSWER_S_MAX:g} s")
        due = [each for each in self._chains.values() if each.again_at <= now]
        return [output for each in due for output in self._subscribe(each, now)]

    def _acknowledged(self, now: float) -> list[Output]:
        if self._is_acknowledged:
            return []
        self._is_acknowledged = True
        every = list(self._chains.values())
        return [output for each in every for output in self._subscribe(each, now)]

    def _subscribe(self, subscription: _Subscription, now: float) -> list[Output]:
        self._names_given += 1
        subscription.name = str(self._names_given)
        subscription.again_at = inf
        self._named[subscription.name] = subscription
        wish = Say(subscribe(subscription.name, subscription.chain_id, legacy=self._legacy))
        if self._legacy:
            return [wish, StreamOpened(subscription.chain_id)]
        self._pings.append((subscription.name, now + ANSWER_S_MAX))
        return [wish, Say(PING)]

    def _ponged(self) -> list[Output]:
        if not self._pings:
            return []
        name, _ = self._pings.popleft()
        subscription = self._named.get(name)
        return [] if subscription is None else [StreamOpened(subscription.chain_id)]

    def _told(self, told: Told) -> list[Output]:
        subscription = self._named.get(told.subscription)
        if subscription is None:  # of a chain that we have stopped listening to
            return []
        subscription.pause.reset()
        return [Notified(subscription.chain_id, told.reason, told.height)]

    def _lost(self, name: str, text: str, now: float) -> list[Output]:
        subscription = self._named.pop(name, None)
        if subscription is None:
            return []
        subscription.name = ""
        subscription.again_at = now + subscription.pause.next_s()
        return [Lost(subscription.chain_id, text)]
