"""Stores of older layouts are brought to the newest one; those of a newer one are left alone."""

import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Barrier, Thread

import pytest
from watermark_cases import ALICE, BOB, CAROL, asked, block, code, sign

from signers.formats.signable import Kind
from signers.marks import store_layouts
from signers.marks.store_copies import back_up, read_administration, read_store, restore
from signers.marks.store_errors import StoreCorrupt, WrongStore
from signers.marks.watermark import REPEAT
from signers.marks.watermark_store import Judgement, WatermarkStore

LAYOUT_1, LAYOUT_2 = (
    (Path(__file__).parent / "vectors" / f"store_layout_{layout}.sql").read_text()
    for layout in (1, 2)
)


def make(path: Path, script: str) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
        connection.execute("PRAGMA journal_mode = wal")
    return path


@pytest.fixture(autouse=True)
def _on_the_host_of_the_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORGEPOOL_HOST_ID", "vector host")


@pytest.fixture
def old_path(tmp_path: Path) -> Path:
    """A store as forgepool made it before there were ceilings."""
    return make(tmp_path / "watermarks.db", LAYOUT_1)


def layout(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return store_layouts.read_layout(connection)


def schema(path: Path) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE name != 'padding' ORDER BY name"
        ).fetchall()


def test_opening_an_old_store_keeps_every_mark(old_path: Path) -> None:
    assert layout(old_path) == 1
    with WatermarkStore.open(old_path, wal_bytes=0) as store:
        verdicts = [
            *sign(store, ALICE, asked(7), asked(7, content="b"), block(6), block(5)),
            *sign(store, BOB, asked(101, content="b"), asked(101), block(100), block(101)),
        ]
    assert [code(verdict) for verdict in verdicts] == [
        *("repeat", "watermark_conflict", "repeat", "watermark_below"),
        *("repeat", "watermark_conflict", "watermark_below", "advance"),
    ]
    assert layout(old_path) == store_layouts.NEWEST


@pytest.mark.parametrize("script", [LAYOUT_1, LAYOUT_2], ids=[1, 2])
def test_an_old_store_becomes_what_a_new_one_is(tmp_path: Path, script: str) -> None:
    old_path = make(tmp_path / "watermarks.db", script)
    read_store(old_path)
    WatermarkStore.create(tmp_path / "new.db", network="mavryk", chain_id=bytes(4))
    assert schema(old_path) == schema(tmp_path / "new.db")


def test_what_was_expected_before_there_were_numbers_is_withdrawn_by_nobody(
    tmp_path: Path,
) -> None:
    path = make(tmp_path / "watermarks.db", LAYOUT_2)
    with WatermarkStore.open(path, wal_bytes=0) as store:
        for number in range(store.statistics().seq + 1):
            with store.begin() as transaction:
                transaction.withdraw_expectation(ALICE, block(6), 0, number)
                transaction.commit()
        with store.begin() as transaction:
            alices, bobs = (
                transaction.judge_and_recall(key, block(6), 0, may_differ=True)
                for key in (ALICE, BOB)
            )
    assert code(alices.verdict) == "signature_lost"
    assert bobs == Judgement(REPEAT, bytes([7]) * 64)


def test_looking_at_an_old_store_is_enough_to_upgrade_it(old_path: Path) -> None:
    view = read_store(old_path)
    assert view.content.marks.mark(ALICE, Kind.BLOCK) == block(6)
    assert view.content.marks.mark(CAROL, Kind.ATTESTATION) == asked(101, content="b")
    assert read_administration(old_path) == []
    assert layout(old_path) == store_layouts.NEWEST


def test_an_old_backup_is_restored(old_path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    with closing(sqlite3.connect(backup)) as connection:
        connection.executescript(LAYOUT_1)
    view = restore(backup, tmp_path / "restored.db", floor=90)
    assert view.content.marks.mark(BOB, Kind.BLOCK).level == 100
    assert layout(backup) == 1
    (entry,) = read_administration(tmp_path / "restored.db")
    assert entry.command == "watermarks restore"
    assert "floor 90" in entry.changes[0]


def test_many_processes_may_open_an_old_store_at_once(old_path: Path) -> None:
    start, failed = Barrier(4), []

    def look() -> None:
        start.wait()
        try:
            read_store(old_path)
        except Exception as error:
            failed.append(error)

    threads = [Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert layout(old_path) == store_layouts.NEWEST


def test_a_step_that_fails_leaves_the_old_layout_whole(
    old_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = schema(old_path)
    monkeypatch.setattr(store_layouts, "_STEPS", (("CREATE TABLE half (a)", "no SQL"),))
    with pytest.raises(StoreCorrupt):
        read_store(old_path)
    assert (layout(old_path), schema(old_path)) == (1, before)


@pytest.mark.parametrize(
    ("stamp", "error", "words"),
    [(store_layouts.NEWEST + 1, WrongStore, "newer version"), (0, StoreCorrupt, "layout 0")],
)
def test_a_layout_that_is_not_known_is_refused(
    store_path: Path, stamp: int, error: type[Exception], words: str
) -> None:
    with closing(sqlite3.connect(store_path)) as connection:
        connection.execute(f"PRAGMA user_version = {stamp}")
    for look in (read_store, lambda path: back_up(path, path.with_name("backup"))):
        with pytest.raises(error, match=words):
            look(store_path)
    assert layout(store_path) == stamp
