"""Signatures that cannot be made again: when one is kept, found, or must not be made twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from watermark_cases import ALICE, BOB, asked, code

from signers.formats.signable import Kind, Signable
from signers.marks import kept_signatures
from signers.marks.store_copies import back_up
from signers.marks.watermark import (
    ADVANCE,
    CONFLICT,
    REPEAT,
    SIGNATURE_LOST,
    Refusal,
    judge_repeat,
)
from signers.marks.watermark_store import Judgement, WatermarkStore

FIRST, SECOND = bytes([1]) * 64, bytes([2]) * 96


def block(level: int, round: int = 0, content: str = "a") -> Signable:
    """A block, whose digest is another at each place, as it is of real ones."""
    return asked(level, round, f"{content} {level} {round}", Kind.BLOCK)


def judge(
    store: WatermarkStore,
    signable: Signable,
    *,
    may_differ: bool = True,
    version: int = 0,
    key: str = ALICE,
) -> Judgement:
    """Judge and commit; `may_differ`: the key is with a signer elsewhere."""
    with store.begin() as transaction:
        judgement = transaction.judge_and_recall(key, signable, version, may_differ=may_differ)
        transaction.commit()
    return judgement


def expect(store: WatermarkStore, signable: Signable, **options: int) -> int:
    """Take the mark, or what was withdrawn; the number under which the signer may be asked."""
    judgement = judge(store, signable, **options)  # type: ignore[arg-type]
    assert judgement.signature is None
    assert judgement.expectation is not None
    return judgement.expectation


def keep(store: WatermarkStore, signable: Signable, signature: bytes, version: int = 0) -> bytes:
    with store.begin() as transaction:
        in_force = transaction.keep_signature(ALICE, signable, version, signature)
        transaction.commit()
    return in_force


def withdraw(store: WatermarkStore, signable: Signable, number: int, version: int = 0) -> None:
    with store.begin() as transaction:
        transaction.withdraw_expectation(ALICE, signable, version, number)
        transaction.commit()


def is_lost(judgement: Judgement) -> bool:
    return judgement == Judgement(judgement.verdict) and code(judgement.verdict) == SIGNATURE_LOST


# -- kept -----------------------------------------------------------------------------------------


def test_a_repeat_gets_the_signature_that_was_kept_also_in_another_process(
    store_path: Path,
) -> None:
    with WatermarkStore.open(store_path, wal_bytes=0) as store:
        expect(store, block(5))
        assert keep(store, block(5), FIRST) == FIRST
    with WatermarkStore.open(store_path, wal_bytes=0) as store:
        assert judge(store, block(5)) == Judgement(REPEAT, FIRST)
        here = judge(store, block(5), may_differ=False)
        assert here == Judgement(REPEAT, FIRST), "the key has moved here since"


def test_a_vote_without_a_signature_may_be_signed_again(store: WatermarkStore) -> None:
    assert judge(store, asked(5)) == Judgement(ADVANCE)
    assert judge(store, asked(5)) == Judgement(REPEAT)
    assert keep(store, asked(5), FIRST) == FIRST
    assert judge(store, asked(5)) == Judgement(REPEAT, FIRST)


def test_the_first_signature_of_some_bytes_stays(store: WatermarkStore) -> None:
    judge(store, asked(5))
    assert keep(store, asked(5), FIRST) == FIRST
    assert keep(store, asked(5), SECOND) == FIRST
    assert judge(store, asked(5)) == Judgement(REPEAT, FIRST)


def test_a_new_mark_is_expected_anew(store: WatermarkStore) -> None:
    expect(store, block(5))
    keep(store, block(5), FIRST)
    expect(store, block(6))
    assert is_lost(judge(store, block(6)))
    assert keep(store, block(6), SECOND) == SECOND
    assert judge(store, block(6)) == Judgement(REPEAT, SECOND)


def test_a_signature_that_comes_after_the_mark_has_moved_on_is_of_no_use(
    store: WatermarkStore,
) -> None:
    expect(store, block(5))
    expect(store, block(6))
    assert keep(store, block(5), FIRST) == FIRST, "it may be released all the same"
    assert is_lost(judge(store, block(6)))
    assert keep(store, block(6), SECOND) == SECOND


def test_kinds_versions_and_keys_have_signatures_of_their_own(store: WatermarkStore) -> None:
    expect(store, block(5), version=1)
    judge(store, asked(5))
    keep(store, block(5), FIRST, version=1)
    keep(store, asked(5), SECOND)
    assert judge(store, block(5), version=1) == Judgement(REPEAT, FIRST)
    assert judge(store, asked(5)) == Judgement(REPEAT, SECOND)
    assert is_lost(judge(store, block(5), version=2)), "of another version is another signature"
    assert judge(store, block(5), version=1, key=BOB).verdict is ADVANCE


def test_what_is_not_committed_is_not_kept(store: WatermarkStore) -> None:
    expect(store, block(5))
    with store.begin() as transaction:
        assert transaction.keep_signature(ALICE, block(5), 0, FIRST) == FIRST
    assert is_lost(judge(store, block(5)))


# -- lost -----------------------------------------------------------------------------------------


def test_a_block_whose_signature_was_lost_is_not_signed_again_wherever_its_key_is_now(
    store: WatermarkStore,
) -> None:
    expect(store, block(5))
    assert is_lost(judge(store, block(5)))
    assert is_lost(judge(store, block(5), may_differ=False))


def test_a_block_of_our_own_key_is_signed_again_but_not_elsewhere(store: WatermarkStore) -> None:
    assert judge(store, block(5), may_differ=False) == Judgement(ADVANCE)
    assert judge(store, block(5), may_differ=False) == Judgement(REPEAT)
    assert is_lost(judge(store, block(5))), "who knows what its signer then was"


def test_other_bytes_are_a_conflict_and_change_nothing_of_what_is_expected(
    store: WatermarkStore,
) -> None:
    number = expect(store, block(5))
    assert code(judge(store, block(5, content="b")).verdict) == CONFLICT
    assert is_lost(judge(store, block(5)))
    withdraw(store, block(5), number)
    assert expect(store, block(5)) > number


@pytest.mark.parametrize("may_differ", [True, False])
def test_a_second_signature_is_an_offence_for_blocks_alone(may_differ: bool) -> None:
    assert judge_repeat(asked(5), ALICE, may_differ=may_differ) is REPEAT
    verdict = judge_repeat(block(5, 2), ALICE, may_differ=may_differ)
    if may_differ:
        assert isinstance(verdict, Refusal)
        assert verdict.code == SIGNATURE_LOST
        assert "block at level 5 round 2" in verdict.text
        assert ALICE in verdict.text
    else:
        assert verdict is REPEAT


# -- withdrawn ------------------------------------------------------------------------------------


def test_a_block_that_surely_nobody_has_signed_is_asked_for_again(store: WatermarkStore) -> None:
    first = expect(store, block(5))
    withdraw(store, block(5), first)
    judgement = judge(store, block(5))
    assert judgement.verdict is REPEAT
    assert judgement.expectation not in (None, first)


def test_the_repeat_is_expected_in_its_turn_so_the_next_one_waits(store: WatermarkStore) -> None:
    withdraw(store, block(5), expect(store, block(5)))
    second = expect(store, block(5))
    assert is_lost(judge(store, block(5)))
    assert is_lost(judge(store, block(5), may_differ=False)), "nor do we sign it ourselves"
    assert keep(store, block(5), FIRST) == FIRST
    withdraw(store, block(5), second)
    assert judge(store, block(5)) == Judgement(REPEAT, FIRST), "what is kept stays"


def test_only_the_attempt_that_expects_it_can_withdraw(store: WatermarkStore) -> None:
    first = expect(store, block(5))
    withdraw(store, block(5), first)
    second = expect(store, block(5))
    for number in (first, second - 1, second + 1, 0):
        withdraw(store, block(5), number)
    assert is_lost(judge(store, block(5))), "the attempt of before has nothing more to say"
    withdraw(store, block(5), second)
    assert expect(store, block(5)) > second


def test_a_number_is_that_of_its_commit_and_so_no_other_attempts(store: WatermarkStore) -> None:
    first = expect(store, block(5))
    assert store.statistics().seq == first
    withdraw(store, block(5), first)
    assert store.statistics().seq == first + 1
    assert expect(store, block(5)) == store.statistics().seq == first + 2
    withdraw(store, block(5), first + 2)
    judge(store, block(5), may_differ=False)
    assert store.statistics().seq == first + 4, "what is forgotten is a commit, too"


def test_nothing_expects_over_anothers_expectation_or_signature(store: WatermarkStore) -> None:
    expect(store, block(5))
    for _ in range(2):
        with store.begin(), pytest.raises(ValueError, match="expected by somebody else"):
            kept_signatures.expect(store._connection, 1, block(5), 0, 99)
        keep(store, block(5), FIRST)


def test_of_two_processes_that_would_take_it_over_one_does(
    store_path: Path, store: WatermarkStore
) -> None:
    withdraw(store, block(5), expect(store, block(5)))
    with WatermarkStore.open(store_path, wal_bytes=0) as other:
        expect(other, block(5))
        assert is_lost(judge(store, block(5)))


def test_what_is_withdrawn_is_of_these_bytes_and_this_version_alone(store: WatermarkStore) -> None:
    number = expect(store, block(5))
    withdraw(store, block(5, content="b"), number)
    withdraw(store, block(5), number, version=1)
    withdraw(store, asked(5), number)
    assert is_lost(judge(store, block(5)))


def test_after_the_mark_has_moved_on_nothing_is_withdrawn(store: WatermarkStore) -> None:
    number = expect(store, block(5))
    expect(store, block(6))
    withdraw(store, block(5), number)
    assert is_lost(judge(store, block(6)))


def test_an_expectation_that_was_not_committed_stands(store: WatermarkStore) -> None:
    number = expect(store, block(5))
    with store.begin() as transaction:
        transaction.withdraw_expectation(ALICE, block(5), 0, number)
    assert is_lost(judge(store, block(5)))


def test_a_repeat_that_was_not_committed_leaves_it_withdrawn(store: WatermarkStore) -> None:
    withdraw(store, block(5), expect(store, block(5)))
    with store.begin() as transaction:
        transaction.judge_and_recall(ALICE, block(5), 0, may_differ=True)
    assert judge(store, block(5)).expectation is not None


def test_it_stays_withdrawn_in_the_next_process_and_in_a_backup(
    store_path: Path, tmp_path: Path
) -> None:
    with WatermarkStore.open(store_path, wal_bytes=0) as store:
        withdraw(store, block(5), expect(store, block(5)))
    back_up(store_path, tmp_path / "backup")
    with WatermarkStore.open(store_path, wal_bytes=0) as store:
        assert judge(store, block(5)).expectation is not None


def test_where_our_own_key_signs_what_was_withdrawn_no_other_signer_may(
    store: WatermarkStore,
) -> None:
    withdraw(store, block(5), expect(store, block(5)))
    assert judge(store, block(5), may_differ=False) == Judgement(REPEAT)
    assert is_lost(judge(store, block(5)))
    assert judge(store, block(5), may_differ=False) == Judgement(REPEAT)


def test_a_vote_has_no_expectation(store: WatermarkStore) -> None:
    assert judge(store, asked(5)).expectation is None
    withdraw(store, asked(5), store.statistics().seq)
    assert judge(store, asked(5)) == Judgement(REPEAT)


def test_two_new_blocks_of_a_key_in_one_transaction_have_one_after_the_other(
    store: WatermarkStore,
) -> None:
    with store.begin() as transaction:
        judged = [
            transaction.judge_and_recall(ALICE, each, 0, may_differ=True)
            for each in (block(5), block(5), block(6), block(5))
        ]
        transaction.commit()
    assert [code(each.verdict) for each in judged] == [
        "advance", SIGNATURE_LOST, "advance", "watermark_below",
    ]  # fmt: skip
    assert judged[0].expectation is not None
    withdraw(store, block(5), judged[0].expectation)
    assert is_lost(judge(store, block(6))), "they have the same number, and other bytes"


# -- what is no key of the store's ----------------------------------------------------------------


def test_keys_that_the_store_does_not_know_have_none(store: WatermarkStore) -> None:
    assert code(judge(store, block(5), key="mv1stranger").verdict) == "no_mark"
    with store.begin() as transaction, pytest.raises(ValueError, match="not in this store"):
        transaction.withdraw_expectation("mv1stranger", block(5), 0, 1)
