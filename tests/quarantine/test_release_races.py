"""Scenarios 24, 25, 38 and facts 6.1: nothing is lost between a parent's clearing and a release.

Three blocks on each other and two votes: all orders in which they arrive, get their answers, wait
too long and go through a restart. Each ends once, and what did not expire is cleared.
"""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from random import Random

import pytest
from expiry_race import expiry_race
from quarantine_script import Script, name_of, name_of_vote
from scripted_chain import Block, Vote, vote_for

from broker.quarantine.bounds import Bounds

STEPS = ("a", "b", "c", "v", "w")


def arrivals(script: Script) -> dict[str, Block | Vote]:
    a, b, c = script.root.chain(3)
    return {"a": a, "b": b, "c": c, "v": vote_for(b, "d"), "w": vote_for(c, "d")}


def arrive(script: Script, thing: Block | Vote, id_: bytes | None = None) -> None:
    if isinstance(thing, Block):
        script.block(thing, id_=id_)
    else:
        script.vote(thing, id_=id_)


def names(things: dict[str, Block | Vote]) -> list[str]:
    return [
        name_of(thing) if isinstance(thing, Block) else name_of_vote(thing)
        for thing in things.values()
    ]


@pytest.mark.parametrize("pause", ["none", "turn", "stored", "answered"])
def test_all_orders_of_arrival_clear_everything(pause: str) -> None:
    for order in permutations(STEPS):
        script = Script()
        things = arrivals(script)
        for step in order:
            arrive(script, things[step])
            if pause != "none":
                script.turn()
            if pause in ("stored", "answered"):
                script.confirm()
            if pause == "answered":
                script.answer()
        script.run()
        for name in names(things):
            assert script.ends(name) == ["cleared"], (order, script.events)
        blocks = [n for n in script.cleared() if n in names(things)[:3]]
        assert blocks == names(things)[:3], order


PARTS = ("arrive", "turn", "stored", "answered")
MOMENTS = len(STEPS) * len(PARTS)


def with_restart(order: tuple[str, ...], at: int) -> tuple[Script, list[str]]:
    """All five in this order, and a restart after so many parts of their steps."""
    script = Script()
    things = arrivals(script)
    moment = 0
    for step in order:
        for part in PARTS:
            if part == "arrive":
                arrive(script, things[step])
            elif part == "turn":
                script.turn()
            elif part == "stored":
                script.confirm()
            else:
                script.answer()
            if moment == at:
                script.restart()
            moment += 1
    script.run()
    # What was on its way, and not held, is pushed again by its client under the same id.
    for number, step in enumerate(order, 1):
        arrive(script, things[step], number.to_bytes(16, "big"))
        script.run()
    return script, names(things)


def test_a_restart_at_any_moment_loses_nothing() -> None:
    for i, order in enumerate(permutations(STEPS)):
        for at in range(i % 7, MOMENTS, 7):
            script, things = with_restart(order, at)
            for name in things:
                # Twice the same when the client asks again; a duplicate of what was cleared when
                # the process died between the store and the event.
                ends = script.ends(name)
                assert ends, (order, at)
                assert set(ends) <= {"cleared", "duplicate"}, (order, at, script.events)
            assert script.core.accounting.held == 0
            assert script.core.chain.head_level == script.root.header.level + 3


def test_24_cleared_or_expired_but_never_both_and_never_stuck() -> None:
    outcomes = []
    way = ["parent", "turn", "answered", "turn", "answered", "turn", "stored", "turn"]
    for at in range(1, len(way) + 1):
        script = Script(Bounds(held_block_s=10.0))
        parent, child = script.root.chain(2)
        script.block(child)
        script.run()
        for step in (*way[:at], "time", *way[at:]):
            if step == "parent":
                script.block(parent)
            elif step == "turn":
                script.turn()
            elif step == "stored":
                script.confirm()
            elif step == "answered":
                script.answer()
            else:
                script.now += 10.0
                script.unix_now += 10.0
        script.run()
        [end] = script.ends(name_of(child))
        outcomes.append(end)
        assert script.core.accounting.held == 0
    assert outcomes == ["expired"] * 5 + ["cleared"] * 3


def test_24_in_any_interleaving_exactly_one_of_the_two() -> None:
    """Some of those that scripts/quarantine_fuzz --races runs ten thousand of."""
    ends = Counter(expiry_race(Random(seed)) for seed in range(200))
    for outcome in (("cleared", "cleared"), ("cleared", "expired"), ("expired", "expired")):
        assert ends[outcome], f"no longer reached: {outcome} of {ends}"
