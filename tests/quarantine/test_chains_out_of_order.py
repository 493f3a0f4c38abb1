"""Scenarios 1 to 3, 25 to 27, 30: chains in any order, and what is built on bad blocks."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from quarantine_script import Script, name_of
from scripted_chain import Block, Header, ScriptedWorker, digest, genesis

from broker.quarantine.bounds import Bounds
from broker.verification import Check, HeaderFacts, Judgement, Verdict


def test_1_a_chain_in_exact_reverse_order_clears_in_level_order() -> None:
    script = Script()
    blocks = script.root.chain(200)
    most = 0
    for i, block in enumerate(reversed(blocks)):
        script.block(block, f"p{i % 8}")
        script.step()
        most = max(most, len(script.core.missing))
    script.run()
    assert script.cleared() == [name_of(block) for block in blocks]
    assert most == 1


def test_1_no_block_is_checked_before_its_parent_is_stored() -> None:
    script = Script()
    blocks = script.root.chain(20)
    for block in reversed(blocks):
        script.block(block)
    script.run()
    stored = {script.root.hash}
    for block, ancestors in script.worker.asked_parents:
        assert ancestors[0] in stored
        stored.add(block)


def test_2_what_is_far_above_the_head_is_stale_and_leads_to_one_question() -> None:
    root = genesis()
    script = Script(worker=ScriptedWorker([root], window=32))
    blocks = root.chain(100)
    for i, block in enumerate(reversed(blocks)):
        script.block(block, f"p{i % 10}")
        script.step()
    script.run()
    assert script.counts()["stale"] == 100 - 32
    assert [w.level for w in script.wanted if not w.hash] == [blocks[-1].header.level]
    assert {event.weight for event in script.peers} <= {0}
    # It comes again in order, as a node that catches up gets it, and all of it clears.
    for i, block in enumerate(blocks):
        script.block(block, f"p{i % 10}")
        script.run()
    assert script.core.chain.head_level == blocks[-1].header.level


def test_3_any_order_leads_to_the_same_end(many: Callable[[int], int]) -> None:
    for seed in range(many(50)):
        script = Script(validates=False)
        blocks = script.root.chain(200)
        order = blocks[:]
        Random(seed).shuffle(order)
        for i, block in enumerate(order):
            script.block(block, f"p{i % 8}")
            if i % 3 == seed % 3:
                script.step()
        script.run()
        script.core.validate()
        assert script.cleared() == [name_of(block) for block in blocks], seed


def test_25_who_comes_after_the_release_does_not_wait() -> None:
    script = Script()
    parent, child = script.root.chain(2)
    script.block(parent)
    script.run()
    script.block(child)
    script.run()
    assert script.ends(name_of(child)) == ["cleared"]
    assert not [e for n, e, _ in script.events if n == name_of(child) and e == "held"]


def on_a_bad_parent(script: Script) -> tuple[Block, list[Block]]:
    """A bad block with 150 descendants in a line and 50 beside each other, all held."""
    bad = script.root.child(bad="no_quorum")
    line = bad.chain(150)
    tree = [line[0].child(round_=i + 1) for i in range(50)]
    for i, block in enumerate(reversed(line + tree)):
        script.block(block, f"p{i % 8}")
        script.step()
    script.run()
    assert len(script.core.holding.blocks) == 200
    return bad, line + tree


def test_26_everything_on_an_invalid_block_goes_with_it() -> None:
    script = Script()
    bad, descendants = on_a_bad_parent(script)
    script.block(bad, "evil")
    script.run()
    assert script.counts() == {"rejected": 201}
    checked = {hash_ for check, hash_ in script.worker.checked if check == Check.BLOCK}
    assert checked == {bad.hash}
    assert script.weights("evil") == -10
    assert script.weights("p1") == 0, "who sent what builds on the unknown is not to blame"
    # Whoever comes with more of it now is.
    late = descendants[-1].child()
    script.block(late, "late")
    script.run()
    assert script.last(name_of(late)) == ("rejected", "bad_ancestor")
    assert script.weights("late") == -10
    script.block(bad, "late")
    script.run()
    assert script.last(name_of(bad)) == ("rejected", "known_invalid")


def test_26_what_the_node_has_was_wrongly_judged_and_so_was_what_builds_on_it() -> None:
    script = Script()
    good = script.root.child(bad="wrong_timestamp")  # to a worker that knows the old rules only
    child = good.child()
    script.block(good, "honest")
    script.block(child, "honest")
    script.run()
    assert script.last(name_of(child)) == ("rejected", "bad_ancestor")
    script.worker.node.append(good)
    script.block(script.root.child(round_=1))  # traffic, so that the node is asked
    script.later(2)
    assert good.hash in script.core.chain
    script.block(child, "another", name="again")
    script.block(child.child(), "another", name="grandchild")
    script.run()
    assert script.last("again") == script.last("grandchild") == ("cleared", "")
    assert script.weights("another") == 0
    assert any("the node has it" in note for note in script.notes)


def test_27_what_builds_on_a_lost_branch_goes_without_a_penalty() -> None:
    script = Script()
    lost = script.root.child()
    children = lost.chain(30)
    script.worker.overrides_block[lost.raw] = Verdict(0, Judgement.UNVIABLE, "below_final")
    for block in reversed([lost, *children]):
        script.block(block)
    script.run()
    assert script.counts() == {"unviable": 31}
    assert script.weights("p") == 0
    script.block(lost, "other")
    script.run()
    assert script.last(name_of(lost)) == ("unviable", "known_unviable")
    assert script.weights("other") == 0


def test_30_a_block_that_is_its_own_parent_and_a_cycle_of_two_end() -> None:
    script = Script(Bounds(held_blocks=4))
    own = script.root.child()
    first, second = script.root.child(round_=1), script.root.child(round_=2)

    def told(block: Block, predecessor: bytes) -> Verdict:
        facts = block.facts
        lie = HeaderFacts(
            facts.hash, predecessor, facts.level, facts.round, facts.timestamp_s,
            facts.payload_hash, 0, facts.fitness, facts.delegate,
        )  # fmt: skip
        return Verdict(0, Judgement.VALID, facts=lie)

    script.worker.overrides[own.raw] = told(own, own.hash)
    script.worker.overrides[first.raw] = told(first, second.hash)
    script.worker.overrides[second.raw] = told(second, first.hash)
    for block in (own, first, second):
        script.block(block)
    script.run()
    assert script.last(name_of(own)) == ("rejected", "own_predecessor")
    assert len(script.core.holding.blocks) == 2
    # Walks around the cycle end, and so does the search for room.
    for i in range(8):
        script.block(Block(Header(first.hash, 103, i, 0, digest(b"x"), f"b{i}", b"")))
    script.run()
    assert len(script.core.holding.blocks) == 4
    script.later(61)
    assert len(script.core.holding.blocks) == 0
