"""The worker's side of its block preparer: a child process that does everything slow.

Signing must never wait for a node, for the selection of operations in pure Python or for a proof
of work. So each worker has one child that holds no key, talks to the node, and returns unsigned
headers; the worker judges the watermark and signs. Nothing here blocks: the worker's poll loop
watches `fileno()`, wakes up at `deadline()`, and calls `receive()`.

The child ends when its socket closes, so it never outlives its worker. When it dies, or stands
still, each of its jobs comes back as `PreparationFailed` and it is started again after a pause.
"""

from __future__ import annotations

import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from workers.preparation.preparation_errors import (
    DeadlinePassed,
    MalformedRequest,
    PreparationError,
    PreparerBusy,
    PreparerDied,
)
from workers.preparation.preparation_job import (
    REQUEST_BYTES_MAX,
    BrokenFrame,
    CancelJob,
    NodeQuestion,
    Order,
    Outcome,
    PreparationFailed,
    PreparationJob,
    PreparerSetup,
    encode_frame,
    take_outcomes,
)

Job = PreparationJob | NodeQuestion

# Jobs at once. A delegate has one block at a time, and few delegates bake in the same minute.
JOBS_MAX = 256
# Requests that the child has not read yet; a child that stands still must not fill our memory.
UNSENT_BYTES_MAX = 32 * 1024 * 1024
# One turn reads no more than this, so that big blocks do not hold up signing.
READ_BYTES_PER_TURN = 1024 * 1024
READ_BYTES = 256 * 1024
# The child keeps the deadlines; this is what its word may take to get here on a busy machine.
GRACE_S = 0.25
# A child that has said nothing for so long after a deadline stands still and is killed.
SILENCE_S_MAX = 5.0
RESTART_S_FIRST = 0.1
RESTART_S_MAX = 5.0
# A child that has lived for so long has not died of its start: the next pause is short again.
HEALTHY_AFTER_S = 10.0
CLOSE_S_MAX = 1.0
_CHILD = "workers.preparation.preparer_process"


@dataclass(slots=True)
class _Child:
    """A running preparer, and the socket to it."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    started: float
    unsent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)


class BlockPreparer:
    """Prepares blocks in a child process. Use from one thread; call `start` first."""

    def __init__(
        self, setup: PreparerSetup, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._setup = setup
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._child: _Child | None = None
        self._ended: subprocess.Popen[bytes] | None = None  # the last child, until it is reaped
        self._deadlines: dict[int, float] = {}  # of every job without an outcome
        self._waiting: list[Job] = []  # submitted while there is no child
        self._outcomes: list[Outcome] = []  # to be returned by the next `receive`
        self._silent_since: float | None = None
        self._restart_at: float | None = None
        self._deaths_in_a_row = 0
        self.last_death = ""  # how the last child ended: "killed by signal SIGKILL"

    def __repr__(self) -> str:
        return f"<BlockPreparer pid={self.pid} jobs={len(self._deadlines)}>"

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is no child."""
        return None if self._child is None else self._child.process.pid

    @property
    def alive(self) -> bool:
        """Whether there is a child, as far as `receive` has seen."""
        return self._child is not None

    def start(self) -> None:
        """Start the child. Raises OSError when the system has no process for us."""
        self._start(self._clock())

    def fileno(self) -> int:
        """A descriptor that is readable when `receive` has something to do.

        It is a selector's own, so it stays the same when the child is replaced.
        """
        return self._selector.fileno()

    def deadline(self) -> float | None:
        """When `receive` must be called though `fileno()` is quiet; None: no need."""
        if self._outcomes:
            return self._clock()
        moments = [moment + GRACE_S for moment in self._deadlines.values()]
        if self._silent_since is not None:
            moments.append(self._silent_since + SILENCE_S_MAX)
        if self._restart_at is not None:
            moments.append(self._restart_at)
        return min(moments, default=None)

    def submit(self, job: Job) -> None:
        """Have a block prepared or a node asked; `receive` gives the outcome, whatever happens."""
        refusal = self._refusal(job)
        if refusal is not None:
            self._outcomes.append(_failed(job.job, refusal))
            return
        self._deadlines[job.job] = self._clock() + job.ttl_ms / 1000
        if self._child is None:
            self._waiting.append(job)
        else:
            self._send(self._child, job)

    def cancel(self, job: int) -> None:
        """Forget a job: nobody waits for it, no outcome will come."""
        if self._deadlines.pop(job, None) is None:
            return
        self._waiting = [waiting for waiting in self._waiting if waiting.job != job]
        if self._child is not None:
            self._send(self._child, CancelJob(job))

    def receive(self) -> list[Outcome]:
        """Do what can be done now without waiting; return the outcomes that have come."""
        now = self._clock()
        self._exchange(now)
        self._expire(now)
        self._restart(now)
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def close(self) -> None:
        """End the child and forget its jobs. Waits for at most `CLOSE_S_MAX` seconds."""
        child, self._child = self._child, None
        self._deadlines.clear()
        self._selector.close()
        self._restart_at = None
        if child is not None:
            child.channel.close()
            self._ended = child.process
        if self._ended is not None:
            try:
                self._ended.wait(CLOSE_S_MAX)
            except subprocess.TimeoutExpired:
                self._ended.kill()
                self._ended.wait()

    # -- the life of the child --

    def _start(self, now: float) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [
                sys.executable,
                "-m",
                _CHILD,
                str(theirs.fileno()),
            ]
            try:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        child = self._child = _Child(process, ours, now)
        self._selector.register(ours, selectors.EVENT_READ)
        self._send(child, self._setup)
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            left_ms = int((self._deadlines[job.job] - now) * 1000)
            if left_ms > 0:
                self._send(child, msgspec.structs.replace(job, ttl_ms=left_ms))

    def _restart(self, now: float) -> None:
        if self._restart_at is None or now < self._restart_at:
            return
        if self._ended is not None:
            status = self._ended.poll()
            if status is None:
                self._ended.kill()
                self._restart_at = now + RESTART_S_FIRST
                return
            self.last_death = describe_exit(status)
            self._ended = None
        try:
            self._start(now)
        except OSError:
            self._pause_before_restart(now)
        else:
            self._restart_at = None

    def _bury(self, now: float, why: str) -> None:
        """The child is of no use any more: all its jobs have failed."""
        child, self._child = self._child, None
        if child is None:
            return
        self._selector.unregister(child.channel)
        # It ends by itself now that its socket is closed; if it cannot, the restart kills it.
        child.channel.close()
        self._ended = child.process
        self._silent_since = None
        if now - child.started >= HEALTHY_AFTER_S:
            self._deaths_in_a_row = 0
        self._pause_before_restart(now)
        death = PreparerDied(f"the block preparer (pid {child.process.pid}) {why}")
        self._outcomes += [_failed(job, death) for job in self._deadlines]
        self._deadlines.clear()

    def _pause_before_restart(self, now: float) -> None:
        pause = min(RESTART_S_FIRST * 2**self._deaths_in_a_row, RESTART_S_MAX)
        self._deaths_in_a_row += 1
        self._restart_at = now + pause

    # -- talking to it --

    def _exchange(self, now: float) -> None:
        if self._child is None:
            return
        try:
            self._write(self._child)
            if not self._read(self._child):
                self._bury(now, "ended")
        except (OSError, BrokenFrame) as error:
            self._bury(now, f"cannot be talked to: {error}")

    def _send(self, child: _Child, order: Order) -> None:
        child.unsent += encode_frame(order)
        try:
            self._write(child)
        except OSError:
            # It is dead. The socket is readable now, so `receive` will find that out.
            child.unsent.clear()

    def _write(self, child: _Child) -> None:
        while child.unsent:
            try:
                del child.unsent[: child.channel.send(child.unsent)]
            except BlockingIOError:
                break
        events = selectors.EVENT_READ
        if child.unsent:
            events |= selectors.EVENT_WRITE
        self._selector.modify(child.channel, events)

    def _read(self, child: _Child) -> bool:
        """Take what has come; False when the child has closed its end."""
        for _ in range(READ_BYTES_PER_TURN // READ_BYTES):
            try:
                piece = child.channel.recv(READ_BYTES)
            except BlockingIOError:
                return True
            if not piece:
                return False
            child.received += piece
            self._silent_since = None
            for outcome in take_outcomes(child.received):
                if self._deadlines.pop(outcome.job, None) is not None:
                    self._outcomes.append(outcome)
        return True

    def _expire(self, now: float) -> None:
        """End the jobs that the child should have ended, and a child that stands still."""
        late = [job for job, moment in self._deadlines.items() if now >= moment + GRACE_S]
        for job in late:
            del self._deadlines[job]
            error = DeadlinePassed("the block preparer had no answer before the deadline")
            self._outcomes.append(_failed(job, error))
        self._waiting = [job for job in self._waiting if job.job in self._deadlines]
        if self._child is None:
            return
        if late and self._silent_since is None:
            self._silent_since = now
        if self._silent_since is not None and now >= self._silent_since + SILENCE_S_MAX:
            self._bury(now, "stood still")

    def _refusal(self, job: Job) -> PreparationError | None:
        """Why a job cannot even be begun."""
        size = _size(job)
        if size > REQUEST_BYTES_MAX:
            return MalformedRequest(f"a request of {size} bytes")
        if len(self._deadlines) >= JOBS_MAX:
            return PreparerBusy(f"{JOBS_MAX} blocks are being prepared")
        unsent = sum(map(_size, self._waiting))
        if self._child is not None:
            unsent += len(self._child.unsent)
        if unsent + size > UNSENT_BYTES_MAX:
            return PreparerBusy("the block preparer does not keep up with the requests")
        return None


def _size(job: Job) -> int:
    """How much a job weighs while it waits to be sent: a question next to nothing."""
    return len(job.request) if isinstance(job, PreparationJob) else 0


def describe_exit(status: int) -> str:
    """How a process ended, in words: an exit status, or minus the signal that killed it."""
    if status < 0:
        return f"killed by signal {signal.Signals(-status).name}"
    return f"exit status {status}"


def _failed(job: int, error: PreparationError) -> PreparationFailed:
    return PreparationFailed(job, error.code, str(error))
