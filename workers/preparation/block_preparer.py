"""The worker's side of its block preparer: a child process that does everything slow.

Signing must never wait for a node, for the selection of operations in pure Python or for a proof
of work. So each worker has one child that holds no key, talks to the node, and returns unsigned
headers; the worker judges the watermark and signs. Nothing here blocks: the worker's poll loop
watches `fileno()`, wakes up at `deadline()`, and calls `receive()`.

When the child dies, or stands still, each of its jobs comes back as `PreparationFailed`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from workers.child import Child
from workers.frames import BrokenFrame
from workers.open_jobs import OpenJobs
from workers.preparation.preparation_errors import (
    DeadlinePassed,
    MalformedRequest,
    PreparationError,
    PreparerBusy,
    PreparerDied,
)
from workers.preparation.preparation_job import (
    REQUEST_BYTES_MAX,
    CancelJob,
    Outcome,
    PreparationFailed,
    PreparationJob,
    PreparerSetup,
    decode_outcome,
    encode_frame,
)

# Jobs at once. A delegate has one block at a time, and few delegates bake in the same minute.
JOBS_MAX = 256
# Requests that the child has not read yet; a child that stands still must not fill our memory.
UNSENT_BYTES_MAX = 32 * 1024 * 1024
# The child keeps the deadlines; this is what its word may take to get here on a busy machine.
GRACE_S = 0.25
# A child that has said nothing for so long after a deadline stands still and is killed.
SILENCE_S_MAX = 5.0
_CHILD = "workers.preparation.preparer_process"


class BlockPreparer:
    """Prepares blocks in a child process. Use from one thread; call `start` first."""

    def __init__(
        self, setup: PreparerSetup, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._setup = setup
        self._clock = clock
        self._child = Child(_CHILD)
        self._open = OpenJobs(grace_s=GRACE_S, silence_s=SILENCE_S_MAX)
        self._waiting: list[PreparationJob] = []  # submitted while there is no child
        self._outcomes: list[Outcome] = []  # to be returned by the next `receive`

    def __repr__(self) -> str:
        return f"<BlockPreparer pid={self.pid} jobs={len(self._open)}>"

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is no child."""
        return self._child.pid

    @property
    def last_death(self) -> str:
        """How the last child ended: "killed by signal SIGKILL"."""
        return self._child.last_death

    def start(self) -> None:
        """Start the child. Raises OSError when the system has no process for us."""
        now = self._clock()
        self._child.start(now)
        self._begin(now)

    def fileno(self) -> int:
        """A descriptor that is readable when `receive` has something to do."""
        return self._child.fileno()

    def deadline(self) -> float:
        """When `receive` must be called though `fileno()` is quiet; infinity: no need."""
        if self._outcomes:
            return self._clock()
        return min(self._open.deadline(), self._child.deadline())

    def submit(self, job: PreparationJob) -> None:
        """Have a block prepared; `receive` gives the outcome, whatever happens."""
        refusal = self._refusal(job)
        if refusal is not None:
            self._outcomes.append(_failed(job.job, refusal))
            return
        self._open.open(job.job, self._clock() + job.ttl_ms / 1000)
        if self.pid is None:
            self._waiting.append(job)
        else:
            self._child.send(encode_frame(job))

    def cancel(self, job: int) -> None:
        """Forget a job: nobody waits for it, no outcome will come."""
        if not self._open.close(job):
            return
        self._waiting = [waiting for waiting in self._waiting if waiting.job != job]
        self._child.send(encode_frame(CancelJob(job)))

    def receive(self) -> list[Outcome]:
        """Do what can be done now without waiting; return the outcomes that have come."""
        now = self._clock()
        bodies, death = self._child.exchange(now)
        if bodies:
            self._open.heard()
        try:
            for body in bodies:
                outcome = decode_outcome(body)
                if self._open.close(outcome.job):
                    self._outcomes.append(outcome)
        except BrokenFrame as error:
            death = death or self._child.give_up(now, f"cannot be talked to: {error}")
        if death:
            self._mourn(death)
        self._expire(now)
        if self._child.restarted(now):
            self._begin(now)
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def close(self) -> None:
        """End the child and forget its jobs."""
        self._open.close_all()
        self._child.close()

    def _begin(self, now: float) -> None:
        """A new child: its setup, and what has waited for it."""
        self._child.send(encode_frame(self._setup))
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            left_ms = int(self._open.left_s(job.job, now) * 1000)
            if left_ms > 0:
                self._child.send(encode_frame(msgspec.structs.replace(job, ttl_ms=left_ms)))

    def _mourn(self, death: str) -> None:
        """The child is gone: all its jobs have failed."""
        died = PreparerDied(f"the block preparer {death}")
        self._outcomes += [_failed(job, died) for job in self._open.close_all()]

    def _expire(self, now: float) -> None:
        """End the jobs that the child should have ended, and a child that stands still."""
        for job in self._open.late(now, child_runs=self.pid is not None):
            error = DeadlinePassed("the block preparer had no answer before the deadline")
            self._outcomes.append(_failed(job, error))
        self._waiting = [job for job in self._waiting if job.job in self._open]
        if self.pid is not None and self._open.stands_still(now):
            self._mourn(self._child.give_up(now, "stood still"))

    def _refusal(self, job: PreparationJob) -> PreparationError | None:
        """Why a job cannot even be begun."""
        size = len(job.request)
        if size > REQUEST_BYTES_MAX:
            return MalformedRequest(f"a request of {size} bytes")
        if len(self._open) >= JOBS_MAX:
            return PreparerBusy(f"{JOBS_MAX} blocks are being prepared")
        waiting = sum(len(each.request) for each in self._waiting)
        unsent = waiting + self._child.unsent_bytes
        if unsent + size > UNSENT_BYTES_MAX:
            return PreparerBusy("the block preparer does not keep up with the requests")
        return None


def _failed(job: int, error: PreparationError) -> PreparationFailed:
    return PreparationFailed(job, error.code, str(error))
