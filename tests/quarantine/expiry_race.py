"""A block clears about when what waits for it expires (scenario 24), interleaved by chance."""

from __future__ import annotations

from random import Random

from quarantine_script import Script, name_of, name_of_vote
from scripted_chain import vote_for

from broker.quarantine.bounds import Bounds

HELD_S = 16.0  # two rounds: blocks and votes are held for as long
TICK_S = 0.1
STEPS = ("turn", "answer", "confirm")


def expiry_race(random: Random) -> tuple[str, str]:
    """Let both happen once; the end of a block that waited, and of a vote for that block.

    Raises AssertionError when one of them ended twice or not at all.
    """
    script = Script(Bounds(held_block_s=HELD_S))
    parent, child = script.root.chain(2)
    vote = vote_for(child, "d")
    if random.random() < 0.5:
        script.vote(vote)
        script.block(child)
    else:
        script.block(child)
        script.vote(vote)
    script.run()
    pass_time(script, HELD_S - TICK_S)
    steps = random.choices(STEPS, k=48)
    steps.insert(random.randrange(4), "parent")
    steps.insert(random.randrange(len(steps)), "tick")
    for step in steps:
        if step == "parent":
            script.block(parent)
        elif step == "tick":
            pass_time(script, TICK_S)
        else:
            getattr(script, step)()
    script.run()
    assert script.ends(name_of(parent)) == ["cleared"], script.events
    [of_block] = script.ends(name_of(child))
    [of_vote] = script.ends(name_of_vote(vote))
    assert {of_block, of_vote} <= {"cleared", "expired"}, script.events
    assert script.core.accounting.held == script.core.accounting.in_flight == 0
    return of_block, of_vote


def pass_time(script: Script, seconds: float) -> None:
    script.now += seconds
    script.unix_now += seconds
