"""Scenarios 7, 13 to 20, 43 to 45: who has signed two things, and who has not."""

from __future__ import annotations

from itertools import permutations

import msgspec
import pytest
from quarantine_script import Script, name_of, name_of_vote
from scripted_chain import Block, ScriptedWorker, Vote, digest, encode, genesis, vote_for

from broker.quarantine.bounds import Bounds

A, B = digest(b"payload A"), digest(b"payload B")


def altered(vote: Vote, **changes: object) -> Vote:
    return msgspec.structs.replace(vote, **changes)


def offences(script: Script) -> list[tuple[int, int, int, str]]:
    return [(e.kind, e.level, e.round, e.delegate) for e in script.slashable]


def both_orders(*sent: Block | Vote) -> list[Script]:
    scripts = []
    for order in permutations(sent):
        script = Script()
        for thing in order:
            if isinstance(thing, Vote):
                script.vote(thing)
            else:
                script.block(thing)
            script.run()
        scripts.append(script)
    return scripts


def test_13_two_blocks_of_one_place_give_the_same_evidence_in_both_orders() -> None:
    root = genesis()
    one, two = root.child(nonce=1), root.child(nonce=2)
    scripts = both_orders(one, two)
    first, second = sorted((one, two), key=lambda block: block.hash)
    for script in scripts:
        assert offences(script) == [(0, 101, 0, "baker101r0")]
        assert script.slashable == scripts[0].slashable
        assert (script.slashable[0].first, script.slashable[0].second) == (first.raw, second.raw)
        assert script.counts()["cleared"] == 2


def test_14_payload_and_branch_make_an_offence_and_the_slot_where_the_protocol_says_so() -> None:
    root = genesis()
    vote = vote_for(root, "d")
    for other in (altered(vote, payload_hash=B), altered(vote, branch=b"b" * 32)):
        for script in both_orders(vote, other):
            assert offences(script) == [(2, 100, 0, "d")]
            pair = sorted((encode(vote), encode(other)), key=digest)
            assert [script.slashable[0].first, script.slashable[0].second] == pair
    for script in both_orders(vote, altered(vote, slot=7)):
        assert offences(script) == [(2, 100, 0, "d")]
    alpha = Script(worker=ScriptedWorker([root], slot_counts=False))
    alpha.vote(vote)
    alpha.run()
    alpha.vote(altered(vote, slot=7))
    alpha.run()
    assert offences(alpha) == []


@pytest.mark.parametrize(
    "change", [{"round": 1, "payload_hash": B}, {"kind": "preattestation", "payload_hash": B}]
)
def test_15_16_another_round_or_kind_is_no_offence(change: dict[str, object]) -> None:
    vote = vote_for(genesis(), "d")
    for script in both_orders(vote, altered(vote, **change)):
        assert offences(script) == []


def test_17_a_forged_vote_frames_nobody_and_takes_nobodys_place() -> None:
    script = Script()
    honest = vote_for(script.root, "d")
    forged = altered(honest, payload_hash=B, signature=b"forged")
    script.vote(forged, "evil")
    script.run()
    script.vote(honest)
    script.run()
    assert script.last(name_of_vote(forged)) == ("rejected", "bad_signature")
    assert script.last(name_of_vote(honest)) == ("cleared", "")
    assert offences(script) == []
    assert script.weights("evil") == -20


def test_18_the_third_and_hundredth_conflict_is_counted_only() -> None:
    script = Script()
    vote = vote_for(script.root, "d")
    for i in range(100):
        script.vote(altered(vote, payload_hash=digest(bytes([i]))), f"p{i}")
        script.run()
    assert len(script.slashable) == 1
    assert len(script.worker.evidence) == 1
    assert script.core.accounting.by_reason.of("shed third_conflict") == 98
    assert {event.weight for event in script.peers} <= {0}, "its relays are not to blame"


def test_19_an_offence_split_by_a_restart_is_found_and_an_old_one_not_told_again() -> None:
    script = Script()
    vote = vote_for(script.root, "d")
    script.vote(vote)
    script.run()
    script.restart()
    script.vote(altered(vote, payload_hash=B))
    script.run()
    assert offences(script) == [(2, 100, 0, "d")]
    script.restart()
    script.run()
    script.vote(altered(vote, payload_hash=A))
    script.run()
    assert len(script.slashable) == 1


def test_19_evidence_that_was_being_made_is_made_after_the_restart() -> None:
    script = Script()
    vote = vote_for(script.root, "d")
    script.vote(vote)
    script.vote(altered(vote, payload_hash=B))
    while not script.core.offences:
        script.step()
    script.turn()  # both are stored, and a worker is asked for the evidence
    script.restart()
    script.run()
    assert offences(script) == [(2, 100, 0, "d")]


def test_19_evidence_that_was_stored_but_not_told_is_told_after_the_restart() -> None:
    script = Script()
    vote = vote_for(script.root, "d")
    script.vote(vote)
    script.vote(altered(vote, payload_hash=B))
    while not script.store.evidence:
        script.step()
    told = len(script.slashable)
    script.restart()
    script.run()
    assert (told, len(script.slashable)) == (0, 1)


def test_19_an_offence_below_the_depth_is_not_told_again_after_a_restart() -> None:
    script = Script(Bounds(depth_levels=10))
    vote = vote_for(script.root, "d")
    script.vote(vote)
    script.vote(msgspec.structs.replace(vote, branch=b"b" * 32))
    script.run()
    assert len(script.slashable) == 1
    for block in script.root.chain(11):
        script.block(block)
        script.run()
    # The store forgets evidence level by level, and what was signed a batch of levels at a time.
    script.store.evidence.clear()
    assert script.store.seen
    script.restart()
    script.run()
    assert len(script.slashable) == 1


def test_20_what_is_older_than_the_depth_is_counted_as_too_old() -> None:
    root = genesis()
    script = Script(Bounds(depth_levels=4), worker=ScriptedWorker([root, *root.chain(9)]))
    script.worker.votes_window = 100
    vote = vote_for(root, "d")
    script.vote(vote)
    script.vote(altered(vote, payload_hash=B))
    script.run()
    assert offences(script) == []
    assert script.core.offences.too_old == 2


def test_levels_that_memory_let_go_are_asked_of_the_store() -> None:
    script = Script(Bounds(table=8))
    vote = vote_for(script.root, "d")
    script.vote(vote)
    for i in range(30):
        script.vote(vote_for(script.root, f"other{i}"))
    script.run()
    script.vote(altered(vote, payload_hash=B))
    script.run()
    assert offences(script) == [(2, 100, 0, "d")]


def test_43_a_rotated_key_does_not_hide_the_delegate() -> None:
    # Verdicts name the delegate behind the consensus key, so the table never sees the keys.
    script = Script()
    old_key = vote_for(script.root, "d", signature=b"good by the old key")
    new_key = altered(old_key, payload_hash=B, signature=b"good by the new key")
    script.vote(old_key)
    script.vote(new_key)
    script.run()
    assert offences(script) == [(2, 100, 0, "d")]


def test_44_votes_for_both_sides_of_a_reorganisation() -> None:
    script = Script()
    loser, winner = script.root.child(round_=0), script.root.child(round_=1)
    for block in (loser, winner):
        script.block(block)
        script.run()
    assert script.core.chain.head is not None
    assert script.core.chain.head.facts.hash == winner.hash
    for_loser, for_winner = vote_for(loser, "d"), vote_for(winner, "d")
    other_branch = altered(for_winner, branch=b"b" * 32)
    for vote in (for_loser, for_winner, other_branch):
        script.vote(vote)
        script.run()
    assert script.last(name_of_vote(for_winner)) == ("cleared", "")
    assert offences(script) == [(2, 101, 1, "d")], "two rounds are no offence, two branches are"


def test_45_a_payload_proposed_again_is_no_offence_and_rounds_stay_apart() -> None:
    script = Script()
    block = script.root.child(round_=0)
    again = Block(altered_header(script.root.child(round_=1), block.header.payload_hash))
    for proposal in (block, again):
        script.block(proposal)
    script.run()
    votes = [vote_for(block, "d"), vote_for(again, "d")]
    for vote in votes:
        script.vote(vote)
    script.run()
    assert script.counts() == {"cleared": 4}
    assert offences(script) == []


def altered_header(block: Block, payload_hash: bytes) -> object:
    return msgspec.structs.replace(block.header, payload_hash=payload_hash, baker="baker101r0")


def test_7_a_storm_of_forks_leaves_two_blocks_of_each_baker_and_evidence_of_each_pair() -> None:
    script = Script()
    for i in range(1_000):
        fork = script.root.child(round_=i % 250, nonce=i // 250)
        script.block(fork, f"p{i % 50}")
        if i % 20 == 19:
            script.step()
    script.run()
    assert script.counts() == {"cleared": 500, "shed": 500}
    assert len(offences(script)) == len(set(offences(script))) == 250


def test_7_a_third_block_of_a_place_is_let_in_when_another_one_builds_on_it() -> None:
    script = Script()
    one, two, third = (script.root.child(nonce=nonce, baker="b") for nonce in range(3))
    for block in (one, two, third):
        script.block(block)
        script.run()
    assert script.last(name_of(third)) == ("shed", "third_conflict")
    child = third.child(baker="another")
    script.block(child)
    script.run()
    assert [wanted.hash for wanted in script.wanted] == [third.hash]
    script.block(third, name="the third again")
    script.run()
    assert script.last("the third again") == ("cleared", "")
    assert script.last(name_of(child)) == ("cleared", "")
    assert len(script.slashable) == 1


def test_the_node_s_own_block_conflicts_with_a_pushed_one() -> None:
    script = Script()
    ours, other = script.root.child(nonce=1), script.root.child(nonce=2)
    script.worker.node.append(ours)
    script.later(2)
    script.block(other)
    script.run()
    script.later(2)
    assert offences(script) == [(0, 101, 0, "baker101r0")]
