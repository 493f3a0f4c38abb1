"""A held item, for people."""

from __future__ import annotations

from msgspec import Struct

from broker.quarantine.items import Item
from broker.quarantine.offers import VERIFY_BLOCK, VERIFY_VOTE
from broker.verification import HeaderFacts, VoteFacts


class HeldItem(Struct, frozen=True):
    """What `quarantine show` says of an item."""

    hash: bytes
    kind: str  # verify_block, verify_vote
    reason: str  # parent, target, time, rights, released
    delegate: str
    level: int
    round: int
    peers: tuple[str, ...]  # senders
    waits_for: bytes  # hash of the parent, or the payload hash; empty for time and rights
    since_unix_ms: int

    @classmethod
    def of(cls, item: Item, reason: str) -> HeldItem:
        """An item as people want to see it."""
        facts = item.facts
        waits_for = b""
        if reason == "parent" and isinstance(facts, HeaderFacts):
            waits_for = facts.predecessor
        elif isinstance(facts, VoteFacts):
            waits_for = facts.payload_hash
        return cls(
            item.hash,
            VERIFY_BLOCK if item.is_block else VERIFY_VOTE,
            reason,
            item.delegate,
            item.level,
            0 if facts is None else facts.round,
            item.senders,
            waits_for,
            item.since_unix_ms,
        )
