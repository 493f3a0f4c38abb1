"""The watermark store: a mark is on the disk before the signature that it permits exists.

One SQLite file per host, shared by all its workers. Judging and recording happen in one
transaction under one lock, so two workers that both believe they own a key cannot both sign::

    with store.begin() as transaction:             # flock, BEGIN IMMEDIATE, read others' rows
        verdicts = transaction.judge(requests)     # in memory
        transaction.commit()                       # one row, one fsync; files still in place
    # only now may a signature of these requests leave the process

A transaction that was not committed permits nothing, whatever its verdicts say. What is in
memory is never trusted over the disk: after a rollback or a failed commit all marks are read
again before anything is judged, since a commit that reported an error may be on disk or not.

A store object is used by one thread at a time, and not after a fork.
"""

import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self
from uuid import uuid4

from signers.formats.hashes import blake2b_32
from signers.formats.networks import BLOCK_WATERMARK
from signers.formats.signable import Kind, Signable
from signers.host import host_id, user_name
from signers.marks import administration_log, kept_signatures, store_file, store_tables
from signers.marks.administration_log import AdministrationEntry
from signers.marks.kept_signatures import ASKED, WITHDRAWN
from signers.marks.mark_table import MarkTable
from signers.marks.store_errors import NoMark, StoreReplaced, WrongStore
from signers.marks.store_session import StoreSession
from signers.marks.store_tables import BlockDraft, StoreIdentity
from signers.marks.watermark import (
    ADVANCE,
    EVERYONE,
    FRESH,
    MARKED_KINDS,
    REPEAT,
    Verdict,
    judge_repeat,
)

# Fold after so many commits: 512 commits of 64 votes fill half of the WAL that is grown
# beforehand, and folding them takes a few milliseconds under the lock.
FOLD_COMMITS = 512
FOLD_COMMITS_IDLE = 64  # less is not worth the disk's work
# With so many unfolded commits the next transaction folds first, late as it is: its worker does
# not call `fold_if_due`, and the journal would fill the disk.
FOLD_COMMITS_MAX = 4096

# Grown once when the store is opened: a commit that grows the WAL takes twice as long as one
# that overwrites it.
WAL_BYTES = 16 * 1024 * 1024


class StoreStatistics(NamedTuple):
    """What one open store has done, and where it stands."""

    commits: int
    admitted: int  # signables that these commits recorded
    reloads: int  # times all marks were read from the tables
    folds: int
    seq: int  # the store's commit counter, as last seen
    unfolded: int  # commits since the last fold that this process knows of
    lock_wait_s_max: float


class Judgement(NamedTuple):
    """The verdict on a request, and what a permission rests on.

    `signature`: the one that was kept, to be given out instead of another. `expectation`: its
    signer is asked under this number, by nobody else, and not before the commit.
    """

    verdict: Verdict
    signature: bytes | None = None
    expectation: int | None = None


class WatermarkStore:
    """The marks of this host's pool for one chain, open in this process.

    `uuid` names the store, `host_id` the host that it was made on, `chain_id` has 4 bytes.
    """

    def __init__(self, session: StoreSession) -> None:
        self._session = session
        self._connection = session.connection
        self._seq = self._folded_seq = 0
        self._commits = self._admitted = self._reloads = self._folds = 0
        with session.guarded():
            store_file.quick_check(self._connection, session.path)
            identity = store_tables.read_identity(self._connection)
            _check_host(identity, session.path)
        self.uuid, self.host_id, self.network, self.chain_id = identity
        self._marks = MarkTable(self.chain_id)

    @classmethod
    def create(cls, path: Path, *, network: str, chain_id: bytes) -> None:
        """Make a store without keys. Raises StoreExists, StoreUnavailable."""
        identity = StoreIdentity(uuid4().hex, host_id(), network, chain_id)
        try:
            with store_file.NewFile(path) as new:
                store_tables.make_tables(new.connection, identity)
                new.appear(journal_mode="wal")
        except sqlite3.Error as error:
            raise store_file.store_error(error, path) from error

    @classmethod
    def open(cls, path: Path, *, wal_bytes: int = WAL_BYTES) -> Self:
        """Open the store that `create` made; waits for its lock.

        A process that signs nothing passes 0 for `wal_bytes` and leaves the WAL as it is. Raises
        StoreMissing, WrongStore, StoreCorrupt, StoreUnavailable, StoreBroken.
        """
        session = StoreSession(path)
        try:
            store = cls(session)
            store._settle()
            if session.grow_wal(wal_bytes):
                store.probe()
        except BaseException:
            session.close()
            raise
        return store

    def begin(self, command: str = "a program") -> "Transaction":
        """Wait for the lock, start a transaction, and read what others have recorded.

        `command` is what a person typed, for the log of changes by hand.
        Raises the errors of `open`, or StoreReplaced.
        """
        if self._seq - self._folded_seq >= FOLD_COMMITS_MAX:
            self.fold_if_due()
        turn = self._session.begin()
        with self._session.guarded():
            self._catch_up()
        return Transaction(self, turn, command)

    def block_draft(self, key: str, level: int, round: int) -> BlockDraft | None:
        """Return the block that a key has begun to sign at a level and round, if kept."""
        self._session.check_usable()
        with self._session.guarded():
            return store_tables.find_draft(self._connection, key, level, round)

    def fold_if_due(self, *, idle: bool = False) -> bool:
        """Move the journal into the tables and the WAL into the file, if there is enough of it.

        Call it after a batch is answered, and with `idle` when there is nothing to do; never
        between a request and its signature. Says whether it folded.
        """
        limit = FOLD_COMMITS_IDLE if idle else FOLD_COMMITS
        if self._seq - self._folded_seq < limit:
            return False
        self._session.begin()
        with self._session.guarded():
            self._catch_up()
            self._folded_seq = store_tables.read_folded_seq(self._connection)
            is_due = self._seq - self._folded_seq >= limit  # another process may have folded
            if is_due:
                self._fold()
        self._session.commit(checkpoint=is_due)
        return is_due

    def health(self) -> None:
        """Raise what makes this store unusable, without waiting for anything."""
        self._session.check_files()

    def probe(self) -> None:
        """Commit nothing, durably: raises what a commit would raise. For one try a second."""
        with self.begin() as transaction:
            transaction.touch()
            transaction.commit()

    def statistics(self) -> StoreStatistics:
        """Tell what this object has done, and where the store stood when it last looked."""
        return StoreStatistics(
            commits=self._commits,
            admitted=self._admitted,
            reloads=self._reloads,
            folds=self._folds,
            seq=self._seq,
            unfolded=self._seq - self._folded_seq,
            lock_wait_s_max=self._session.lock_wait_s_max,
        )

    def close(self) -> None:
        """Close the file; a transaction that is open is rolled back."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _settle(self) -> None:
        """Write everything that recovery may have brought back anew, durably.

        The commit of a process that was killed before its fsync is in the WAL, but perhaps not
        on the disk. Without this a repeat, which writes nothing, could rest on it.
        """
        self._session.begin()
        with self._session.guarded():
            self._catch_up()
            self._fold()
            store_tables.append_commit(self._connection, self._seq + 1, b"")
        self._session.commit(checkpoint=True)
        self._seq += 1

    def _catch_up(self) -> None:
        """Bring memory to the newest commit: replay what is new, or read everything."""
        if self._session.in_doubt:
            self._reload()
            return
        rows = self._connection.execute(
            "SELECT seq, CASE WHEN seq > ?1 THEN entries END FROM journal WHERE seq >= ?1"
            " ORDER BY seq",
            (self._seq,),
        ).fetchall()
        is_gap = not rows or rows[0][0] != self._seq  # our newest row was folded away
        news = [entries for _, entries in rows[1:]]
        if is_gap or None in news:
            self._reload()
        elif news:
            store_tables.replay(self._marks, news)
            self._seq = rows[-1][0]

    def _reload(self) -> None:
        content = store_tables.read_content(self._connection, self.chain_id)
        if content.seq < self._seq:
            raise StoreReplaced(
                f"{self._session.path} went back from commit {self._seq} to {content.seq}: an "
                "older copy took its place; nothing is signed. Stop every worker and restore a "
                "backup with a floor"
            )
        self._marks, self._seq, self._folded_seq = content
        self._session.in_doubt = False
        self._reloads += 1

    def _fold(self) -> None:
        store_tables.fold(self._connection, self.chain_id, self._seq)
        self._folded_seq = self._seq
        self._folds += 1


def _check_host(identity: StoreIdentity, path: Path) -> None:
    if identity.host_id != (here := host_id()):
        raise WrongStore(
            f"{path} was made on the host {identity.host_id}, this is {here}; a copy of a store "
            "signs what the original has signed. If the pool moved here: stop it there for good, "
            "take a backup there (`forgepool watermarks backup`), move this copy away and restore "
            "the backup (`forgepool watermarks restore`). In a container set FORGEPOOL_HOST_ID"
        )


class Transaction:
    """One turn on the store: what is judged in it is permitted once it is committed.

    A context; leaving it without a commit rolls back. One transaction either judges or changes
    keys, marks and ceilings by hand, not both; what it changes by hand, it also logs.
    """

    def __init__(self, store: WatermarkStore, turn: int, command: str) -> None:
        self._store = store
        self._turn = turn
        self._command = command
        self._session = store._session
        self._connection = store._connection
        self._entries: list[bytes] = []  # what was admitted, as the journal will have it
        self._is_direct = False  # keys or marks are changed in their tables
        self._changes: list[str] = []  # what was changed so, a sentence each
        self._is_touched = False  # there is something to commit besides entries

    @property
    def marks(self) -> MarkTable:
        """The marks in force, to be read; without what this transaction has changed by hand."""
        self._check_open()
        return self._store._marks

    def judge(self, requests: Iterable[tuple[str, Signable]]) -> list[Verdict]:
        """Judge what keys (their hashes) want to sign, in order: earlier ones count.

        In memory. A verdict permits nothing before `commit` has returned.
        """
        self._check_open()
        if self._is_direct:
            raise RuntimeError("a transaction that changes keys or marks by hand does not judge")
        with self._session.guarded():
            return self._store._marks.judge(requests, self._entries)

    def keep_draft(self, key: str, signable: Signable, draft: BlockDraft) -> None:
        """Keep a block that was admitted in this transaction, to be signed again on a repeat.

        Raises ValueError when it was not admitted, or when the header is not what is signed.
        """
        self._check_open()
        bound = self._store._marks.find(key)
        if bound is None or self._store._marks.mark(key, Kind.BLOCK) != signable:
            raise ValueError("the draft of a block that was not admitted")
        signed = bytes([BLOCK_WATERMARK]) + signable.chain_id + draft.header
        if blake2b_32(signed) != signable.digest:
            raise ValueError("the draft's header is not the one that is signed")
        self.touch()
        with self._session.guarded():
            store_tables.add_draft(
                self._connection, bound.number, signable.level, signable.round, draft
            )

    def judge_and_recall(
        self, key: str, asked: Signable, version: int, *, may_differ: bool
    ) -> Judgement:
        """Judge one request of which two signatures might not be alike, and what it rests on.

        `may_differ`: its signer is one that might not sign the same bytes alike. Of a block no
        two signatures may then be made: such a signer is asked under an expectation or not at
        all, and a key of ours signs only where no such signer may have.
        """
        (verdict,) = self.judge([(key, asked)])
        if verdict is not ADVANCE and verdict is not REPEAT:
            return Judgement(verdict)
        number = self._number(key)
        with self._session.guarded():
            if verdict is REPEAT:
                found = kept_signatures.recall(self._connection, number, asked, version)
                if isinstance(found, bytes):
                    return Judgement(verdict, signature=found)
                in_doubt = found is ASKED or (may_differ and found is not WITHDRAWN)
                verdict = judge_repeat(asked, key, may_differ=in_doubt)
                if verdict is not REPEAT:
                    return Judgement(verdict)
                if found is WITHDRAWN and not may_differ:
                    self.touch()
                    kept_signatures.forget(self._connection, number, asked, version)
            if not may_differ or asked.kind is not Kind.BLOCK:
                return Judgement(verdict)
            self.touch()
            expectation = self._store._seq + 1  # the number of this commit, which is no other's
            kept_signatures.expect(self._connection, number, asked, version, expectation)
        return Judgement(verdict, expectation=expectation)

    def withdraw_expectation(
        self, key: str, asked: Signable, version: int, expectation: int
    ) -> None:
        """Note that surely nobody has signed under this expectation, nor will.

        Then a repeat may be signed. Where the expectation is no longer in force, nothing happens.
        """
        number = self._number(key)
        self.touch()
        with self._session.guarded():
            kept_signatures.withdraw(self._connection, number, asked, version, expectation)

    def keep_signature(self, key: str, signed: Signable, version: int, signature: bytes) -> bytes:
        """Keep a checked signature for repeats, and return the one to release once committed.

        That is the first one of these bytes. Where the mark has moved on it is not kept: nobody
        can ask for it again.
        """
        number = self._number(key)
        if self._store._marks.mark(key, signed.kind) != signed:
            return signature
        self.touch()
        with self._session.guarded():
            return kept_signatures.keep(self._connection, number, signed, version, signature)

    def touch(self) -> None:
        """Make the commit write to the disk even if nothing was admitted."""
        self._is_touched = True

    def enable(self, key: str, delegate: str, *, floor: int | None = None) -> None:
        """Let a key sign for a delegate (itself, or another whose consensus key it is).

        With a `floor` both refuse this level and below; `FRESH` declares that neither has
        signed anything that this store does not know of. Marks that stand higher stay, and the
        delegate inherits those of the key. Raises NoMark when neither a floor nor the store says
        where key and delegate stand.
        """
        self._change_directly()
        with self._session.guarded():
            for holder in {key, delegate}:
                if floor is not None:
                    self.raise_floor(holder, floor)
                if self._count_marks(holder) < len(MARKED_KINDS):
                    raise NoMark(
                        f"{holder} has no mark in this store. If it has signed anything anywhere, "
                        "give the level of the chain's head now (--floor LEVEL); if it never has, "
                        "say so (--fresh)"
                    )
            self._bind(key, delegate, enabled=True)

    def disable(self, key: str) -> None:
        """Let a key sign no more; its marks stay. Raises NoMark for a key that is not known."""
        bound = self._store._marks.find(key)
        if bound is None:
            raise NoMark(f"{key} is not in this store")
        self._change_directly()
        with self._session.guarded():
            self._bind(key, bound.delegate, enabled=False)

    def raise_floor(self, holder: str, level: int) -> None:
        """Refuse this level and below, for a key or a delegate; marks that stand higher stay."""
        self._change_directly()
        self._changes.append(
            f"{holder}: declared to have signed nothing"
            if level == FRESH
            else f"{holder}: floor {level}"
        )
        with self._session.guarded():
            store_tables.raise_floor(self._connection, self._store.chain_id, holder, level)

    def raise_mark(
        self, holder: str, mark: Signable, signature: bytes | None = None, version: int = 0
    ) -> bool:
        """Give a key or delegate a mark of elsewhere, unless its own is as high.

        Says whether it was raised. `signature`, if it is known, is that of what was signed, and
        is kept for repeats.
        """
        self._change_directly()
        with self._session.guarded():
            is_raised = store_tables.raise_mark(self._connection, holder, mark)
            if is_raised and signature is not None:
                number = store_tables.number_holder(self._connection, holder)
                kept_signatures.keep(self._connection, number, mark, version, signature)
        if is_raised:
            kind = mark.kind.name.lower()
            self._changes.append(f"{holder}: {kind} level {mark.level} round {mark.round}")
        return is_raised

    def set_ceiling(self, holder: str, level: int | None) -> None:
        """Sign nothing above a level, for a key, a delegate or `EVERYONE`; None lifts it."""
        self._change_directly()
        whose = "everyone" if holder == EVERYONE else holder
        self._changes.append(f"{whose}: {'no ceiling' if level is None else f'ceiling {level}'}")
        with self._session.guarded():
            store_tables.set_ceiling(self._connection, holder, level)

    def commit(self) -> None:
        """Put what was admitted on the disk; when this returns it may be signed.

        Raises StoreUnavailable, StoreBroken, StoreCorrupt, StoreReplaced: then nothing may.
        """
        self._check_open()
        store = self._store
        is_written = bool(self._entries) or self._is_touched or self._is_direct
        if is_written:
            entries = None if self._is_direct else b"".join(self._entries)
            with self._session.guarded():
                store_tables.append_commit(self._connection, store._seq + 1, entries)
                if self._changes:
                    self._log_changes()
        self._session.commit()
        if is_written:
            store._seq += 1
            store._commits += 1
            store._admitted += len(self._entries)
            if self._is_direct:
                self._session.in_doubt = True  # keys and marks are to be read again

    def rollback(self) -> None:
        """Record nothing; nothing that was judged here may be signed."""
        self._check_open()
        if self._entries or self._is_direct:
            self._session.in_doubt = True  # memory is ahead of the disk
        self._session.rollback()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._session.is_in(self._turn):
            self.rollback()

    def _number(self, key: str) -> int:
        """The number of a key that the store knows, while this transaction is open."""
        self._check_open()
        bound = self._store._marks.find(key)
        if bound is None:
            raise ValueError(f"{key} is not in this store")
        return bound.number

    def _log_changes(self) -> None:
        entry = AdministrationEntry(int(time.time()), user_name(), self._command, self._changes)
        administration_log.append(self._connection, entry)

    def _bind(self, key: str, delegate: str, *, enabled: bool) -> None:
        self._changes.append(f"{key}: {'enabled' if enabled else 'disabled'} for {delegate}")
        store_tables.bind_key(
            self._connection,
            self._store.chain_id,
            key,
            delegate,
            enabled=enabled,
            now_s=int(time.time()),
        )

    def _count_marks(self, holder: str) -> int:
        return store_tables.count_marks(self._connection, self._store.chain_id, holder)

    def _change_directly(self) -> None:
        self._check_open()
        if self._entries:
            raise RuntimeError("a transaction that has judged does not change keys or marks")
        if not self._is_direct:
            # What is changed are the tables, and they must hold the marks in force: a new
            # delegate inherits those of its key.
            with self._session.guarded():
                self._store._fold()
            self._is_direct = True

    def _check_open(self) -> None:
        if not self._session.is_in(self._turn):
            raise RuntimeError("this transaction has ended")
