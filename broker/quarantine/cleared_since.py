"""What was cleared since the last look: how a node is fed without anybody's keeping of a queue.

The store has everything in the order of clearing, so who has the place where he stopped reads on
from there. A look costs what fits in a message, however much there is.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec

from broker.quarantine.administration import ANSWER_ITEMS_MAX, ClearedSince, ClearedSinceWanted
from broker.quarantine.records import ClearedBlock, ClearedVote
from broker.wire import PORTION_BYTES_MAX

_block = msgspec.msgpack.Decoder(ClearedBlock).decode
_votes = msgspec.msgpack.Decoder(list[ClearedVote]).decode


def read_cleared_since(path: Path, epoch: str, wanted: ClearedSinceWanted) -> ClearedSince:
    """What was cleared after the places: blocks first, votes when there are no more.

    So a vote never comes before the block that it is for. A look from the side, while the store's
    thread writes. Raises sqlite3.Error, and one of `store.UNREADABLE`.
    """
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        db.execute("BEGIN")  # both questions are about one moment
        blocks, blocks_upto, more = _blocks_since(db, wanted)
        votes: list[ClearedVote] = []
        votes_upto = wanted.votes_after
        if not more:
            votes, votes_upto, more = _votes_since(db, wanted)
    finally:
        db.close()
    return ClearedSince(epoch, blocks, votes, blocks_upto, votes_upto, more)


def _blocks_since(
    db: sqlite3.Connection, wanted: ClearedSinceWanted
) -> tuple[list[ClearedBlock], int, bool]:
    """Blocks, the place reached, and whether there are others."""
    found: list[ClearedBlock] = []
    upto, looked_at = wanted.blocks_after, 0
    rows = db.execute(
        "SELECT position, record FROM cleared_blocks WHERE position > ? AND level >= ? "
        "ORDER BY position",
        (upto, wanted.blocks_from),
    )
    for position, record in rows:
        if looked_at and looked_at + len(record) > PORTION_BYTES_MAX:
            return found, upto, True
        looked_at += len(record)
        found.append(_block(record))
        upto = position
    return found, upto, False


def _votes_since(
    db: sqlite3.Connection, wanted: ClearedSinceWanted
) -> tuple[list[ClearedVote], int, bool]:
    """The same of votes; those of one batch stay together."""
    found: list[ClearedVote] = []
    upto, looked_at = wanted.votes_after, 0
    rows = db.execute(
        "SELECT position, records FROM cleared_votes WHERE position > ? AND last_level >= ? "
        "ORDER BY position",
        (upto, wanted.votes_from),
    )
    for position, records in rows:
        if looked_at >= ANSWER_ITEMS_MAX:
            return found, upto, True
        votes = _votes(records)
        looked_at += len(votes)
        found += [vote for vote in votes if vote.record.level >= wanted.votes_from]
        upto = position
    return found, upto, False
