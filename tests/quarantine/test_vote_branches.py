"""Facts 5.4, step 4b: which block a vote names as its branch, and what is certain of that block."""

from __future__ import annotations

import msgspec
import pytest
from quarantine_script import Script, name_of, name_of_vote
from scripted_chain import Block, ScriptedWorker, Vote, digest, genesis, vote_for

OLD = [digest(b"old block %d" % level) for level in range(100)]  # under the root, newest first


def naming(vote: Vote, branch: bytes) -> Vote:
    return msgspec.structs.replace(vote, branch=branch)


def fork_of(script: Script) -> tuple[list[Block], list[Block]]:
    """Two branches of cleared blocks; the head, and soon what is final, is on the first."""
    main = script.root.child(round_=1).chain(2)
    main = [script.root.child(round_=1), *main]
    side = [script.root.child(round_=0)]
    for block in (*side, *main):
        script.block(block)
        script.run()
    assert script.counts() == {"cleared": 4}
    return main, side


def with_old_blocks(**settings: int) -> Script:
    worker = ScriptedWorker([genesis()])
    worker.below = list(OLD)
    for name, value in settings.items():
        setattr(worker, name, value)
    return Script(worker=worker)


@pytest.mark.parametrize("depth", [0, 1, 99])
def test_blocks_from_before_the_start_are_known_as_far_back_as_a_vote_may_name_them(
    depth: int,
) -> None:
    script = with_old_blocks()
    vote = naming(vote_for(script.root, "d"), OLD[depth])
    script.vote(vote)
    script.run()
    assert script.last(name_of_vote(vote)) == ("cleared", "")


def test_what_the_protocol_counts_as_too_far_back_waits_in_vain() -> None:
    script = with_old_blocks(ttl=10)
    for block in script.root.chain(2):
        script.block(block)
        script.run()
    top = script.core.chain.head
    assert top is not None
    proposal = script.root.chain(2)[1]
    within, beyond = (naming(vote_for(proposal, f"d{n}"), OLD[n]) for n in (7, 8))
    for vote in (within, beyond):
        script.vote(vote)
        script.run()
    assert script.last(name_of_vote(within)) == ("cleared", "")
    assert script.last(name_of_vote(beyond)) == ("held", "target")


@pytest.mark.parametrize("first", ["vote", "block"])
def test_a_vote_for_a_block_that_nobody_knows_waits_and_is_nobodys_fault(first: str) -> None:
    script = Script()
    block = script.root.child()
    vote = naming(vote_for(block, "d"), digest(b"nobody's"))
    for what in (first, "block" if first == "vote" else "vote"):
        if what == "vote":
            script.vote(vote, "relay")
        else:
            script.block(block)
        script.run()
    assert script.last(name_of_vote(vote)) == ("held", "target")
    script.restart()
    script.run()
    script.later(20)
    assert script.last(name_of_vote(vote)) == ("expired", "target")
    assert script.weights("relay") == 0


def test_a_vote_that_comes_before_its_branch_and_its_proposal_is_cleared_with_them() -> None:
    script = Script()
    blocks = script.root.chain(2)
    vote = naming(vote_for(blocks[1], "d"), blocks[0].hash)
    on_itself = naming(vote_for(blocks[1], "e"), blocks[1].hash)
    for each in (vote, on_itself):
        script.vote(each)
    script.run()
    assert script.counts() == {}
    for block in reversed(blocks):
        script.block(block)
        script.run()
    assert script.counts() == {"cleared": 4}


def test_a_branch_off_the_final_one_is_unviable_and_nobodys_fault() -> None:
    script = Script()
    main, side = fork_of(script)
    assert script.core.chain.final_level == 101
    late = [
        naming(vote_for(main[2], "d"), side[0].hash),
        naming(vote_for(main[2].child(), "d"), side[0].hash),  # of a proposal not known yet
    ]
    for vote in late:
        script.vote(vote, "relay")
        script.run()
        assert script.last(name_of_vote(vote)) == ("unviable", "off_final_branch")
    assert script.weights("relay") == 0


def test_a_branch_beside_the_proposal_is_not_lost_while_it_is_not_below_the_final_level() -> None:
    script = Script()
    one, two = script.root.child(round_=0), script.root.child(round_=1)
    child = two.child()
    for block in (one, two, child):
        script.block(block)
        script.run()
    beside, right = (naming(vote_for(child, d.hash.hex()), d.hash) for d in (one, two))
    for vote in (beside, right):
        script.vote(vote)
        script.run()
    assert script.last(name_of_vote(right)) == ("cleared", "")
    assert script.last(name_of_vote(beside)) == ("held", "target"), "no node would count it"


def test_what_the_node_tells_late_lets_votes_go() -> None:
    script = Script(worker=(worker := ScriptedWorker([genesis()])), start=False)
    worker.below = []
    script.run()
    vote = naming(vote_for(script.root, "d"), OLD[5])
    script.vote(vote)
    script.run()
    assert script.last(name_of_vote(vote)) == ("held", "target")
    worker.below = list(OLD)
    script.later(2)
    assert script.last(name_of_vote(vote)) == ("cleared", "")


def test_two_branches_are_an_offence_whatever_becomes_of_the_votes() -> None:
    script = Script()
    main, side = fork_of(script)
    right = vote_for(main[2], "d")
    for vote in (naming(right, side[0].hash), right):
        script.vote(vote)
        script.run()
    assert [(e.kind, e.level, e.round, e.delegate) for e in script.slashable] == [(2, 103, 0, "d")]
    assert script.last(name_of_vote(right)) == ("cleared", "")
    assert script.last(name_of(main[2])) == ("cleared", "")
