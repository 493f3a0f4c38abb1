"""What was pushed is kept until it ends, within bounds."""

from __future__ import annotations

from broker.quarantine.items import BlockOffer, VoteOffer
from workers.feed.pushed_items import KNOWN_MAX, PushedItems


def vote(content: bytes = b"vote") -> VoteOffer:
    return VoteOffer("p", content)


def test_an_item_is_given_back_once() -> None:
    pushed = PushedItems()
    assert pushed.put(b"1", "oo1", vote()) == 0
    assert pushed.end(b"1") == vote()
    assert pushed.end(b"1") is None
    assert pushed.is_known("oo1")
    assert not pushed.is_known("oo2")


def test_the_oldest_are_forgotten_beyond_a_count() -> None:
    pushed = PushedItems(open_max=2)
    assert [pushed.put(b"%d" % n, f"oo{n}", vote(b"%d" % n)) for n in range(4)] == [0, 0, 1, 1]
    assert [pushed.end(b"%d" % n) for n in range(4)] == [None, None, vote(b"2"), vote(b"3")]


def test_the_oldest_are_forgotten_beyond_a_size() -> None:
    pushed = PushedItems(open_bytes_max=100)
    block = BlockOffer("p", bytes(30), [[bytes(10)], [], [], [bytes(20)]])
    assert [pushed.put(b"%d" % n, f"B{n}", block) for n in range(3)] == [0, 1, 1]
    assert len(pushed) == 1
    assert pushed.end(b"2") == block
    assert pushed.put(b"3", "B3", BlockOffer("p", bytes(500), [])) == 0, "one always has room"
    assert pushed.put(b"4", "B4", vote()) == 1


def test_so_many_hashes_are_known() -> None:
    pushed = PushedItems()
    for number in range(KNOWN_MAX + 1):
        pushed.put(b"1", str(number), vote())
    assert not pushed.is_known("0")
    assert pushed.is_known("1")
