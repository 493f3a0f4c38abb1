"""Events on their way to the broker: each is said until the broker has confirmed it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from math import inf

import msgspec

from broker.applications import EVENT_TEXT_LETTERS_MAX, EVENTS_PER_MESSAGE_MAX, TaskEvent
from broker.messages import TaskEvents
from workers.offchain.journal.journal import Posted

# Messages that wait for the broker's word at once; the rest waits in the journal.
UNCONFIRMED_MAX = 8
# After a message, events gather for so long: short operators would else have the worker, which has
# votes to sign, and the broker wake up for each single one.
GATHER_S = 0.01

# Of a task's id and an operator's name: an application may write anything there. Four bytes each at
# most, so that a body stays within what the broker takes.
NAME_LETTERS_MAX = 512

# What an event's body does not repeat, or what the broker says in fields of its own.
_NOT_IN_BODY = frozenset({"application", "event", "code", "text"})


class EventPost:
    """What the broker does not have yet, in the order in which it happened."""

    def __init__(self, first: int) -> None:
        """Args: first: number of the first message, and of no message of a processor before us:
        the broker's word on one of those may come to us.
        """
        self._waiting: dict[int, Posted] = {}  # by number, which grows
        self._unsaid: deque[int] = deque()  # of these, what is not on its way
        self._sent: dict[int, list[int]] = {}  # by message: the numbers in it
        self._next = first
        self._next_at = -inf

    def post(self, posted: Iterable[Posted]) -> None:
        for each in posted:
            if each.number not in self._waiting:
                self._waiting[each.number] = each
                self._unsaid.append(each.number)

    def messages(self, now: float) -> Iterator[TaskEvents]:
        """What is to be said now: at once after a quiet moment, else together with others."""
        while self._unsaid and len(self._sent) < UNCONFIRMED_MAX:
            if now < self._next_at and len(self._unsaid) < EVENTS_PER_MESSAGE_MAX:
                return
            count = min(len(self._unsaid), EVENTS_PER_MESSAGE_MAX)
            self._sent[self._next] = numbers = [self._unsaid.popleft() for _ in range(count)]
            yield TaskEvents(self._next, [_event(self._waiting[number]) for number in numbers])
            self._next += 1
            self._next_at = now + GATHER_S

    def deadline(self) -> float:
        """When there is something to say, if nothing happens before."""
        may_say = self._unsaid and len(self._sent) < UNCONFIRMED_MAX
        return self._next_at if may_say else inf

    def confirmed(self, message: int) -> list[int]:
        """The broker has this message: the numbers that nobody needs any more."""
        numbers = self._sent.pop(message, [])
        for number in numbers:
            self._waiting.pop(number, None)
        return numbers

    def say_again(self) -> None:
        """The broker may have missed what was on its way."""
        self._sent.clear()
        self._unsaid = deque(self._waiting)
        self._next_at = -inf


def _event(posted: Posted) -> TaskEvent:
    event = posted.event
    fields = msgspec.structs.asdict(event)
    body = {name: v for name, v in fields.items() if name not in _NOT_IN_BODY and v not in ("", 0)}
    for name in ("group", "operator"):
        if name in body:
            body[name] = _cut(body[name])
    body["chain"] = event.application.chain_id
    body["application"] = event.application.application_id
    return TaskEvent(
        posted.id,
        event.application.key,
        event.event,  # type: ignore[arg-type]
        msgspec.msgpack.encode(body),
        event.code,
        event.text[:EVENT_TEXT_LETTERS_MAX],
    )


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= NAME_LETTERS_MAX:
        return text
    return text[: NAME_LETTERS_MAX - 1] + "…"
