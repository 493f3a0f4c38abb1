"""The time of the stimulus that is being handled."""

from __future__ import annotations


class Moment:
    """One monotonic and one wall clock, as last told; the first never goes back."""

    __slots__ = ("now", "unix_now")

    def __init__(self, now: float, unix_now: float) -> None:
        self.now = now
        self.unix_now = unix_now

    def set(self, now: float, unix_now: float) -> None:
        """The clocks were read."""
        if now > self.now:
            self.now = now
        self.unix_now = unix_now

    @property
    def unix_ms(self) -> int:
        return int(self.unix_now * 1000)
