"""One worker's lines of delegates whose turn has come, and which of them goes next.

The most urgent line goes first; but a share of the worker's credit is saved up for the less urgent
lines in turn, so that a flood of urgent work starves nothing, except while the first block or vote
in line is past half of its time.
"""

from __future__ import annotations

from collections import deque

from broker.delegate_queue import DelegateQueue, Task
from broker.messages import Urgency

# Estimated CPU that a task costs its worker, in microseconds, by urgency.
COST_US = (300, 30, 30)
LESS_URGENT_SHARE = 1 / 16


class ReadyLines:
    """Queues that have a pending task and no active one, by the urgency of that task."""

    __slots__ = ("_lines", "_round", "_saved_us")

    def __init__(self) -> None:
        self._lines: tuple[deque[DelegateQueue], ...] = tuple(deque() for _ in Urgency)
        self._saved_us = 0.0  # for the less urgent lines
        self._round = 0  # whose turn it is among them

    def __len__(self) -> int:
        return sum(len(line) for line in self._lines)

    def __bool__(self) -> bool:
        return any(self._lines)

    def append(self, queue: DelegateQueue, first: Task) -> None:
        self._lines[first.request.urgency].append(queue)

    def clear(self) -> list[DelegateQueue]:
        """Empty all lines; their queues go elsewhere."""
        queues = [queue for line in self._lines for queue in line]
        for line in self._lines:
            line.clear()
        return queues

    def take(self, now: float, count_max: int, credit_us: float) -> list[Task]:
        """Remove the first task of each queue whose turn it is, as many as the credit pays for."""
        tasks: list[Task] = []
        while credit_us > 0 and len(tasks) < count_max:
            line = self._next_line(now)
            if line is None:
                break
            # While nobody stands in another line there is nothing to weigh up.
            alone = len(line) == len(self)
            for _ in range(min(len(line), count_max - len(tasks)) if alone else 1):
                queue = line.popleft()
                queue.ready = False
                task = queue.head
                if queue.active is None and task is not None:
                    queue.remove(task)
                    tasks.append(task)
                    credit_us -= COST_US[task.request.urgency]
                    if credit_us <= 0:
                        break
            if alone and not line:
                break
        return tasks

    def _next_line(self, now: float) -> deque[DelegateQueue] | None:
        standing = [line for line in self._lines if self._drop_ended(line)]
        if len(standing) <= 1:
            return standing[0] if standing else None
        first = standing[0][0].head
        assert first is not None
        late = first.request.urgency <= Urgency.VOTE and now >= first.request.half_time
        if self._saved_us >= COST_US[Urgency.SIGN] and not late:
            self._saved_us -= COST_US[Urgency.SIGN]
            self._round += 1
            return standing[1 + self._round % (len(standing) - 1)]
        self._saved_us += COST_US[first.request.urgency] * LESS_URGENT_SHARE
        return standing[0]

    @staticmethod
    def _drop_ended(line: deque[DelegateQueue]) -> bool:
        """Drop queues whose tasks ended while they stood here; whether somebody still stands."""
        while line:
            queue = line[0]
            if queue.active is None and queue.head is not None:
                return True
            line.popleft()
            queue.ready = False
        return False
