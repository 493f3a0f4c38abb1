"""Scenarios 10 to 12: one header or vote under many hashes, one header with many bodies."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from quarantine_script import Script, name_of, name_of_vote
from scripted_chain import Block, vote_for

from broker.quarantine.bounds import Bounds
from broker.verification import Check, Judgement, Verdict


def with_body(block: Block, tag: bytes) -> Block:
    return Block(block.header, [[], [], [], [tag]])


def test_10_a_vote_signed_again_is_a_duplicate_and_no_offence() -> None:
    script = Script()
    vote = vote_for(script.root, "d")
    again = [msgspec.structs.replace(vote, signature=b"good %d" % i) for i in range(5)]
    for copy in (vote, *again):
        script.vote(copy)
        script.run()
    assert script.counts() == {"cleared": 1, "duplicate": 5}
    assert script.slashable == []
    assert script.weights("p") == 0


def test_10_a_vote_signed_again_takes_the_place_of_one_that_expired() -> None:
    script = Script()
    proposal = script.root.child()
    first = vote_for(proposal, "d")
    script.vote(first)
    script.later(17)
    assert script.ends(name_of_vote(first)) == ["expired"]
    again = msgspec.structs.replace(first, signature=b"good again")
    script.vote(again)
    script.run()
    third = msgspec.structs.replace(first, signature=b"good a third time")
    script.vote(third)
    script.block(proposal)
    script.run()
    assert script.last(name_of_vote(again)) == ("cleared", "")
    assert script.last(name_of_vote(third)) == ("duplicate", "same_statement")


def test_11_junk_signatures_over_a_header_do_not_keep_the_real_one_out(
    many: Callable[[int], int],
) -> None:
    script = Script(Bounds(bad=16), validates=False)
    real = script.root.child()
    bad = script.root.child(round_=1, bad="no_quorum")
    script.block(bad, "other")
    script.run()
    script.peers.clear()
    for i in range(many(10_000)):
        junk = Block(msgspec.structs.replace(real.header, signature=b"junk %d" % i))
        script.block(junk, f"p{i}")
        script.run()
        assert script.events.pop() == (name_of(junk), "rejected", "bad_signature")
        assert [(event.peer, event.weight) for event in script.peers] == [(f"p{i}", -20)]
        script.peers.clear()
        if i % 100 == 99:
            script.core.validate()
    assert real.hash not in script.core.known.bad
    assert real.hash not in script.core.known.seen
    assert bad.hash in script.core.known.bad, "junk pushes nothing out"
    script.block(real)
    script.run()
    assert script.last(name_of(real)) == ("cleared", "")


def test_11_what_waits_of_a_banned_peer_costs_no_check() -> None:
    """One stamped header gives any number of hashes; a peer gets some of them looked at."""
    peers, of_each = 30, 64
    script = Script(Bounds(ingress_blocks=2 * peers * of_each))
    real = script.root.child()
    for i in range(peers * of_each):
        junk = Block(msgspec.structs.replace(real.header, signature=b"junk %d" % i))
        script.block(junk, f"p{i % peers}")
    script.block(real, "honest")
    script.run()
    assert script.last(name_of(real)) == ("cleared", "")
    checks = sum(check == Check.HEADER for check, _ in script.worker.checked)
    assert checks < peers * of_each / 2, (
        "what was in flight before the first answers, and not much more"
    )
    assert script.counts()["shed"] == peers * of_each + 1 - checks


def test_11_what_another_peer_has_sent_too_is_checked_whoever_is_banned() -> None:
    script = Script(Bounds(slices_in_flight=1))
    real = script.root.child()
    for i in range(40):
        junk = Block(msgspec.structs.replace(real.header, signature=b"junk %d" % i))
        script.block(junk, "evil")
    vote = vote_for(script.root, "d")
    script.block(real, "evil")
    script.block(real, "honest", name="again")
    script.vote(vote, "evil")
    script.vote(vote_for(script.root, "e"), "honest")
    script.run()
    assert script.last(name_of(real)) == ("cleared", "")
    assert script.last("again") == ("duplicate", "open")
    assert script.last(name_of_vote(vote_for(script.root, "e"))) == ("cleared", "")
    assert script.counts()["rejected"] < 40


def test_12_a_wrong_body_costs_its_sender_and_leaves_the_header_good() -> None:
    script = Script()
    good = script.root.child()
    script.block(with_body(good, b"wrong"), "evil", name="wrong body")
    script.run()
    assert script.last("wrong body") == ("rejected", "wrong_operations_hash")
    assert script.weights("evil") == -20
    script.block(good, "honest")
    script.run()
    assert script.last(name_of(good)) == ("cleared", "")
    assert script.weights("honest") == 0


def test_12_a_wrong_body_that_waits_does_not_keep_the_good_one_out() -> None:
    script = Script()
    parent, good = script.root.chain(2)
    child = good.child()
    script.block(with_body(good, b"wrong"), "evil", name="wrong body")
    script.block(child)
    script.run()
    script.block(good, "honest", name="good body")
    script.run()
    script.block(parent)
    script.run()
    assert script.last("wrong body") in {
        ("rejected", "wrong_operations_hash"),
        ("duplicate", "cleared"),
    }
    assert script.last("good body") == ("cleared", "")
    assert script.last(name_of(child)) == ("cleared", ""), "who waits is not buried"


def test_12_a_body_that_waits_for_rights_ends_when_another_one_clears() -> None:
    script = Script()
    block = script.root.child()
    script.worker.overrides[block.raw] = Verdict(0, Judgement.RIGHTS_UNKNOWN, "rights_unknown")
    script.block(with_body(block, b"wrong"), "evil", name="wrong body")
    script.run()
    script.worker.overrides.clear()
    script.block(block)
    script.run()
    assert script.last(name_of(block)) == ("cleared", "")
    assert script.last("wrong body") == ("duplicate", "cleared")


def test_12_a_wrong_body_is_not_cleared_by_a_restart_either() -> None:
    script = Script()
    block = script.root.child()
    script.worker.overrides[block.raw] = Verdict(0, Judgement.RIGHTS_UNKNOWN, "rights_unknown")
    script.block(with_body(block, b"wrong"), "evil", name="wrong body")
    script.run()
    script.worker.overrides.clear()
    script.block(block)
    while block.hash not in {stored.facts.hash for stored in script.store.blocks}:
        script.answer()
        script.turn()
    script.restart()
    script.run()
    assert script.last("wrong body") == ("duplicate", "cleared")


def test_a_header_that_is_called_a_vote_does_not_make_the_block_bad() -> None:
    script = Script()
    block = script.root.child()
    script.raw_vote(block.raw, "evil", "header as a vote")
    script.run()
    assert script.last("header as a vote") == ("rejected", "malformed")
    script.block(block, "honest")
    script.block(block.child(), "honest", name="child")
    script.run()
    assert script.last(name_of(block)) == ("cleared", "")
    assert script.last("child") == ("cleared", "")
    assert script.weights("honest") == 0


def test_a_vote_that_is_called_a_header_does_not_make_the_vote_bad() -> None:
    script = Script()
    vote = vote_for(script.root, "d")
    script.raw_block(msgspec.msgpack.encode(vote), "evil", "vote as a header")
    script.run()
    assert script.last("vote as a header") == ("rejected", "malformed")
    script.vote(vote, "honest")
    script.run()
    assert script.last(name_of_vote(vote)) == ("cleared", "")
    script.raw_vote(b"no vote", "evil", "junk")
    script.run()
    script.raw_vote(b"no vote", "evil", "junk again")
    script.run()
    assert script.last("junk again") == ("rejected", "known_invalid")


def test_a_header_that_is_called_a_vote_does_not_stop_the_asking_for_the_block() -> None:
    script = Script()
    parent, child = script.root.chain(2)
    script.raw_vote(parent.raw, "evil", "header as a vote")
    script.turn()
    slow, script.unanswered = script.unanswered, []  # it is on its way when the child is held
    script.block(child)
    script.run()
    script.unanswered = slow
    script.run()
    assert [wanted.hash for wanted in script.wanted] == [parent.hash]


def test_a_header_travels_with_four_bodies_at_most() -> None:
    script = Script(start=False)
    block = script.root.child()
    for i in range(6):
        script.block(with_body(block, b"body %d" % i), f"p{i}", name=f"body {i}")
    script.turn()
    assert [c for _, e, c in script.events if e == "shed"] == ["too_many_bodies"] * 2
