"""The store in one process: what is recorded, what is refused, what is on the disk."""

import os
import sqlite3
from pathlib import Path
from threading import Timer

import pytest
from watermark_cases import ALICE, BOB, CAROL, CHAIN, asked, block, code, make_store, sign

from signers.formats.hashes import blake2b_32
from signers.formats.signable import Kind, Signable
from signers.marks import store_file, store_layouts
from signers.marks.file_identity import FileIdentity
from signers.marks.store_errors import (
    NoMark,
    StoreCorrupt,
    StoreExists,
    StoreMissing,
    StoreUnavailable,
    WrongStore,
)
from signers.marks.store_tables import DRAFTS_PER_KEY_MAX, BlockDraft
from signers.marks.watermark import FRESH
from signers.marks.watermark_store import FOLD_COMMITS, FOLD_COMMITS_IDLE, WatermarkStore


def reopened(path: Path) -> WatermarkStore:
    return WatermarkStore.open(path, wal_bytes=0)


def codes(store: WatermarkStore, key: str, *signables: Signable) -> list[str]:
    return [code(verdict) for verdict in sign(store, key, *signables)]


# -- marks ----------------------------------------------------------------------------------------


def test_marks_outlive_the_process(store_path: Path) -> None:
    with reopened(store_path) as store:
        assert codes(store, ALICE, asked(5)) == ["advance"]
    with reopened(store_path) as store:
        assert codes(store, ALICE, asked(5), asked(5, 0, "b"), asked(4)) == [
            "repeat",
            "watermark_conflict",
            "watermark_below",
        ]


def test_what_one_object_commits_the_other_refuses(store_path: Path) -> None:
    with reopened(store_path) as one, reopened(store_path) as other:
        assert codes(one, ALICE, asked(5)) == ["advance"]
        assert codes(other, ALICE, asked(5, 0, "b")) == ["watermark_conflict"]
        assert codes(other, ALICE, asked(6)) == ["advance"]
        assert codes(one, ALICE, asked(6, 0, "b")) == ["watermark_conflict"]
        assert other.statistics().reloads == 1  # it followed the journal


def test_a_transaction_that_is_left_has_permitted_nothing(store: WatermarkStore) -> None:
    with store.begin() as transaction:
        assert [code(v) for v in transaction.judge([(ALICE, asked(5))])] == ["advance"]
    assert codes(store, ALICE, asked(5, 0, "b")) == ["advance"]


def test_a_transaction_ends_once(store: WatermarkStore) -> None:
    transaction = store.begin()
    transaction.commit()
    for again in (transaction.commit, transaction.rollback, lambda: transaction.judge([])):
        with pytest.raises(RuntimeError, match="ended"):
            again()


def test_an_object_has_one_transaction_at_a_time(store: WatermarkStore) -> None:
    with store.begin(), pytest.raises(RuntimeError, match="not ended"):
        store.begin()
    assert codes(store, ALICE, asked(5)) == ["advance"]


def test_a_transaction_that_failed_has_ended(store: WatermarkStore) -> None:
    transaction = store.begin()
    transaction.judge([(ALICE, asked(5))])
    with pytest.raises(Exception, match="format"):
        transaction.judge([(ALICE, asked(2**31))])
    with store.begin() as another:
        with pytest.raises(RuntimeError, match="ended"):
            transaction.commit()
        assert [code(v) for v in another.judge([(ALICE, asked(5, 0, "b"))])] == ["advance"]
        another.commit()


def test_a_request_that_breaks_the_judge_leaves_nothing_in_memory(store: WatermarkStore) -> None:
    with pytest.raises(Exception, match="format"), store.begin() as transaction:
        transaction.judge([(ALICE, asked(5)), (ALICE, asked(2**31))])
    assert codes(store, ALICE, asked(5, 0, "b")) == ["advance"]


def test_each_commit_that_writes_counts_and_a_repeat_does_not(store: WatermarkStore) -> None:
    before = store.statistics().seq
    sign(store, ALICE, asked(5))
    sign(store, ALICE, asked(5))
    sign(store, ALICE, asked(4))
    assert store.statistics().seq == before + 1
    store.probe()
    assert store.statistics().seq == before + 2


def test_bytes_of_another_chain_are_refused(store: WatermarkStore) -> None:
    assert codes(store, ALICE, asked(5, chain=b"abcd")) == ["wrong_chain"]


# -- folding --------------------------------------------------------------------------------------


def test_folding_changes_no_verdict_for_those_who_follow_and_those_who_return(
    store_path: Path,
) -> None:
    with reopened(store_path) as busy, reopened(store_path) as idle:
        assert codes(idle, ALICE, asked(1)) == ["advance"]
        for level in range(2, FOLD_COMMITS + 2):
            sign(busy, ALICE, asked(level))
        last = FOLD_COMMITS + 1
        assert busy.fold_if_due()
        assert busy.statistics().unfolded == 0
        # The idle one has lost rows that it had not read: it sees the gap and reads the tables.
        assert codes(idle, ALICE, asked(last, 0, "b")) == ["watermark_conflict"]
        assert idle.statistics().reloads == 2
        assert codes(busy, ALICE, asked(last)) == ["repeat"]
    with reopened(store_path) as store:
        assert codes(store, ALICE, asked(last, 0, "b"), asked(last)) == [
            "watermark_conflict",
            "repeat",
        ]


def test_who_is_a_little_behind_a_fold_just_follows(store_path: Path) -> None:
    with reopened(store_path) as busy, reopened(store_path) as other:
        for level in range(FOLD_COMMITS_IDLE):
            sign(busy, ALICE, asked(level))
        assert busy.fold_if_due(idle=True)
        assert codes(other, ALICE, asked(FOLD_COMMITS_IDLE - 1)) == ["repeat"]
        assert other.statistics().reloads == 1


def test_a_commit_leaves_the_database_to_the_fold(store: WatermarkStore, store_path: Path) -> None:
    """A checkpoint takes milliseconds, and a vote's commit a fifth of one."""
    before = store_path.stat().st_mtime_ns
    for level in range(FOLD_COMMITS_IDLE):
        sign(store, ALICE, asked(level))
    assert store_path.stat().st_mtime_ns == before
    assert store.fold_if_due(idle=True)
    assert store_path.stat().st_mtime_ns > before


def test_a_fold_is_not_done_twice(store_path: Path) -> None:
    with reopened(store_path) as one, reopened(store_path) as other:
        for level in range(FOLD_COMMITS_IDLE):
            sign(one, ALICE, asked(level))
        assert not one.fold_if_due()
        sign(other, BOB, asked(1))
        assert one.fold_if_due(idle=True)
        assert not other.fold_if_due(idle=True)
        assert not one.fold_if_due(idle=True)


def test_a_worker_that_never_folds_is_made_to(
    store: WatermarkStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("signers.marks.watermark_store.FOLD_COMMITS_MAX", FOLD_COMMITS)
    for level in range(FOLD_COMMITS + 1):
        sign(store, ALICE, asked(level))
    assert store.statistics().unfolded < 10
    assert codes(store, ALICE, asked(FOLD_COMMITS), asked(FOLD_COMMITS, 0, "b")) == [
        "repeat",
        "watermark_conflict",
    ]


def test_the_database_itself_lets_no_mark_go_down_or_away(store_path: Path) -> None:
    with reopened(store_path) as store:
        sign(store, ALICE, asked(5))
    with reopened(store_path):  # opening folds
        pass
    raw = sqlite3.connect(store_path)
    for statement in ("UPDATE marks SET level = 4 WHERE level = 5", "DELETE FROM marks"):
        with pytest.raises(sqlite3.IntegrityError, match="a mark would go"):
            raw.execute(statement)
    raw.close()


# -- keys and floors ------------------------------------------------------------------------------


def test_a_key_without_a_mark_is_refused_until_it_gets_one(store_path: Path) -> None:
    with reopened(store_path) as store, reopened(store_path) as pool:
        assert codes(pool, CAROL, asked(5)) == ["no_mark"]
        with pytest.raises(NoMark), store.begin() as transaction:
            transaction.enable(CAROL, CAROL, floor=None)
        assert codes(pool, CAROL, asked(5)) == ["no_mark"]
        with store.begin() as transaction:
            transaction.enable(CAROL, CAROL, floor=4)
            transaction.commit()
        assert codes(pool, CAROL, asked(4), asked(5)) == ["watermark_below", "advance"]


def test_a_delegate_without_a_mark_needs_one_too(store: WatermarkStore) -> None:
    with pytest.raises(NoMark, match=CAROL), store.begin() as transaction:
        transaction.enable(ALICE, CAROL, floor=None)


def test_a_floor_gives_a_mark_but_does_not_enable(store: WatermarkStore) -> None:
    with store.begin() as transaction:
        transaction.raise_floor(CAROL, 10)
        transaction.commit()
    assert codes(store, CAROL, asked(11)) == ["key_disabled"]
    with store.begin() as transaction:
        transaction.enable(CAROL, CAROL)
        transaction.commit()
    assert codes(store, CAROL, asked(10), asked(11)) == ["watermark_below", "advance"]


def test_a_floor_reaches_a_running_pool_and_never_lowers(store_path: Path) -> None:
    with reopened(store_path) as store, reopened(store_path) as pool:
        assert codes(pool, ALICE, asked(100)) == ["advance"]
        with store.begin() as transaction:
            transaction.raise_floor(ALICE, 50)
            transaction.commit()
        assert codes(pool, ALICE, asked(100), asked(60)) == ["repeat", "watermark_below"]
        assert codes(pool, ALICE, block(50), block(51)) == ["watermark_below", "advance"]


def test_a_key_that_changes_its_delegate_brings_its_marks(store_path: Path) -> None:
    with reopened(store_path) as store, reopened(store_path) as pool:
        assert codes(pool, ALICE, asked(7)) == ["advance"]
        with store.begin() as transaction:
            transaction.enable(ALICE, CAROL, floor=FRESH)
            transaction.enable(BOB, CAROL, floor=None)
            transaction.commit()
        # Bob now signs for Carol, for whom Alice may have signed level 7.
        assert codes(pool, BOB, asked(7, 0, "b")) == ["watermark_conflict"]
        assert codes(pool, ALICE, asked(7), asked(8)) == ["repeat", "advance"]


def test_fresh_does_not_reset_a_mark(store: WatermarkStore) -> None:
    sign(store, ALICE, asked(5))
    with store.begin() as transaction:
        transaction.enable(ALICE, ALICE, floor=FRESH)
        transaction.commit()
    assert codes(store, ALICE, asked(5, 0, "b")) == ["watermark_conflict"]


def test_a_disabled_key_keeps_its_marks(store: WatermarkStore) -> None:
    sign(store, ALICE, asked(5))
    with store.begin() as transaction:
        transaction.disable(ALICE)
        transaction.commit()
    assert codes(store, ALICE, asked(6)) == ["key_disabled"]
    with store.begin() as transaction:
        transaction.enable(ALICE, ALICE, floor=None)
        transaction.commit()
    assert codes(store, ALICE, asked(5, 0, "b"), asked(6)) == ["watermark_conflict", "advance"]


def test_a_transaction_judges_or_administers(store: WatermarkStore) -> None:
    with store.begin() as transaction:
        transaction.judge([(ALICE, asked(5))])
        with pytest.raises(RuntimeError):
            transaction.disable(BOB)
    with store.begin() as transaction:
        transaction.disable(BOB)
        with pytest.raises(RuntimeError):
            transaction.judge([(ALICE, asked(5))])


# -- block drafts ---------------------------------------------------------------------------------


def drafted(level: int, content: bytes = b"header") -> tuple[Signable, BlockDraft]:
    header = content + level.to_bytes(4)
    signable = Signable(Kind.BLOCK, CHAIN, level, 0, blake2b_32(b"\x11" + CHAIN + header))
    return signable, BlockDraft(header, [[b"vote"], [], [], [b"transfer", b"call"]], bytes(32))


def keep(store: WatermarkStore, level: int) -> None:
    signable, draft = drafted(level)
    with store.begin() as transaction:
        transaction.judge([(ALICE, signable)])
        transaction.keep_draft(ALICE, signable, draft)
        transaction.commit()


def test_a_repeat_finds_the_block_that_was_signed(store_path: Path) -> None:
    with reopened(store_path) as store:
        keep(store, 5)
    with reopened(store_path) as other:
        assert other.block_draft(ALICE, 5, 0) == drafted(5)[1]
        assert other.block_draft(ALICE, 5, 1) is None
        assert other.block_draft(BOB, 5, 0) is None


def test_a_draft_is_there_with_its_mark_or_not_at_all(store: WatermarkStore) -> None:
    signable, draft = drafted(5)
    with store.begin() as transaction:
        transaction.judge([(ALICE, signable)])
        transaction.keep_draft(ALICE, signable, draft)
    assert store.block_draft(ALICE, 5, 0) is None


def test_only_the_block_that_was_admitted_is_kept(store: WatermarkStore) -> None:
    signable, draft = drafted(5)
    with store.begin() as transaction:
        with pytest.raises(ValueError, match="not admitted"):
            transaction.keep_draft(ALICE, signable, draft)
        transaction.judge([(ALICE, signable)])
        with pytest.raises(ValueError, match="not the one"):
            transaction.keep_draft(ALICE, signable, drafted(5, b"other!")[1])


def test_a_key_has_few_drafts_and_they_are_the_highest(store: WatermarkStore) -> None:
    for level in range(DRAFTS_PER_KEY_MAX + 3):
        keep(store, level)
    kept = [level for level in range(50) if store.block_draft(ALICE, level, 0)]
    assert kept == list(range(3, DRAFTS_PER_KEY_MAX + 3))


# -- the file -------------------------------------------------------------------------------------


def test_an_absent_store_is_not_an_empty_one(tmp_path: Path) -> None:
    """Scenario 51: nothing is signed until somebody says `init`."""
    with pytest.raises(StoreMissing, match="init"):
        reopened(tmp_path / "watermarks.db")
    assert not list(tmp_path.iterdir())


def test_a_store_that_goes_while_it_is_opened_is_not_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_file, "check_present", lambda path: None)  # it was there just now
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        store_file.connect(tmp_path / "watermarks.db")
    assert not list(tmp_path.iterdir())


def test_a_file_is_told_by_inode_and_device(store_path: Path) -> None:
    stat = store_path.stat()
    opened = FileIdentity([store_path])._opened
    assert opened == [
        (os.fsencode(store_path), (stat.st_ino, os.major(stat.st_dev), os.minor(stat.st_dev)))
    ]


def test_a_store_is_made_once(store_path: Path) -> None:
    with pytest.raises(StoreExists):
        WatermarkStore.create(store_path, network="mavryk", chain_id=CHAIN)


@pytest.mark.parametrize("left", ["-wal", "-shm"])
def test_no_store_is_made_beside_what_is_left_of_another(tmp_path: Path, left: str) -> None:
    (tmp_path / f"watermarks.db{left}").write_bytes(b"of another store")
    with pytest.raises(StoreExists, match=left):
        WatermarkStore.create(tmp_path / "watermarks.db", network="mavryk", chain_id=CHAIN)


def test_a_store_has_an_id_a_host_and_a_chain(store: WatermarkStore) -> None:
    assert len(store.uuid) == 32
    assert store.host_id
    assert (store.network, store.chain_id) == ("mavryk", CHAIN)


def test_two_stores_are_told_apart(tmp_path: Path) -> None:
    make_store(tmp_path / "a.db", ALICE)
    make_store(tmp_path / "b.db", ALICE)
    with reopened(tmp_path / "a.db") as one, reopened(tmp_path / "b.db") as other:
        assert one.uuid != other.uuid


def test_the_file_is_the_owners_alone(store_path: Path) -> None:
    assert store_path.stat().st_mode & 0o777 == 0o600


def test_a_copy_on_another_host_signs_nothing(
    store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGEPOOL_HOST_ID", "another host")
    with pytest.raises(WrongStore, match="restore"):
        reopened(store_path)


def damage_header(path: Path) -> None:
    path.write_bytes(b"no database at all" + path.read_bytes()[18:])


def damage_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 3 + 200] = b"\xff" * 200
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4096])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def drop_table(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("DROP TABLE keys")
    raw.commit()
    raw.close()


def lose_journal(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("DELETE FROM journal")
    raw.commit()
    raw.close()


def garble_journal(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("INSERT INTO journal SELECT max(seq) + 1, x'0102' FROM journal")
    raw.commit()
    raw.close()


def change_mode(path: Path) -> None:
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA journal_mode = DELETE")
    raw.close()


@pytest.mark.parametrize(
    "damage",
    [
        damage_header,
        damage_page,
        truncate,
        empty,
        drop_table,
        lose_journal,
        garble_journal,
        change_mode,
    ],
    ids=lambda damage: damage.__name__,
)
def test_a_damaged_store_signs_nothing_and_says_what_to_do(
    store_path: Path, damage: object
) -> None:
    damage(store_path)
    with pytest.raises(StoreCorrupt, match="watermarks restore"):
        reopened(store_path)


def test_a_store_of_a_later_version_is_left_alone(store_path: Path) -> None:
    raw = sqlite3.connect(store_path)
    raw.execute(f"PRAGMA user_version = {store_layouts.NEWEST + 1}")
    raw.close()
    with pytest.raises(WrongStore, match="newer version"):
        reopened(store_path)


def test_a_store_that_another_program_locks_is_unavailable_and_then_works_again(
    store: WatermarkStore, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store._connection.execute("PRAGMA busy_timeout = 1")
    raw = sqlite3.connect(store_path, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="another program"):
        sign(store, ALICE, asked(5))
    raw.execute("ROLLBACK")
    raw.close()
    store.probe()
    assert codes(store, ALICE, asked(5)) == ["advance"]


def test_who_locks_the_store_for_a_moment_only_is_waited_for(
    store: WatermarkStore, store_path: Path
) -> None:
    raw = sqlite3.connect(store_path, isolation_level=None, check_same_thread=False)
    raw.execute("BEGIN IMMEDIATE")
    lets_go = Timer(0.05, raw.execute, ["ROLLBACK"])
    lets_go.start()
    assert codes(store, ALICE, asked(5)) == ["advance"]
    lets_go.join()
    raw.close()


def test_nobody_else_writes_between_reading_and_judging(
    store: WatermarkStore, store_path: Path
) -> None:
    raw = sqlite3.connect(store_path, isolation_level=None, timeout=0)
    with store.begin(), pytest.raises(sqlite3.OperationalError, match="locked"):
        raw.execute("UPDATE keys SET enabled = 0")
    raw.close()


def test_durable_settings_are_read_back(store_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("signers.marks.store_file.SETTINGS", (("synchronous", 7),))
    with pytest.raises(StoreUnavailable, match="synchronous"):
        reopened(store_path)


def test_a_connection_commits_with_fsync_and_never_checkpoints_by_itself(
    store: WatermarkStore,
) -> None:
    settings = {
        name: store._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "wal_autocheckpoint", "journal_size_limit")
    }
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "wal_autocheckpoint": 0,
        "journal_size_limit": -1,
    }


def test_the_wal_is_grown_once_and_kept(store_path: Path) -> None:
    wal = Path(f"{store_path}-wal")
    with WatermarkStore.open(store_path, wal_bytes=1 << 20) as store:
        grown = wal.stat().st_size
        assert grown >= 1 << 20
        for level in range(FOLD_COMMITS_IDLE):
            sign(store, ALICE, asked(level))
        assert store.fold_if_due(idle=True)
        sign(store, ALICE, asked(1000))
        with WatermarkStore.open(store_path, wal_bytes=1 << 20):
            assert wal.stat().st_size == grown


# -- after a failure ------------------------------------------------------------------------------


def test_what_a_failed_commit_judged_is_not_remembered_as_recorded(
    store: WatermarkStore, store_path: Path
) -> None:
    raw = sqlite3.connect(store_path)
    pages = raw.execute("PRAGMA page_count").fetchone()[0]
    raw.close()
    store._connection.execute(f"PRAGMA max_page_count = {pages}")  # the disk is full
    transaction = store.begin()
    large = BlockDraft(drafted(9)[1].header, [[bytes(100_000)], [], [], []], None)
    verdicts = transaction.judge([(ALICE, asked(5)), (ALICE, drafted(9)[0])])
    assert [code(verdict) for verdict in verdicts] == ["advance", "advance"]
    with pytest.raises(StoreUnavailable, match="full"):
        transaction.keep_draft(ALICE, drafted(9)[0], large)
    # Not a repeat: nothing of level 5 is on the disk, so it must be recorded again.
    store._connection.execute("PRAGMA max_page_count = 1000000")
    assert codes(store, ALICE, asked(5)) == ["advance"]
