"""The watermark store under a pool that signs: looked at, copied, moved, deleted, without a disk.

What must hold in each case: no signature leaves whose mark a fresh process cannot read, the event
says why there is none, and the pool goes on by itself when the cause is gone.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pool_process import CHAIN, PoolProcess, names, wait_for_all

from broker.messages import ATTESTATION_READY, FAILED, Event
from signers.formats.hashes import blake2b_32
from signers.formats.vote import read_signed_vote

pytestmark = pytest.mark.process

STORE_FILES = ("watermarks.db", "watermarks.db-wal", "watermarks.db-shm")


def assert_marks_cover(pool: PoolProcess, votes: Iterable[Event]) -> None:
    """A fresh process finds a mark for each signature: at its level with its digest, or above."""
    marks = pool.marks()
    for event in votes:
        assert event.event == ATTESTATION_READY
        vote = read_signed_vote(event.body)
        level, round_, digest = marks[event.delegate, "attestation"]
        assert (level, round_) >= (vote.level, vote.round), f"{event.delegate}: mark {level}"
        if (level, round_) == (vote.level, vote.round):
            assert digest == blake2b_32(b"\x13" + CHAIN + event.body[:-64]).hex()


def ready(news: Iterable[object]) -> list[Event]:
    return [n for n in news if isinstance(n, Event) and n.event == ATTESTATION_READY]


# -- looking and copying --------------------------------------------------------------------------


def test_marks_can_be_read_all_the_time_and_are_there_before_the_signature(
    pool: PoolProcess,
) -> None:
    pool.serve()
    with pool.client() as client:
        level = 10
        for _ in range(5):
            heard: list[Event] = []
            reader = pool.start_command("watermarks", "show")
            while reader.poll() is None:  # the pool signs while it reads
                level += 1
                heard = client.wait(pool.attest(client, level))
                assert names(heard) == [ATTESTATION_READY] * 6
            assert reader.returncode == 0
            assert_marks_cover(pool, heard)
    assert "store_" not in pool.log()


def test_the_stores_files_can_be_copied_while_the_pool_signs(pool: PoolProcess) -> None:
    pool.serve()
    with pool.client() as client:
        for level in range(10, 16):
            id = pool.attest(client, level)
            for name in STORE_FILES:
                copy = str(pool.directory / name)
                subprocess.run(["cp", str(pool.state_dir / name), copy], check=True)
            assert names(client.wait(id)) == [ATTESTATION_READY] * 6
        assert_marks_cover(pool, client.wait(pool.attest(client, 20)))
    assert "store_" not in pool.log()


# -- moving and deleting --------------------------------------------------------------------------


def test_nothing_is_signed_while_the_store_is_moved_away(pool: PoolProcess) -> None:
    pool.serve()
    with pool.client() as client:
        votes = client.wait(pool.attest(client, 10))
        elsewhere = pool.directory / "elsewhere"
        elsewhere.mkdir()
        for name in STORE_FILES:
            (pool.state_dir / name).rename(elsewhere / name)
        assert ready(wait_for_all(client, pool.attest(client, 11, ttl_ms=1500))) == []
        pool.wait_for_log("store_replaced")
        for name in STORE_FILES:
            if (elsewhere / name).exists():
                (elsewhere / name).rename(pool.state_dir / name)
        assert_marks_cover(pool, votes + pool.sign_at(client, 12, 30.0))


def test_a_store_replaced_by_its_copy_ends_whoever_has_the_old_one_open(pool: PoolProcess) -> None:
    pool.serve()
    with pool.client() as client:
        client.wait(pool.attest(client, 10))
        before = set(pool.signing_pids().values())
        copies = [(pool.state_dir / name, pool.directory / name) for name in STORE_FILES]
        for file, copy in copies:
            shutil.copyfile(file, copy)
        for file, copy in copies:
            copy.rename(file)
        votes = pool.sign_at(client, 11)
        assert_marks_cover(pool, votes)
        assert not before & set(pool.signing_pids().values())
        pool.wait_for_log("store_replaced")


def test_a_deleted_wal_stops_the_pool_for_a_moment_only(pool: PoolProcess) -> None:
    pool.serve()
    with pool.client() as client:
        client.wait(pool.attest(client, 10))
        (pool.state_dir / "watermarks.db-wal").unlink()
        votes = pool.sign_at(client, 11)
        assert_marks_cover(pool, votes)
        pool.wait_for_log("store_replaced")
        assert_marks_cover(pool, pool.sign_at(client, 12))


# -- locked and damaged ---------------------------------------------------------------------------


def test_while_another_program_locks_the_store_votes_fail_and_then_they_succeed(
    pool: PoolProcess,
) -> None:
    pool.serve()
    with pool.client() as client:
        client.wait(pool.attest(client, 10))
        with closing(sqlite3.connect(pool.store, isolation_level=None)) as foreign:
            foreign.execute("BEGIN IMMEDIATE")
            failed = client.wait(pool.attest(client, 11), 30.0)
            assert {(event.event, event.code) for event in failed} == {
                (FAILED, "store_unavailable")
            }
            assert "lock" in failed[0].text
        # A failed vote can be asked for again: the same bytes under a new id.
        assert_marks_cover(pool, pool.sign_at(client, 11))
    assert "died" not in pool.log()


def test_with_a_damaged_store_nothing_is_signed(pool: PoolProcess) -> None:
    damaged = bytearray(pool.store.read_bytes())
    damaged[4096:8192] = bytes(4096)
    pool.store.write_bytes(damaged)
    pool.serving = pool.start_command("serve", "--workers", "2")
    pool.wait_for_log("died name=w0")
    pool.wait_for_log("is damaged")
    assert pool.signing_pids() == {}


# -- the disk -------------------------------------------------------------------------------------


def can_mount() -> bool:
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory(prefix="forgepool-") as name:
        tried = subprocess.run(
            ["mount", "-t", "tmpfs", "tmpfs", name], capture_output=True, check=False
        )
        if tried.returncode == 0:
            subprocess.run(["umount", name], check=True)
        return tried.returncode == 0


needs_mounts = pytest.mark.skipif(not can_mount(), reason="only root can mount a small disk")


@contextmanager
def mounted(path: Path, *arguments: str) -> Iterator[None]:
    subprocess.run(["mount", *arguments, str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file:
        for block in (1 << 20, 4096, 1):
            try:
                while file.write(bytes(block)) == block:
                    pass
            except OSError:
                continue


@needs_mounts
def test_on_a_full_disk_votes_fail_and_succeed_again_when_there_is_space(
    pool: PoolProcess, tmp_path: Path
) -> None:
    with mounted(tmp_path, "-t", "tmpfs", "-o", "size=24m", "tmpfs"):
        shutil.move(pool.state_dir, tmp_path / "pool")
        pool.state_dir.symlink_to(tmp_path / "pool")
        pool.serve()
        with pool.client() as client:
            votes, level = client.wait(pool.attest(client, 10)), 10
            fill(tmp_path / "ballast")
            failed: list[Event] = []
            while not failed:  # the WAL was grown beforehand: it takes a while until it is full
                level += 1
                assert level < 20_000, "the disk is full and no vote fails"
                for event in client.wait(pool.attest(client, level)):
                    (failed if event.event == FAILED else votes).append(event)
            assert {event.code for event in failed} == {"store_unavailable"}
            assert "full" in failed[0].text
            assert_marks_cover(pool, votes)
            (tmp_path / "ballast").unlink()
            assert_marks_cover(pool, pool.sign_at(client, level + 1))
        assert "died" not in pool.log()
        assert pool.terminate() == 0  # before its disk goes


@needs_mounts
def test_a_read_only_store_signs_nothing_until_it_can_be_written(pool: PoolProcess) -> None:
    with mounted(pool.store, "--bind", str(pool.store)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(pool.store)], check=True)
        pool.serving = pool.start_command("serve", "--workers", "2")
        pool.wait_for_log("died name=w0")
        assert "it cannot be written" in pool.log()
        assert pool.signing_pids() == {}
    pool.wait_for_signing(2)
    with pool.client() as client:
        assert_marks_cover(pool, client.wait(pool.attest(client, 10)))
