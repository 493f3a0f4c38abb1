"""Signatures that cannot be made again: when one is kept, found, or must not be made twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from watermark_cases import ALICE, BOB, asked, block

from signers.formats.signable import Signable
from signers.marks.watermark import (
    ADVANCE,
    REPEAT,
    SIGNATURE_LOST,
    Refusal,
    Verdict,
    judge_repeat,
)
from signers.marks.watermark_store import WatermarkStore

FIRST, SECOND = bytes([1]) * 64, bytes([2]) * 96


def take_mark(store: WatermarkStore, signable: Signable, *, expect: bool, version: int = 0) -> None:
    with store.begin() as transaction:
        assert transaction.judge([(ALICE, signable)]) == [ADVANCE]
        if expect:
            transaction.expect_signature(ALICE, signable, version)
        transaction.commit()


def keep(store: WatermarkStore, signable: Signable, signature: bytes, version: int = 0) -> bytes:
    with store.begin() as transaction:
        in_force = transaction.keep_signature(ALICE, signable, version, signature)
        transaction.commit()
    return in_force


def recall(
    store: WatermarkStore, signable: Signable, *, is_elsewhere: bool = True, version: int = 0
) -> bytes | Verdict:
    with store.begin() as transaction:
        return transaction.recall(ALICE, signable, version, is_elsewhere=is_elsewhere)


def is_lost(answer: bytes | Verdict) -> bool:
    return isinstance(answer, Refusal) and answer.code == SIGNATURE_LOST


def test_a_repeat_gets_the_signature_that_was_kept_also_in_another_process(
    store_path: Path,
) -> None:
    with WatermarkStore.open(store_path, wal_bytes=0) as store:
        take_mark(store, block(5), expect=True)
        assert keep(store, block(5), FIRST) == FIRST
    with WatermarkStore.open(store_path, wal_bytes=0) as store:
        assert recall(store, block(5)) == FIRST
        assert recall(store, block(5), is_elsewhere=False) == FIRST, "the key has moved here since"


def test_a_block_whose_signature_was_lost_is_not_signed_again_wherever_its_key_is_now(
    store: WatermarkStore,
) -> None:
    take_mark(store, block(5), expect=True)
    assert is_lost(recall(store, block(5)))
    assert is_lost(recall(store, block(5), is_elsewhere=False))


def test_a_block_of_our_own_key_is_signed_again_but_not_elsewhere(store: WatermarkStore) -> None:
    take_mark(store, block(5), expect=False)
    assert recall(store, block(5), is_elsewhere=False) is REPEAT
    assert is_lost(recall(store, block(5))), "who knows what its signer then was"


def test_a_vote_without_a_signature_may_be_signed_again(store: WatermarkStore) -> None:
    take_mark(store, asked(5), expect=False)
    assert recall(store, asked(5)) is REPEAT
    assert keep(store, asked(5), FIRST) == FIRST
    assert recall(store, asked(5)) == FIRST


def test_the_first_signature_of_some_bytes_stays(store: WatermarkStore) -> None:
    take_mark(store, asked(5), expect=False)
    assert keep(store, asked(5), FIRST) == FIRST
    assert keep(store, asked(5), SECOND) == FIRST
    assert recall(store, asked(5)) == FIRST


def test_a_new_mark_is_expected_anew(store: WatermarkStore) -> None:
    take_mark(store, block(5), expect=True)
    keep(store, block(5), FIRST)
    take_mark(store, block(6), expect=True)
    assert is_lost(recall(store, block(6)))
    assert keep(store, block(6), SECOND) == SECOND
    assert recall(store, block(6)) == SECOND


def test_a_signature_that_comes_after_the_mark_has_moved_on_is_of_no_use(
    store: WatermarkStore,
) -> None:
    take_mark(store, block(5), expect=True)
    take_mark(store, block(6), expect=True)
    assert keep(store, block(5), FIRST) == FIRST, "it may be released all the same"
    assert is_lost(recall(store, block(6)))
    assert keep(store, block(6), SECOND) == SECOND


def test_kinds_versions_and_keys_have_signatures_of_their_own(store: WatermarkStore) -> None:
    take_mark(store, block(5), expect=True, version=1)
    take_mark(store, asked(5), expect=False)
    keep(store, block(5), FIRST, version=1)
    keep(store, asked(5), SECOND)
    assert recall(store, block(5), version=1) == FIRST
    assert recall(store, asked(5)) == SECOND
    assert is_lost(recall(store, block(5), version=2)), "of another version is another signature"
    with store.begin() as transaction:
        transaction.judge([(BOB, block(5))])
        assert is_lost(transaction.recall(BOB, block(5), 1, is_elsewhere=True))


def test_what_is_not_committed_is_not_kept(store: WatermarkStore) -> None:
    take_mark(store, block(5), expect=True)
    with store.begin() as transaction:
        assert transaction.keep_signature(ALICE, block(5), 0, FIRST) == FIRST
    assert is_lost(recall(store, block(5)))


def test_only_what_was_admitted_is_expected(store: WatermarkStore) -> None:
    with store.begin() as transaction, pytest.raises(ValueError, match="not admitted"):
        transaction.expect_signature(ALICE, block(5), 0)


def test_keys_that_the_store_does_not_know_have_none(store: WatermarkStore) -> None:
    with store.begin() as transaction, pytest.raises(ValueError, match="not in this store"):
        transaction.recall("mv1stranger", block(5), 0, is_elsewhere=True)


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
