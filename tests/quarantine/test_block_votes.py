"""Offences of which one half, or both, were seen only in the votes that blocks hold."""

from __future__ import annotations

import msgspec
import pytest
from quarantine_script import Script, name_of, name_of_vote
from scripted_chain import Block, Vote, decode_body, digest, encode, vote_for

from broker.quarantine.bounds import Bounds
from broker.verification import BlockVote, Check, Judgement, Verdict

OTHER = digest(b"another payload")


def conflicting(vote: Vote) -> Vote:
    return msgspec.structs.replace(vote, payload_hash=OTHER)


def offences(script: Script) -> list[tuple[int, int, int, str]]:
    return [(e.kind, e.level, e.round, e.delegate) for e in script.slashable]


def holding(root: Block, *delegates: str) -> Block:
    """A block on top of another one, with votes for that."""
    return root.child().holding(*(vote_for(root, delegate) for delegate in delegates))


@pytest.mark.parametrize("block_first", [True, False])
def test_a_vote_in_a_block_conflicts_with_one_that_was_pushed(block_first: bool) -> None:
    script = Script()
    block, other = holding(script.root, "d", "e"), conflicting(vote_for(script.root, "d"))
    if block_first:
        script.block(block)
        script.run()
    script.vote(other)
    script.run()
    if not block_first:
        script.block(block)
        script.run()
    assert offences(script) == [(2, 100, 0, "d")]
    pair = sorted((block.operations[0][0], encode(other)), key=digest)
    assert [script.slashable[0].first, script.slashable[0].second] == pair
    assert script.last(name_of(block)) == ("cleared", "")
    assert script.weights("p") == 0
    assert script.core.accounting.received == 2, "the votes of a block are nobody's items"


def test_both_halves_are_in_blocks_and_the_second_half_comes_after_a_restart() -> None:
    script = Script()
    for restarts in (False, True):
        delegate = f"d{restarts}"
        vote = vote_for(script.root, delegate)
        one = script.root.child(round_=1 + 2 * restarts).holding(vote)
        two = script.root.child(round_=2 + 2 * restarts).holding(conflicting(vote))
        script.block(one)
        script.run()
        if restarts:
            script.restart()
            script.run()
        script.block(two)
        script.run()
        assert script.cleared()[-2:] == [name_of(one), name_of(two)]
    assert offences(script) == [(2, 100, 0, "dFalse"), (2, 100, 0, "dTrue")]
    script.restart()
    script.run()
    assert len(script.slashable) == 2, "each once"


def test_the_same_vote_in_the_mempool_and_in_blocks_is_no_offence_and_still_clears() -> None:
    script = Script()
    early, late = vote_for(script.root, "early"), vote_for(script.root, "late")
    script.vote(early)
    script.run()
    for block in (holding(script.root, "early", "late"), script.root.child(round_=1)):
        script.block(block.holding(early, late))
        script.run()
    script.vote(late)
    resigned = msgspec.structs.replace(late, signature=b"good, signed again")
    script.run()
    script.vote(resigned)
    script.run()
    assert script.last(name_of_vote(late)) == ("cleared", "")
    assert script.last(name_of_vote(resigned)) == ("duplicate", "same_statement")
    assert offences(script) == []
    assert len(script.store.seen[(2, 100, 0, "early")]) == 1, "it is kept once"


def test_votes_of_a_block_that_does_not_clear_are_not_looked_at() -> None:
    script = Script()
    vote = vote_for(script.root, "d")
    bad = script.root.child(round_=1, bad="no_quorum").holding(conflicting(vote))
    script.block(bad)
    script.run()
    script.vote(vote)
    script.run()
    assert script.last(name_of(bad)) == ("rejected", "no_quorum")
    assert offences(script) == []


@pytest.mark.parametrize("other_is", ["pushed before", "pushed after", "added up too"])
def test_votes_that_were_added_up_count_for_each_who_is_among_them(other_is: str) -> None:
    script = Script()
    all_three = vote_for(script.root, "d+e+f")
    block = script.root.child(round_=1).holding(all_three)
    if other_is == "added up too":
        other = msgspec.structs.replace(conflicting(all_three), delegate="g+e")
        second = script.root.child(round_=2).holding(other)
        pushes = [block, second]
    else:
        other = conflicting(vote_for(script.root, "e"))
        pushes = [other, block] if other_is == "pushed before" else [block, other]
    for each in pushes:
        (script.block if isinstance(each, Block) else script.vote)(each)
        script.run()
    assert offences(script) == [(2, 100, 0, "e")]
    [evidence] = script.slashable
    pair = sorted((encode(all_three), encode(other)), key=digest)
    assert [evidence.first, evidence.second] == pair
    assert evidence.operation.startswith(b"denounce 11 "), "e has slot 11"
    script.restart()
    script.run()
    assert len(script.slashable) == 1


def test_votes_that_were_added_up_are_not_stored_but_what_one_of_them_pushes_is() -> None:
    script = Script()
    vote = vote_for(script.root, "e")
    script.block(script.root.child(round_=1).holding(vote_for(script.root, "d+e")))
    script.run()
    assert {kind for kind, *_ in script.store.seen} == {0}
    script.vote(vote)
    script.run()
    assert script.last(name_of_vote(vote)) == ("cleared", "")
    assert offences(script) == []
    script.restart()
    script.vote(conflicting(vote))
    script.run()
    assert offences(script) == [(2, 100, 0, "e")]


def test_a_vote_at_a_place_that_the_block_does_not_have_is_left_out() -> None:
    script = Script()
    block = holding(script.root, "d")
    said = BlockVote(7, "attestation", 100, 0, "d", OTHER)
    script.worker.overrides_block[block.raw] = Verdict(
        0, Judgement.VALID, facts=block.facts, votes=[said]
    )
    script.block(block)
    script.run()
    assert script.last(name_of(block)) == ("cleared", "")
    assert {kind for kind, *_ in script.store.seen} == {0}


def test_votes_of_a_block_that_the_node_told_of_meanwhile_count() -> None:
    script = Script()
    block, other = holding(script.root, "d"), conflicting(vote_for(script.root, "d"))
    script.block(block)
    while not script.worker.asked_parents:
        script.step()  # a worker has found it valid
    script.worker.node.append(block)
    script.later(2)
    script.vote(other)
    script.run()
    assert offences(script) == [(2, 100, 0, "d")]


def test_beyond_the_bound_of_a_turn_they_are_skipped() -> None:
    script = Script(Bounds(block_votes_per_turn=2))
    for count, seen in ((3, 0), (2, 2)):
        block = holding(script.root, *"abc"[:count])
        script.block(block)
        script.run()
        assert script.last(name_of(block)) == ("cleared", "")
        assert len([place for place in script.store.seen if place[0] == 2]) == seen
    assert script.core.offences.skipped == 3


def test_under_high_load_they_are_skipped() -> None:
    script = Script(Bounds(ingress_votes=4, slices_in_flight=1))
    block = holding(script.root, "d")
    script.block(block)
    while not [s for s in script.unanswered if decode_body(s.body).check == Check.BLOCK]:
        script.answer()
        script.confirm()
        script.turn()
    for number in range(4):
        script.vote(vote_for(script.root, f"other{number}"))
    script.turn()
    assert [change.text for change in script.load if change.subject == "mode"] == [
        "detection of offences is off"
    ]
    script.answer()
    assert script.core.offences.skipped == 1
    script.run()
    assert script.last(name_of(block)) == ("cleared", "")
    script.vote(conflicting(vote_for(script.root, "d")))
    script.run()
    assert offences(script) == []
