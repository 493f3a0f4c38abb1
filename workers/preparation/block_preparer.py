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
    NodeQuestion,
    Outcome,
    PreparationFailed,
    PreparationJob,
    PreparerSetup,
    decode_outcome,
    encode_frame,
)

Job = PreparationJob | NodeQuestion

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
        self._deadlines: dict[int, float] = {}  # of every job without an outcome
        self._waiting: list[Job] = []  # submitted while there is no child
        self._outcomes: list[Outcome] = []  # to be returned by the next `receive`
        self._silent_since: float | None = None

    def __repr__(self) -> str:
        return f"<BlockPreparer pid={self.pid} jobs={len(self._deadlines)}>"

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

    def deadline(self) -> float | None:
        """When `receive` must be called though `fileno()` is quiet; None: no need."""
        if self._outcomes:
            return self._clock()
        moments = [moment + GRACE_S for moment in self._deadlines.values()]
        if self._silent_since is not None:
            moments.append(self._silent_since + SILENCE_S_MAX)
        if (restart := self._child.deadline()) is not None:
            moments.append(restart)
        return min(moments, default=None)

    def submit(self, job: Job) -> None:
        """Have a block prepared or a node asked; `receive` gives the outcome, whatever happens."""
        refusal = self._refusal(job)
        if refusal is not None:
            self._outcomes.append(_failed(job.job, refusal))
            return
        self._deadlines[job.job] = self._clock() + job.ttl_ms / 1000
        if self.pid is None:
            self._waiting.append(job)
        else:
            self._child.send(encode_frame(job))

    def cancel(self, job: int) -> None:
        """Forget a job: nobody waits for it, no outcome will come."""
        if self._deadlines.pop(job, None) is None:
            return
        self._waiting = [waiting for waiting in self._waiting if waiting.job != job]
        self._child.send(encode_frame(CancelJob(job)))

    def receive(self) -> list[Outcome]:
        """Do what can be done now without waiting; return the outcomes that have come."""
        now = self._clock()
        bodies, death = self._child.exchange(now)
        if bodies:
            self._silent_since = None
        try:
            for body in bodies:
                outcome = decode_outcome(body)
                if self._deadlines.pop(outcome.job, None) is not None:
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
        self._deadlines.clear()
        self._child.close()

    def _begin(self, now: float) -> None:
        """A new child: its setup, and what has waited for it."""
        self._child.send(encode_frame(self._setup))
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            left_ms = int((self._deadlines[job.job] - now) * 1000)
            if left_ms > 0:
                self._child.send(encode_frame(msgspec.structs.replace(job, ttl_ms=left_ms)))

    def _mourn(self, death: str) -> None:
        """The child is gone: all its jobs have failed."""
        self._silent_since = None
        died = PreparerDied(f"the block preparer {death}")
        self._outcomes += [_failed(job, died) for job in self._deadlines]
        self._deadlines.clear()

    def _expire(self, now: float) -> None:
        """End the jobs that the child should have ended, and a child that stands still."""
        late = [job for job, moment in self._deadlines.items() if now >= moment + GRACE_S]
        for job in late:
            del self._deadlines[job]
            error = DeadlinePassed("the block preparer had no answer before the deadline")
            self._outcomes.append(_failed(job, error))
        self._waiting = [job for job in self._waiting if job.job in self._deadlines]
        if self.pid is None:
            return
        if late and self._silent_since is None:
            self._silent_since = now
        if self._silent_since is not None and now >= self._silent_since + SILENCE_S_MAX:
            self._mourn(self._child.give_up(now, "stood still"))

    def _refusal(self, job: Job) -> PreparationError | None:
        """Why a job cannot even be begun."""
        size = _size(job)
        if size > REQUEST_BYTES_MAX:
            return MalformedRequest(f"a request of {size} bytes")
        if len(self._deadlines) >= JOBS_MAX:
            return PreparerBusy(f"{JOBS_MAX} blocks are being prepared")
        unsent = sum(map(_size, self._waiting)) + self._child.unsent_bytes
        if unsent + size > UNSENT_BYTES_MAX:
            return PreparerBusy("the block preparer does not keep up with the requests")
        return None


def _size(job: Job) -> int:
    """How much a job weighs while it waits to be sent: a question next to nothing."""
    return len(job.request) if isinstance(job, PreparationJob) else 0


def _failed(job: int, error: PreparationError) -> PreparationFailed:
    return PreparationFailed(job, error.code, str(error))
