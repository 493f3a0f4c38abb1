"""When open requests expire: a heap that forgets those that ended in time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from math import inf

from broker.delegate_queue import OpenRequest

# Ended requests may stand in the heap until they are as many as the open ones and this.
SLACK = 1000


class Deadlines:
    __slots__ = ("_entries", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, OpenRequest]] = []
        self._entries = 0  # breaks ties between equal deadlines

    def add(self, request: OpenRequest, open_requests: int) -> None:
        """Enter a request, whose tasks are open already."""
        self._entries += 1
        heapq.heappush(self._heap, (request.deadline, self._entries, request))
        if len(self._heap) > 2 * open_requests + SLACK:
            self._heap = [entry for entry in self._heap if entry[2].open]
            heapq.heapify(self._heap)

    def again(self, request: OpenRequest, at: float) -> None:
        """Look at a request again that was active at its deadline."""
        self._entries += 1
        heapq.heappush(self._heap, (at, self._entries, request))

    def next(self) -> float:
        return self._heap[0][0] if self._heap else inf

    def due(self, now: float) -> Iterator[OpenRequest]:
        """Remove and give the requests whose deadline has passed and which are still open."""
        while self._heap and self._heap[0][0] <= now:
            request = heapq.heappop(self._heap)[2]
            if request.open:
                yield request
