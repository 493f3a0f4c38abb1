"""The peers that send: how much each may, and how each has behaved.

A score starts at 0, falls with each offence and is halved every ten minutes, as in Lighthouse:
at -20 a peer should be disconnected, at -50 it is banned and nothing of it is looked at.
"""

from __future__ import annotations

from itertools import islice

from broker.quarantine.areas import AgedMap
from broker.quarantine.bounds import Bounds

HALF_LIFE_S = 600.0
DISCONNECT, BAN = -20.0, -50.0
# Over quota costs one point for each second in which it happened: a burst bans nobody.
BREACH_EVERY_S = 1.0
# So many of the longest silent peers are looked at when room for a new one is needed.
_LOOK_AT = 64


class Peer:
    """One sender; made by `Peers` only."""

    __slots__ = (
        "blocks_queued",
        "breached_at",
        "held_blocks",
        "held_for_rights",
        "name",
        "open",
        "refilled_blocks_at",
        "refilled_votes_at",
        "score",
        "scored_at",
        "tokens_blocks",
        "tokens_votes",
        "votes_queued",
    )

    def __init__(self, name: str, now: float, bounds: Bounds) -> None:
        self.name = name
        self.score = 0.0  # as of `scored_at`
        self.scored_at = now
        self.tokens_votes = float(bounds.ingress_votes_per_peer)
        self.tokens_blocks = float(bounds.ingress_blocks_per_peer)
        self.refilled_votes_at = self.refilled_blocks_at = now
        self.breached_at = -BREACH_EVERY_S
        self.open = 0  # items charged to it
        self.votes_queued = 0
        self.blocks_queued = 0
        self.held_blocks = 0
        self.held_for_rights = 0

    def score_at(self, now: float) -> float:
        """The score, halved for each half-life that has passed."""
        if self.score == 0.0:
            return 0.0
        half_lives = max(0.0, now - self.scored_at) / HALF_LIFE_S
        return self.score * float(0.5**half_lives)

    def weigh(self, weight: int, now: float) -> float:
        """Add to the score; gives the new one."""
        self.score = self.score_at(now) + weight
        self.scored_at = now
        return self.score

    def banned(self, now: float) -> bool:
        """Whether nothing of it is looked at."""
        return self.score <= BAN and self.score_at(now) <= BAN

    def breaches(self, now: float) -> bool:
        """Whether going over a quota costs a point now."""
        if now - self.breached_at < BREACH_EVERY_S:
            return False
        self.breached_at = now
        return True


class Peers:
    """All known peers, up to a bound."""

    __slots__ = ("_bounds", "_known", "get", "has_banned")

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._known: AgedMap[str, Peer] = AgedMap(bounds.peers)
        self.get = self._known.get
        self.has_banned = False  # ever: until then nobody needs to be looked at for it

    def meet(self, name: str, now: float) -> Peer:
        """The peer of that name; a stranger may take the place of another one."""
        peer = self._known.get(name)
        if peer is None:
            if self._known.full:
                self._make_room(now)
            peer = Peer(name, now, self._bounds)
            self._known.put(name, peer)
        return peer

    def weigh(self, peer: Peer, weight: int, now: float) -> None:
        """Add to a peer's score."""
        self.has_banned |= peer.weigh(weight, now) <= BAN

    def banned(self, now: float) -> int:
        """How many are banned."""
        if not self.has_banned:
            return 0
        return sum(peer.banned(now) for peer in self._known.values())

    def refill_votes(self, peer: Peer, now: float) -> bool:
        """Give tokens for the time since the last refill; whether there is one for a vote."""
        bounds = self._bounds
        tokens = (now - peer.refilled_votes_at) * bounds.votes_per_s_per_peer
        most = float(bounds.ingress_votes_per_peer)
        peer.tokens_votes = min(peer.tokens_votes + tokens, most)
        peer.refilled_votes_at = now
        return peer.tokens_votes >= 1.0

    def refill_blocks(self, peer: Peer, now: float) -> bool:
        """The same for blocks."""
        bounds = self._bounds
        tokens = (now - peer.refilled_blocks_at) * bounds.blocks_per_s_per_peer
        most = float(bounds.ingress_blocks_per_peer)
        peer.tokens_blocks = min(peer.tokens_blocks + tokens, most)
        peer.refilled_blocks_at = now
        return peer.tokens_blocks >= 1.0

    def _make_room(self, now: float) -> None:
        """Forget one that came long ago: who has nothing here first, a bad reputation last.

        What it has here stays charged to it. Were a stranger refused instead, those with many
        names would shut out everybody else.
        """
        oldest = list(islice(self._known.by_age(), _LOOK_AT))
        going = max(oldest, key=lambda peer: (not peer.open, peer.score_at(now)))
        self._known.pop(going.name, None)
        for peer in oldest:
            if peer is not going:
                self._known.renew(peer.name)  # so that those behind it are looked at next time

    def values(self) -> list[Peer]:
        return self._known.values()

    def __len__(self) -> int:
        return len(self._known)
