"""The journal: what must outlive a killed worker, shared by all workers of a host.

A turn of the processor's core is one transaction under the journal's lock, and only when it is
written do the turn's operators start and its outcomes leave::

    written = journal.commit(commands, runs)       # flock, BEGIN IMMEDIATE, epochs compared
    for run in runs: ...                           # of what was not refused
    for submit in submits: ...

Whoever's epoch of an application is not the journal's has lost it: nothing of that application is
written, and the caller does nothing for it. So a late result of an old owner finds a closed door.

A transaction that says that an outcome is being submitted, or what a person has decided, is on the
disk when it returns (fsync). What else there is survives the death of every process, and a power
cut undoes at most work that is then done again. One object is used by one thread at a time.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import msgspec
from msgspec import Struct

from broker.applications import TASK_STARTED
from signers.marks.store_lock import StoreLock
from workers.offchain.application import Application
from workers.offchain.commands import (
    ForgetTask,
    JournalCommand,
    KeepCallback,
    KeepCursor,
    KeepTask,
    Publish,
    Run,
    TakeEpoch,
)
from workers.offchain.journal import journal_tables
from workers.offchain.journal.journal_holder import looking_at_holder
from workers.offchain.offchain_errors import JournalUnusable
from workers.offchain.operators.process_table import ProcessIdentity
from workers.offchain.records import TaskRecord, TaskState
from workers.offchain.stimuli import EpochRefused, EpochTaken, Wish, Wished

# States that must not be lost to a power cut: an outcome on its way, and what people decided on.
_LASTING = frozenset({TaskState.SUBMITTING, TaskState.DEAD, TaskState.DROPPED})

_encode_owner = msgspec.msgpack.Encoder().encode
_decode_owner = msgspec.msgpack.Decoder(ProcessIdentity).decode
_encode_event = msgspec.msgpack.Encoder().encode
_decode_event = msgspec.msgpack.Decoder(Publish).decode


class Places(Struct, frozen=True):
    """How many operators may run on this host at once."""

    total: int
    of_operator: dict[str, int] = {}


class Started(NamedTuple):
    """A run that has a place, and the word by which its processes are known."""

    run: int
    token: str


class Posted(NamedTuple):
    """An event in the outbox."""

    number: int
    id: bytes  # 16 bytes, the same at each repeat
    event: Publish


class Taken(NamedTuple):
    """An application that is ours now."""

    told: EpochTaken
    # The owner before us, if it still runs and an outcome of its may be on its way. It begins
    # nothing more; what it has begun must have ended before anybody submits the same.
    predecessor: ProcessIdentity | None


class Written(NamedTuple):
    """What a transaction came to."""

    started: list[Started]
    no_place: list[int]  # runs that must wait
    taken: list[Taken]
    refused: list[EpochRefused]  # of these applications nothing was written
    posted: list[Posted]


class Journal:
    """The open journal of one processor."""

    def __init__(self, path: Path, places: Places) -> None:
        """Open the journal, or make it. Raises what `journal_tables.open_to_write` does."""
        self.path = path
        self.owner = ProcessIdentity.own()
        self._owner = _encode_owner(self.owner)
        self._places = places
        self._epochs: dict[Application, int] = {}  # ours, by our own word
        self._lock = StoreLock(path)
        with looking_at_holder(path), self._locked():
            self._db = journal_tables.open_to_write(path)
            self._file = os.stat(path)
        (self.uuid,) = self._db.execute("SELECT value FROM meta WHERE name = 'uuid'").fetchone()
        self._lasts = False  # what PRAGMA synchronous says
        self._db.execute("PRAGMA synchronous=NORMAL")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock.acquire()
        try:
            yield
        finally:
            self._lock.release()

    @contextmanager
    def _transaction(self, *, lasting: bool) -> Iterator[None]:
        if lasting is not self._lasts:
            self._db.execute(f"PRAGMA synchronous={'FULL' if lasting else 'NORMAL'}")
            self._lasts = lasting
        with self._locked():
            self._check_file()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _check_file(self) -> None:
        """Who begins now opens what is there: if that is another file, epochs guard nothing."""
        try:
            is_same = os.path.samestat(os.stat(self.path), self._file)
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise JournalUnusable(
                f"{self.path} was taken away while it was in use; whatever is there now is used"
            )

    def commit(
        self,
        commands: Sequence[JournalCommand],
        runs: Sequence[Run] = (),
        *,
        ended: Iterable[str] = (),
        heard: Iterable[Wished] = (),
        confirmed: Iterable[int] = (),
    ) -> Written:
        """Write one turn.

        Args:
            commands: of the core, in their order.
            runs: that are to start; each that has a place is written down with a new token. Of one
                that has none, nothing is written that says that it runs.
            ended: tokens of runs whose processes are gone.
            heard: wishes that this turn carries out.
            confirmed: numbers of events that the broker has.

        Raises:
            JournalUnusable: another file has its name now.
            OSError, sqlite3.Error: nothing was written; the same can be tried again.
        """
        now_us = time.time_ns() // 1000
        lasting = any(isinstance(c, KeepTask) and c.task.state in _LASTING for c in commands)
        written = Written([], [], [], [], [])
        with self._transaction(lasting=lasting):
            self._db.executemany("DELETE FROM runs WHERE token = ?", [(t,) for t in ended])
            self._db.executemany("DELETE FROM outbox WHERE number = ?", [(n,) for n in confirmed])
            rows = {c.application: self._row_of(c.application) for c in (*commands, *runs)}
            # What belongs to an epoch that the journal does not go by any more is not written.
            past = {a for a, row in rows.items() if row != (self._epochs.get(a), self._owner)}
            wanted = {c.application: c.epoch for c in commands if isinstance(c, TakeEpoch)}
            lost = self._lost(rows, past, wanted)
            self._start([r for r in runs if r.application not in lost], now_us, written)
            waits = {(r.application, r.serial) for r in runs if r.run in written.no_place}
            for command in commands:
                if isinstance(command, TakeEpoch):
                    past.discard(command.application)
                if command.application in lost or command.application in past:
                    continue
                if not _says_that_it_runs(command, waits):
                    self._write(command, now_us, written)
            self._db.executemany(
                "DELETE FROM wishes WHERE key = ? AND serial = ?",
                [(w.application.key, w.serial) for w in heard if w.application not in lost],
            )
        self._epochs |= wanted  # only now: what was not written can be tried again
        for application, newest in lost.items():
            epoch = self._epochs.pop(application, 0)
            written.refused.append(EpochRefused(application, epoch, newest))
        return written

    def _row_of(self, application: Application) -> tuple[int, bytes] | None:
        """By whose epoch the journal goes, and who that is."""
        row: tuple[int, bytes] | None = self._db.execute(
            "SELECT epoch, owner FROM applications WHERE key = ?", (application.key,)
        ).fetchone()
        return row

    def _lost(
        self,
        rows: Mapping[Application, tuple[int, bytes] | None],
        past: Set[Application],
        wanted: Mapping[Application, int],
    ) -> dict[Application, int]:
        """The applications that the journal gives to somebody else, and its epochs of them."""
        lost: dict[Application, int] = {}
        for application, row in rows.items():
            if application in wanted:
                if row is not None and not self._may_take(wanted[application], *row):
                    lost[application] = row[0]
            elif application in past:
                lost[application] = 0 if row is None else row[0]
        return lost

    def _may_take(self, epoch: int, newest: int, owner: bytes) -> bool:
        """A newer epoch always, and the same one from an owner that has ended."""
        if epoch == newest:
            return owner == self._owner or not _decode_owner(owner).is_alive()
        return epoch > newest

    def _write(self, command: JournalCommand, now_us: int, written: Written) -> None:
        key = command.application.key
        match command:
            case TakeEpoch():
                before = self._row_of(command.application)
                self._db.execute(
                    "INSERT INTO applications (key, epoch, owner) VALUES (?, ?, ?)"
                    " ON CONFLICT (key) DO UPDATE SET epoch = excluded.epoch,"
                    " owner = excluded.owner",
                    (key, command.epoch, self._owner),
                )
                written.taken.append(self._taken(command, before))
                written.posted.extend(self._unconfirmed(key))
            case KeepCursor():
                self._set(key, "cursor", command.cursor)
            case KeepCallback():
                self._set(key, "callback_us", command.at_unix_us)
            case KeepTask():
                self._keep(key, command.task, now_us)
            case ForgetTask():
                for table in ("tasks", "inputs", "outputs", "wishes"):
                    self._db.execute(
                        f"DELETE FROM {table} WHERE key = ? AND serial = ?", (key, command.serial)
                    )
            case Publish():
                number = self._db.execute(
                    "INSERT INTO outbox (key, event) VALUES (?, ?)", (key, _encode_event(command))
                ).lastrowid
                written.posted.append(self._posted(number or 0, command))

    def _set(self, key: str, column: str, value: str | int | None) -> None:
        self._db.execute(f"UPDATE applications SET {column} = ? WHERE key = ?", (value, key))

    def _keep(self, key: str, task: TaskRecord, now_us: int) -> None:
        place = (key, task.serial)
        self._db.execute(
            "INSERT OR REPLACE INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *place,
                str(task.state),
                task.group,
                task.operator,
                task.attempts,
                task.fruitless,
                task.not_before_unix_us,
                task.why,
                task.stderr,
                task.submitted_epoch,
                task.asked,
                now_us,
            ),
        )
        self._db.execute("INSERT OR IGNORE INTO inputs VALUES (?, ?, ?)", (*place, task.input))
        if task.output is None:
            self._db.execute("DELETE FROM outputs WHERE key = ? AND serial = ?", place)
        elif task.state is TaskState.COMPUTED:
            self._db.execute(
                "INSERT OR REPLACE INTO outputs VALUES (?, ?, ?)", (*place, task.output)
            )
        else:  # it is there, unless the task was computed and submitted in one turn
            self._db.execute(
                "INSERT OR IGNORE INTO outputs VALUES (?, ?, ?)", (*place, task.output)
            )
        self._db.execute(
            "UPDATE applications SET next_serial = MAX(next_serial, ?) WHERE key = ?",
            (task.serial + 1, key),
        )

    def _start(self, runs: Sequence[Run], now_us: int, written: Written) -> None:
        if not runs:
            return
        counted = dict(self._db.execute("SELECT operator, COUNT(*) FROM runs GROUP BY operator"))
        total = sum(counted.values())
        for run in runs:
            of_operator = counted.get(run.operator, 0)
            bound = self._places.of_operator.get(run.operator, self._places.total)
            if total >= self._places.total or of_operator >= bound:
                written.no_place.append(run.run)
                continue
            total += 1
            counted[run.operator] = of_operator + 1
            token = uuid4().hex
            self._db.execute(
                "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    token,
                    run.application.key,
                    run.serial,
                    run.attempt,
                    run.operator,
                    self._owner,
                    now_us,
                ),
            )
            written.started.append(Started(run.run, token))

    # -- what it has kept -------------------------------------------------------------------------

    def _taken(self, command: TakeEpoch, row: tuple[int, bytes] | None) -> Taken:
        """Args: row: by which the journal went before."""
        key = command.application.key
        cursor, callback, next_serial = self._db.execute(
            "SELECT cursor, callback_us, next_serial FROM applications WHERE key = ?", (key,)
        ).fetchone()
        tasks = [task for _, task, _ in read_tasks(self._db, key)]
        last = None if row is None or row[1] == self._owner else _decode_owner(row[1])
        runs = last is not None and last.is_alive()
        submitting = [task for task in tasks if task.state is TaskState.SUBMITTING]
        # An owner before the last one may have been lost, and neither it nor its outcome be gone.
        only_its = row is not None and all(t.submitted_epoch == row[0] for t in submitting)
        told = EpochTaken(
            command.application,
            command.epoch,
            cursor,
            callback,
            tasks,
            next_serial,
            # Of an owner on another host this journal knows nothing.
            last_has_ended=only_its and row is not None and row[0] == command.before and not runs,
        )
        return Taken(told, last if runs and submitting else None)

    def _unconfirmed(self, key: str) -> Iterator[Posted]:
        rows = self._db.execute(
            "SELECT number, event FROM outbox WHERE key = ? ORDER BY number", (key,)
        )
        for number, event in rows:
            yield self._posted(number, _decode_event(event))

    def _posted(self, number: int, event: Publish) -> Posted:
        name = f"{self.uuid} {number}".encode()
        return Posted(number, blake2b(name, digest_size=16).digest(), event)

    def wishes(self, applications: Iterable[Application]) -> list[Wished]:
        """What people want done in these applications."""
        found = []
        for application in applications:
            rows = self._db.execute(
                "SELECT serial, wish FROM wishes WHERE key = ?", (application.key,)
            )
            found += [Wished(application, serial, Wish(wish)) for serial, wish in rows]
        return found

    def orphans(self) -> list[str]:
        """Tokens of runs whose processor has ended without writing down their end."""
        rows = self._db.execute("SELECT token, owner FROM runs").fetchall()
        alive = {owner: _decode_owner(owner).is_alive() for owner in {o for _, o in rows}}
        return [token for token, owner in rows if not alive[owner]]

    def buried(self, tokens: Iterable[str]) -> None:
        """Nothing of these runs is left."""
        with self._transaction(lasting=False):
            self._db.executemany("DELETE FROM runs WHERE token = ?", [(t,) for t in tokens])

    def close(self) -> None:
        self._db.close()
        self._lock.close()


def _says_that_it_runs(command: JournalCommand, tasks: Set[tuple[Application, int]]) -> bool:
    """Whether an entry is about the start of one of these tasks, which have no place."""
    match command:
        case KeepTask(task=TaskRecord(state=TaskState.RUNNING, serial=serial)):
            return (command.application, serial) in tasks
        case Publish(event=event) if event == TASK_STARTED:
            return (command.application, command.serial) in tasks
    return False


def read_tasks(
    db: sqlite3.Connection, key: str | None = None
) -> Iterator[tuple[str, TaskRecord, int]]:
    """The tasks of one application, or of all: its key, the task, and when it was written (µs)."""
    rows = db.execute(
        "SELECT t.key, t.changed_us, t.state, t.asked, t.serial, t.group_id, t.operator, i.text,"
        " t.attempts, t.fruitless, t.not_before_us, o.text, t.why, t.stderr, t.submitted_epoch"
        " FROM tasks t JOIN inputs i ON i.key = t.key AND i.serial = t.serial"
        " LEFT JOIN outputs o ON o.key = t.key AND o.serial = t.serial"
        " WHERE ?1 IS NULL OR t.key = ?1 ORDER BY t.key, t.serial",
        (key,),
    )
    for name, changed, state, asked, serial, group, operator, text, *rest in rows:
        attempts, fruitless, not_before_us, output, why, stderr, epoch = rest
        task = TaskRecord(
            serial,
            group,
            operator,
            text,
            TaskState(state),
            attempts,
            fruitless,
            not_before_us,
            output,
            why,
            stderr,
            epoch,
            bool(asked),
        )
        yield name, task, changed
