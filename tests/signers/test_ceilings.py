"""Nothing is signed above a ceiling: the rule, in the store, and over all its processes."""

import pytest
from child_process import Child
from watermark_cases import ALICE, BOB, CAROL, CHAIN, asked, block, code, make_store, sign

from signers.formats.signable import Kind, Signable
from signers.marks.store_copies import read_store
from signers.marks.watermark import ADVANCE, EVERYONE, REPEAT, Ceiling, Refusal, judge_ceiling
from signers.marks.watermark_store import WatermarkStore


def set_ceiling(store: WatermarkStore, holder: str, level: int | None) -> None:
    with store.begin() as transaction:
        transaction.set_ceiling(holder, level)
        transaction.commit()


def codes(store: WatermarkStore, key: str, *signables: Signable) -> list[str]:
    return [code(verdict) for verdict in sign(store, key, *signables)]


def test_the_ceiling_itself_is_signed_and_no_level_above() -> None:
    ceiling = Ceiling(100, ALICE)
    assert judge_ceiling(ceiling, asked(100, 9), ADVANCE) is ADVANCE
    assert judge_ceiling(ceiling, asked(100), REPEAT) is REPEAT
    assert code(judge_ceiling(ceiling, asked(101), ADVANCE)) == "sign_until"
    assert code(judge_ceiling(ceiling, asked(101), REPEAT)) == "sign_until"
    assert judge_ceiling(None, asked(101), ADVANCE) is ADVANCE


def test_the_refusal_names_both_levels_and_whose_ceiling_it_is() -> None:
    for holder, whose in ((ALICE, ALICE), (EVERYONE, "every key")):
        refusal = judge_ceiling(Ceiling(100, holder), asked(105, 2), ADVANCE)
        assert isinstance(refusal, Refusal)
        for words in ("level 105 round 2", "until level 100", whose):
            assert words in refusal.text


def test_what_the_mark_refuses_keeps_its_own_reason(store: WatermarkStore) -> None:
    assert codes(store, ALICE, asked(200)) == ["advance"]
    set_ceiling(store, ALICE, 100)
    assert codes(store, ALICE, asked(150), asked(200, content="b"), asked(200)) == [
        "watermark_below",
        "watermark_conflict",
        "sign_until",
    ]


def test_a_refused_request_moves_no_mark(store: WatermarkStore) -> None:
    set_ceiling(store, ALICE, 100)
    assert codes(store, ALICE, asked(101), asked(100), block(101)) == [
        "sign_until",
        "advance",
        "sign_until",
    ]


def test_a_ceiling_is_for_one_key_or_for_everyone(store: WatermarkStore) -> None:
    set_ceiling(store, ALICE, 100)
    assert codes(store, BOB, asked(101)) == ["advance"]
    set_ceiling(store, EVERYONE, 50)
    assert codes(store, ALICE, asked(51)) == ["sign_until"]
    assert codes(store, BOB, asked(102)) == ["sign_until"]


def test_a_ceiling_of_a_delegate_binds_each_of_his_keys(tmp_path: pytest.TempPathFactory) -> None:
    path = tmp_path / "watermarks.db"
    make_store(path, ALICE, BOB, **{ALICE: CAROL, BOB: CAROL})
    with WatermarkStore.open(path, wal_bytes=0) as store:
        set_ceiling(store, CAROL, 100)
        set_ceiling(store, BOB, 150)
        assert codes(store, ALICE, asked(101)) == ["sign_until"]
        assert codes(store, BOB, asked(101)) == ["sign_until"]


def test_generic_bytes_have_no_level(store: WatermarkStore) -> None:
    set_ceiling(store, EVERYONE, 0)
    assert codes(store, ALICE, Signable(Kind.GENERIC, b"", 0, 0, bytes(32))) == ["unmarked"]


def test_a_lifted_ceiling_binds_nobody(store: WatermarkStore) -> None:
    set_ceiling(store, ALICE, 100)
    set_ceiling(store, EVERYONE, 100)
    set_ceiling(store, ALICE, None)
    assert codes(store, ALICE, asked(101)) == ["sign_until"]
    set_ceiling(store, EVERYONE, None)
    assert codes(store, ALICE, asked(101)) == ["advance"]


def test_other_processes_obey_a_ceiling_from_its_commit_on(store_path: object) -> None:
    with Child(store_path) as child:
        assert child.ask(f"sign {ALICE} 101 a") == "advance"
        with WatermarkStore.open(store_path, wal_bytes=0) as store:
            set_ceiling(store, EVERYONE, 101)
            assert child.ask(f"sign {ALICE} 102 a") == "sign_until"
            set_ceiling(store, EVERYONE, None)
            assert child.ask(f"sign {ALICE} 102 a") == "advance"


def test_a_ceiling_outlives_folds_and_reopening(store_path: object) -> None:
    with WatermarkStore.open(store_path, wal_bytes=0) as store:
        set_ceiling(store, ALICE, 100)
        for level in range(70):
            sign(store, ALICE, asked(level))
        assert store.fold_if_due(idle=True)
    with WatermarkStore.open(store_path, wal_bytes=0) as store:
        assert codes(store, ALICE, asked(101)) == ["sign_until"]
    assert read_store(store_path).content.marks.ceilings() == {ALICE: 100}
    assert read_store(store_path).identity.chain_id == CHAIN
