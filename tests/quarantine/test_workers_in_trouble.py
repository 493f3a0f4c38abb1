"""Scenarios 28, 29, 42: slices that come back without an answer, and nodes that know nothing."""

from __future__ import annotations

import pytest
from quarantine_script import Script, name_of, name_of_vote
from scripted_chain import decode_body, encode, vote_for

from broker.quarantine.bounds import Bounds
from broker.verification import Check, CheckAnswer, Judgement, Verdict, VerdictBody


def asked(script: Script) -> list[int]:
    """The numbers of the slices that wait for an answer, of one turn."""
    script.turn()
    script.confirm()
    return [slice_.number for slice_ in script.unanswered]


def lose(script: Script, problem: str = "worker_lost") -> None:
    numbers = asked(script)
    script.unanswered.clear()
    for number in numbers:
        script.reply(CheckAnswer(number, problem=problem))


def test_28_a_lost_worker_marks_nobody_bad_and_another_one_finishes() -> None:
    script = Script()
    parent, child = script.root.chain(2)
    script.block(child)
    script.run()
    script.block(parent)
    lose(script)
    assert parent.hash not in script.core.known.bad
    script.run()
    assert script.cleared() == [name_of(parent), name_of(child)]


def test_28_a_timeout_is_asked_again_and_a_late_answer_changes_nothing() -> None:
    script = Script()
    block = script.root.child()
    script.block(block)
    asked(script)
    late = script.unanswered[:]
    script.unanswered.clear()
    script.later(2.1)
    assert script.last(name_of(block)) == ("cleared", "")
    for slice_ in late:
        script.reply(script.worker.answer(slice_))
    script.run()
    assert script.ends(name_of(block)) == ["cleared"]
    assert script.core.late_answers >= 1


def test_29_what_no_worker_survives_is_isolated_and_the_rest_flows() -> None:
    script = Script()
    poison = vote_for(script.root, "poison")
    others = [vote_for(script.root, f"d{i}") for i in range(300)]
    for vote in (*others[:150], poison, *others[150:290]):
        script.vote(vote)
    raw = encode(poison)
    deaths = 0
    for turn in range(100):
        if turn < 10:  # what comes next is behind it
            script.vote(others[290 + turn])
        if turn < 90:  # and this in another lane
            script.block(script.root.child(round_=turn), f"q{turn}")
        script.turn()
        script.confirm()
        in_hand, script.unanswered = script.unanswered, []
        dies = any(raw in slice_.body for slice_ in in_hand)
        deaths += dies
        for slice_ in in_hand:  # who dies answers nothing that it has in hand
            lost = CheckAnswer(slice_.number, problem="worker_lost")
            script.reply(lost if dies else script.worker.answer(slice_))
    assert deaths == 3
    assert script.last(name_of_vote(poison)) == ("shed", "isolated")
    assert [script.ends(name_of_vote(vote)) for vote in others] == [["cleared"]] * 300
    assert script.counts() == {"cleared": 390, "shed": 1}
    assert "could not be checked 3 times" in script.notes[0]
    assert script.weights("p") == 0
    # For a minute it is not tried again; then it may be.
    script.vote(poison, "p2")
    script.run()
    assert script.ends(name_of_vote(poison)) == ["shed", "shed"]
    script.later(61)
    script.vote(poison, "p3")
    script.run()
    assert script.last(name_of_vote(poison)) == ("cleared", "")


def test_29_last_tries_are_made_one_at_a_time_and_stop_nothing_else() -> None:
    script = Script()
    for name in "ab":
        script.vote(vote_for(script.root, name))
    for _ in range(2):
        lose(script)
    [first] = asked(script)
    block = script.root.child()
    script.block(block)
    numbers = asked(script)
    assert len(numbers) == 2, "the block is asked about, and the other vote is not"
    checks = [decode_body(slice_.body).check for slice_ in script.unanswered]
    assert checks == [Check.VOTE, Check.HEADER]
    script.unanswered = script.unanswered[1:]
    script.reply(CheckAnswer(first, problem="worker_lost"))
    script.run()
    assert script.counts() == {"cleared": 2, "shed": 1}


def test_last_tries_of_what_was_only_late_do_not_wait_for_each_other() -> None:
    script = Script()
    for name in "ab":
        script.vote(vote_for(script.root, name))
    for _ in range(2):
        lose(script, "timeout")
    assert len(asked(script)) == 2
    script.run()
    assert script.counts() == {"cleared": 2}


@pytest.mark.parametrize("problem", ["busy", "no_worker"])
def test_no_credit_is_nobodys_fault_and_is_waited_for(problem: str) -> None:
    script = Script()
    vote = vote_for(script.root, "d")
    script.vote(vote)
    waits = []
    for _ in range(8):
        lose(script, problem)
        waits.append(round((script.core.deadline() - script.now) * 1000))
        script.unix_now += script.core.deadline() - script.now
        script.now = script.core.deadline()
    first = {"busy": 1, "no_worker": 64}[problem]
    assert waits == [first, first * 2, first * 4, first * 8] + [first * 16] * 4
    script.run()
    assert script.last(name_of_vote(vote)) == ("cleared", "")


def test_a_signature_of_a_kind_that_no_worker_knows_is_asked_about_once() -> None:
    script = Script()
    vote = vote_for(script.root, "d")
    unknown = Verdict(0, Judgement.UNCHECKED, "unsupported_key")
    script.worker.overrides[encode(vote)] = unknown
    script.vote(vote)
    script.run()
    assert script.ends(name_of_vote(vote)) == ["shed"]
    assert script.last(name_of_vote(vote)) == ("shed", "unsupported_key")
    assert [check for check, _ in script.worker.checked].count(Check.VOTE) == 1
    assert script.weights("p") == 0


@pytest.mark.parametrize(
    "answer",
    [
        b"no messagepack \xc1",
        b"\x92" + b"\x91" * 5_000 + b"\x90\x0a",  # nested too deep
        b"\x93" + encode([]) + b"\x0a" + b"\x91" * 5_000 + b"\x90",
        encode(VerdictBody([], 10)),
        encode(VerdictBody([Verdict(999_999, Judgement.VALID)], 10)),
    ],
)
def test_an_answer_that_is_none_counts_as_lost(answer: bytes) -> None:
    script = Script()
    vote = vote_for(script.root, "d")
    script.vote(vote)
    for _ in range(3):
        for number in asked(script):
            script.reply(CheckAnswer(number, answer))
        script.unanswered.clear()
    script.turn()
    assert script.last(name_of_vote(vote)) == ("shed", "isolated")
    assert not script.core.known.bad


def test_a_valid_header_under_another_hash_is_believed_of_no_worker() -> None:
    script = Script()
    block, other = script.root.child(), script.root.child(round_=1)
    script.worker.overrides[block.raw] = Verdict(0, Judgement.VALID, facts=other.facts)
    script.block(block)
    script.run()
    assert script.last(name_of(block)) == ("shed", "isolated")


def test_42_unknown_rights_are_asked_for_again_and_cost_nothing() -> None:
    script = Script()
    block, vote = script.root.child(), vote_for(script.root, "d")
    for raw in (block.raw, encode(vote)):
        script.worker.overrides[raw] = Verdict(0, Judgement.RIGHTS_UNKNOWN, "rights_unknown")
    script.block(block)
    script.vote(vote)
    script.run()
    assert {held.reason for held in script.core.held()} == {"rights"}
    script.later(3.5)
    assert len(script.core.held()) == 2
    script.worker.overrides.clear()
    script.later(1.1)
    assert script.counts() == {"cleared": 2}
    assert script.weights("p") == 0


def test_42_rights_that_nobody_ever_tells_expire() -> None:
    script = Script()
    block = script.root.child()
    unknown = Verdict(0, Judgement.UNCHECKED, "node_unavailable")
    script.worker.overrides[block.raw] = unknown
    script.block(block)
    script.later(12)
    assert script.last(name_of(block)) == ("expired", "rights")
    checks = script.worker.checked.count((Check.HEADER, block.hash))
    assert 9 <= checks <= 12


def test_a_block_that_waited_for_rights_may_wait_for_the_node_once_more() -> None:
    script = Script()
    parent, block = script.root.chain(2)
    unknown = Verdict(0, Judgement.RIGHTS_UNKNOWN, "rights_unknown")
    script.worker.overrides_header[block.raw] = unknown
    script.block(block)
    script.later(3)
    script.worker.overrides_header.clear()
    script.later(script.bounds.held_for_rights_s)
    script.worker.overrides_block[block.raw] = Verdict(0, Judgement.UNCHECKED, "state_unknown")
    script.block(parent)
    script.run()
    script.worker.overrides_block.clear()
    script.later(2)
    assert script.last(name_of(block)) == ("cleared", "")


def test_wanted_ancestors_travel_with_their_operations() -> None:
    script = Script()
    parent, block = script.root.chain(2)
    script.block(parent)
    script.run()
    wanted = Verdict(0, Judgement.ANCESTORS_WANTED, "ancestors_wanted", wanted=[parent.hash])
    script.worker.overrides_block[block.raw] = wanted
    script.block(block)
    for _ in range(3):
        script.turn()
        script.confirm()
        bodies = [slice_.body for slice_ in script.unanswered]
        script.answer()
    assert bodies[0].count(b"transfer") == 2, "its own operation and the parent's"
    script.worker.overrides_block.clear()
    script.run()
    assert script.last(name_of(block)) == ("cleared", "")


def test_a_block_that_wants_ancestors_for_ever_is_isolated() -> None:
    script = Script()
    parent, block = script.root.chain(2)
    script.block(parent)
    script.worker.overrides_block[block.raw] = Verdict(
        0, Judgement.ANCESTORS_WANTED, "ancestors_wanted", wanted=[parent.hash]
    )
    script.block(block)
    script.run()
    assert script.last(name_of(block)) == ("shed", "isolated")


def test_a_block_on_operations_that_nobody_knows_waits_for_the_node() -> None:
    script = Script()
    block = script.root.child()
    script.worker.overrides_block[block.raw] = Verdict(
        0, Judgement.ANCESTORS_WANTED, "ancestors_wanted", wanted=[script.root.hash]
    )
    script.block(block)
    script.run()
    assert script.last(name_of(block)) == ("held", "rights")
    script.worker.overrides_block.clear()
    script.later(2)
    assert script.last(name_of(block)) == ("cleared", "")


def test_votes_in_workers_hands_do_not_keep_headers_waiting() -> None:
    script = Script(Bounds(held_blocks=4))
    for i in range(60):
        script.vote(vote_for(script.root, f"d{i}"))
    script.turn()
    block = script.root.child()
    script.block(block)
    script.turn()
    assert Check.HEADER in [decode_body(slice_.body).check for slice_ in script.unanswered]


def test_what_a_check_costs_is_learnt_from_the_workers() -> None:
    script = Script()
    first = script.core.flights.fits(Check.VOTE)
    for i in range(600):
        script.vote(vote_for(script.root, f"d{i}"))
    script.run()
    assert script.core.flights.fits(Check.VOTE) > first, "they took half of what was guessed"


def test_what_workers_have_in_hand_is_bounded_by_what_it_costs_them() -> None:
    """Else the last of many full blocks would be late, and be thought to have ended its worker."""
    script = Script(Bounds(slices_in_flight=20, work_in_flight_ms=5))
    blocks = [script.root.child(round_=round_) for round_ in range(1, 20)]
    for block in blocks:
        script.block(block)
    script.turn()
    script.answer()  # their headers are good; 2 ms are the first guess for what follows
    script.turn()
    assert [decode_body(slice_.body).check for slice_ in script.unanswered] == [Check.BLOCK] * 3
    script.run()
    assert script.counts() == {"cleared": 19}


def test_a_network_that_has_outgrown_the_bounds_is_told_of_once() -> None:
    script = Script(Bounds.of(399))
    script.block(script.root.child())
    script.later(5)
    assert [note for note in script.notes if "bounds are for 399" in note] == script.notes
    assert len(script.notes) == 1


def test_a_node_that_is_on_another_chain_now_is_not_believed() -> None:
    script = Script()
    before = len(script.store.blocks)
    script.worker.node.append(script.root.child())
    script.worker.chain_id = "NetXother"
    script.block(script.root.child(round_=1))
    script.later(3)
    assert len(script.store.blocks) == before + 1, "what was pushed, and nothing of the node's"
    assert any("NetXother" in note for note in script.notes)
