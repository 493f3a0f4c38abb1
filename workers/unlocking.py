"""Opening encrypted keys beside the loop, when they are first needed.

A password is stretched for 25 ms of a core for each key, so the loop would stand still: as many
threads as there are cores do it, and the tasks that wait for their keys come back one by one.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple

from signers.errors import SignersError
from workers.signing_job import Task

# So many opened keys between two lines of progress in the log: a few seconds of work.
KEYS_PER_NOTE = 500


class Unlocked(NamedTuple):
    """A task whose key is open now, or the reason why it is not."""

    task: Task
    problem: str = ""
    code: str = ""


class Unlocking:
    """The threads; `open` is called in them, with the hash of a key."""

    def __init__(self, open: Callable[[str], None], threads: int | None = None) -> None:
        self._open = open
        self._threads_max = threads or os.cpu_count() or 1
        self._threads = 0
        self._inbox: SimpleQueue[Task] = SimpleQueue()
        self._outbox: deque[Unlocked] = deque()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.waiting = 0  # tasks that were submitted and have not come back
        self.opened = 0  # keys, since the start

    def fileno(self) -> int:
        return self._wakeup

    def submit(self, task: Task) -> None:
        self.waiting += 1
        if self._threads < min(self.waiting, self._threads_max):
            self._threads += 1
            Thread(target=self._run, name=f"unlock-{self._threads}", daemon=True).start()
        self._inbox.put(task)

    def receive(self) -> list[Unlocked]:
        try:
            os.eventfd_read(self._wakeup)
        except BlockingIOError:
            return []
        answers = []
        while self._outbox:
            answers.append(self._outbox.popleft())
        self.waiting -= len(answers)
        self.opened += sum(not answer.problem for answer in answers)
        return answers

    def _run(self) -> None:
        while True:
            task = self._inbox.get()
            try:
                self._open(task.delegate)
                answer = Unlocked(task)
            except SignersError as e:
                answer = Unlocked(task, str(e), e.code)
            except Exception as e:  # whatever is wrong with a key ends its request alone
                answer = Unlocked(task, f"{type(e).__name__}: {e}", "signer_failed")
            self._outbox.append(answer)
            os.eventfd_write(self._wakeup, 1)
