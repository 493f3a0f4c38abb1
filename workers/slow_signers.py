"""Signers that do not answer at once: each key's own thread, so that none waits for another.

Jobs in, results out, nothing else: the worker's loop keeps the state. A signer that hangs holds
its own thread and nothing more.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread

from workers.signing_job import SigningJob

# Makes chosen keys slow, to try the pool with a slow signer: "<key hash>=<ms>,<key hash>=<ms>".
# (Upstream's baker has TEZOS_SIGN_DELAY_I_KNOW_WHAT_I_AM_DOING for the same.)
SIGN_DELAY_ENV = "FORGEPOOL_SIGN_DELAY_MS"


@dataclass(frozen=True, slots=True)
class Signed:
    """A slow signer's answer: a signature, or why there is none."""

    job: SigningJob
    signature: bytes | None
    problem: str = ""


class SlowSigners:
    """A thread for each key whose signer takes its time."""

    def __init__(self, sign: Callable[[SigningJob], bytes], delays_ms: dict[str, int]) -> None:
        self._sign = sign
        self._delays_ms = delays_ms
        self.keys = frozenset(delays_ms)
        self._inboxes: dict[str, SimpleQueue[SigningJob]] = {}
        self._outbox: deque[Signed] = deque()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        return self._wakeup

    def submit(self, job: SigningJob) -> None:
        key = job.delegate
        inbox = self._inboxes.get(key)
        if inbox is None:
            inbox = self._inboxes[key] = SimpleQueue()
            Thread(target=self._run, args=(key, inbox), name=f"sign-{key}", daemon=True).start()
        inbox.put(job)

    def receive(self) -> list[Signed]:
        try:
            os.eventfd_read(self._wakeup)
        except BlockingIOError:
            return []
        answers = []
        while self._outbox:
            answers.append(self._outbox.popleft())
        return answers

    def _run(self, key: str, inbox: SimpleQueue[SigningJob]) -> None:
        while True:
            job = inbox.get()
            time.sleep(self._delays_ms[key] / 1000)
            try:
                answer = Signed(job, self._sign(job))
            except Exception as e:  # whatever a back-end throws ends this request, not the thread
                answer = Signed(job, None, f"{type(e).__name__}: {e}")
            self._outbox.append(answer)
            os.eventfd_write(self._wakeup, 1)


def delays_from_environment(value: str) -> dict[str, int]:
    """Read FORGEPOOL_SIGN_DELAY_MS; raises ValueError."""
    return {
        key.strip(): int(ms)
        for key, _, ms in (part.partition("=") for part in value.split(",") if part.strip())
    }
