"""The worker's side of its task processor: a child process that runs what applications ask for.

It holds no key and is nice, so neither what it does nor what it runs is in the way of signing. The
worker starts it with the first application that the broker gives it, passes messages between the
two, and starts it again when it has died or stands still. Nothing here blocks, as with every child.
"""

from __future__ import annotations

import logging
from math import inf

from msgspec.structs import replace

from broker import wire
from broker.messages import Applications, ApplicationsHeld, LookAgain, TaskEventsAck
from workers.child import Child
from workers.frames import BrokenFrame
from workers.offchain.channel import (
    Condition,
    Finish,
    Finished,
    FromBroker,
    Ping,
    ProcessorSetup,
    ToBroker,
    Welcomed,
    decode_word,
    encode_frame,
)

log = logging.getLogger("forgepool.worker")

PING_S = 2.0
# Its loop never waits for anything; a machine under load may still take its time.
SILENCE_S_MAX = 15.0
# When told to end it finishes the submission that is on its way, and ends its operators.
CLOSE_S_MAX = 5.0
_CHILD = "workers.offchain.processor_process"


class TaskProcessor:
    """Use from one thread; everything is later than the message that asks for it."""

    def __init__(self, setup: ProcessorSetup) -> None:
        self._setup = setup
        self._child = Child(_CHILD, close_s_max=CLOSE_S_MAX)
        self._list: Applications | None = None  # what the broker has said last
        self._list_at = 0.0  # when it has said so
        self._next_ping = inf
        self._heard_at = 0.0
        self._was_started = False
        self._finishing = False
        # It was told to end and has died instead: another one ends what it may have left running.
        self._has_left = False
        self._has_finished = self._is_last = False
        self._cut_short_at = inf
        self.trouble = ""  # why it cannot work, for `status`; empty: it does

    @property
    def holds(self) -> bool:
        """Whether it may still run something or have something on its way."""
        return self._child.pid is not None or self._has_left

    @property
    def pid(self) -> int | None:
        return self._child.pid

    def fileno(self) -> int:
        return self._child.fileno()

    def deadline(self) -> float:
        """When `exchange` must be called though `fileno()` is quiet."""
        ends_at = inf if self.pid is None else self._cut_short_at
        return min(self._next_ping, ends_at, self._child.deadline() if self._is_wanted else inf)

    @property
    def _is_wanted(self) -> bool:
        """Whether there is to be another one when this one has died."""
        return not self._finishing or self._has_left

    def take(self, message: Applications | LookAgain | TaskEventsAck, now: float) -> list[bytes]:
        """Pass on what the broker says; with the first application a processor is started.

        Returns what there is to say to the broker without one.
        """
        if isinstance(message, Applications):
            self._list, self._list_at = message, now
            if not self._is_needed:
                return self._has_nothing()
            if not self._was_started:
                self._was_started = True
                self._start(now)
                return []
        self._send_on(message)
        return []

    @property
    def _is_needed(self) -> bool:
        """Whether there is a processor, or is to be one."""
        if self._finishing:
            return self.pid is not None
        return self._was_started or bool(self._list and self._list.shares)

    def _has_nothing(self) -> list[bytes]:
        seen = self._list or Applications("", 0, [])
        return [wire.encode(ApplicationsHeld(seen.epoch, seen.number, []))]

    def welcomed(self) -> list[bytes]:
        """The worker has a broker, perhaps a new one: what there is to say without a processor."""
        if not self._is_needed:
            return self._has_nothing()
        self._child.send(encode_frame(Welcomed()))
        return []

    def finish(self, now: float) -> None:
        """End it in good order, in the time that it has; `holds` says when that is done."""
        if not self._finishing:
            self._finishing = True
            self._cut_short_at = now + self._setup.settings.drain_s
            self._has_left = self._was_started and self.pid is None
            self._child.send(encode_frame(Finish()))

    def exchange(self, now: float) -> list[bytes]:
        """Do what can be done without waiting; return what it has to say to the broker."""
        bodies, death = self._child.exchange(now)
        to_broker = []
        try:
            for body in bodies:
                self._heard_at = now
                word = decode_word(body)
                match word:
                    case ToBroker():
                        to_broker.append(word.body)
                    case Finished():
                        self._has_finished = True
                    case Condition(code="") if self.trouble:
                        self.trouble = ""
                        log.info("tasks_go_on")
                    case Condition(code=code, text=text) if code:
                        self.trouble = f"off-chain tasks: {code}: {text}"
        except BrokenFrame as e:
            death = death or self._child.give_up(now, f"cannot be talked to: {e}")
        if not death and self.pid is not None:
            death = self._look_after(now)
        if death:
            self._died(death)
        if self._is_wanted and self._child.restarted(now):
            self._begin(now)
        return to_broker

    def _died(self, death: str) -> None:
        self._next_ping = inf
        if not self._finishing:
            log.error("task_processor_died %s; it is started again", death)
        elif self._has_finished or self._is_last:
            level = logging.INFO if self._has_finished else logging.WARNING
            log.log(level, "task_processor_ended %s", death)
        else:
            self._has_left = True
            log.error("task_processor_died %s; another one ends what it has left", death)

    def _look_after(self, now: float) -> str:
        """Ask it for a sign of life; how it died, if it gives none for long."""
        if now - self._heard_at > SILENCE_S_MAX:
            return self._child.give_up(now, "stood still")
        if now >= self._cut_short_at:
            self._is_last = True  # it ends its operators when its socket closes; `close` kills it
            drain_s = self._setup.settings.drain_s
            return self._child.give_up(now, f"was not done {drain_s:g} s after it was told to end")
        if now >= self._next_ping:
            self._next_ping = now + PING_S
            self._child.send(encode_frame(Ping()))
        return ""

    def _start(self, now: float) -> None:
        try:
            self._child.start(now)
        except OSError as e:
            log.error("task_processor_not_started %s; tried again", e)
            self._child.try_later(now)
        else:
            self._begin(now)

    def _begin(self, now: float) -> None:
        self._heard_at, self._next_ping = now, now + PING_S
        self._child.send(encode_frame(self._setup))
        if self._finishing:
            self._has_left, self._is_last = False, True
            self._child.send(encode_frame(Finish()))
        elif self._list is not None:
            self._send_on(_later(self._list, now - self._list_at))

    def _send_on(self, message: Applications | LookAgain | TaskEventsAck) -> None:
        self._child.send(encode_frame(FromBroker(wire.encode(message))))

    def close(self) -> None:
        self._child.close()


def _later(list_: Applications, seconds: float) -> Applications:
    """What the broker would say by now: of the waits that it has named, so much is over."""
    passed_ms = int(seconds * 1000)
    shares = [replace(s, wait_ms=max(0, s.wait_ms - passed_ms)) for s in list_.shares]
    return replace(list_, shares=shares)
