"""The thread that writes the quarantine's store: what is at hand becomes one transaction.

A commit costs some 300 µs of CPU and an fsync, whether for one vote or for hundreds, and what
workers sign waits for the same disk: so under load cleared votes wait for company. Blocks do not,
for others wait for them, nor what is held, which only the store keeps from being lost.

Jobs in, answers out, nothing else. A disk that is full stops nothing but the store: the same jobs
are tried again until they are written, and the quarantine's own bounds hold back what follows.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
from collections import deque
from contextlib import suppress

from msgspec import Struct

from broker.quarantine.records import Batch, EvidenceRecord, SignedRecord
from broker.quarantine.store import QuarantineStore, Window

AGAIN_S = 1.0  # after a failure
JOBS_AT_ONCE = 1024
# Between two commits: some times what one takes on a busy disk, and nobody misses a vote so long.
COMMIT_PAUSE_S = 0.025


class Forget(Struct, frozen=True):
    """Held records whose items have ended, and evidence that was published."""

    held: list[bytes]
    told: list[EvidenceRecord]


class Stored(Struct, frozen=True):
    """These batches are on disk."""

    numbers: list[int]


class Probed(Struct, frozen=True):
    """What was there for a probe."""

    record: SignedRecord
    found: list[SignedRecord]


class Trouble(Struct, frozen=True):
    """The store cannot be written, and why; empty: it can again."""

    text: str


Job = Batch | SignedRecord | Forget | Window
Answer = Stored | Probed | Trouble


class StoreThread:
    """Owns the store from now on; `fileno` is readable when `receive` has something."""

    def __init__(self, store: QuarantineStore) -> None:
        self._store = store
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._answers: deque[Answer] = deque()
        self._waker = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._ended = threading.Event()
        self._broken: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._waker

    def submit(self, job: Job) -> None:
        self._jobs.put(job)

    def receive(self) -> list[Answer]:
        """The answers since the last look; raises what has ended the thread, if anything has."""
        if self._broken is not None:
            raise self._broken
        with suppress(BlockingIOError):
            os.eventfd_read(self._waker)
        return [self._answers.popleft() for _ in range(len(self._answers))]

    def close(self) -> None:
        """Write what was submitted, if the disk takes it, and end."""
        self._jobs.put(None)
        self._ended.set()
        self._thread.join()
        self._store.close()
        os.close(self._waker)

    def _run(self) -> None:
        try:
            self._write_all()
        except Exception as e:  # a record that cannot be read: without a store nothing goes on
            self._broken = e
            os.eventfd_write(self._waker, 1)

    def _write_all(self) -> None:
        not_before = 0.0
        while True:
            jobs = self._gather(not_before)
            if not self._write([job for job in jobs if job is not None]) or None in jobs:
                return
            not_before = time.monotonic() + COMMIT_PAUSE_S

    def _gather(self, not_before: float) -> list[Job | None]:
        """The jobs of one commit: what comes until then, or until something urgent does."""
        jobs = [self._jobs.get()]
        with suppress(queue.Empty):
            while len(jobs) < JOBS_AT_ONCE and (job := jobs[-1]) is not None:
                if isinstance(job, Batch) and (job.blocks or job.held):
                    not_before = 0.0
                left_s = max(0.0, not_before - time.monotonic())
                jobs.append(self._jobs.get(left_s > 0, left_s))
        return jobs

    def _write(self, jobs: list[Job]) -> bool:
        """Write the jobs, however long it takes; False when there is no use in going on."""
        batches = [job for job in jobs if isinstance(job, Batch)]
        probes = [job for job in jobs if isinstance(job, SignedRecord)]
        forgets = [job for job in jobs if isinstance(job, Forget)]
        windows = [job for job in jobs if isinstance(job, Window)]
        trouble = ""
        while True:
            try:
                found = self._store.commit(
                    batches,
                    forget=[each for job in forgets for each in job.held],
                    told=[each for job in forgets for each in job.told],
                    probes=probes,
                    window=windows[-1] if windows else None,
                )
                break
            except sqlite3.Error as e:
                if str(e) != trouble:
                    trouble = str(e)
                    self._answer(Trouble(trouble))
                if self._ended.wait(AGAIN_S):
                    return False
        if trouble:
            self._answer(Trouble(""))
        for record, old in zip(probes, found, strict=True):
            self._answers.append(Probed(record, old))
        if batches:
            self._answers.append(Stored([batch.number for batch in batches]))
        if batches or probes:
            os.eventfd_write(self._waker, 1)
        return True

    def _answer(self, answer: Answer) -> None:
        self._answers.append(answer)
        os.eventfd_write(self._waker, 1)
