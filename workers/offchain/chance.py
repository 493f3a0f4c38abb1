"""Where pauses get their randomness from: passed in, so that a test or a seed decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Chance(Protocol):
    """As much of `random.Random` as the cores need."""

    def uniform(self, a: float, b: float, /) -> float: ...

    def choice(self, seq: Sequence[T], /) -> T: ...
