"""Scenarios 21, 23: what is early, and clocks that are set while something waits."""

from __future__ import annotations

import msgspec
from quarantine_script import Script, name_of, name_of_vote
from scripted_chain import Block, vote_for


def early_by(script: Script, seconds: float, round_: int = 0) -> Block:
    header = script.root.child(round_=round_).header
    return Block(msgspec.structs.replace(header, timestamp_s=int(script.unix_now + seconds)))


def test_21_a_little_early_is_cleared_a_round_early_waits_and_more_is_stale() -> None:
    script = Script()
    half, five, ten = (
        early_by(script, 0.5), early_by(script, 5, round_=1), early_by(script, 600, round_=2)
    )  # fmt: skip
    for block in (half, five, ten):
        script.block(block)
    script.run()
    assert script.last(name_of(half)) == ("cleared", "")
    assert script.last(name_of(five)) == ("held", "time")
    assert script.last(name_of(ten)) == ("stale", "far_too_early")
    script.later(4.9)
    assert script.last(name_of(five)) == ("held", "time")
    script.later(0.2)
    assert script.last(name_of(five)) == ("cleared", "")


def test_23_a_step_of_the_wall_clock_moves_only_what_waits_for_time() -> None:
    script = Script()
    waits_for_time = early_by(script, 6)
    orphan = script.root.chain(2)[1]
    vote = vote_for(script.root.child(round_=3), "d")
    script.block(waits_for_time)
    script.block(orphan)
    script.vote(vote)
    script.run()
    assert len(script.core.held()) == 3
    script.unix_now -= 60
    script.later(10)
    assert len(script.core.held()) == 3, "nothing expires, and its time has not come again"
    script.unix_now += 120
    script.later(1.1)
    assert script.last(name_of(waits_for_time)) == ("cleared", "")
    assert len(script.core.held()) == 2


def test_23_a_clock_set_forward_is_noticed_within_a_second() -> None:
    script = Script()
    block = early_by(script, 6)
    script.block(block)
    script.run()
    script.unix_now += 60
    area = script.core.holding.for_time
    assert area.deadline(script.now, script.unix_now - 60) == script.now + 1
    script.later(1.01)
    assert script.last(name_of(block)) == ("cleared", "")


def test_idle_there_is_no_deadline() -> None:
    script = Script()
    script.later(5)
    assert script.core.deadline() == float("inf")


def test_after_a_silence_nothing_is_judged_by_the_old_head() -> None:
    script = Script()
    script.later(60)
    blocks = script.root.chain(5)
    script.worker.node += blocks
    vote = vote_for(blocks[-1], "d")
    script.vote(vote)
    script.run()
    assert [(e, c) for _, e, c in script.events] == [("cleared", "")]


def test_votes_two_levels_below_the_head_are_over() -> None:
    script = Script()
    script.worker.votes_window = 9
    blocks = script.root.chain(3)
    waits = vote_for(script.root.child(round_=3), "d")
    script.vote(waits)
    script.run()
    assert script.last(name_of_vote(waits)) == ("held", "target")
    for block in blocks:
        script.block(block)
    script.run()
    assert script.last(name_of_vote(waits)) == ("expired", "too_old")
    late = vote_for(script.root.child(round_=4), "d")
    script.vote(late)
    script.run()
    assert script.last(name_of_vote(late)) == ("stale", "too_old")
