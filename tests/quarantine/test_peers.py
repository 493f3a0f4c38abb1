"""How much a peer may send, and how its conduct is weighed."""

from __future__ import annotations

from quarantine_script import Script, name_of
from scripted_chain import vote_for

from broker.quarantine.backoff import Backoff
from broker.quarantine.bounds import Bounds
from broker.quarantine.peers import HALF_LIFE_S, Peers


def test_a_score_is_halved_every_ten_minutes() -> None:
    peer = Peers(Bounds()).meet("p", 0.0)
    peer.weigh(-20, 0.0)
    peer.weigh(-40, HALF_LIFE_S)
    assert peer.score_at(HALF_LIFE_S) == -50
    assert peer.banned(HALF_LIFE_S)
    assert not peer.banned(HALF_LIFE_S + 1)
    assert peer.score_at(2 * HALF_LIFE_S) == -25


def test_tokens_come_back_at_the_rate_up_to_the_burst() -> None:
    peers = Peers(Bounds(ingress_votes_per_peer=4, votes_per_s_per_peer=2))
    peer = peers.meet("p", 0.0)
    peer.tokens_votes = 0.0
    assert not peers.refill_votes(peer, 0.4)
    assert peers.refill_votes(peer, 0.6)
    assert peers.refill_votes(peer, 100.0)
    assert peer.tokens_votes == 4.0


def test_for_a_stranger_the_longest_silent_good_peer_is_forgotten() -> None:
    peers = Peers(Bounds(peers=3))
    bad, busy, good = (peers.meet(name, 0.0) for name in ("bad", "busy", "good"))
    bad.weigh(-40, 0.0)
    busy.open = 1
    peers.meet("stranger", 1.0)
    assert peers.get("good") is None
    assert peers.get("bad") is bad
    assert peers.get("busy") is busy
    assert good is not peers.meet("good", 2.0)
    assert len(peers) == 3


def test_every_sender_of_a_bad_item_pays_and_four_are_noted() -> None:
    script = Script()
    bad = script.root.child(bad="no_quorum")
    for i in range(6):
        script.block(bad, f"p{i}")
    script.run()
    assert [script.weights(f"p{i}") for i in range(6)] == [-10] * 4 + [0, 0]


def test_a_bad_vote_among_many_costs_its_sender_alone() -> None:
    """Scenario 34: each vote is judged by itself, so that there is no batch to poison."""
    script = Script()
    for turn in range(2):
        for i in range(64):
            if i == 31:
                forged = vote_for(script.root, f"evil{turn}", signature=b"forged")
                script.vote(forged, "poisoner", name="forged")
            else:
                script.vote(vote_for(script.root, f"d{turn}.{i}"), "honest", name="good")
        script.run()
    assert script.ends("good") == ["cleared"] * 126
    assert script.last("forged") == ("rejected", "bad_signature")
    assert (script.weights("honest"), script.weights("poisoner")) == (0, -40)


def test_a_banned_peer_is_not_looked_at_and_comes_back_after_a_while() -> None:
    script = Script()
    for i in range(3):
        script.vote(vote_for(script.root, f"d{i}", signature=b"forged"), "evil")
    script.run()
    checked = len(script.worker.checked)
    block = script.root.child()
    script.block(block, "evil")
    script.vote(vote_for(script.root, "d"), "evil")
    script.run()
    assert script.last(name_of(block)) == ("shed", "peer_banned")
    assert script.core.gauges()["peers_banned"] == 1
    assert len(script.worker.checked) <= checked + 1  # the chain at most
    assert script.peers[0].standing == "ban"


def test_a_back_off_doubles_up_to_its_limit_and_starts_over() -> None:
    backoff = Backoff(0.001, 0.016)
    now, waits = 0.0, []
    for _ in range(7):
        backoff.failed(now)
        backoff.failed(now)  # while it waits nothing new is learnt
        waits.append(round((backoff.until - now) * 1000))
        now = backoff.until
    assert waits == [1, 2, 4, 8, 16, 16, 16]
    backoff.succeeded()
    backoff.failed(now)
    assert round((backoff.until - now) * 1000) == 1


def test_bounds_follow_the_number_of_delegates_and_can_be_set() -> None:
    few, many = Bounds.of(100), Bounds.of(4_000, workers=8, held_blocks=7)
    assert few.held_votes < many.held_votes
    assert many.slices_in_flight == 192
    assert many.held_blocks == 7
    assert "held_blocks" in Bounds.names()
