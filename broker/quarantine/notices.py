"""What the quarantine says of its own accord, as events of a client that nobody may be.

They are on the topic `c/quarantine`, and on `all`: logged, numbered and replayed as all others.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from broker.messages import Event
from broker.quarantine.turn import LoadChange, PeerEvent, Turn, Wanted

NOTICES = "quarantine"  # the client name; pushes under it are refused

PEER = "peer"
WANTED = "wanted"
LOAD = "load"

_encode = msgspec.msgpack.Encoder().encode


class PeerBody(Struct):
    """Body of `peer`."""

    peer: str
    reason: str
    weight: int
    count: int
    score: int
    standing: str


class WantedBody(Struct):
    """Body of `wanted`."""

    hash: bytes
    sources: tuple[str, ...]
    ask: int
    level: int


class LoadBody(Struct):
    """Body of `load`."""

    subject: str
    high: bool
    depth: int
    text: str


def notices(turn: Turn) -> list[tuple[str, Event, bytes]]:
    """A turn's notices as events of `NOTICES`."""
    return [
        *((NOTICES, _peer(each), b"") for each in turn.peers),
        *((NOTICES, _wanted(each), b"") for each in turn.wanted),
        *((NOTICES, _load(each), b"") for each in turn.load),
    ]


def _peer(told: PeerEvent) -> Event:
    body = PeerBody(told.peer, told.reason, told.weight, told.count, told.score, told.standing)
    return Event(b"", "", PEER, _encode(body), told.reason)


def _wanted(told: Wanted) -> Event:
    return Event(
        b"", "", WANTED, _encode(WantedBody(told.hash, told.sources, told.ask, told.level))
    )


def _load(told: LoadChange) -> Event:
    body = LoadBody(told.subject, told.high, told.depth, told.text)
    return Event(b"", "", LOAD, _encode(body), "on" if told.high else "off", told.text)
