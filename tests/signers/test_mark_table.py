"""Batches against the marks in memory, with no store behind them."""

import pytest
from watermark_cases import ALICE, BOB, CAROL, CHAIN, asked, block, code

from signers.formats.signable import Kind, Signable
from signers.marks.mark_table import MarkTable, last_marks
from signers.marks.watermark import FRESH, MARKED_KINDS, floor_mark


def table(**delegates: str) -> MarkTable:
    """Marks of fresh keys; each name is a key, its value the delegate."""
    marks = MarkTable(CHAIN)
    for number, holder in enumerate(sorted({*delegates, *delegates.values()})):
        marks.number(holder, number)
        for kind in MARKED_KINDS:
            marks.set_mark(holder, floor_mark(kind, CHAIN, FRESH))
    for key, delegate in delegates.items():
        marks.bind(key, delegate, enabled=True)
    return marks


def verdicts(marks: MarkTable, *requests: tuple[str, Signable]) -> list[str]:
    return [code(verdict) for verdict in marks.judge(requests, [])]


def test_of_two_conflicting_requests_in_one_batch_the_second_is_refused() -> None:
    assert verdicts(table(a="a"), ("a", asked(5)), ("a", asked(5, content="b"))) == [
        "advance",
        "watermark_conflict",
    ]


def test_the_same_bytes_twice_in_one_batch_are_a_repeat() -> None:
    assert verdicts(table(a="a"), ("a", asked(5)), ("a", asked(5))) == ["advance", "repeat"]


def test_kinds_have_marks_of_their_own() -> None:
    wanted = [("a", asked(5, content=kind.name, kind=kind)) for kind in MARKED_KINDS]
    assert verdicts(table(a="a"), *wanted) == ["advance"] * 4


def test_a_rotated_consensus_key_does_not_reset_protection() -> None:
    marks = table(old="d", new="d")
    assert verdicts(marks, ("old", asked(5))) == ["advance"]
    assert verdicts(marks, ("new", asked(5, content="b"))) == ["watermark_conflict"]
    assert verdicts(marks, ("new", asked(4))) == ["watermark_below"]
    assert verdicts(marks, ("new", asked(6))) == ["advance"]
    assert verdicts(marks, ("old", asked(6, content="b"))) == ["watermark_conflict"]


def test_the_delegates_own_key_and_its_consensus_key_share_a_mark() -> None:
    marks = table(d="d", consensus="d")
    assert verdicts(marks, ("d", asked(5))) == ["advance"]
    assert verdicts(marks, ("consensus", asked(5, content="b"))) == ["watermark_conflict"]


def test_the_text_of_a_refusal_by_the_delegates_mark_names_the_delegate() -> None:
    marks = table(old="d", new="d")
    (_, refusal) = marks.judge([("old", asked(5)), ("new", asked(4))], [])
    assert "d already signed level 5" in refusal.text


def test_a_refused_request_moves_no_mark() -> None:
    marks, entries = table(old="d", new="d"), []
    marks.judge([("old", asked(5)), ("new", asked(5, content="b"))], entries)
    assert marks.mark("new", Kind.ATTESTATION).level == FRESH
    assert len(entries) == 2  # of the old key and of the delegate


@pytest.mark.parametrize("kind", [Kind.GENERIC, Kind.AUTHENTICATION])
def test_what_has_no_level_has_no_mark_but_needs_an_enabled_key(kind: Kind) -> None:
    asked_for = Signable(kind, b"", 0, 0, bytes(32))
    assert verdicts(table(a="a"), ("a", asked_for), ("b", asked_for)) == ["unmarked", "no_mark"]


def test_a_key_that_the_store_does_not_know_is_refused() -> None:
    assert verdicts(table(a="a"), ("b", asked(5))) == ["no_mark"]


def test_a_key_without_a_row_for_the_kind_is_refused() -> None:
    marks = MarkTable(CHAIN)
    marks.number("a", 1)
    marks.set_mark("a", floor_mark(Kind.BLOCK, CHAIN, FRESH))
    marks.bind("a", "a", enabled=True)
    assert verdicts(marks, ("a", asked(5)), ("a", block(5))) == ["no_mark", "advance"]


def test_a_key_whose_delegate_has_no_mark_is_refused() -> None:
    marks = MarkTable(CHAIN)
    for number, holder in enumerate("ad"):
        marks.number(holder, number)
    for kind in MARKED_KINDS:
        marks.set_mark("a", floor_mark(kind, CHAIN, FRESH))
    marks.bind("a", "d", enabled=True)
    assert verdicts(marks, ("a", asked(5))) == ["no_mark"]


def test_a_disabled_key_is_refused() -> None:
    marks = table(a="a")
    marks.number("b", 7)
    marks.bind("b", "a", enabled=False)
    assert verdicts(marks, ("b", asked(5))) == ["key_disabled"]


def test_what_one_table_admits_another_refuses_once_it_has_replayed() -> None:
    one, other, entries = table(old="d", new="d"), table(old="d", new="d"), []
    one.judge([("old", asked(5, 2)), ("new", block(7))], entries)
    other.replay(b"".join(entries))
    assert verdicts(other, ("new", asked(5, 2, "b")), ("old", block(7, 0, "b"))) == [
        "watermark_conflict",
        "watermark_conflict",
    ]
    assert other.mark("d", Kind.ATTESTATION) == asked(5, 2)


def test_folding_finds_the_last_mark_of_each_holder_and_kind() -> None:
    marks, first, second = table(a="a"), [], []
    marks.judge([("a", asked(5)), ("a", block(5))], first)
    marks.judge([("a", asked(6, 1))], second)
    assert sorted(last_marks([b"".join(first), b"".join(second)])) == [
        (0, Kind.BLOCK, 5, 0, block(5).digest),
        (0, Kind.ATTESTATION, 6, 1, asked(6, 1).digest),
    ]


def test_a_level_that_no_journal_entry_can_hold_moves_nothing() -> None:
    marks = table(a="a")
    with pytest.raises(Exception, match="format"):
        marks.judge([("a", asked(2**31))], [])
    assert marks.mark("a", Kind.ATTESTATION).level == FRESH


def test_keys_come_in_the_order_in_which_the_store_knows_them() -> None:
    assert [bound.key for bound in table(**{CAROL: ALICE, BOB: BOB}).bound_keys()] == [BOB, CAROL]
