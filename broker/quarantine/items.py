"""One block or vote in the quarantine: what was sent, by whom, and where it is on its way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from msgspec import Struct

from broker.quarantine.peers import Peer
from broker.quarantine.records import SignedRecord
from broker.verification import HeaderFacts, VoteFacts

# What an operation occupies beside its bytes: an object and a place in a list.
OPERATION_OVERHEAD_BYTES = 48

# Where an item is. Plain integers: a vote passes several of them.
LANE = 0  # waits for a worker
ASKED = 1  # a worker has it
STORING = 2  # it is valid, and being stored
FOR_PARENT = 3
FOR_TARGET = 4
FOR_TIME = 5
FOR_RIGHTS = 6
RELEASED = 7  # a vote whose proposal was cleared, until the store has room
HELD_FROM = FOR_PARENT  # at this and all greater ones it is held, before that in flight


class Item(Struct, gc=False, eq=False):
    """A request that has not ended. It refers to its peer, and nothing refers back from there."""

    number: int
    client: str
    id: bytes
    hash: bytes  # of the signed bytes: an operation's or a block's hash
    fingerprint: bytes  # the same; of a block with a digest of its operations
    raw: bytes
    operations: list[list[bytes]] | None  # None: a vote
    peer: Peer  # the first sender, who is charged for the place it takes
    senders: tuple[str, ...]
    hint: str
    since_unix_ms: int  # when it was first seen
    place: int = LANE
    kept: bool = False  # the store has a record of it
    tries: int = 0  # how often asking was in vain
    was_lost: bool = False  # a worker ended that had it in hand
    held_since: float | None = None  # monotonic, when it was first held
    expires: float = 0.0  # monotonic, of the area it is in
    again_unix_ms: int = 0  # FOR_TIME
    again_at: float = 0.0  # FOR_RIGHTS, monotonic
    rights_until: float = 0.0  # FOR_RIGHTS, monotonic; 0: it never was there
    wanted: tuple[bytes, ...] = ()  # ancestors whose operations go along
    wanted_times: int = 0
    facts: VoteFacts | HeaderFacts | None = None  # since rights and signature hold
    record: SignedRecord | None = None

    @property
    def is_block(self) -> bool:
        return self.operations is not None

    @property
    def bytes(self) -> int:
        """What it occupies, without the objects around it."""
        return len(self.raw) + body_bytes(self.operations or ())

    @property
    def level(self) -> int:
        """Its level, as far as it was read; else 0."""
        return 0 if self.facts is None else self.facts.level

    @property
    def delegate(self) -> str:
        """Whose it is, as far as that is proven."""
        return "" if self.facts is None else self.facts.delegate


def body_bytes(operations: Iterable[Sequence[bytes]]) -> int:
    """What a block's operations occupy."""
    return sum(sum(map(len, each)) + OPERATION_OVERHEAD_BYTES * len(each) for each in operations)


def block_fingerprint(hash_: bytes, operations: list[list[bytes]]) -> bytes:
    """What tells a block from another one with the same header and other operations."""
    digest = blake2b(hash_, digest_size=32)
    for passed in operations:
        digest.update(len(passed).to_bytes(4, "big"))
        for operation in passed:
            digest.update(len(operation).to_bytes(4, "big"))
            digest.update(operation)
    return digest.digest()
