"""Looking at a store, backing it up and restoring it while a pool has it open."""

import os
import sqlite3
from pathlib import Path

import pytest
from watermark_cases import ALICE, BOB, CHAIN, asked, block, code, sign

from signers.formats.signable import Kind
from signers.marks.store_copies import back_up, read_store, restore
from signers.marks.store_errors import StoreCorrupt, StoreExists, StoreMissing
from signers.marks.watermark_store import FOLD_COMMITS_IDLE, WatermarkStore


def open_store(path: Path) -> WatermarkStore:
    return WatermarkStore.open(path, wal_bytes=0)


def test_reading_sees_what_is_folded_and_what_is_not(
    store: WatermarkStore, store_path: Path
) -> None:
    for level in range(FOLD_COMMITS_IDLE):
        sign(store, ALICE, asked(level))
    store.fold_if_due(idle=True)
    sign(store, ALICE, asked(500, 3), block(501))
    view = read_store(store_path)
    assert view.identity == (store.uuid, store.host_id, "mavryk", CHAIN)
    assert view.content.seq == store.statistics().seq
    assert view.content.marks.mark(ALICE, Kind.ATTESTATION) == asked(500, 3)
    assert view.content.marks.mark(ALICE, Kind.BLOCK) == block(501)
    assert [bound.key for bound in view.content.marks.bound_keys()] == [ALICE, BOB]


def test_reading_waits_for_no_writer(store: WatermarkStore, store_path: Path) -> None:
    sign(store, ALICE, asked(5))
    with store.begin() as transaction:
        transaction.judge([(ALICE, asked(6))])
        assert read_store(store_path).content.marks.mark(ALICE, Kind.ATTESTATION) == asked(5)


def test_reading_leaves_the_store_as_it_was(store: WatermarkStore, store_path: Path) -> None:
    read_store(store_path)
    store.health()
    assert code(sign(store, ALICE, asked(5))[0]) == "advance"


def test_a_backup_of_a_store_in_use_is_one_file_of_one_moment(
    store: WatermarkStore, store_path: Path, tmp_path: Path
) -> None:
    sign(store, ALICE, asked(5))
    (tmp_path / "backups").mkdir()
    back_up(store_path, tmp_path / "backups" / "one")
    sign(store, ALICE, asked(6))
    assert os.listdir(tmp_path / "backups") == ["one"]
    assert (tmp_path / "backups" / "one").stat().st_mode & 0o777 == 0o600
    view = restore(tmp_path / "backups" / "one", tmp_path / "restored.db", floor=2)
    assert view.content.marks.mark(ALICE, Kind.ATTESTATION) == asked(5)


def test_a_backup_replaces_nothing(store_path: Path, tmp_path: Path) -> None:
    (tmp_path / "one").write_text("older")
    with pytest.raises(StoreExists):
        back_up(store_path, tmp_path / "one")
    assert (tmp_path / "one").read_text() == "older"


def test_a_restored_store_signs_above_the_floor_only(
    store: WatermarkStore, store_path: Path, tmp_path: Path
) -> None:
    """Scenario 51: what the older backup does not know is closed by the floor."""
    sign(store, ALICE, asked(5), block(300))
    back_up(store_path, tmp_path / "backup")
    sign(store, ALICE, asked(90))  # which the backup does not know
    before = store.statistics().seq
    restore(tmp_path / "backup", tmp_path / "new.db", floor=100)
    with open_store(tmp_path / "new.db") as restored:
        assert restored.uuid != store.uuid
        assert restored.statistics().seq >= before
        verdicts = sign(restored, ALICE, asked(90, 0, "b"), asked(100), asked(101), block(200))
        assert [code(verdict) for verdict in verdicts] == [
            "watermark_below",
            "watermark_below",
            "advance",
            "watermark_below",
        ]
        assert code(sign(restored, BOB, asked(100))[0]) == "watermark_below"


def test_a_store_is_never_restored_over(store_path: Path, tmp_path: Path) -> None:
    back_up(store_path, tmp_path / "backup")
    content = store_path.read_bytes()
    with pytest.raises(StoreExists, match="never replaced"):
        restore(tmp_path / "backup", store_path, floor=100)
    assert store_path.read_bytes() == content
    assert not list(tmp_path.glob("*.new-*"))


def test_a_backup_moves_to_another_host(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(store_path, tmp_path / "backup")
    monkeypatch.setenv("FORGEPOOL_HOST_ID", "new host")
    restore(tmp_path / "backup", tmp_path / "new.db", floor=100)
    with open_store(tmp_path / "new.db") as store:
        assert store.host_id == "new host"


def test_what_is_no_backup_is_not_restored(store_path: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        restore(tmp_path / "nothing", tmp_path / "new.db", floor=1)
    (tmp_path / "text").write_text("no database")
    foreign = sqlite3.connect(tmp_path / "foreign")
    foreign.execute("CREATE TABLE marks (a)")
    foreign.close()
    back_up(store_path, tmp_path / "torn")
    os.truncate(tmp_path / "torn", 8192)
    for name in ("text", "foreign", "torn"):
        with pytest.raises(StoreCorrupt):
            restore(tmp_path / name, tmp_path / "new.db", floor=1)
    assert not (tmp_path / "new.db").exists()
