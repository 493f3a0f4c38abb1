"""What the quarantine asks its rim to do, as values."""

from __future__ import annotations

from msgspec import Struct

from broker.messages import Event
from broker.quarantine.records import Batch, SignedRecord
from broker.verification import CheckSlice

# The events that end a request; HELD (code: parent, target, time, rights) may come before.
CLEARED = "cleared"
DUPLICATE = "duplicate"
STALE = "stale"
REJECTED = "rejected"
UNVIABLE = "unviable"
SHED = "shed"
EXPIRED = "expired"
OUTCOMES = (CLEARED, REJECTED, DUPLICATE, STALE, UNVIABLE, SHED, EXPIRED)
SLASHABLE = "slashable"  # body: EvidenceRecord


class PeerEvent(Struct, array_like=True, frozen=True, gc=False):
    """What a peer did, for whoever holds the connections."""

    peer: str
    reason: str
    weight: int  # added to its score, `count` times
    count: int
    score: int  # after it, rounded
    standing: str  # "", "disconnect" or "ban"


class Wanted(Struct, array_like=True, frozen=True):
    """A block that is wanted, and who may have it."""

    hash: bytes  # empty: whatever leads up to `level`
    sources: tuple[str, ...]
    ask: int  # the how manieth
    level: int = 0  # 0: not known


class LoadChange(Struct, array_like=True, frozen=True, gc=False):
    """A queue passed its high-water mark, or fell below its low one; or the mode changed."""

    subject: str  # votes, blocks; mode
    high: bool
    depth: int
    text: str


class Turn(Struct):
    """What a turn asks for, in this order.

    Commit `batch` (one transaction) and say `stored`. Only when it is durable: log and publish
    `events`. Then drop `forget` from the held records; a crash before that repeats nothing,
    because the log says how those requests ended. `slices` may be sent at any time.
    """

    slices: list[CheckSlice]
    batch: Batch | None
    # Client and fingerprint of the request, both empty for `slashable`, which nobody asked for.
    events: list[tuple[str, Event, bytes]]
    forget: list[bytes]  # keys of held records
    probes: list[SignedRecord]  # keep the first two of a place, and tell `probed` what was there
    peers: list[PeerEvent]
    wanted: list[Wanted]
    load: list[LoadChange]
    notes: list[str]  # lines for the process log

    @classmethod
    def empty(cls) -> Turn:
        return cls([], None, [], [], [], [], [], [], [])
