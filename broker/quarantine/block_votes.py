"""The votes that a valid block holds, as the slashing table has them.

A worker has verified them with the block, so they are asked about no more: they are nobody's items,
and end in no event but that of an offence.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from hashlib import blake2b

from broker.quarantine.records import KIND_OF_VOTE, SignedRecord
from broker.verification import BlockVote


def block_votes(
    operations: Sequence[Sequence[bytes]],
    votes: Sequence[BlockVote],
    seen: Container[bytes],
) -> Iterator[SignedRecord]:
    """What was signed, but for the votes whose hash was seen: these were entered when they cleared.

    Args:
        operations: the four passes of the block; its votes are in the first.
        votes: what they say; of those that were added up into one operation each.
    """
    in_blocks = operations[0] if operations else ()
    hashes: dict[int, bytes] = {}
    for vote in votes:
        place = vote.place
        if place >= len(in_blocks):
            continue  # whatever a worker says
        raw, hash_ = in_blocks[place], hashes.get(place)
        if hash_ is None:
            hash_ = hashes[place] = blake2b(raw, digest_size=32).digest()
        if hash_ not in seen:
            kind = KIND_OF_VOTE[vote.kind]
            yield SignedRecord(
                kind, vote.level, vote.round, vote.delegate, vote.statement, hash_, raw, vote.slot
            )
