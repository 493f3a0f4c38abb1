"""Scenarios 4 to 6, 8, 9, 22, 31 to 33, 35, 41, 46, 49: too much of everything."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from quarantine_script import Script, name_of, name_of_vote
from scripted_chain import GOOD, Block, Vote, digest, genesis, vote_for

from broker.messages import REFUSED
from broker.quarantine.bounds import Bounds
from broker.verification import Check, Judgement, Verdict


def orphan(i: int, *, signature: bytes = GOOD, level: int = 101) -> Block:
    """A block of some baker on a predecessor that nobody has."""
    header = genesis().child(round_=i).header
    return Block(
        msgspec.structs.replace(
            header,
            predecessor=digest(b"nobody has %d" % i),
            level=level,
            timestamp_s=header.timestamp_s,
            signature=signature,
        )
    )


def test_4_orphans_by_no_baker_are_rejected_and_their_peer_is_banned_at_the_third() -> None:
    script = Script(validates=False)
    for i in range(10_000):
        script.block(orphan(i, signature=b"random"), "evil")
        script.run()
    script.core.validate()
    assert script.counts() == {"rejected": 3, "shed": 9_997}
    assert len(script.core.holding.blocks) == 0
    assert [event.standing for event in script.peers] == ["disconnect", "disconnect", "ban"]
    script.later(800)  # two half-lives would be 1,200 s: below the ban after one and a bit
    honest = script.root.child()
    script.block(honest, "evil")
    script.run()
    assert script.last(name_of(honest)) == ("cleared", "")


def test_5_a_real_baker_occupies_two_places_of_each_round_and_32_in_all(
    many: Callable[[int], int],
) -> None:
    script = Script(validates=False)
    for i in range(many(10_000)):
        flood = msgspec.structs.replace(orphan(i // 4).header, nonce=i)
        script.block(Block(flood), "evil")
        script.run()
        if i % 50 == 49:
            script.core.validate()
            script.later(5)  # so that it is not over its rate
    places = [(h.level, h.round) for h in script.core.held()]
    assert len(places) == 32
    assert max(places.count(place) for place in places) <= 2
    evidence = [(e.level, e.round) for e in script.slashable]
    assert len(evidence) == len(set(evidence)) == many(10_000) // 4


def test_6_a_hundred_such_peers_leave_room_for_an_honest_one(many: Callable[[int], int]) -> None:
    script = Script(validates=False)
    for i in range(many(10_000)):
        script.block(orphan(i), f"evil{i % 100}")
        if i % 50 == 49:
            script.run()
            script.core.validate()
    script.validates = True
    assert len(script.core.holding.blocks) == 256
    parent = script.root.child()
    honest = parent.child()
    script.block(honest, "honest")
    script.run()
    assert script.last(name_of(honest)) == ("held", "parent")
    script.block(parent, "honest")
    script.run()
    assert script.last(name_of(honest)) == ("cleared", "")


def test_8_a_block_from_500_peers_is_checked_once() -> None:
    script = Script()
    block = script.root.child()
    for i in range(500):
        script.block(block, f"p{i}")
    script.run()
    assert script.counts() == {"cleared": 1, "duplicate": 499}
    assert script.worker.checked.count((Check.BLOCK, block.hash)) == 1
    assert {event.weight for event in script.peers} == {0}


def test_9_ten_thousand_copies_of_a_vote_are_checked_once() -> None:
    script = Script(validates=False)
    vote = vote_for(script.root, "d")
    for i in range(10_000):
        script.vote(vote, f"p{i % 8}")
        if i % 1_000 == 0:
            script.run()
    script.run()
    script.core.validate()
    assert script.counts() == {"cleared": 1, "duplicate": 9_999}
    assert len([c for c in script.worker.checked if c[0] == Check.VOTE]) == 1


def test_22_blocks_of_the_future_fill_sixteen_places() -> None:
    script = Script(validates=False)
    script.unix_now = float(script.root.header.timestamp_s)
    for i in range(10_000):
        header = script.root.child(round_=i).header
        early = msgspec.structs.replace(header, timestamp_s=script.root.header.timestamp_s + 5)
        script.block(Block(early), f"p{i % 1_000}")
        if i % 50 == 49:
            script.run()
            script.core.validate()
    assert len(script.core.holding.for_time) == 16
    assert script.counts() == {"shed": 9_984}


def waiting_votes(script: Script, count: int) -> Block:
    """So many votes for a proposal that nobody has sent yet."""
    proposal = script.root.child()
    for i in range(count):
        script.vote(vote_for(proposal, f"d{i}"), f"p{i % 16}")
        if i % 4_000 == 3_999:
            script.run()
    script.run()
    assert len(script.core.holding.votes) == count
    return proposal


def test_31_a_burst_of_waiting_votes_is_let_go_in_portions() -> None:
    script = Script(Bounds(release_per_turn=500), validates=False)
    proposal = waiting_votes(script, 20_000)
    script.block(proposal)
    while script.step() or script.core.deadline() <= script.now:
        script.core.validate()
    assert script.counts() == {"cleared": 20_001}
    assert max(script.votes_per_batch) == 500


def test_32_votes_for_a_proposal_that_never_comes_expire_checked_once() -> None:
    script = Script(validates=False)
    waiting_votes(script, 20_000)
    script.later(17)  # two rounds of 8 s
    script.core.validate()
    assert script.counts() == {"expired": 20_000}
    assert len([c for c in script.worker.checked if c[0] == Check.VOTE]) == 20_000
    script.later(60)
    assert script.counts() == {"expired": 20_000}


def test_33_votes_for_another_payload_wait_for_their_time_and_cost_nothing() -> None:
    script = Script()
    proposal = script.root.child()
    script.block(proposal)
    others = [
        msgspec.structs.replace(vote_for(proposal, f"d{i}"), payload_hash=digest(b"other"))
        for i in range(20)
    ]
    for vote in others:
        script.vote(vote)
    script.run()
    assert {h.reason for h in script.core.held()} == {"target"}
    script.later(17)
    assert [script.ends(name_of_vote(vote)) for vote in others] == [["expired"]] * 20
    assert script.weights("p") == 0


def test_35_a_stalled_pool_is_told_once_and_detection_goes_first() -> None:
    bounds = Bounds(ingress_votes=400, ingress_votes_per_peer=400, slices_in_flight=12)
    script = Script(bounds)
    votes = [vote_for(script.root, f"d{i}") for i in range(600)]
    for i, vote in enumerate(votes):
        script.vote(vote, f"p{i % 10}")
        script.turn()
    for _ in range(30):  # nobody answers for 30 s
        script.now += 1
        script.turn()
    assert [(c.subject, c.high) for c in script.load] == [("votes", True), ("mode", True)]
    assert script.core.load.high
    assert len(script.core.lanes.votes.queue) <= 400 + 8 * 256
    assert script.counts()["shed"] > 0
    assert script.core.accounting.by_reason.of("shed isolated") == 0, "nobody is to blame"
    # While it is high, a conflict is skipped and counted.
    script.answer()
    script.turn()
    conflicting = msgspec.structs.replace(votes[-1], payload_hash=digest(b"other"))
    script.run()
    assert script.core.offences.skipped > 0
    assert [(c.subject, c.high) for c in script.load[2:]] == [("votes", False), ("mode", False)]
    # Afterwards detection works again.
    script.vote(conflicting)
    script.run()
    assert len(script.slashable) == 1


@pytest.mark.parametrize("level", [2**31 - 1, -1, 0])
@pytest.mark.parametrize("round_", [2**31 - 1, 0])
def test_41_absurd_levels_and_rounds_end_at_once(level: int, round_: int) -> None:
    script = Script()
    block = script.root.child()
    vote = vote_for(script.root, "d")
    absurd = Block(msgspec.structs.replace(block.header, level=level, round=round_))
    absurd_vote = msgspec.structs.replace(vote, level=level, round=round_)
    # Even when a worker lets the header pass: what is kept by level is not counted up to it.
    script.worker.overrides_header[absurd.raw] = Verdict(0, Judgement.VALID, facts=absurd.facts)
    script.block(absurd)
    script.vote(absurd_vote)
    script.run()
    script.later(61)
    assert script.last(name_of_vote(absurd_vote))[0] in {"stale", "rejected"}
    assert script.ends(name_of(absurd)) != ["cleared"]
    assert script.core.accounting.in_flight == script.core.accounting.held == 0


def test_46_many_missing_parents_are_bounded_and_asked_for_with_patience(
    many: Callable[[int], int],
) -> None:
    bounds = Bounds(held_blocks=6_000, held_blocks_per_peer=6_000, missing=many(1_024))
    script = Script(bounds, validates=False)
    for i in range(many(5_000)):
        script.block(orphan(i), f"evil{i % 100}")
        if i % 50 == 49:
            script.run()
            script.core.validate()
    assert script.counts() == {}
    assert len(script.core.missing) == bounds.missing
    script.later(59)
    script.core.validate()
    asks = [w.hash for w in script.wanted]
    assert max(asks.count(hash_) for hash_ in set(asks)) == 7


def test_46_what_most_blocks_wait_for_is_asked_for_first() -> None:
    script = Script(Bounds(asks_per_turn=1))
    top = script.root.child()
    for i in range(8):
        script.block(orphan(i), f"evil{i}")
    for block in top.chain(3):
        script.block(block, "honest")
    while len(script.core.holding.blocks) < 11:
        script.turn()
        script.confirm()
        script.wanted.clear()
        script.answer()
    script.later(0.4)
    later = [w.hash for w in script.wanted]
    assert later[0] == top.hash


def test_49_a_chain_that_never_becomes_final_stays_within_its_bounds() -> None:
    bounds = Bounds(cleared_blocks=32, table=400, seen=200, held_votes=100, seconds=16)
    script = Script(bounds)
    for round_ in range(200):
        proposal = script.root.child(round_=round_)
        script.block(proposal, f"p{round_ % 8}")
        for i in range(3):
            script.vote(vote_for(proposal, f"d{i}"), f"p{i}")
        script.step()
        script.later(0.5)
    assert script.core.chain.head_level == 101
    assert script.counts() == {"cleared": 800}


def test_votes_beyond_the_ingress_push_out_the_oldest_and_blocks_are_refused() -> None:
    script = Script(Bounds(ingress_votes=10, ingress_blocks=5), start=False)
    votes = [vote_for(script.root, f"d{i}") for i in range(15)]
    blocks = [orphan(i) for i in range(8)]
    for vote in votes:
        script.vote(vote)
    for block in blocks:
        script.block(block)
    script.turn()
    shed = [n for n, e, c in script.events if (e, c) == ("shed", "ingress_full")]
    assert shed == [*map(name_of_vote, votes[:5]), *map(name_of, blocks[5:])]


def test_a_peer_over_its_rate_loses_a_point_a_second_not_one_an_item() -> None:
    script = Script(Bounds(ingress_votes_per_peer=10, votes_per_s_per_peer=1))
    for i in range(60):
        script.vote(vote_for(script.root, f"d{i}"), "loud")
    script.run()
    assert script.core.accounting.by_reason.of("shed peer_rate") == 50
    assert script.weights("loud") == -1
    other: Vote = vote_for(script.root, "d-other")
    script.vote(other, "quiet")
    script.run()
    assert script.last(name_of_vote(other)) == ("cleared", "")


def test_blocks_that_wait_for_a_worker_are_bounded_in_bytes() -> None:
    first, second = orphan(0), orphan(1)
    big = [[b"o" * 600], [], [], []]
    script = Script(Bounds(ingress_blocks_bytes=1_200))
    script.block(Block(first.header, big))
    script.block(Block(second.header, big))
    script.turn()
    assert script.last(name_of(second)) == ("shed", "ingress_full")
    script.run()
    assert script.core.lanes.bytes == 0
    script.block(Block(second.header, big))
    script.run()
    assert script.last(name_of(second)) == ("held", "parent")


@pytest.mark.parametrize(
    "operations", [[[b""] * 3_000_000], [[]] * 3_000_000], ids=["operations", "lists"]
)
def test_a_body_of_millions_of_nothings_is_refused_before_anybody_counts_them(
    operations: list[list[bytes]],
) -> None:
    script = Script()
    ack = script.block(Block(script.root.child().header, operations))
    assert (ack.status, ack.code) == (REFUSED, "malformed")
    assert script.core.accounting.received == 0


def test_small_operations_are_counted_as_what_they_occupy() -> None:
    script = Script(Bounds(held_blocks_bytes=1024 * 1024), validates=False)
    for block in script.root.child().chain(8):  # 4 MiB of objects each, and 0.3 MB of bytes
        script.block(Block(block.header, [[b"%05d" % i for i in range(16_000)] for _ in range(4)]))
        script.run()
        script.core.validate()
    assert script.core.holding.blocks.bytes <= 1024 * 1024
    assert script.counts()["shed"] == 8


def test_no_header_is_looked_at_while_the_store_has_too_much_of_what_is_held() -> None:
    script = Script(Bounds(storing_bytes=1))
    script.block(orphan(0))
    while not script.core.storing.bytes:
        script.turn()
        script.answer()
    script.turn()
    script.block(orphan(1))
    script.turn()
    assert not script.unanswered
    script.confirm()
    script.run()
    assert script.counts() == {}
    assert len(script.core.held()) == 2
    assert script.core.storing.bytes == 0


def test_a_vote_that_finds_no_room_among_the_released_is_shed_and_not_lost() -> None:
    script = Script()
    block = script.root.child()
    for name in ("d1", "d2"):
        script.vote(vote_for(block, name))
    script.run()
    script.core.holding.released.max = 1
    script.block(block)
    script.run()
    assert script.counts() == {"cleared": 2, "shed": 1}
