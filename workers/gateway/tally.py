"""What the gateway counts: requests by their outcome, how long they took, and who was turned away.

`forgepool status` shows it, and the log once a minute. Counts are since the start of the process.

Pure: outcomes and the time go in, numbers come out.
"""

from __future__ import annotations

from collections import Counter, deque

from workers.gateway.answers import Answer, Denial, Signature

# The newest requests to the pool, for the percentiles: a second or two of a busy gateway.
TIMES_KEPT = 2_048
TOLD_EVERY_S = 60.0
# Denials that have a number of their own beside that of their status, by code.
_OF_CODE = frozenset(("not_authenticated", "too_large", "busy"))


class Tally:
    """The counts of one gateway."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._us: deque[int] = deque(maxlen=TIMES_KEPT)
        self._told = 0  # how much was counted when the log was last told
        self._next_told = 0.0
        self._next_warning = 0.0

    def ended(self, answer: Answer, pool_s: float | None = None) -> None:
        """A question has its answer; `pool_s` is how long the pool took, if it was asked."""
        match answer:
            case Denial(status, code):
                self._counts[f"denied_{status}"] += 1
                if code in _OF_CODE:
                    self._counts[code] += 1
            case Signature():
                self._counts["signed"] += 1
            case _:
                self._counts["answered"] += 1
        if pool_s is not None:
            self._us.append(int(pool_s * 1e6))

    def connection_refused(self, now: float) -> bool:
        """One too many was closed; says whether that is worth a line: once a minute."""
        self._counts["connections_refused"] += 1
        if now < self._next_warning:
            return False
        self._next_warning = now + TOLD_EVERY_S
        return True

    def numbers(self) -> dict[str, int]:
        """All counts that are not zero, and the median and 99th percentile of the newest times."""
        found: dict[str, int] = dict(sorted(self._counts.items()))
        if self._us:
            times = sorted(self._us)
            found["p50_us"] = times[len(times) // 2]
            found["p99_us"] = times[len(times) * 99 // 100]
        return found

    def is_to_be_told(self, now: float) -> bool:
        """Whether the log is due a line: once a minute, when something was counted."""
        total = self._counts.total()
        if total == self._told or now < self._next_told:
            return False
        self._told, self._next_told = total, now + TOLD_EVERY_S
        return True
