"""The worker's side of its verifier: a child process that checks what the quarantine asks about.

It holds no key and is nice, so a flood of blocks and votes is never in the way of signing: the
kernel takes the core from it as soon as a duty comes. The worker starts it with the first slice
that the broker gives it, and passes messages between the two. Nothing here blocks, as with every
child. When it dies, or stands still, each of its slices is answered as lost, and asked again by
whoever wanted it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from math import inf

from broker import wire
from broker.errors import MalformedMessage
from broker.messages import CheckSlices, SlicesChecked
from broker.verification import CheckAnswer
from workers.child import Child
from workers.frames import BrokenFrame, frame_of
from workers.open_jobs import OpenJobs
from workers.verification.verifier_setup import VerifierSetup, setup_frame

log = logging.getLogger("forgepool.worker")

# What the broker gives at once is 24; more is somebody's mistake, and refused.
SLICES_MAX = 32
# Of slices that the child has not read yet: some blocks with all that goes along with them. A child
# that stands still must not fill our memory. What is beyond is late in the end, like the rest: said
# at once, it would come again at once.
UNSENT_BYTES_MAX = 32 * 1024 * 1024
# It keeps the slices' time itself; what is nice may take its time to say so on a busy machine.
GRACE_S = 1.0
SILENCE_S_MAX = 15.0
_CHILD = "workers.verification.verifier_process"


class Verifier:
    """Checks slices in a child process. Use from one thread."""

    def __init__(
        self, setup: VerifierSetup, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._setup = setup
        self._clock = clock
        self._child = Child(_CHILD)
        self._open = OpenJobs(grace_s=GRACE_S, silence_s=SILENCE_S_MAX)
        self._waiting: list[CheckSlices] = []  # taken while there is no child
        self._answers: list[CheckAnswer] = []  # to be returned by the next `exchange`
        self._was_started = False

    @property
    def pid(self) -> int | None:
        """The child's process id; None while there is no child."""
        return self._child.pid

    @property
    def unsent_bytes(self) -> int:
        """What the child has not read yet."""
        waiting = sum(len(each.body) for message in self._waiting for each in message.slices)
        return waiting + self._child.unsent_bytes

    def fileno(self) -> int:
        """A descriptor that is readable when `exchange` has something to do."""
        return self._child.fileno()

    def deadline(self) -> float:
        """When `exchange` must be called though `fileno()` is quiet; infinity: no need."""
        if self._answers:
            return -inf
        return min(self._open.deadline(), self._child.deadline())

    def take(self, message: CheckSlices) -> None:
        """Have slices checked; `exchange` gives one answer to each, whatever happens."""
        now, places = self._clock(), SLICES_MAX - len(self._open)
        self._answers += [
            CheckAnswer(each.number, problem="busy") for each in message.slices[places:]
        ]
        unsent, slices = self.unsent_bytes, []
        for each in message.slices[:places]:
            self._open.open(each.number, now + each.ttl_ms / 1000)
            unsent += len(each.body)
            if unsent <= UNSENT_BYTES_MAX:
                slices.append(each)
        if not slices:
            return
        self._waiting.append(CheckSlices(slices))
        if not self._was_started:
            self._was_started = True
            self._start(now)
        elif self.pid is not None:
            self._send_waiting()

    def exchange(self) -> list[CheckAnswer]:
        """Do what can be done now without waiting; return the answers that have come."""
        now = self._clock()
        bodies, death = self._child.exchange(now)
        if bodies:
            self._open.heard()
        try:
            for body in bodies:
                self._hear(body)
        except (BrokenFrame, MalformedMessage) as error:
            death = death or self._child.give_up(now, f"cannot be talked to: {error}")
        self._lose(self._open.late(now, child_runs=self.pid is not None))
        if not death and self.pid is not None and self._open.stands_still(now):
            death = self._child.give_up(now, "stood still")
        if death:
            log.error("verifier_died %s; it is started again", death)
            self._lose(self._open.close_all())
        self._waiting = [each for each in self._waiting if self._is_wanted(each)]
        if self._child.restarted(now):
            self._begin()
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        """End the child and forget its slices."""
        self._open.close_all()
        self._child.close()

    def _start(self, now: float) -> None:
        try:
            self._child.start(now)
        except OSError as error:
            log.error("verifier_not_started %s; tried again", error)
            self._child.try_later(now)
        else:
            self._begin()

    def _begin(self) -> None:
        self._child.send(setup_frame(self._setup))
        self._send_waiting()

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for message in waiting:
            self._child.send(frame_of(wire.encode(message)))

    def _is_wanted(self, message: CheckSlices) -> bool:
        return any(each.number in self._open for each in message.slices)

    def _hear(self, body: bytes) -> None:
        message = wire.decode_worker_message(body)
        if not isinstance(message, SlicesChecked):
            raise BrokenFrame(f"a {type(message).__name__} instead of answers")
        # What is closed was answered as lost before.
        self._answers += [each for each in message.answers if self._open.close(each.number)]

    def _lose(self, numbers: list[int]) -> None:
        self._answers += [CheckAnswer(number, problem="worker_lost") for number in numbers]
