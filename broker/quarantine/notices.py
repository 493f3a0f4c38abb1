"""What the quarantine says of its own accord, as events of a client that nobody may be.

They are on the topic `c/quarantine`, and on `all`: logged, numbered and replayed as all others.
`read_body` gives what any event of the quarantine says, for people.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from broker.messages import Event
from broker.quarantine.records import BLOCK, KIND_OF_VOTE, ClearedBody, EvidenceRecord
from broker.quarantine.turn import CLEARED, SLASHABLE, LoadChange, PeerEvent, Turn, Wanted

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


_KIND_NAMES = {BLOCK: "block"} | {number: name for name, number in KIND_OF_VOTE.items()}
_BODIES: dict[str, type[Struct]] = {
    PEER: PeerBody,
    WANTED: WantedBody,
    LOAD: LoadBody,
    CLEARED: ClearedBody,
    SLASHABLE: EvidenceRecord,
}


def read_body(event: Event) -> dict[str, object]:
    """The fields of an event's body by name, bytes as hex; of a body that is none, its bytes."""
    if not event.body:
        return {}
    kind = _BODIES.get(event.event)
    try:
        body = None if kind is None else msgspec.msgpack.decode(event.body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        body = None
    if body is None:
        return {"body": event.body.hex()}
    fields = msgspec.structs.asdict(body)
    if isinstance(body, ClearedBody | EvidenceRecord):
        fields["kind"] = _KIND_NAMES.get(body.kind, body.kind)
    return {n: value.hex() if isinstance(value, bytes) else value for n, value in fields.items()}


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
