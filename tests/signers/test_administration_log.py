"""What people change by hand is written down in the transaction that changes it."""

import time
from pathlib import Path

import pytest
from watermark_cases import ALICE, BOB, asked, block, sign

from signers.host import user_name
from signers.marks import administration_log
from signers.marks.store_copies import read_administration
from signers.marks.watermark_store import WatermarkStore


def changes(path: Path) -> list[list[str]]:
    return [list(entry.changes) for entry in read_administration(path)]


def test_an_entry_tells_when_who_how_and_what(store: WatermarkStore, store_path: Path) -> None:
    before = int(time.time())
    with store.begin("watermarks set-floor") as transaction:
        transaction.raise_floor(ALICE, 50)
        transaction.commit()
    entry = read_administration(store_path)[-1]
    assert before <= entry.at <= time.time()
    assert (entry.user, entry.command) == (user_name(), "watermarks set-floor")
    assert entry.changes == [f"{ALICE}: floor 50"]


def test_each_change_by_hand_has_a_sentence(store: WatermarkStore, store_path: Path) -> None:
    with store.begin() as transaction:
        transaction.enable(BOB, ALICE)
        transaction.disable(ALICE)
        transaction.set_ceiling(ALICE, 7)
        transaction.set_ceiling("", None)
        assert transaction.raise_mark(ALICE, asked(5, 1))
        assert not transaction.raise_mark(ALICE, asked(5, 1, "b"))
        assert not transaction.raise_mark(ALICE, asked(4))
        transaction.commit()
    assert changes(store_path)[-1] == [
        f"{BOB}: enabled for {ALICE}",
        f"{ALICE}: disabled for {ALICE}",
        f"{ALICE}: ceiling 7",
        "everyone: no ceiling",
        f"{ALICE}: attestation level 5 round 1",
    ]


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4_123_456)
    assert user_name() == "4123456"


def test_what_is_rolled_back_is_not_logged(store: WatermarkStore, store_path: Path) -> None:
    before = changes(store_path)
    with store.begin() as transaction:
        transaction.raise_floor(ALICE, 50)
    sign(store, ALICE, asked(1), block(1))
    assert changes(store_path) == before


def test_the_log_is_bounded(
    store: WatermarkStore, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(administration_log, "ENTRIES_MAX", 3)
    monkeypatch.setattr(administration_log, "CHANGES_LISTED_MAX", 2)
    for level in range(5):
        with store.begin() as transaction:
            for holder in (ALICE, BOB, ALICE, BOB):
                transaction.raise_floor(holder, level)
            transaction.commit()
    assert changes(store_path) == [
        [f"{ALICE}: floor {level}", f"{BOB}: floor {level}", "and 2 more"] for level in (2, 3, 4)
    ]
