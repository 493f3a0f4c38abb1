"""What was pushed is waited for until it ends, within bounds."""

from __future__ import annotations

from workers.feed.pushed_items import KNOWN_MAX, PushedItems


def test_blocks_that_have_not_ended_are_counted() -> None:
    pushed = PushedItems()
    pushed.put(b"1", "B1", is_block=True)
    pushed.put(b"2", "oo1", is_block=False)
    assert pushed.blocks == 1
    assert not pushed.end(b"2")
    assert pushed.end(b"1")
    assert not pushed.end(b"1"), "it had ended"
    assert (pushed.blocks, len(pushed)) == (0, 0)
    assert pushed.is_known("oo1")
    assert not pushed.is_known("oo2")


def test_the_oldest_are_not_waited_for_beyond_a_count() -> None:
    pushed = PushedItems(open_max=2)
    for n in range(4):
        pushed.put(b"%d" % n, f"B{n}", is_block=True)
    assert (pushed.blocks, len(pushed)) == (2, 2)
    assert [pushed.end(b"%d" % n) for n in range(4)] == [False, False, True, True]


def test_so_many_hashes_are_known() -> None:
    pushed = PushedItems()
    for number in range(KNOWN_MAX + 1):
        pushed.put(b"1", str(number), is_block=False)
    assert not pushed.is_known("0")
    assert pushed.is_known("1")
