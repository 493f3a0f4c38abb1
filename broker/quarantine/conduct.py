"""What peers did in this turn: felt in their scores at once, told once a turn."""

from __future__ import annotations

from broker.quarantine.areas import BoundedMap
from broker.quarantine.peers import BAN, DISCONNECT, Peer, Peers
from broker.quarantine.turn import PeerEvent

# Points for a rejected item by reason: what no honest node relays costs 20.
REJECTED_DEFAULT = -10
REJECTED_WEIGHTS = {"bad_signature": -20, "no_rights": -20, "not_enough_work": -20}
WRONG_BODY = -20
OVER_QUOTA = -1
NOTHING = 0
# Different things that different peers did in one turn; more are felt, but not told.
TOLD_MAX = 4_096


class Conduct:
    """Weighs what peers do."""

    __slots__ = ("_done", "_peers")

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._done: BoundedMap[tuple[str, str, int], int] = BoundedMap(TOLD_MAX)

    def weigh(self, names: tuple[str, ...], reason: str, weight: int, now: float) -> None:
        """These peers did this."""
        for name in names:
            if weight:
                peer = self._peers.get(name)
                if peer is not None:
                    self._peers.weigh(peer, weight, now)
            key = (name, reason, weight)
            self._done.put(key, self._done.get(key, 0) + 1)

    def over_quota(self, peer: Peer, reason: str, now: float) -> None:
        """A peer sent more than it may."""
        weight = OVER_QUOTA if peer.breaches(now) else NOTHING
        self.weigh((peer.name,), reason, weight, now)

    def told(self, now: float) -> list[PeerEvent]:
        """What is to be told of this turn."""
        if not self._done.count():
            return []
        events: list[PeerEvent] = []
        for key in self._done.list_keys():
            name, reason, weight = key
            count = self._done.pop(key, 0)
            peer = self._peers.get(name)
            score = 0.0 if peer is None else peer.score_at(now)
            standing = "ban" if score <= BAN else "disconnect" if score <= DISCONNECT else ""
            # Towards 0: a score that has healed by a hair since is not yet where standings begin.
            events.append(PeerEvent(name, reason, weight, count, int(score), standing))
        return events
