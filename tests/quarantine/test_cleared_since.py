"""Reading on in what was cleared: everything once, in order, in portions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from scripted_chain import Block, genesis

from broker.quarantine.administration import ANSWER_ITEMS_MAX, ClearedSince, ClearedSinceWanted
from broker.quarantine.cleared_since import read_cleared_since
from broker.quarantine.records import Batch, ClearedBlock, ClearedVote, SignedRecord
from broker.quarantine.store import QuarantineStore
from broker.wire import PORTION_BYTES_MAX

FROM_ALL = ClearedSinceWanted(blocks_from=0, votes_from=0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QuarantineStore]:
    store = QuarantineStore(tmp_path / "quarantine.db", "NetXtest")
    yield store
    store.close()


def clear(
    store: QuarantineStore,
    *blocks: Block,
    votes: int = 0,
    client: str = "feed-a",
    level: int = 100,
    size: int = 0,
) -> None:
    cleared = [
        ClearedBlock(block.facts, block.raw, [[], [], [], [bytes(size)]], ("p",), client, b"id")
        for block in blocks
    ]
    records = [SignedRecord(2, level, 0, "d", b"", b"%d" % n, b"%d" % n) for n in range(votes)]
    voted = [ClearedVote(record, ("p",), client, b"id") for record in records]
    store.commit([Batch(1, [], [], cleared, voted, [])])


def looks(store: QuarantineStore, wanted: ClearedSinceWanted) -> list[ClearedSince]:
    """Look until there is no more."""
    found = []
    while True:
        told = read_cleared_since(store.path, "epoch", wanted)
        found.append(told)
        if not told.more:
            return found
        wanted = replace(wanted, blocks_after=told.blocks_upto, votes_after=told.votes_upto)


def test_what_was_told_is_not_told_again(store: QuarantineStore) -> None:
    first, second = genesis().chain(2)
    clear(store, first, votes=3)
    [told] = looks(store, FROM_ALL)
    assert [block.header for block in told.blocks] == [first.raw]
    assert len(told.votes) == 3
    clear(store, second, votes=2)
    later = replace(FROM_ALL, blocks_after=told.blocks_upto, votes_after=told.votes_upto)
    [told] = looks(store, later)
    assert [block.header for block in told.blocks] == [second.raw]
    assert len(told.votes) == 2
    later = replace(FROM_ALL, blocks_after=told.blocks_upto, votes_after=told.votes_upto)
    assert looks(store, later) == [replace(told, blocks=[], votes=[])]


def test_whoever_had_it_cleared_but_not_below_the_levels(store: QuarantineStore) -> None:
    first, second, third = genesis().chain(3)
    clear(store, first, votes=1, level=101)
    clear(store, second, votes=1, level=102, client="feed-b")
    clear(store, third, votes=1, level=103)
    [told] = looks(store, replace(FROM_ALL, blocks_from=102, votes_from=102))
    assert [block.header for block in told.blocks] == [second.raw, third.raw]
    assert [vote.record.level for vote in told.votes] == [102, 103]


def test_much_of_it_comes_in_portions_and_votes_behind_all_blocks(store: QuarantineStore) -> None:
    blocks = genesis().chain(5)
    clear(store, *blocks[:4], votes=ANSWER_ITEMS_MAX, size=PORTION_BYTES_MAX // 2)
    clear(store, blocks[4], votes=1, size=3 * PORTION_BYTES_MAX)
    told = looks(store, FROM_ALL)
    assert [block.header for each in told for block in each.blocks] == [b.raw for b in blocks]
    assert [len(each.blocks) for each in told] == [1, 1, 1, 1, 1, 0]
    assert [len(each.votes) for each in told] == [0, 0, 0, 0, ANSWER_ITEMS_MAX, 1]
