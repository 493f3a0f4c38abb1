"""Scenarios 46 to 48: whom a missing block is asked of, how often, and who is asked besides."""

from __future__ import annotations

from quarantine_script import Script, name_of
from scripted_chain import Block

from broker.quarantine.bounds import Bounds
from broker.quarantine.missing_blocks import MissingBlocks


def asks_for(script: Script, block: Block) -> list[tuple[str, ...]]:
    return [wanted.sources for wanted in script.wanted if wanted.hash == block.hash]


def test_a_missing_parent_is_asked_for_seven_times_after_ever_longer_waits() -> None:
    missing = MissingBlocks(Bounds())
    assert missing.want(b"h", ("p",), 0.0)
    times = []
    now = 0.0
    while (at := missing.deadline()) < 1e9:
        now = at
        if missing.due(dict, now):
            times.append(now)
    assert times == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    # Not even when others are asked for later.
    assert missing.want(b"other", ("p",), 1_000.0)
    assert [wanted.hash for wanted in missing.due(dict, 1_000.0)] == [b"other"]


def test_only_the_deepest_unknown_ancestor_is_asked_for() -> None:
    script = Script()
    blocks = script.root.chain(6)
    for i in (5, 3, 4, 1):
        script.block(blocks[i], f"p{i}")
        script.run()
    assert {entry.hash for entry in script.core.missing.values()} == {
        blocks[0].hash,
        blocks[2].hash,
    }


def test_46_what_most_blocks_wait_for_goes_first() -> None:
    script = Script(Bounds(asks_per_turn=1))
    few, many = script.root.child(round_=0), script.root.child(round_=1)
    for block in (few.child(), *many.chain(3)):
        script.block(block)
    for _ in range(3):
        script.turn()
        script.confirm()
        script.answer()  # all headers are checked by now, and nothing was asked for
    script.later(0.3)
    assert [w.hash for w in script.wanted] == [many.hash, few.hash]


def test_46_a_full_list_takes_no_more() -> None:
    missing = MissingBlocks(Bounds(missing=3))
    assert [missing.want(bytes([i]), ("p",), 0.0) for i in range(5)] == [True] * 3 + [False] * 2


def test_47_a_wrong_answer_ends_nothing_and_another_source_is_asked() -> None:
    script = Script()
    parent, child = script.root.chain(2)
    script.block(child, "liar")
    script.run()
    for i in range(3):
        script.block(script.root.child(round_=i + 1), "liar")  # blocks, but not the one asked for
    script.run()
    assert parent.hash in script.core.missing
    script.block(child, "friend")
    script.later(1)
    assert asks_for(script, parent)[-1] == ("liar", "friend")
    script.block(parent, "friend")
    script.run()
    assert script.last(name_of(child)) == ("cleared", "")


def test_48_later_claimants_become_sources_even_when_strangers_came_first() -> None:
    script = Script()
    parent, child = script.root.chain(2)
    for i in range(6):
        script.block(child, f"stranger{i}")
    script.run()
    assert len(asks_for(script, parent)[-1]) <= 4
    script.block(child, "honest")
    script.block(parent.child(nonce=1), "honest2")
    script.block(child.child(), "honest3")
    script.later(1)
    assert asks_for(script, parent)[-1][-3:] == ("honest", "honest2", "honest3")


def test_a_block_nobody_waits_for_any_more_is_not_asked_for() -> None:
    script = Script()
    child = script.root.chain(2)[1]
    script.block(child)
    script.later(61)
    assert script.last(name_of(child)) == ("expired", "parent")
    assert len(script.core.missing) == 0


def test_a_parent_on_its_way_is_not_asked_for() -> None:
    script = Script()
    parent, child = script.root.chain(2)
    script.block(parent)
    script.block(child)
    script.run()
    assert script.wanted == []
    assert script.cleared() == [name_of(parent), name_of(child)]


def test_a_parent_that_comes_to_nothing_is_asked_for_again() -> None:
    script = Script()
    blocks = script.root.chain(3)
    for i, late in ((1, 0), (2, 30)):
        script.later(late)
        script.block(blocks[i])
        script.run()
    script.later(31)  # block 1 has expired, block 2 waits for it
    assert script.last(name_of(blocks[1])) == ("expired", "parent")
    assert blocks[1].hash in script.core.missing
