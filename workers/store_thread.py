"""The one thread of a worker that touches the watermark store: judge, commit, fsync.

The worker's loop never waits for the disk or for another process's lock; it goes on answering
heartbeats and says how long the store has kept it waiting. Batches go in through a queue, answers
come out through another, and a file descriptor wakes the loop.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

from signers.errors import Alarm, SignersError
from signers.formats.signable import Kind
from signers.formats.tagged_keys import is_deterministic, signature_version
from signers.marks.store_tables import BlockDraft
from signers.marks.watermark import ADVANCE, Verdict
from signers.marks.watermark_store import Transaction, WatermarkStore
from workers.pipeline import Committed, SigningBatch
from workers.signing_job import SigningJob
from workers.worker import FindDraft, KeepSignatures, WithdrawExpectations

FOLD_WHEN_IDLE_S = 0.2
# Fewer jobs are signed in less time than it takes to wake the loop; it would only hold up the
# commit (both threads need the interpreter). Their verdicts go with the commit.
JOBS_SIGNED_MEANWHILE = 8


@dataclass(frozen=True, slots=True)
class Judged:
    """The store's verdicts on a batch; its commit is under way."""

    batch: SigningBatch
    verdicts: list[Verdict]


@dataclass(frozen=True, slots=True)
class Late:
    """The deadline of these has passed while they waited for the store; no mark was touched."""

    jobs: list[SigningJob]


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """A batch could not be judged or committed. Fatal: this process must end."""

    batch: SigningBatch | None
    code: str
    text: str
    fatal: bool


@dataclass(frozen=True, slots=True)
class DraftAnswer:
    asked: FindDraft
    draft: BlockDraft | None


@dataclass(frozen=True, slots=True)
class StoreAvailable:
    """A probe has succeeded."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Signatures from elsewhere are on disk; each job comes with the one to release."""

    signatures: list[tuple[SigningJob, bytes]]


@dataclass(frozen=True, slots=True)
class NotKept:
    """Signatures from elsewhere could not be kept, so they are not released."""

    asked: KeepSignatures
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Expectations are withdrawn on disk; or that failed, and what was expected is lost."""

    asked: WithdrawExpectations


Answer = (
    Judged
    | Late
    | Committed
    | StoreFailed
    | DraftAnswer
    | StoreAvailable
    | Kept
    | NotKept
    | Withdrawn
)
_PROBE = object()
_END = object()


class StoreThread:
    """Runs a store's transactions one after the other, beside the worker's loop."""

    def __init__(self, store: WatermarkStore) -> None:
        self._store = store
        self._inbox: SimpleQueue[object] = SimpleQueue()
        self._outbox: deque[Answer] = deque()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._busy_since = 0.0
        self._thread = Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        return self._wakeup

    def submit(self, job: SigningBatch | FindDraft | KeepSignatures | WithdrawExpectations) -> None:
        self._inbox.put(job)

    def probe(self) -> None:
        self._inbox.put(_PROBE)

    def receive(self) -> list[Answer]:
        """What the store has answered since the last call; never waits."""
        try:
            os.eventfd_read(self._wakeup)
        except BlockingIOError:
            return []
        answers = []
        while self._outbox:
            answers.append(self._outbox.popleft())
        return answers

    def wait_ms(self, now: float) -> int:
        """How long the present transaction has taken so far; 0: none is under way."""
        since = self._busy_since
        return int((now - since) * 1000) if since else 0

    def close(self) -> None:
        self._inbox.put(_END)
        self._thread.join(timeout=5)
        os.close(self._wakeup)

    # -- in the thread ----------------------------------------------------------------------------

    def _post(self, answer: Answer) -> None:
        self._outbox.append(answer)
        os.eventfd_write(self._wakeup, 1)

    def _run(self) -> None:
        may_fold = True  # there was a job since the last look
        while True:
            try:
                job = self._inbox.get(timeout=FOLD_WHEN_IDLE_S if may_fold else None)
            except Empty:
                job = None
            may_fold = job is not None
            if job is _END:
                self._store.close()
                return
            self._busy_since = time.monotonic()
            batch = job if isinstance(job, SigningBatch) else None
            try:
                if batch is not None:
                    self._judge_and_commit(batch)
                    batch = None  # it is answered; what fails from here on does not concern it
                    self._store.fold_if_due()
                elif isinstance(job, FindDraft):
                    draft = self._store.block_draft(job.task.delegate, job.level, job.round)
                    self._post(DraftAnswer(job, draft))
                elif isinstance(job, KeepSignatures):
                    self._keep(job)
                elif isinstance(job, WithdrawExpectations):
                    self._withdraw(job)
                elif job is _PROBE:
                    self._store.probe()
                    self._post(StoreAvailable())
                else:
                    self._store.fold_if_due(idle=True)
            except SignersError as e:
                self._post(StoreFailed(batch, e.code, str(e), isinstance(e, Alarm)))
                if isinstance(job, FindDraft):
                    self._post(DraftAnswer(job, None))
                elif isinstance(job, KeepSignatures):
                    self._post(NotKept(job, e.code, str(e)))
                elif isinstance(job, WithdrawExpectations):
                    self._post(Withdrawn(job))
            except Exception as e:  # a defect of ours: nothing may be signed on top of it
                self._post(StoreFailed(batch, "store_defect", f"{type(e).__name__}: {e}", True))
            self._busy_since = 0.0

    def _judge_and_commit(self, batch: SigningBatch) -> None:
        """Judge, let the loop sign meanwhile, commit; only then say that it may release."""
        overlap = len(batch.jobs) >= JOBS_SIGNED_MEANWHILE
        with self._store.begin() as transaction:
            if late := batch.take_late(time.monotonic()):
                self._post(Late(late))
            verdicts = judge(transaction, batch)
            if overlap:
                self._post(Judged(batch, verdicts))
            transaction.commit()
        if not overlap:
            self._outbox.append(Judged(batch, verdicts))
        self._post(Committed(batch))

    def _keep(self, asked: KeepSignatures) -> None:
        """Put signatures from elsewhere on the disk; only then say that they may be released."""
        with self._store.begin() as transaction:
            kept = keep(transaction, asked)
            transaction.commit()
        self._post(Kept(kept))

    def _withdraw(self, asked: WithdrawExpectations) -> None:
        """Note on the disk what surely nobody has signed, before anybody hears of its end."""
        with self._store.begin() as transaction:
            withdraw(transaction, asked)
            transaction.commit()
        self._post(Withdrawn(asked))


# -- in a transaction -----------------------------------------------------------------------------


def judge(transaction: Transaction, batch: SigningBatch) -> list[Verdict]:
    """Judge a batch, and keep with the marks what belongs to them."""
    if batch.is_plain:
        return transaction.judge([(j.delegate, j.signable) for j in batch.jobs])
    # One by one, since what is noted of a job goes by the mark that it has found.
    verdicts = [_judge_alone(transaction, job) for job in batch.jobs]
    for job in _new_blocks(batch, verdicts):
        assert job.draft is not None
        transaction.keep_draft(job.delegate, job.signable, job.draft)
    return verdicts


def keep(transaction: Transaction, asked: KeepSignatures) -> list[tuple[SigningJob, bytes]]:
    """Keep signatures from elsewhere; each job with the one to release."""
    return [
        (
            job,
            transaction.keep_signature(
                job.delegate, job.signable, signature_version(job.delegate), made
            ),
        )
        for job, made in asked.signatures
    ]


def withdraw(transaction: Transaction, asked: WithdrawExpectations) -> None:
    """Note which jobs surely nobody has signed, nor will."""
    for ended in asked.ended:
        job, number = ended.job, ended.job.expectation
        if number is not None:
            version = signature_version(job.delegate)
            transaction.withdraw_expectation(job.delegate, job.signable, version, number)


def _judge_alone(transaction: Transaction, job: SigningJob) -> Verdict:
    """Judge a job; the signature that was kept, or the number to ask under, go with it."""
    key, asked = job.delegate, job.signable
    if not job.is_elsewhere and asked.kind is not Kind.BLOCK:
        (verdict,) = transaction.judge([(key, asked)])
        return verdict
    may_differ = job.is_elsewhere and not is_deterministic(key)
    judgement = transaction.judge_and_recall(
        key, asked, signature_version(key), may_differ=may_differ
    )
    job.signature, job.expectation = judgement.signature, judgement.expectation
    return judgement.verdict


def _new_blocks(batch: SigningBatch, verdicts: list[Verdict]) -> Iterable[SigningJob]:
    """Each key's last new block; nothing before it can ever be asked for again."""
    return {
        job.delegate: job
        for job, verdict in zip(batch.jobs, verdicts, strict=True)
        if verdict is ADVANCE and job.draft is not None
    }.values()
