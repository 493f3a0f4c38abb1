"""Which block must go when the holding area is full."""

from __future__ import annotations

import msgspec
from quarantine_script import Script, name_of
from scripted_chain import Block, digest

from broker.quarantine.bounds import Bounds


def orphan(script: Script, level: int, tag: int) -> Block:
    header = script.root.child(round_=tag).header
    nobody_has = digest(b"nobody has %d" % tag)
    return Block(msgspec.structs.replace(header, predecessor=nobody_has, level=level))


def held(script: Script) -> set[bytes]:
    return {item.hash for item in script.core.held()}


def test_a_peer_at_its_bound_keeps_what_is_nearest_to_the_head() -> None:
    script = Script(Bounds(held_blocks_per_peer=3))
    blocks = script.root.chain(8)
    for block in reversed(blocks[1:]):
        script.block(block)
        script.run()
    assert held(script) == {block.hash for block in blocks[1:4]}
    assert script.last(name_of(blocks[7])) == ("shed", "held_full")


def test_of_the_heaviest_peer_the_highest_level_goes() -> None:
    script = Script(Bounds(held_blocks=4))
    heavy = [orphan(script, level, level) for level in (150, 160, 155)]
    light = orphan(script, 190, 1)
    for block, peer in ((heavy[0], "heavy"), (heavy[1], "heavy"), (heavy[2], "heavy")):
        script.block(block, peer)
    script.block(light, "light")
    script.run()
    newcomer = orphan(script, 120, 2)
    script.block(newcomer, "other")
    script.run()
    assert held(script) == {heavy[0].hash, heavy[2].hash, light.hash, newcomer.hash}


def test_no_ancestor_goes_before_its_descendants_whoever_sent_them() -> None:
    script = Script(Bounds(held_blocks=4))
    a, b, c = script.root.child().chain(3)
    apart = orphan(script, 101, 1)
    for block, peer in ((a, "heavy"), (b, "heavy"), (c, "light"), (apart, "light2")):
        script.block(block, peer)
    script.run()
    script.block(orphan(script, 101, 2), "light3")
    script.run()
    assert a.hash in held(script)
    assert b.hash in held(script)
    assert c.hash not in held(script), "nothing builds on it, and its level is the highest"


def test_the_bytes_are_bounded_too() -> None:
    script = Script(Bounds(held_blocks_bytes=5_000))
    for i in range(6):
        block = orphan(script, 101, i)
        script.block(Block(block.header, [[], [], [], [bytes(1_000)]]), f"p{i}")
        script.run()
    assert len(held(script)) == 4
    assert script.core.holding.blocks.bytes <= 5_000


def test_what_waits_for_a_block_on_its_way_stays() -> None:
    script = Script(Bounds(held_blocks=2))
    parent, child = script.root.chain(2)
    script.block(child, "honest")
    script.run()
    script.block(parent, "honest")
    script.turn()  # a worker has the parent
    asked, script.unanswered = script.unanswered, []
    for i in range(4):
        script.block(orphan(script, 101, i + 1), f"crowd{i}")
    script.run()
    script.unanswered = asked
    script.answer()
    script.run()
    assert script.last(name_of(child)) == ("cleared", "")
