"""Signers that do not answer at once: each back-end has threads of its own, and none waits for
another.

Jobs in, results out, nothing else: the worker's loop keeps the state, here and in `bulkhead`. Every
signature is checked against the public key in the thread that got it; the loop sees no other.

A key may have several sources, which are asked in their order. What was surely not signed by one
may go to the next. What one of them may have signed goes to another only if a second signature
cannot harm: a vote, or a block where the scheme gives the same signature each time; two different
signatures on one header are a proof of double baking.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple

from broker.messages import Outcome
from signers.backends.backend import (
    HAS_NOT_SIGNED,
    BackEnd,
    SignerLost,
    SignerRejected,
    SignerTimeout,
    SignerUnavailable,
    SignerWrongSignature,
)
from signers.errors import SignersError
from signers.formats.signable import Kind
from signers.formats.tagged_keys import is_deterministic, network_of_hash
from signers.keyring.keys import PublicKey
from workers.bulkhead import Bulkhead, Call, Limits
from workers.key_source import BackEndSigner, Source
from workers.signing_job import PendingTask, SigningJob, Task, is_duty
from workers.worker import SIGNER_LIMIT_S, WORKER_WAITS_LONGER_S

# All sources of a key together; the worker gives up a little later.
ANSWER_WITHIN_S = SIGNER_LIMIT_S - WORKER_WAITS_LONGER_S
TEXT_LETTERS_MAX = 1_000  # of an error's text, and of the trouble that status shows


@dataclass(frozen=True, slots=True)
class Answered:
    """A back-end's answer: a signature that was checked, or why there is none.

    To a task without bytes it is the public key, tagged.
    """

    job: Task
    answer: bytes | None
    code: str = ""
    problem: str = ""
    outcome: Outcome = Outcome.READY  # refused: a rule of the signer said no
    may_have_signed: bool = True  # False: surely none of its sources has signed, nor will


@dataclass(slots=True, eq=False)
class _Errand:
    """A job on its way through the sources of its key."""

    job: Task
    signer: BackEndSigner
    give_up_at: float
    at: int = 0  # the source that is asked now
    problems: list[str] = field(default_factory=list)  # of those before
    in_doubt: bool = False  # one of them may have signed
    is_signed: bool = False  # a good signature has been handed on

    def may_go_on(self, error: SignersError, *, in_doubt: bool) -> bool:
        """Whether the next source may be asked after this one's error."""
        is_last = self.at + 1 >= len(self.signer.sources)
        if self.is_signed or is_last or isinstance(error, SignerRejected):
            return False
        if not in_doubt or not self.is_for_a_block:
            return True
        return is_deterministic(self.signer.key_hash)

    @property
    def is_for_a_block(self) -> bool:
        job = self.job
        return isinstance(job, SigningJob) and job.signable.kind is Kind.BLOCK


def may_need_a_person(job: Task) -> bool:
    """Whether a device may ask somebody about it: not about duties, nor about a public key."""
    return isinstance(job, SigningJob) and not is_duty(job)


class _Attempt(NamedTuple):
    """An errand with one of its sources."""

    errand: _Errand
    at: int

    @property
    def source(self) -> Source:
        return self.errand.signer.sources[self.at]

    @property
    def is_abandoned(self) -> bool:
        """Whether another source was asked meanwhile."""
        return self.at != self.errand.at


class _Place:
    """A back-end, its bulkhead and its threads."""

    def __init__(
        self, back_end: BackEnd, bulkhead: Bulkhead[_Attempt], *, asks_people: bool
    ) -> None:
        self.back_end = back_end
        self.bulkhead = bulkhead
        self.asks_people = asks_people  # about what is no duty
        self.inbox: SimpleQueue[Call[_Attempt] | None] = SimpleQueue()
        self.threads = 0
        self.state = bulkhead.breaker.state


class BackEnds:
    """All signers that are elsewhere, as the worker's loop uses them."""

    def __init__(
        self,
        make: Callable[[Source], BackEnd],
        limits: Callable[[str], Limits] = lambda _: Limits(),
    ) -> None:
        self._make = make
        self._limits = limits
        self._places: dict[str, _Place] = {}
        self._public_keys: dict[str, PublicKey] = {}  # that back-ends have told, by hash
        self._outbox: deque[tuple[Call[_Attempt], bytes | None, SignersError | None]] = deque()
        self._answers: list[Answered] = []
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.notes: list[str] = []  # lines for the log; for the caller to take

    def fileno(self) -> int:
        return self._wakeup

    def submit(self, job: Task, signer: BackEndSigner, now: float) -> None:
        """Have a job signed, or a task's public key told; the answer comes through `receive`."""
        self._ask(_Errand(job, signer, now + self.answers_within_s(job, signer.sources)), now)

    def answers_within_s(self, job: Task, sources: Sequence[Source]) -> float:
        """How long all sources of a job's key may take together."""
        limits_s = [ANSWER_WITHIN_S]
        if may_need_a_person(job):
            limits = [self._limits(source.authority) for source in sources]
            limits_s += [each.person_limit_s for each in limits if each.person_limit_s is not None]
        return max(limits_s)

    def receive(self, now: float) -> list[Answered]:
        """What has been answered since the last call; never waits."""
        with suppress(BlockingIOError):  # nobody has called
            os.eventfd_read(self._wakeup)
        while self._outbox:
            self._take(*self._outbox.popleft(), now)
        for place in list(self._places.values()):
            self._look_after(place, now)
        answers, self._answers = self._answers, []
        return answers

    def deadline(self) -> float | None:
        """When `receive` must be called at the latest, if at all."""
        if self._answers:
            return 0.0  # it was refused at once
        times = (place.bulkhead.deadline() for place in self._places.values())
        return min((at for at in times if at is not None), default=None)

    def trouble(self) -> str:
        """Which back-ends are in trouble and how; empty when none is."""
        found = (place.bulkhead.trouble() for place in self._places.values())
        return "; ".join(each for each in found if each)[:TEXT_LETTERS_MAX]

    def close(self) -> None:
        """Let threads end and connections go; a thread that hangs ends with the process."""
        for place in self._places.values():
            for _ in range(place.threads):
                place.inbox.put(None)
            place.back_end.close()

    # -- in the loop ------------------------------------------------------------------------------

    def _ask(self, errand: _Errand, now: float) -> None:
        """Give a job to its source, or to the next that takes it."""
        while True:
            attempt = _Attempt(errand, errand.at)
            try:
                place = self._place(attempt.source)
                refusal = place.bulkhead.refusal(now)
            except SignersError as e:
                refusal = e
            except Exception as e:  # settings that nobody foresaw must not end the worker
                refusal = SignerUnavailable(f"{type(e).__name__}: {e}")
            if refusal is None:
                for_person = place.asks_people and may_need_a_person(errand.job)
                place.bulkhead.enter(Call(attempt, errand.give_up_at, for_person=for_person))
                self._start(place, now)
                return
            if not self._goes_on(attempt, refusal, in_doubt=False):
                return

    def _goes_on(self, attempt: _Attempt, error: SignersError, *, in_doubt: bool) -> bool:
        """Turn to the next source after an error, or end the job; says which.

        `in_doubt`: the source may have signed, or may still.
        """
        errand = attempt.errand
        errand.problems.append(f"{attempt.source.authority}: {error}")
        errand.in_doubt |= in_doubt
        if errand.may_go_on(error, in_doubt=in_doubt):
            errand.at += 1
            return True
        text = "; ".join(errand.problems)[:TEXT_LETTERS_MAX]
        outcome = Outcome.REFUSED if isinstance(error, SignerRejected) else Outcome.FAILED
        self._answers.append(
            Answered(errand.job, None, error.code, text, outcome, may_have_signed=errand.in_doubt)
        )
        return False

    def _place(self, source: Source) -> _Place:
        place = self._places.get(source.authority)
        if place is None:
            limits = self._limits(source.authority)
            place = self._places[source.authority] = _Place(
                self._make(source),
                Bulkhead[_Attempt](source.authority, limits),
                asks_people=limits.person_limit_s is not None,
            )
        return place

    def _start(self, place: _Place, now: float) -> None:
        for call in place.bulkhead.start(now):
            if place.threads < place.bulkhead.running:
                place.threads += 1
                name = f"sign-{place.bulkhead.name}"
                Thread(target=self._run, args=(place,), name=name, daemon=True).start()
            place.inbox.put(call)
        self._note_state(place)

    def _take(
        self,
        call: Call[_Attempt],
        answer: bytes | None,
        error: SignersError | None,
        now: float,
    ) -> None:
        """A thread is back with an answer."""
        attempt = call.work
        place = self._places[attempt.source.authority]
        place.bulkhead.answered(call, error, now)
        if error is not None:
            self._note_failure(attempt, error)
        errand = attempt.errand
        if errand.is_signed:
            return  # by another source; one signature is enough
        if attempt.is_abandoned and isinstance(errand.job, PendingTask):
            return  # its end was told, or another source is asked
        if error is None:
            # Also of a source that was given up, and after the job's end: it is kept for repeats.
            errand.is_signed = True
            self._answers.append(Answered(errand.job, answer))
        elif not attempt.is_abandoned:
            in_doubt = not isinstance(error, HAS_NOT_SIGNED)
            if self._goes_on(attempt, error, in_doubt=in_doubt):
                self._ask(errand, now)

    def _look_after(self, place: _Place, now: float) -> None:
        """Let the next calls of a back-end begin, and those end that wait in vain."""
        for call in place.bulkhead.overdue(now):
            attempt, late = call.work, SignerTimeout("it hangs")
            self._note_failure(attempt, late)
            # Without another source the job waits: its signature may still come, and is kept.
            errand = attempt.errand
            if errand.may_go_on(late, in_doubt=True):
                self._goes_on(attempt, late, in_doubt=True)
                self._ask(errand, now)
            elif isinstance(errand.job, PendingTask):  # nobody keeps a public key that comes late
                self._goes_on(attempt, late, in_doubt=True)
                errand.at = len(errand.signer.sources)
        for call, error in place.bulkhead.turned_away(now):
            if call.work.errand.is_signed:
                continue  # by a source that was given up
            if self._goes_on(call.work, error, in_doubt=False):
                self._ask(call.work.errand, now)
        self._start(place, now)

    def _note_failure(self, attempt: _Attempt, error: SignersError) -> None:
        self.notes.append(
            f"backend_failed backend={attempt.source.authority} "
            f"key={attempt.errand.signer.key_hash} code={error.code} why={str(error)!r}"
        )

    def _note_state(self, place: _Place) -> None:
        breaker = place.bulkhead.breaker
        if breaker.state is not place.state:
            place.state = breaker.state
            why = f" why={breaker.story()!r}" if breaker.story() else ""
            self.notes.append(
                f"backend_state backend={place.bulkhead.name} state={breaker.state.value}{why}"
            )

    # -- in a back-end's thread -------------------------------------------------------------------

    def _run(self, place: _Place) -> None:
        while (call := place.inbox.get()) is not None:
            answer: bytes | None = None
            error: SignersError | None = None
            try:
                answer = self._answer(place.back_end, call)
            except SignersError as e:
                error = e
            except Exception as e:  # whatever a back-end throws ends its call, not its thread
                error = SignerLost(f"{type(e).__name__}: {e}")
            self._outbox.append((call, answer, error))
            os.eventfd_write(self._wakeup, 1)

    def _answer(self, back_end: BackEnd, call: Call[_Attempt]) -> bytes:
        """Get a signature, checked to be the key's, or the public key for a task without bytes."""
        attempt, job = call.work, call.work.errand.job
        key_hash = attempt.source.key_hash
        public_key = attempt.errand.signer.public_key or self._public_keys.get(key_hash)
        if public_key is None:
            public_key = back_end.public_key(key_hash, call.end - time.monotonic())
            self._public_keys[key_hash] = public_key
        if isinstance(job, PendingTask):
            return public_key.tagged()
        signature = back_end.sign(public_key, key_hash, job.unsigned, call.end - time.monotonic())
        scheme = network_of_hash(attempt.errand.signer.key_hash).bls_scheme  # as the pool knows it
        if not public_key.verify(job.unsigned, signature, scheme):
            raise SignerWrongSignature(f"what it gave is no signature of {key_hash}")
        return signature
