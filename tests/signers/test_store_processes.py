"""The store under several processes: killed, stopped, with failing disks and moved files."""

import ast
import fcntl
import gc
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from child_process import HERE, Child, FailingCall
from watermark_cases import ALICE, asked, code, make_store, sign

from signers.formats.signable import Kind
from signers.marks import store_file
from signers.marks.store_errors import StoreReplaced
from signers.marks.store_lock import lock_holder
from signers.marks.watermark_store import WatermarkStore

pytestmark = pytest.mark.process

ALL_ADMIT_S = 60.0  # for seven processes to start and sign, on a machine that is busy


# -- killed and stopped ---------------------------------------------------------------------------


def test_killed_or_not_no_process_admits_what_conflicts(store_path: Path, tmp_path: Path) -> None:
    logs = [tmp_path / f"admitted-{number}.jsonl" for number in range(7)]

    for log in logs:
        log.touch()

    def start(log: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(HERE / "store_hammer.py"), str(store_path), str(log)]
        return subprocess.Popen(command)

    choose = random.Random(7)
    running, waiting = [(log, start(log)) for log in logs[:4]], logs[4:]
    try:
        end = time.monotonic() + ALL_ADMIT_S
        while not all(log.read_bytes().count(b"\n") > 10 for log in logs):
            assert time.monotonic() < end, "some processes admit nothing"
            time.sleep(0.3 + choose.random() * 0.3)
            if waiting and running[0][0].read_bytes().count(b"\n") > 10:
                _, victim = running.pop(0)
                victim.kill()
                victim.wait()
                log = waiting.pop()
                running.append((log, start(log)))
    finally:
        for _, process in running:
            process.kill()
            process.wait()

    admitted = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    assert len(admitted) > 50
    assert len({entry["process"] for entry in admitted}) >= 3
    digests: dict[tuple[object, ...], str] = {}
    for entry in admitted:
        for holder in {entry["key"], entry["delegate"]}:
            position = (holder, entry["kind"], entry["level"], entry["round"])
            assert digests.setdefault(position, entry["digest"]) == entry["digest"], entry
    with WatermarkStore.open(store_path, wal_bytes=0) as store:
        for entry in admitted[-200:]:  # nothing that was released is below the marks
            place = entry["level"], entry["round"]
            signable = asked(*place, "something else", Kind(entry["kind"]))
            (verdict,) = sign(store, entry["key"], signable)
            assert code(verdict).startswith("watermark_")


def test_a_stopped_holder_is_found_and_may_be_killed(store_path: Path) -> None:
    with Child(store_path) as stopped, Child(store_path) as other:
        assert lock_holder(store_path) is None
        before = time.monotonic()
        assert stopped.ask(f"hold {ALICE} 5") == "holding"
        stopped.process.send_signal(signal.SIGSTOP)
        other.tell(f"sign {ALICE} 5 b")
        assert other.answer(0.3) is None  # it waits
        holder = lock_holder(store_path)
        assert holder is not None
        assert holder.pid == stopped.process.pid
        assert before <= holder.since <= time.monotonic()
        stopped.kill()
        # What it judged but had not committed is absent.
        assert other.answer() == "advance"
        assert lock_holder(store_path) is None


def test_a_killed_holder_leaves_a_note_but_holds_nothing(store_path: Path) -> None:
    with Child(store_path) as child:
        child.ask(f"hold {ALICE} 5")
        child.kill()
        assert lock_holder(store_path) is None


def test_waiting_is_for_the_lock_file_not_for_sqlite(store_path: Path) -> None:
    # The holder of the lock has no transaction, so SQLite alone would let the other pass.
    with Child(store_path) as child, open(store_path.with_suffix(".lock"), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child.tell(f"sign {ALICE} 5 a")
        assert child.answer(0.3) is None
        slept = times_it_slept(child)
        assert child.answer(0.1) is None
        assert times_it_slept(child) == slept, "it waits in the kernel, and does not try again"
        fcntl.flock(lock, fcntl.LOCK_UN)
        assert child.answer() == "advance"


def times_it_slept(child: Child) -> str:
    status = Path(f"/proc/{child.process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("voluntary_ctxt_switches")]
    return line


def test_a_forked_child_may_not_use_the_store(store: WatermarkStore) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            store.begin()
        except RuntimeError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# -- files that move ------------------------------------------------------------------------------


FILES = ["watermarks.db", "watermarks.db-wal", "watermarks.db-shm", "watermarks.lock"]


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_deleted_is_noticed_before_anything_is_released(
    store_path: Path, name: str
) -> None:
    with Child(store_path) as child:
        assert child.ask(f"sign {ALICE} 5 a") == "advance"
        store_path.with_name(name).unlink()
        assert child.ask(f"sign {ALICE} 6 a") == "store_replaced"
        assert child.ask(f"sign {ALICE} 7 a") == "store_replaced"
        assert child.ask("probe") == "store_replaced"


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_replaced_by_its_copy_is_noticed(store_path: Path, name: str) -> None:
    with Child(store_path) as child:
        file, copy = store_path.with_name(name), store_path.with_name("copy")
        # This process does not have the store open, so it may read the file.
        copy.write_bytes(file.read_bytes())
        copy.rename(file)
        assert child.ask(f"sign {ALICE} 5 a") == "store_replaced"
        assert child.ask(f"sign {ALICE} 5 a") == "store_replaced"


def test_a_repeat_is_not_released_from_a_replaced_store_either(store_path: Path) -> None:
    with Child(store_path) as child:
        child.ask(f"sign {ALICE} 5 a")
        os.unlink(f"{store_path}-wal")
        assert child.ask(f"sign {ALICE} 5 a") == "store_replaced"


@pytest.mark.parametrize("last_words", ["close", f"sign {ALICE} 9 x"])
def test_who_lost_the_files_does_not_undo_what_others_wrote_since(
    store_path: Path, last_words: str
) -> None:
    with Child(store_path) as lost:
        lost.ask(f"sign {ALICE} 5 a")
        os.unlink(f"{store_path}-wal")
        os.unlink(f"{store_path}-shm")
        with Child(store_path) as other:
            assert other.ask(f"sign {ALICE} 50 a") == "advance"
            other.kill()  # what it wrote is in the new WAL alone
        lost.ask(last_words)
    with Child(store_path) as third:
        assert third.ask(f"sign {ALICE} 50 b") == "watermark_conflict"


def test_a_store_that_is_replaced_while_it_is_opened_is_noticed_and_left_alone(
    store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / store_path.name
    make_store(other, ALICE)
    with Child(other) as child:
        assert child.ask(f"sign {ALICE} 50 a") == "advance"
        child.kill()  # what it wrote is in its WAL alone

    def connect_and_be_overtaken(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        for file in store_file.file_names(other):
            file.rename(path.with_name(file.name))
        return connection

    connect = store_file.connect
    monkeypatch.setattr(store_file, "connect", connect_and_be_overtaken)
    with pytest.raises(StoreReplaced):
        WatermarkStore.open(store_path, wal_bytes=0)
    gc.collect()  # closes what nobody holds; SQLite must not take the other's WAL with it
    with Child(store_path) as child:
        assert child.ask(f"sign {ALICE} 50 b") == "watermark_conflict"


def test_an_older_content_under_the_same_name_is_noticed(store_path: Path, tmp_path: Path) -> None:
    """Scenario 51: by who has the store open; docs/safety.md says that nobody else can."""
    older = sqlite3.connect(tmp_path / "older.db")
    live = sqlite3.connect(store_path)
    live.backup(older)
    with Child(store_path) as child:
        assert child.ask(f"sign {ALICE} 80 a") == "advance"
        older.backup(live)  # what `sqlite3 watermarks.db ".restore older.db"` does
        live.close()
        older.close()
        assert child.ask(f"sign {ALICE} 80 b") == "store_replaced"
        assert child.ask(f"sign {ALICE} 81 a") == "store_replaced"


def test_health_tells_that_files_moved_without_waiting_for_the_lock(store_path: Path) -> None:
    with WatermarkStore.open(store_path, wal_bytes=0) as store:
        store.health()
        os.rename(f"{store_path}-wal", f"{store_path}-wal.moved")
        with pytest.raises(StoreReplaced):
            store.health()
        with pytest.raises(StoreReplaced):
            store.begin()


# -- failing disks --------------------------------------------------------------------------------


def test_a_full_disk_fails_the_batch_and_nothing_is_recorded(store_path: Path) -> None:
    with Child(store_path) as child:
        child.ask(f"sign {ALICE} 5 a")
        with FailingCall(child, "pwrite64", "ENOSPC", f"{store_path}-wal"):
            assert child.ask(f"sign {ALICE} 6 a") == "store_unavailable"
            assert child.ask("probe") == "store_unavailable"
            # Judged at 6, never recorded: were it remembered, this would be a repeat.
            assert child.ask(f"sign {ALICE} 6 a") == "store_unavailable"
            assert child.ask(f"sign {ALICE} 5 a") == "repeat"
        assert child.ask("probe") == "ok"
        assert child.ask(f"sign {ALICE} 6 b") == "advance"


@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_an_io_error_ends_the_store_object_for_good(store_path: Path, call: str) -> None:
    with Child(store_path) as child:
        child.ask(f"sign {ALICE} 5 a")
        with FailingCall(child, call, "EIO", f"{store_path}-wal"):
            assert child.ask(f"sign {ALICE} 6 a") == "store_broken"
        assert child.ask(f"sign {ALICE} 7 a") == "store_broken"
        assert child.ask(f"sign {ALICE} 5 a") == "store_broken"
        child.kill()
    with Child(store_path) as next_one:
        assert next_one.ask(f"sign {ALICE} 5 b").startswith("watermark_")
        # Level 6 may be on the disk or not; both are right, and it was not released.
        assert next_one.ask(f"sign {ALICE} 6 b") in ("advance", "watermark_conflict")


def test_recovered_commits_are_written_anew_before_a_repeat_rests_on_them(
    store_path: Path, tmp_path: Path
) -> None:
    # A process that dies between its write and its fsync leaves a commit that the next opener
    # finds in the page cache, where a power cut would still take it.
    with Child(store_path) as child:
        child.ask(f"sign {ALICE} 5 a")  # the first commit after a checkpoint syncs twice
        with FailingCall(child, "fdatasync", "EIO", f"{store_path}-wal"):
            child.ask(f"sign {ALICE} 6 a")
        child.kill()
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "-y", "-e", "trace=fdatasync", "-o", str(trace))
    with Child(store_path, under=strace) as next_one:
        synced = [line for line in trace.read_text().splitlines() if line.endswith("= 0")]
        assert any("watermarks.db>" in line for line in synced)  # the checkpoint, before "open"
        assert next_one.ask(f"sign {ALICE} 6 a") == "repeat"


# -- who opens the files --------------------------------------------------------------------------

OPENS = """
import sys
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from pathlib import Path
from watermark_cases import ALICE, asked, sign
from signers.marks.store_lock import lock_holder
from signers.marks.watermark_store import WatermarkStore
path = Path(sys.argv[1])
with WatermarkStore.open(path) as store:
    for level in range(70):
        sign(store, ALICE, asked(level))
    store.fold_if_due(idle=True)
    store.health()
    store.probe()
    lock_holder(path)
    store.statistics()
print([name for name in opened if "watermarks" in name])
"""


def test_python_opens_the_lock_file_and_none_of_sqlites_files(store_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", OPENS, str(store_path)],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=True,
    )
    opened = set(ast.literal_eval(result.stdout))
    assert opened == {str(store_path.with_suffix(".lock"))}
