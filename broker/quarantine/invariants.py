"""What must hold in a quarantine between two steps; tests check it after each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.quarantine.items import ASKED, HELD_FROM, LANE, STORING, Item
from broker.verification import HeaderFacts, VoteFacts

if TYPE_CHECKING:
    from broker.quarantine.quarantine import Quarantine


def validate(quarantine: Quarantine) -> None:
    """Raise AssertionError if the items and the areas do not add up."""
    _one_place_for_each_item(quarantine)
    _nobody_waits_for_what_is_cleared(quarantine)
    _within_bounds(quarantine)


def _one_place_for_each_item(quarantine: Quarantine) -> None:
    places: dict[int, int] = {}
    by_peer: dict[int, int] = {}
    for item in quarantine.requests.open.values():
        places[item.place] = places.get(item.place, 0) + 1
        by_peer[id(item.peer)] = by_peer.get(id(item.peer), 0) + 1
    held = sum(count for place, count in places.items() if place >= HELD_FROM)
    accounting = quarantine.accounting
    assert accounting.balance == 0, "an item was lost, or counted twice"
    assert held == accounting.held, (places, accounting.held)
    assert sum(places.values()) - held == accounting.in_flight, (places, accounting.in_flight)
    asked = [w for flight in quarantine.flights.values() for w in flight.items]
    counted = quarantine.holding.counts() | {
        LANE: quarantine.lanes.items,
        ASKED: sum(isinstance(waiting, Item) for waiting in asked),
        STORING: quarantine.storing.asked_for,
    }
    for place, count in counted.items():
        assert places.get(place, 0) == count, (place, places, counted)
    for peer in quarantine.peers.values():
        assert peer.open == by_peer.get(id(peer), 0), peer.name


def _nobody_waits_for_what_is_cleared(quarantine: Quarantine) -> None:
    chain, holding = quarantine.chain, quarantine.holding
    for block in holding.blocks.values():
        facts = block.facts
        assert isinstance(facts, HeaderFacts)
        assert facts.predecessor not in chain, "a block was not released"
        assert facts.level > chain.final_level, "a block is held that can only lose"
    for vote in holding.votes.values():
        said = vote.facts
        assert isinstance(said, VoteFacts)
        assert not chain.takes(said), "not released"
    for missing in quarantine.missing.values():
        assert holding.blocks.awaits(missing.hash), "nobody waits for it"
        assert missing.hash not in holding.blocks, "it is here"
        assert missing.hash not in chain


def _within_bounds(quarantine: Quarantine) -> None:
    bounds = quarantine.bounds
    full = {
        "lane_votes": quarantine.lanes.votes.queue.max,
        "lane_headers": quarantine.lanes.headers.queue.max,
        "lane_blocks": quarantine.lanes.blocks.queue.max,
        "lane_evidence": bounds.evidence,
        "slices": bounds.slices_in_flight + 1,
        "storing": bounds.storing,
        "held_for_parent": bounds.held_blocks,
        "held_for_parent_bytes": bounds.held_blocks_bytes,
        "held_for_target": bounds.held_votes,
        "held_for_time": bounds.held_for_time,
        "held_for_rights": bounds.held_for_rights,
        "missing": bounds.missing,
        "bad": bounds.bad,
        "bad_votes": bounds.bad,
        "seen": bounds.seen,
        "isolated": bounds.isolated,
        "cleared_blocks": bounds.cleared_blocks,
        "cleared_bytes": bounds.cleared_bytes,
        "live_blocks": bounds.live_blocks,
        "table": bounds.table,
        "seconds": bounds.seconds,
        "denounced": bounds.denounced,
        "evidence": bounds.evidence,
        "open_requests": bounds.open,
        "ended_requests": bounds.ended_requests,
        "peers": bounds.peers,
    }
    gauges = quarantine.gauges()
    for name, most in full.items():
        assert gauges[name] <= most, (name, gauges[name], most)
    for peer in quarantine.peers.values():
        assert 0 <= peer.held_blocks <= bounds.held_blocks_per_peer
        assert 0 <= peer.held_for_rights <= bounds.held_for_rights_per_peer
        assert peer.votes_queued >= 0
        assert peer.blocks_queued >= 0
