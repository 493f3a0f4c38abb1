"""The journal: real SQLite, real processes that are killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from signers.marks.store_lock import StoreLock
from workers.offchain.application import Application
from workers.offchain.commands import (
    ForgetTask,
    KeepCallback,
    KeepCursor,
    KeepTask,
    Publish,
    Run,
    TakeEpoch,
)
from workers.offchain.journal import journal_holder
from workers.offchain.journal.journal import LOG_PAGES_MAX, PAGE_BYTES, Journal, Places
from workers.offchain.journal.journal_reports import (
    applications,
    find_task,
    find_tasks,
    forget,
    known_tasks,
    leave_wishes,
)
from workers.offchain.journal.journal_tables import JOURNAL_NAME, open_to_read, open_to_write
from workers.offchain.offchain_errors import JournalUnusable, NoSuchTask
from workers.offchain.records import TaskRecord, TaskState
from workers.offchain.stimuli import EpochRefused, Wish, Wished

APP = Application("c" * 64, "a" * 64)
OTHER = Application("c" * 64, "b" * 64)
PLACES = Places(total=2)

# Another processor on this host: takes an application, starts a run, and waits to be killed.
HOLDER = """
import sys
from pathlib import Path
from workers.offchain.application import Application
from workers.offchain.commands import KeepTask, Run, TakeEpoch
from workers.offchain.journal.journal import Journal, Places
from workers.offchain.records import TaskRecord, TaskState

app, epoch = Application.of_key(sys.argv[2]), int(sys.argv[3])
journal = Journal(Path(sys.argv[1]), Places(total=2))
task = TaskRecord(1, None, "echo", "in", TaskState(sys.argv[4]), attempts=1)
run = Run(1, app, 1, 1, None, "echo", "in")
written = journal.commit([TakeEpoch(app, epoch), KeepTask(app, task)], [run])
print(written.started[0].token, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / JOURNAL_NAME


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    opened = Journal(path, PLACES)
    yield opened
    opened.close()


@pytest.fixture
def holder(path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    state = getattr(request, "param", TaskState.RUNNING)
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), APP.key, "7", state],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield child
    child.kill()
    child.communicate()


def task(serial: int = 1, state: TaskState = TaskState.WAITING, **fields: object) -> TaskRecord:
    return TaskRecord(serial, None, "echo", f"input {serial}", state, **fields)  # type: ignore[arg-type]


def run(number: int, operator: str = "echo", application: Application = APP) -> Run:
    return Run(number, application, number, 1, None, operator, "in")


def event(serial: int = 1) -> Publish:
    return Publish(APP, "task_started", serial, None, "echo", 1)


def test_nothing_says_of_a_run_without_a_place_that_it_has_started(journal: Journal) -> None:
    """It is tried again several times a second, as long as others have all places."""
    started = [Publish(APP, "task_started", n, None, "echo", 1) for n in (1, 2, 3)]
    kept = [KeepTask(APP, task(n, TaskState.RUNNING, attempts=1)) for n in (1, 2, 3)]
    written = journal.commit([TakeEpoch(APP, 1), *kept, *started], [run(1), run(2), run(3)])
    assert written.no_place == [3]
    assert [posted.event.serial for posted in written.posted] == [1, 2]
    taken = journal.commit([TakeEpoch(APP, 2)]).taken[0].told
    assert [each.serial for each in taken.tasks] == [1, 2]


def test_the_end_of_an_old_epoch_does_not_undo_what_its_successor_has_done(
    path: Path, journal: Journal
) -> None:
    """Who was stopped and comes back may end an epoch and take the next one in the same turn."""
    journal.commit([TakeEpoch(APP, 1), KeepTask(APP, task(1)), KeepTask(APP, task(2))])
    submitting = task(1, TaskState.SUBMITTING, output="out")
    between = Journal(path, PLACES)
    between.commit([TakeEpoch(APP, 2), KeepTask(APP, submitting), ForgetTask(APP, 2)])
    between.close()
    ended = [KeepTask(APP, task(n, why="exit: 1")) for n in (1, 2)]
    written = journal.commit([*ended, event(), TakeEpoch(APP, 3), event(2)])
    assert written.taken[0].told.tasks == [submitting]
    assert [posted.event.serial for posted in written.posted] == [2]


def test_what_was_kept_is_there_for_the_next_owner(path: Path, journal: Journal) -> None:
    computed = task(2, TaskState.COMPUTED, attempts=3, output="out", why="exit: 1", stderr="oh")
    journal.commit(
        [
            TakeEpoch(APP, 1),
            KeepCursor(APP, "page-7"),
            KeepCallback(APP, 99),
            KeepTask(APP, task(1)),
            KeepTask(APP, computed),
        ]
    )
    journal.commit([KeepTask(APP, task(1, TaskState.DEAD)), ForgetTask(APP, 2)])
    journal.commit([KeepTask(APP, computed)])

    later = Journal(path, PLACES)
    taken = later.commit([TakeEpoch(APP, 2)]).taken[0].told
    later.close()
    assert (taken.cursor, taken.callback_unix_us, taken.next_serial) == ("page-7", 99, 3)
    assert taken.tasks == [task(1, TaskState.DEAD), computed]


def test_an_output_stays_through_its_submission_and_goes_when_it_is_dropped(
    journal: Journal,
) -> None:
    def kept(*states: tuple[TaskState, str | None]) -> str | None:
        journal.commit([KeepTask(APP, task(1, state, output=output)) for state, output in states])
        taken = journal.commit([TakeEpoch(APP, 1)]).taken[0].told
        return taken.tasks[0].output

    journal.commit([TakeEpoch(APP, 1)])
    assert kept((TaskState.COMPUTED, "one"), (TaskState.SUBMITTING, "one")) == "one"
    assert kept((TaskState.WAITING, None)) is None
    assert kept((TaskState.SUBMITTING, "two")) == "two"


def test_an_old_owner_writes_nothing_more(path: Path, journal: Journal) -> None:
    """T23, T48: the door is closed by the newer epoch, whoever comes late."""
    journal.commit([TakeEpoch(APP, 1), TakeEpoch(OTHER, 1), KeepTask(APP, task(1))])
    later = Journal(path, PLACES)
    later.commit([TakeEpoch(APP, 2)])

    submitting = KeepTask(APP, task(1, TaskState.SUBMITTING))
    written = journal.commit(
        [submitting, KeepCursor(OTHER, "mine"), event()], [run(1), run(2, application=OTHER)]
    )
    assert written.refused == [EpochRefused(APP, 1, 2)]
    assert [s.run for s in written.started] == [2]
    assert not written.posted
    taken = later.commit([TakeEpoch(APP, 3)]).taken[0].told
    assert taken.tasks == [task(1)]
    assert journal.commit([TakeEpoch(APP, 2)]).refused == [EpochRefused(APP, 2, 3)]
    assert journal.commit([TakeEpoch(OTHER, 2)]).taken[0].told.cursor == "mine"
    later.close()


def test_nobody_takes_the_epoch_of_a_living_owner(
    path: Path, journal: Journal, holder: subprocess.Popen[str]
) -> None:
    assert holder.stdout is not None
    token = holder.stdout.readline().strip()
    assert journal.commit([TakeEpoch(APP, 7)]).refused == [EpochRefused(APP, 7, 7)]
    assert journal.orphans() == []

    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert journal.orphans() == [token]
    taken = journal.commit([TakeEpoch(APP, 7)]).taken[0].told  # its worker has started it again
    assert taken.tasks[0].state is TaskState.RUNNING
    journal.buried([token])
    assert journal.orphans() == []


def test_nobody_waits_for_an_owner_of_this_host_that_has_ended(
    journal: Journal, holder: subprocess.Popen[str]
) -> None:
    assert holder.stdout is not None
    holder.stdout.readline()
    (alive,) = journal.commit([TakeEpoch(APP, 8, before=7)]).taken
    assert not alive.told.last_has_ended

    holder.kill()
    holder.wait()
    (first,) = journal.commit([TakeEpoch(OTHER, 5, before=4)]).taken
    assert not first.told.last_has_ended, "of epoch 4 this journal knows nothing"


def test_an_ended_owner_is_known_by_its_epoch(
    journal: Journal, holder: subprocess.Popen[str]
) -> None:
    assert holder.stdout is not None
    holder.stdout.readline()
    holder.kill()
    holder.wait()
    (elsewhere,) = journal.commit([TakeEpoch(APP, 9, before=8)]).taken
    assert not elsewhere.told.last_has_ended, "somebody on another host had epoch 8"
    (here,) = journal.commit([TakeEpoch(APP, 10, before=9)]).taken
    assert here.told.last_has_ended


STOPPED_HOLDER = """
import os, signal, sys
from pathlib import Path
from signers.marks.store_lock import StoreLock
from workers.offchain.application import Application
from workers.offchain.commands import TakeEpoch
from workers.offchain.journal.journal import Journal, Places

if sys.argv[2]:
    journal = Journal(Path(sys.argv[1]), Places(total=2))
    journal.commit([TakeEpoch(Application.of_key(sys.argv[2]), 7)])
lock = StoreLock(Path(sys.argv[1]))
lock.acquire()
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.parametrize("is_processor", [True, False])
def test_a_processor_that_is_stopped_with_the_lock_does_not_stop_the_others(
    path: Path, monkeypatch: pytest.MonkeyPatch, is_processor: bool
) -> None:
    monkeypatch.setattr(journal_holder, "LOOK_S", 0.02)
    monkeypatch.setattr(journal_holder, "HELD_S_MAX", 0.04)
    Journal(path, PLACES).close()
    command = [sys.executable, "-c", STOPPED_HOLDER, str(path), APP.key if is_processor else ""]
    with subprocess.Popen(command) as stopped:
        os.waitid(os.P_PID, stopped.pid, os.WSTOPPED | os.WNOWAIT)
        if is_processor:
            opened = Journal(path, PLACES)
            assert stopped.wait() == -signal.SIGKILL
            assert opened.commit([TakeEpoch(APP, 8)]).taken
            opened.close()
            return
        while journal_holder.look_at_holder(path) is None:
            pass
        held = journal_holder.look_at_holder(path)
        assert f"process {stopped.pid} has held" in str(held), "a stranger is told of"
        assert stopped.poll() is None, "and not killed"
        stopped.kill()


def test_of_what_was_forgotten_epoch_and_numbers_stay(path: Path, journal: Journal) -> None:
    dead = task(3, TaskState.DEAD)
    journal.commit([TakeEpoch(APP, 7), TakeEpoch(OTHER, 8), KeepTask(APP, dead), event(3)])
    journal.commit([KeepCursor(APP, "here"), KeepTask(OTHER, dead)])
    leave_wishes(path, [next(known_tasks(path))], Wish.RETRY)
    assert APP in applications(path)
    assert forget(path, APP) == 1
    later = Journal(path, PLACES)
    assert later.commit([TakeEpoch(APP, 6)]).refused == [EpochRefused(APP, 6, 7)]
    written = later.commit([TakeEpoch(APP, 9)])
    (taken,) = written.taken
    assert (taken.told.tasks, taken.told.cursor, taken.told.next_serial) == ([], None, 4)
    assert (written.posted, later.wishes([APP])) == ([], [])
    assert [known.application for known in known_tasks(path)] == [OTHER]
    later.close()


@pytest.mark.parametrize(("submitted_epoch", "knows"), [(7, True), (6, False)])
def test_the_last_owner_s_end_says_nothing_of_what_one_before_it_submitted(
    path: Path, journal: Journal, submitted_epoch: int, knows: bool
) -> None:
    subprocess.run(
        [sys.executable, "-c", HOLDER, str(path), APP.key, "7", TaskState.WAITING],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    with closing(open_to_write(path)) as db:
        db.execute("UPDATE tasks SET state = 'submitting', submitted_epoch = ?", (submitted_epoch,))
    (taken,) = journal.commit([TakeEpoch(APP, 8, before=7)]).taken
    assert taken.told.last_has_ended is knows


@pytest.mark.parametrize("holder", [TaskState.SUBMITTING], indirect=True)
def test_who_takes_over_hears_of_an_outcome_that_may_be_on_its_way(
    path: Path, journal: Journal, holder: subprocess.Popen[str]
) -> None:
    assert holder.stdout is not None
    holder.stdout.readline()
    (taken,) = journal.commit([TakeEpoch(APP, 8)]).taken
    assert taken.predecessor is not None
    assert taken.predecessor.pid == holder.pid
    (again,) = journal.commit([TakeEpoch(APP, 9)]).taken
    assert again.predecessor is None, "it is we who own it by now"


def test_nobody_waits_for_an_owner_that_has_nothing_on_its_way(
    journal: Journal, holder: subprocess.Popen[str]
) -> None:
    assert holder.stdout is not None
    holder.stdout.readline()
    (taken,) = journal.commit([TakeEpoch(APP, 8)]).taken
    assert taken.told.tasks[0].state is TaskState.RUNNING
    assert taken.predecessor is None


def test_the_places_of_the_host_are_shared(
    path: Path, journal: Journal, holder: subprocess.Popen[str]
) -> None:
    """T42: whoever runs operators on this host, together they are no more than the cap."""
    assert holder.stdout is not None
    holder.stdout.readline()
    written = journal.commit(
        [TakeEpoch(OTHER, 1)], [run(1, application=OTHER), run(2, application=OTHER)]
    )
    assert [s.run for s in written.started] == [1]
    assert written.no_place == [2]
    token = written.started[0].token
    again = journal.commit([], [run(2, application=OTHER)], ended=[token])
    assert [s.run for s in again.started] == [2]


def test_an_operator_has_a_cap_of_its_own(path: Path) -> None:
    journal = Journal(path, Places(total=3, of_operator={"slow": 1}))
    runs = [run(1, "slow"), run(2, "slow"), run(3), run(4)]
    written = journal.commit([TakeEpoch(APP, 1)], runs)
    assert [s.run for s in written.started] == [1, 3, 4]
    assert written.no_place == [2]
    journal.close()


def test_events_are_kept_until_they_are_confirmed(path: Path, journal: Journal) -> None:
    first, second = journal.commit([TakeEpoch(APP, 1), event(1), event(2)]).posted
    journal.commit([], confirmed=[first.number])
    later = Journal(path, PLACES)
    assert later.commit([TakeEpoch(APP, 2)]).posted == [second]  # with the same id
    later.close()


def test_a_journal_that_cannot_be_used_says_so(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(JournalUnusable, match=r"damaged.*move"):
        Journal(path, PLACES)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version=5")
    other.close()
    with pytest.raises(JournalUnusable, match="another program"):
        Journal(path, PLACES)
    path.unlink()
    newer = open_to_write(path)
    newer.execute("PRAGMA user_version=9")
    newer.close()
    with pytest.raises(JournalUnusable, match="layout 9"):
        open_to_read(path)


def test_a_read_needs_a_journal(path: Path) -> None:
    with pytest.raises(JournalUnusable, match="no off-chain task was ever"):
        open_to_read(path)


def test_a_full_disk_writes_nothing_and_says_so(path: Path, journal: Journal) -> None:
    journal.commit([TakeEpoch(APP, 1), KeepTask(APP, task(1))])
    (pages,) = journal._db.execute("PRAGMA page_count").fetchone()
    journal._db.execute(f"PRAGMA max_page_count={pages}")
    big = KeepTask(APP, task(2, TaskState.COMPUTED, output="x" * 100_000))
    with pytest.raises(sqlite3.OperationalError, match="full"):
        journal.commit([KeepTask(APP, task(1, TaskState.DEAD)), big])
    assert [t.state for t in journal.commit([TakeEpoch(APP, 1)]).taken[0].told.tasks] == [
        TaskState.WAITING
    ]


def test_what_would_have_to_wait_is_refused_to_who_must_not(path: Path, journal: Journal) -> None:
    journal.commit([TakeEpoch(APP, 1), KeepTask(APP, task())])
    journal.commit([KeepTask(APP, task(state=TaskState.RUNNING))], wait=False)
    needs_fsync = KeepTask(APP, task(state=TaskState.SUBMITTING, output="out"))
    with pytest.raises(BlockingIOError):
        journal.commit([needs_fsync], wait=False)
    other = StoreLock(path)
    other.acquire()
    with pytest.raises(BlockingIOError):
        journal.commit([ForgetTask(APP, 1)], wait=False)
    other.close()
    tool = sqlite3.connect(path)  # which knows nothing of our lock
    tool.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        journal.commit([ForgetTask(APP, 1)], wait=False)
    tool.close()
    (kept,) = journal.commit([TakeEpoch(APP, 2)], wait=False).taken[0].told.tasks
    assert kept.state is TaskState.RUNNING


def test_the_log_is_emptied_by_who_may_wait(path: Path, journal: Journal) -> None:
    pages = 50
    computed = task(state=TaskState.COMPUTED, output="x" * pages * PAGE_BYTES)
    journal.commit([TakeEpoch(APP, 1), KeepTask(APP, computed)])
    for _ in range(3):
        turns = 0
        with suppress(BlockingIOError):
            while turns < 2 * LOG_PAGES_MAX // pages:
                journal.commit([KeepTask(APP, computed)], wait=False)
                turns += 1
        assert 0 < turns < 2 * LOG_PAGES_MAX // pages
        journal.commit([KeepTask(APP, computed)])
    log_pages = path.with_name(f"{path.name}-wal").stat().st_size // PAGE_BYTES
    assert log_pages < 1.5 * LOG_PAGES_MAX


@pytest.mark.parametrize("replaced", [False, True])
def test_a_journal_that_is_taken_away_is_not_written_any_more(
    path: Path, journal: Journal, replaced: bool
) -> None:
    """The next processor would begin another one, and both would think an application theirs."""
    journal.commit([TakeEpoch(APP, 1)])
    path.rename(path.with_suffix(".old"))
    if replaced:
        path.touch()
    with pytest.raises(JournalUnusable, match="taken away"):
        journal.commit([KeepTask(APP, task(1))])


def test_who_looks_into_a_damaged_journal_hears_what_to_do(path: Path) -> None:
    made = Journal(path, PLACES)
    made.commit([TakeEpoch(APP, 1), *(KeepTask(APP, task(n, why="x" * 500)) for n in range(50))])
    made.close()
    pages = bytearray(path.read_bytes())
    pages[4096 * 2 :] = b"\x5a" * (len(pages) - 4096 * 2)
    path.write_bytes(pages)
    with pytest.raises(JournalUnusable, match="damaged"):
        find_task(path, "aaaa:1")


def test_the_file_is_for_its_owner_alone(path: Path, journal: Journal) -> None:
    assert os.stat(path).st_mode & 0o777 == 0o600


def test_a_wish_waits_in_the_journal_until_it_is_carried_out(path: Path, journal: Journal) -> None:
    journal.commit(
        [TakeEpoch(APP, 1), KeepTask(APP, task(1, TaskState.DEAD)), KeepTask(APP, task(2))]
    )
    known = find_task(path, "aaaa:1")
    leave_wishes(path, [known], Wish.RETRY)
    assert find_task(path, known.name).wish is Wish.RETRY

    (wished,) = journal.wishes([OTHER, APP])
    assert wished == Wished(APP, 1, Wish.RETRY)
    journal.commit([KeepTask(APP, task(1))], heard=[wished])
    assert journal.wishes([APP]) == []
    with pytest.raises(NoSuchTask, match="is waiting"):
        leave_wishes(path, [find_task(path, "aaaa:1")], Wish.DROP)


def test_several_wishes_are_left_or_none(path: Path, journal: Journal) -> None:
    letters = [KeepTask(APP, task(serial, TaskState.DEAD)) for serial in (1, 2)]
    journal.commit([TakeEpoch(APP, 1), *letters, KeepTask(APP, task(3))])
    all_three = find_tasks(path, ["aaaa:3", "aaaa:1", f"{APP.key}:2"])
    assert [known.task.serial for known in all_three] == [3, 1, 2]
    with pytest.raises(NoSuchTask, match=":3 is waiting"):
        leave_wishes(path, all_three, Wish.DROP)
    assert journal.wishes([APP]) == []

    dead = find_tasks(path, ["aaaa:1", f"{APP}:2", f"{APP}:1"])
    assert [known.task.serial for known in dead] == [1, 2]
    leave_wishes(path, dead, Wish.DROP)
    assert journal.wishes([APP]) == [Wished(APP, 1, Wish.DROP), Wished(APP, 2, Wish.DROP)]


def test_a_task_that_is_held_up_names_what_holds_it_up(path: Path, journal: Journal) -> None:
    tasks = [
        TaskRecord(1, "other", "echo", "", TaskState.DEAD),
        TaskRecord(2, "it", "echo", "", TaskState.DEAD, asked=False),
        TaskRecord(3, "it", "echo", "", TaskState.COMPUTED),
        TaskRecord(4, "it", "echo", "", TaskState.DROPPED),
        TaskRecord(5, "it", "echo", "", TaskState.DEAD),
        TaskRecord(6, "it", "echo", ""),
        TaskRecord(7, None, "echo", ""),
    ]
    elsewhere = KeepTask(OTHER, TaskRecord(1, "other", "echo", ""))
    journal.commit([TakeEpoch(APP, 1), TakeEpoch(OTHER, 1), elsewhere])
    journal.commit([KeepTask(APP, each) for each in tasks])
    held_up = {
        known.task.serial: known.held_up_by for known in known_tasks(path) if known.held_up_by
    }
    assert held_up == {5: 4, 6: 4}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("17", "names no task"),
        ("xyz:1", "names no task"),
        ("aaaa:9", "there is no task"),
        ("a:1", "could be any of"),
    ],
)
def test_a_task_is_named_well(path: Path, journal: Journal, name: str, problem: str) -> None:
    like_it = Application("d" * 64, "a" * 63 + "b")
    journal.commit(
        [
            TakeEpoch(APP, 1),
            TakeEpoch(like_it, 1),
            KeepTask(APP, task(1)),
            KeepTask(like_it, task(1)),
        ]
    )
    with pytest.raises(NoSuchTask, match=problem):
        find_task(path, name)
    assert find_task(path, "cc:1").application == APP
