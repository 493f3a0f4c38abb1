"""When the source's task processor wakes up: every moment that was ever named, earliest first.

Source: Linera, `linera-service/src/task_processor.rs` (`deadlines`, `process_events`), with what it
does not do: an application may stand here any number of times, nothing is taken out early, and the
first entry is served without a look at the clock, because the sleep before it has surely passed.
"""

from __future__ import annotations

import heapq

from workers.offchain.application import Application


class DeadlineHeap:
    """Moments in microseconds since the Unix epoch; at equal ones applications go by their ids."""

    __slots__ = ("_heap",)

    def __init__(self) -> None:
        self._heap: list[tuple[int, bool, Application | None]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, at_unix_us: int, application: Application | None) -> None:
        """Enter a moment; without an application it only wakes up."""
        heapq.heappush(self._heap, (at_unix_us, application is not None, application))

    def next_at(self) -> int | None:
        return self._heap[0][0] if self._heap else None

    def take(self, now_unix_us: int) -> list[Application]:
        """Take the first entry, and then what is due."""
        taken = []
        while self._heap:
            _, _, application = heapq.heappop(self._heap)
            if application is not None:
                taken.append(application)
            if not self._heap or self._heap[0][0] > now_unix_us:
                break
        return taken
