"""Votes that are pushed together: each ends as if it had been pushed alone."""

from __future__ import annotations

import msgspec
import pytest
from quarantine_script import CLIENT, Script
from scripted_chain import Vote, encode, vote_for

from broker.messages import Request
from broker.quarantine.bounds import Bounds
from broker.quarantine.offers import VERIFY_VOTES, VOTES_MAX, vote_ids

ID = bytes(range(16))


def votes_for(script: Script, count: int) -> tuple[list[Vote], list[str]]:
    votes = [vote_for(script.root, f"d{n}") for n in range(count)]
    return votes, [f"v{n}" for n in range(count)]


def test_they_are_acknowledged_once_and_end_under_ids_of_their_own() -> None:
    script = Script()
    votes, names = votes_for(script, 40)
    ack = script.votes(votes, names=names, id_=ID)
    assert (ack.id, ack.status) == (ID, "accepted")
    script.run()
    assert script.counts() == {"cleared": 40}
    assert [ended.id for ended in script.store.log] == vote_ids(ID, 40)
    assert [(vote.senders, vote.id) for vote in script.store.votes] == [
        (("p",), id_) for id_ in vote_ids(ID, 40)
    ]


def test_each_goes_its_own_way() -> None:
    script = Script()
    child = script.root.child()
    votes = [
        vote_for(script.root, "a"),
        vote_for(script.root, "b", signature=b"forged"),
        vote_for(child, "c"),
        vote_for(script.root, "a"),
        msgspec.structs.replace(vote_for(script.root, "e"), level=script.root.header.level - 9),
        vote_for(script.root, "f"),
    ]
    script.votes(votes, "friend", names=["good", "forged", "early", "again", "old", "fine"])
    script.run()
    ends = {name: script.ends(name) for name in ("good", "forged", "again", "old", "fine")}
    assert ends == {
        "good": ["cleared"], "forged": ["rejected"], "again": ["duplicate"], "old": ["stale"],
        "fine": ["cleared"],
    }  # fmt: skip
    assert script.last("early") == ("held", "target")
    script.block(child)
    script.run()
    assert script.ends("early") == ["cleared"]
    assert script.weights("friend") == -20, "for the forged one"


def test_pushed_again_nothing_happens_twice() -> None:
    script = Script()
    votes, names = votes_for(script, 3)
    script.votes(votes, names=names, id_=ID)
    assert script.votes(votes, names=names, id_=ID).status == "duplicate"
    script.run()
    assert script.counts() == {"cleared": 3}
    assert script.core.accounting.received == 3
    assert script.votes(votes, names=names, id_=ID).status == "duplicate"
    script.run()
    assert script.counts() == {"cleared": 6}, "their events are published again"
    assert script.core.accounting.received == 3


def test_pushed_again_after_a_restart_only_what_is_not_known_is_new() -> None:
    script = Script()
    child = script.root.child()
    votes = [vote_for(script.root, "a"), vote_for(child, "b"), vote_for(script.root, "c")]
    names = ["ended", "held", "under way"]
    script.votes(votes[:2], names=names[:2], id_=ID)
    script.run()
    script.restart()
    ack = script.votes(votes, names=names, id_=ID)
    assert ack.status == "accepted"
    script.run()
    assert script.ends("ended") == ["cleared", "cleared"], "published again"
    assert script.ends("under way") == ["cleared"]
    assert [e for n, e, _ in script.events if n == "held"] == ["held"]
    assert script.core.accounting.received == 2
    script.block(child)
    script.run()
    assert script.ends("held") == ["cleared"]


def test_an_empty_one_is_left_out() -> None:
    """So a client pushes again what has not ended."""
    script = Script()
    votes, names = votes_for(script, 3)
    raws = [encode(votes[0]), b"", encode(votes[2])]
    assert script.raw_votes(raws, "p", names, ID).status == "accepted"
    script.run()
    assert script.cleared() == ["v0", "v2"]
    assert script.core.accounting.received == 2
    assert script.raw_votes([b"", b"", raws[2]], "p", names, ID).status == "duplicate"
    script.run()
    assert script.cleared() == ["v0", "v2", "v2"], "published again"
    ack = script.raw_votes([b"", b""], "p", names[:2], bytes(16))
    assert (ack.status, ack.code) == ("refused", "malformed")


def test_what_is_known_or_refused_counts_as_looked_at() -> None:
    """So that a message of such requests holds nobody up: see the service."""
    script = Script()
    votes, names = votes_for(script, 10)
    for number in range(1, 4):
        script.votes(votes, names=names, id_=ID)
        assert script.core.looked_at == number * 11
    script.votes(votes[::-1], names=names, id_=ID)
    assert script.core.looked_at == 44
    script.vote(votes[0])
    script.raw_block(b"", "p", "junk")
    assert script.core.looked_at == 46


def test_an_id_stands_for_the_same_votes() -> None:
    script = Script()
    votes, names = votes_for(script, 4)
    script.votes(votes[:2], names=names[:2], id_=ID)
    for others in (votes[1:3], votes[1:], [votes[0], votes[2], votes[3]]):
        ack = script.votes(others, names=names[: len(others)], id_=ID)
        assert (ack.id, ack.status, ack.code) == (ID, "refused", "id_reused")
    script.run()
    assert script.counts() == {"cleared": 2}
    # One more behind those that are known is one more vote.
    assert script.votes(votes[:3], names=names[:3], id_=ID).status == "accepted"
    script.run()
    assert script.ends("v2") == ["cleared"]


def test_a_peer_has_tokens_for_so_many() -> None:
    script = Script(Bounds(ingress_votes_per_peer=5, votes_per_s_per_peer=1))
    votes, names = votes_for(script, 9)
    assert script.votes(votes, "eager", names=names).status == "accepted"
    script.run()
    assert script.counts() == {"cleared": 5, "shed": 4}
    assert script.last("v8") == ("shed", "peer_rate")


@pytest.mark.parametrize(
    "payload",
    [
        {"peer": "p", "raws": []},
        {"peer": "p", "raws": [b"vote"] * (VOTES_MAX + 1)},
        {"peer": "p", "raws": [b"vote", "text"]},
        {"peer": "p", "raws": b"vote"},
        {"peer": "", "raws": [b"vote"]},
        {"peer": "p", "raw": b"vote"},
        [],
    ],
)
def test_what_is_no_list_of_votes_is_refused_as_a_whole(payload: object) -> None:
    script = Script()
    ack = script.core.pushed(
        CLIENT, Request(ID, VERIFY_VOTES, encode(payload)), script.now, script.unix_now
    )
    assert (ack.id, ack.status, ack.code) == (ID, "refused", "malformed")
    assert script.core.accounting.received == 0


def test_all_have_room_or_none_is_taken() -> None:
    script = Script(start=False)
    votes, names = votes_for(script, 3)
    script.core.requests.open.max = 2  # of what is open in all areas together
    ack = script.votes(votes, names=names, id_=ID)
    assert (ack.status, ack.code, ack.retry_ms > 0) == ("refused", "busy", True)
    assert script.core.accounting.received == 0
    script.votes(votes[:2], names=names[:2], id_=ID)
    assert script.votes(votes[:2], names=names[:2], id_=ID).status == "duplicate"
