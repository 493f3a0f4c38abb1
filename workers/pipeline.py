"""Judge, commit, sign, release: the order in which a signature comes to leave a worker.

    waiting ──► judged ──► committing (fsync) ──► committed ─┐
                  │                                          ├─► released
                  └──────► signing ──► signed ───────────────┘

The store thread judges a batch against the marks and commits it; meanwhile the permitted ones are
signed, since the processor is idle while the disk works. Nothing is released before both are done:
only the store thread makes a `Committed`, after the fsync.

A signer elsewhere (a device, a remote one) is asked after the commit, and what it signs goes to the
store once more: it could not be made again, so it is kept for repeats before it is released. If
surely nobody has signed a block, that goes to the store before the block's end is told.

Pure: jobs and the time go in, batches and ended jobs come out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from broker.messages import Outcome
from signers.formats.signable import Kind
from signers.marks.watermark import Refusal, Verdict
from workers.signing_job import SigningJob

# One commit covers at most so many marks; more would delay the first of them for nothing.
BATCH_JOBS_MAX = 512
# One batch is judged and committed while the one before it is being signed.
BATCHES_IN_STORE_MAX = 2
# A batch that had to wait longer for the store has its deadlines looked at once more.
LOOK_AGAIN_S = 0.005


class SigningBatch:
    """Jobs that are judged and committed together."""

    __slots__ = ("formed_at", "is_plain", "jobs", "judged", "on_disk", "permitted")

    def __init__(self, jobs: list[SigningJob], formed_at: float = inf) -> None:
        self.jobs = jobs
        self.formed_at = formed_at  # when their deadlines were looked at; inf: once and for all
        # Nothing but votes and the like by keys of ours: no draft, and no signature, is kept.
        self.is_plain = not any(j.is_elsewhere or j.signable.kind is Kind.BLOCK for j in jobs)
        self.permitted: list[SigningJob] = []
        self.judged = False
        self.on_disk = False

    def take_late(self, now: float) -> list[SigningJob]:
        """Remove the jobs whose deadline has passed while the batch waited for the store."""
        if now - self.formed_at < LOOK_AGAIN_S:
            return []
        late = [job for job in self.jobs if job.deadline <= now]
        if late:
            self.jobs = [job for job in self.jobs if job.deadline > now]
        return late


@dataclass(frozen=True, slots=True)
class Committed:
    """The word of the store thread that a batch's marks are on disk."""

    batch: SigningBatch


@dataclass(frozen=True, slots=True)
class Ended:
    """A job's end without a signature, to be reported."""

    job: SigningJob
    outcome: Outcome
    body: tuple[str, str]  # code, text


class Pipeline:
    """The batches of one worker on their way through store and signer."""

    def __init__(self) -> None:
        self.waiting: deque[SigningJob] = deque()
        self.ended: list[Ended] = []  # for the caller to take
        self.released: list[SigningJob] = []  # likewise: signed, and their marks on disk
        self._in_store = 0

    def next_batch(self, now: float) -> SigningBatch | None:
        """What the store should judge next, without those whose deadline has passed."""
        if self._in_store >= BATCHES_IN_STORE_MAX:
            return None
        jobs: list[SigningJob] = []
        while self.waiting and len(jobs) < BATCH_JOBS_MAX:
            job = self.waiting.popleft()
            if job.deadline <= now:
                self.late([job])
            else:
                jobs.append(job)
        if not jobs:
            return None
        self._in_store += 1
        return SigningBatch(jobs, now)

    def late(self, jobs: Sequence[SigningJob]) -> None:
        """The deadline of these has passed before they were judged."""
        for job in jobs:
            self.ended.append(
                Ended(job, Outcome.EXPIRED, ("", "its deadline passed; no mark was touched"))
            )

    def judged(self, batch: SigningBatch, verdicts: Sequence[Verdict]) -> list[SigningJob]:
        """Take the store's verdicts; returns what our keys sign while the commit runs."""
        batch.judged = True
        for job, verdict in zip(batch.jobs, verdicts, strict=True):
            if type(verdict) is Refusal:
                self.ended.append(Ended(job, Outcome.REFUSED, (verdict.code, verdict.text)))
            else:
                job.batch = batch
                batch.permitted.append(job)
        if batch.is_plain:
            return batch.permitted
        return [j for j in batch.permitted if not j.is_elsewhere and j.signature is None]

    def signed(self, jobs: Sequence[SigningJob]) -> None:
        """Signers have answered: `signature` is set, and kept back until the mark is on disk."""
        # Without a batch it has ended otherwise: the commit failed, or its signer took too long.
        self._release([j for j in jobs if j.batch is not None and j.batch.on_disk])

    def committed(self, token: Committed) -> list[SigningJob]:
        """The marks of a batch are on disk: what is signed leaves, the rest when it is signed.

        Returns what signers elsewhere are to be asked for now.
        """
        batch = token.batch
        batch.on_disk = True
        self._in_store -= 1
        self._release(batch.permitted)
        if batch.is_plain:
            return []
        return [j for j in batch.permitted if j.is_elsewhere and j.batch is batch]

    def _release(self, jobs: Sequence[SigningJob]) -> None:
        """Let those go that are signed; their marks are on disk."""
        for job in jobs:
            if job.signature is not None and job.batch is not None:
                assert job.batch.on_disk
                job.batch = None
                self.released.append(job)

    def store_failed(self, batch: SigningBatch, code: str, text: str) -> None:
        """Nothing could be judged, or the commit failed: no signature of the batch leaves."""
        self._in_store -= 1
        for job in batch.jobs:
            if not batch.judged or job.batch is batch:
                job.batch = job.signature = None
                self.ended.append(Ended(job, Outcome.FAILED, (code, text)))

    def signer_failed(
        self, job: SigningJob, code: str, text: str, outcome: Outcome = Outcome.FAILED
    ) -> None:
        """The signer gave no signature. The mark stays; the same bytes can be asked for again."""
        if job.batch is not None:
            job.batch = None
            self.ended.append(Ended(job, outcome, (code, text)))
