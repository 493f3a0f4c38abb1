"""Opening encrypted keys beside the loop: those that a job waits for, and the others ahead.

A password is stretched for 25 ms of a core for each key, in OpenSSL, which lets the GIL go
meanwhile; so threads do it. A key that a job waits for is opened at once, in as many threads as
there are cores. Those opened ahead have threads of their own, which are nice (the kernel gives the
core to the loop, the store's thread and other processes first) and rest while the loop has work.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from threading import Lock, Thread, get_native_id
from typing import NamedTuple

from signers.errors import SignersError
from signers.keyring.keys import SecretKey
from workers.signing_job import Task

# A tenth of the weight of an ordinary thread, and no less. Between two keys such a thread has the
# GIL for some 0.1 ms; the less weight it has, the longer it is without a core at just that moment,
# and the loop with it. On two cores with fifteen busy processes the median of other keys' votes
# rose to 1.0 and 2.1 times of idle with 10, to 1.5 and 3.2 without, to 2.4 and 3.4 with 19.
AHEAD_NICENESS = 10
# A nice thread that has a core keeps it for some milliseconds whoever wakes up, and a vote passes
# through five threads. So after each batch of the loop no key is begun ahead for so long,
REST_S = 0.05
REST_S_MAX = 0.5  # but two keys a second are, however busy it is.


class Unlocked(NamedTuple):
    """A key is open now, or the reason why it is not; and the task that waited for it, if any."""

    key_hash: str
    task: Task | None
    secret: SecretKey | None = None
    problem: str = ""
    code: str = ""


class Unlocking:
    """The threads; `open` is called in them, with the hash of a key."""

    def __init__(
        self,
        open: Callable[[str], SecretKey],
        threads: int | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._open = open
        self._sleep = sleep
        self._rest_until = 0.0  # monotonic seconds
        self._threads_max = threads or cores()
        self._threads = 0
        self._inbox: SimpleQueue[Task] = SimpleQueue()
        self._outbox: deque[Unlocked] = deque()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._waiting = 0  # tasks that were submitted and have not come back
        self._lock = Lock()  # of the three below
        self._ahead: dict[str, None] = {}  # keys to be opened ahead, the next one last
        self._threads_ahead = 0
        self._threads_ahead_max = 0

    def fileno(self) -> int:
        return self._wakeup

    def submit(self, task: Task) -> None:
        """Open the key of a task that waits for it."""
        self._waiting += 1
        if self._threads < min(self._waiting, self._threads_max):
            self._threads += 1
            Thread(target=self._run, name=f"unlock-{self._threads}", daemon=True).start()
        with self._lock:
            self._ahead.pop(task.delegate, None)
        self._inbox.put(task)

    def open_ahead(self, keys: Sequence[str], threads: int) -> None:
        """Open these keys while there is time, in this order, instead of those given before."""
        with self._lock:
            self._ahead = dict.fromkeys(reversed(keys))
            self._threads_ahead_max = threads
            missing = min(threads, len(keys)) - self._threads_ahead
            self._threads_ahead += max(0, missing)
        for _ in range(missing):
            Thread(target=self._run_ahead, name="unlock-ahead", daemon=True).start()

    def loop_works(self, now: float) -> None:
        """The loop has work: what is opened ahead waits a little."""
        self._rest_until = now + REST_S

    def receive(self) -> list[Unlocked]:
        try:
            os.eventfd_read(self._wakeup)
        except BlockingIOError:
            return []
        answers = []
        while self._outbox:
            answers.append(self._outbox.popleft())
        self._waiting -= sum(answer.task is not None for answer in answers)
        return answers

    def close(self) -> None:
        """Begin with no further key ahead."""
        self.open_ahead((), 0)

    def _run(self) -> None:
        while True:
            task = self._inbox.get()
            self._unlock(task.delegate, task)

    def _run_ahead(self) -> None:
        niceness = os.getpriority(os.PRIO_PROCESS, 0) + AHEAD_NICENESS
        os.setpriority(os.PRIO_PROCESS, get_native_id(), niceness)  # of this thread alone
        self._rest()
        while (key_hash := self._next_ahead()) is not None:
            self._unlock(key_hash, None)
            self._rest()

    def _rest(self) -> None:
        now = time.monotonic()
        end = now + REST_S_MAX
        while (until := min(end, self._rest_until)) > now:
            self._sleep(until - now)
            now = time.monotonic()

    def _next_ahead(self) -> str | None:
        """The key to be opened next; None: this thread is not needed any more."""
        with self._lock:
            if self._ahead and self._threads_ahead <= self._threads_ahead_max:
                return self._ahead.popitem()[0]
            self._threads_ahead -= 1
            return None

    def _unlock(self, key_hash: str, task: Task | None) -> None:
        try:
            answer = Unlocked(key_hash, task, self._open(key_hash))
        except SignersError as e:
            answer = Unlocked(key_hash, task, None, str(e), e.code)
        except Exception as e:  # whatever is wrong with a key is its own trouble alone
            answer = Unlocked(key_hash, task, None, f"{type(e).__name__}: {e}", "signer_failed")
        self._outbox.append(answer)
        os.eventfd_write(self._wakeup, 1)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))
