"""What a child process was given and has not answered, and whether it still does anything.

The child keeps its own deadlines. Whoever gave it the jobs gives them up a little later, and the
child too, when it says nothing at all after that.
"""

from __future__ import annotations

from math import inf


class OpenJobs:
    """Jobs by number. Pure: times are in seconds of one clock."""

    def __init__(self, *, grace_s: float, silence_s: float) -> None:
        """Args: what the child's word may take to get here; how long it may then be silent."""
        self._grace_s = grace_s
        self._silence_s = silence_s
        self._deadlines: dict[int, float] = {}
        self._silent_since: float | None = None

    def __len__(self) -> int:
        return len(self._deadlines)

    def __contains__(self, job: int) -> bool:
        return job in self._deadlines

    def open(self, job: int, deadline: float) -> None:
        self._deadlines[job] = deadline

    def close(self, job: int) -> bool:
        """A job has ended; False when it had before."""
        return self._deadlines.pop(job, None) is not None

    def close_all(self) -> list[int]:
        """The child is gone: what it has left, and nothing is expected of it."""
        jobs, self._deadlines = list(self._deadlines), {}
        self._silent_since = None
        return jobs

    def heard(self) -> None:
        """The child has said something."""
        self._silent_since = None

    def late(self, now: float, *, child_runs: bool) -> list[int]:
        """The jobs that the child should have ended; they are closed.

        While no child runs nobody is silent.
        """
        late = [job for job, at in self._deadlines.items() if now >= at + self._grace_s]
        for job in late:
            del self._deadlines[job]
        if late and child_runs and self._silent_since is None:
            self._silent_since = now
        return late

    def left_s(self, job: int, now: float) -> float:
        """How much of its time a job has left."""
        return self._deadlines[job] - now

    def stands_still(self, now: float) -> bool:
        """Whether the child has been silent for too long since it was late."""
        return self._silent_since is not None and now >= self._silent_since + self._silence_s

    def deadline(self) -> float:
        """When to look at the latest."""
        first = min(self._deadlines.values(), default=inf) + self._grace_s
        return (
            first
            if self._silent_since is None
            else min(first, self._silent_since + self._silence_s)
        )
