"""One back-end's places: who is signing, who waits, and whether it is to be asked at all.

    entered ──► waiting ──► running ──► answered
                   │           └──────► overdue (its thread hangs), then answered or never
                   └─► turned away: the breaker has opened, or it has waited for too long

A back-end that hangs fills its own places and its own line, which are both bounded, and nobody
else's. A call that hangs keeps its place: threads are not replaced without limit. A call that
waits for a person has a limit of its own; while such calls have all the places, nobody waits behind
them.

Pure: calls and the time go in, calls to make and calls turned away come out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from signers.backends.backend import IS_ALIVE, SignerBusy, SignerUnavailable
from signers.backends.circuit_breaker import CircuitBreaker, State
from signers.errors import SignersError

# A client of ours ends its call at the time limit by itself; one that has not by then hangs.
OVERDUE_S = 0.5

Work = TypeVar("Work")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one back-end may take."""

    concurrency: int = 8  # signatures at once: as many threads
    queue: int = 512  # calls that wait for one of them
    time_limit_s: float = 4.0  # of one call
    open_s_max: float = 15.0  # how long the breaker leaves it alone at most
    # Of one call that a person must agree to; None: this signer asks nobody.
    person_limit_s: float | None = None


class Call(Generic[Work]):
    """One piece of work for one back-end."""

    __slots__ = ("end", "for_person", "give_up_at", "is_overdue", "token", "work")

    def __init__(self, work: Work, give_up_at: float, *, for_person: bool = False) -> None:
        self.work = work
        self.give_up_at = give_up_at
        self.for_person = for_person  # it waits until somebody has agreed
        self.end = 0.0  # when it must have answered, once it is running
        self.token = 0
        self.is_overdue = False


class Bulkhead(Generic[Work]):
    """The calls of one back-end; see the module's text."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.name = name
        self.breaker = CircuitBreaker(open_s_max=limits.open_s_max)
        self._limits = limits
        self._waiting: deque[Call[Work]] = deque()
        self._running: set[Call[Work]] = set()

    @property
    def running(self) -> int:
        """How many calls are made, those that hang included."""
        return len(self._running)

    @property
    def hanging(self) -> int:
        """How many calls are past their time limit and still not back."""
        return sum(call.is_overdue for call in self._running)

    @property
    def waits_for_person(self) -> bool:
        """Whether it is up to a person when the next call can be made."""
        is_full = len(self._running) == self._limits.concurrency
        return is_full and all(call.for_person or call.is_overdue for call in self._running)

    def refusal(self, now: float) -> SignersError | None:
        """Why a call cannot be taken now, if so."""
        if self.breaker.is_open(now):
            return SignerUnavailable(f"{self.name} is left alone: {self.breaker.story()}")
        if self.hanging == self._limits.concurrency:
            return SignerBusy(f"all {self.hanging} calls that {self.name} may take hang")
        if self.waits_for_person:
            return self._busy_with_person()
        if len(self._waiting) >= self._limits.queue:
            return SignerBusy(f"{len(self._waiting)} calls wait for {self.name} already")
        return None

    def enter(self, call: Call[Work]) -> None:
        """Take a call that is not refused."""
        self._waiting.append(call)

    def start(self, now: float) -> list[Call[Work]]:
        """The calls to make now; `end` says until when each must have answered."""
        started = []
        while self._waiting and len(self._running) < self._limits.concurrency:
            token = self.breaker.ask(now)
            if token is None:
                break
            call = self._waiting.popleft()
            call.token = token
            limit_s = self._limits.person_limit_s if call.for_person else None
            call.end = min(now + (limit_s or self._limits.time_limit_s), call.give_up_at)
            self._running.add(call)
            started.append(call)
        return started

    def answered(self, call: Call[Work], error: SignersError | None, now: float) -> None:
        """A call is back, with a good signature or without."""
        self._running.discard(call)
        if call.is_overdue:
            return  # it has counted as a failure
        if error is None or isinstance(error, IS_ALIVE):
            self.breaker.succeeded(call.token)
        else:
            self.breaker.failed(call.token, now, str(error))

    def overdue(self, now: float) -> Sequence[Call[Work]]:
        """The calls that are found to hang now."""
        found = [c for c in self._running if not c.is_overdue and c.end + OVERDUE_S <= now]
        for call in found:
            call.is_overdue = True
            self.breaker.failed(call.token, now, "it hangs")
        return found

    def turned_away(self, now: float) -> list[tuple[Call[Work], SignersError]]:
        """The calls that have waited in vain."""
        turned: list[tuple[Call[Work], SignersError]] = []
        if self._waiting and self.breaker.state is State.OPEN:
            error: SignersError = SignerUnavailable(
                f"{self.name} is left alone: {self.breaker.story()}"
            )
            turned = [(call, error) for call in self._waiting]
            self._waiting.clear()
        elif self._waiting and self.waits_for_person:
            turned = [(call, self._busy_with_person()) for call in self._waiting]
            self._waiting.clear()
        while self._waiting and self._waiting[0].give_up_at <= now:
            error = SignerBusy(f"it waited in vain for one of {self.running} calls to {self.name}")
            turned.append((self._waiting.popleft(), error))
        return turned

    def deadline(self) -> float | None:
        """When to look for calls that hang or wait in vain, if there are any."""
        times = [call.end + OVERDUE_S for call in self._running if not call.is_overdue]
        if self._waiting:
            times.append(0.0 if self.waits_for_person else self._waiting[0].give_up_at)
        return min(times, default=None)

    def _busy_with_person(self) -> SignersError:
        return SignerBusy(f"{self.name} waits for a person to agree to something else")

    def trouble(self) -> str:
        """What is wrong with it, in a few words; empty when nothing is."""
        hanging = f"{self.hanging} calls hang" if self.hanging else ""
        if self.breaker.state is State.CLOSED:
            return f"{self.name}: {hanging}" if hanging else ""
        also = f", {hanging}" if hanging else ""
        return f"{self.name}: {self.breaker.state.value}{also}, {self.breaker.story()}"
