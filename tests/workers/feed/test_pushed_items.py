"""What was pushed is waited for until it ends, within bounds."""

from __future__ import annotations

from workers.feed.pushed_items import KNOWN_MAX, PushedItems


def test_blocks_that_have_not_ended_are_counted() -> None:
    pushed = PushedItems()
    assert pushed.put(b"1", "B1", 10, is_block=True)
    assert pushed.put(b"2", "oo1", 10, is_block=False)
    assert pushed.blocks == 1
    assert not pushed.end(b"2")
    assert pushed.end(b"1")
    assert not pushed.end(b"1"), "it had ended"
    assert (pushed.blocks, len(pushed)) == (0, 0)
    assert pushed.is_known("oo1")
    assert not pushed.is_known("oo2")


def test_there_is_room_for_a_count() -> None:
    pushed = PushedItems(open_max=2)
    room = [pushed.put(b"%d" % n, f"B{n}", 1, is_block=True) for n in range(3)]
    assert room == [True, True, False]
    assert (pushed.blocks, len(pushed)) == (2, 2)
    assert not pushed.is_known("B2"), "it may come again"
    pushed.end(b"0")
    assert pushed.put(b"2", "B2", 1, is_block=True)


def test_there_is_room_for_a_size() -> None:
    pushed = PushedItems(open_bytes_max=100)
    assert pushed.put(b"1", "B1", 500, is_block=True), "one always has room"
    assert not pushed.put(b"2", "oo2", 1, is_block=False)
    pushed.end(b"1")
    room = [pushed.put(b"%d" % n, f"oo{n}", 40, is_block=False) for n in range(3)]
    assert room == [True, True, False]


def test_what_was_pushed_together_is_kept_until_all_of_it_has_ended() -> None:
    pushed = PushedItems(open_bytes_max=100)
    for number in (b"1", b"2"):
        assert pushed.put(number, f"oo{number!r}", 40, request=b"both")
    assert not pushed.put(b"3", "oo3", 40)
    pushed.end(b"1")
    pushed.end(b"1")
    assert not pushed.put(b"3", "oo3", 40), "it may have to be pushed again, with the other one"
    pushed.end(b"2")
    assert pushed.put(b"3", "oo3", 100)
    assert len(pushed) == 1


def test_so_many_hashes_are_known() -> None:
    pushed = PushedItems()
    for number in range(KNOWN_MAX + 1):
        pushed.put(b"1", str(number), 1, is_block=False)
        pushed.end(b"1")
    assert not pushed.is_known("0")
    assert pushed.is_known("1")
