"""One reload over all workers: all read first, and only when all could do they go by it.

    READ to all ──► all have read the same ──► TAKE to all ──► all have taken: `Reloaded`
                └─► one has a problem, is silent, or has read something else: DROP, nobody changes

What the workers read the broker does not know; it compares what they call its version. A worker
that joins meanwhile reads for itself, one that ends is not waited for, and one that leaves takes no
new work under any policy.

Pure: answers and the time go in, messages and the result come out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from broker.membership import Worker, WorkerState
from broker.messages import ReloadAnswer, ReloadAsked, Reloaded, ReloadedWorker, ReloadStep

# Ten thousand keys and as many rules are read in about a second; past this a worker hangs.
STEP_S = 10.0
_HALFWAY = "not every worker has confirmed it: some may go by it and others not; try again"


class Reload:
    """A reload that is under way; it is over when `result` is there."""

    def __init__(
        self, number: int, epoch: str, workers: Iterable[Worker], now: float, *, dry_run: bool
    ) -> None:
        self._number = number
        self._epoch = epoch
        self._dry_run = dry_run
        self._step = ReloadStep.READ
        self._workers = {
            worker: ReloadedWorker(worker.name, worker.hello.pid)
            for worker in workers
            if worker.state is not WorkerState.LEAVING
        }
        self._waiting = set(self._workers)
        self._versions: set[str] = set()
        self._changes: dict[str, None] = {}  # in the order in which they were told
        self.deadline = now + STEP_S
        self.to_workers: list[tuple[Any, ReloadAsked]] = []  # for the caller to take
        self.result: Reloaded | None = None
        for worker in self._workers:
            if worker.state is WorkerState.LOST:
                self._workers[worker].problem = "it gives no sign of life; try again"
        if any(told.problem for told in self._workers.values()):
            self._end("not every worker could be asked; nothing has changed")
        elif not self._workers:
            self._end("there is no worker to ask")
        else:
            self._ask_all(ReloadStep.READ)

    def answered(self, worker: Worker, answer: ReloadAnswer, now: float) -> None:
        """A worker has done a step, or says why it cannot."""
        if (answer.number, answer.step) != (
            self._number,
            self._step,
        ) or worker not in self._waiting:
            return
        self._waiting.discard(worker)
        told = self._workers[worker]
        told.problem = answer.problem
        if self._step == ReloadStep.READ:
            self._versions.add(answer.version)
            self._changes.update(dict.fromkeys(answer.changes))
        else:
            told.taken = not answer.problem
        self._go_on(now)

    def story(self) -> str:
        """How it has ended, as a line for the log."""
        done = self.result
        assert done is not None, "it is under way"
        changes = f"changes={len(done.changes)} workers={len(done.workers)}"
        if done.problem:
            taken = sum(worker.taken for worker in done.workers)
            return f"reload_failed {changes} taken_by={taken} problem={done.problem!r}"
        return (
            f"{'reload_tried, nothing was taken over' if self._dry_run else 'reloaded'} {changes}"
        )

    def look(self, workers: Iterable[Worker], now: float) -> None:
        """Stop waiting for those that have ended, and at the deadline for the others."""
        for worker in self._workers.keys() - set(workers):
            del self._workers[worker]
            self._waiting.discard(worker)
        if now >= self.deadline:
            for worker in self._waiting:
                self._workers[worker].problem = f"it has not answered in {STEP_S:.0f} s"
            self._waiting.clear()
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        if self._waiting or self.result is not None:
            return
        if self._step == ReloadStep.TAKE:
            late = any(not told.taken for told in self._workers.values()) or not self._workers
            self._end(_HALFWAY if late else "", taken=not late)
        elif any(told.problem for told in self._workers.values()):
            self._drop("a worker could not read it; nothing has changed")
        elif len(self._versions) > 1:
            self._drop(
                "the workers have read different policies: it was changed meanwhile, or they have "
                "different files; nothing has changed"
            )
        elif not self._workers:
            self._end("there is no worker any more")
        elif self._dry_run:
            self._drop("")
        else:
            self._step, self.deadline = ReloadStep.TAKE, now + STEP_S
            self._waiting = set(self._workers)
            self._ask_all(ReloadStep.TAKE)

    def _drop(self, problem: str) -> None:
        self._ask_all(ReloadStep.DROP)
        self._end(problem)

    def _ask_all(self, step: ReloadStep) -> None:
        asked = ReloadAsked(self._number, int(step))
        self.to_workers += [(worker.peer, asked) for worker in self._workers]

    def _end(self, problem: str, *, taken: bool = False) -> None:
        told = sorted(self._workers.values(), key=lambda each: each.name)
        self.result = Reloaded(self._epoch, taken, list(self._changes), told, problem)


def reload_lines(done: Reloaded, *, dry_run: bool) -> list[str]:
    """Say what a reload came to: the outcome first, then what it was about, then each worker."""
    lines = [_outcome(done, dry_run=dry_run)]
    if done.problem and done.changes:
        lines.append("it was about:")
    lines += [f"  {change}" for change in done.changes]
    for worker in done.workers:
        could = "could take it" if dry_run else "has not taken it"
        how = worker.problem or ("has taken it" if worker.taken else could)
        lines.append(f"worker {worker.name:8} pid {worker.pid:<8} {how}")
    return lines


def _outcome(done: Reloaded, *, dry_run: bool) -> str:
    if done.problem:
        return f"FAILED: {done.problem}"
    if not done.changes:
        return "nothing changes: what is on the disk is in force"
    return "would change:" if dry_run else "changed:"
