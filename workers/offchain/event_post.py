"""Events on their way to the broker: each is said until the broker has confirmed it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from broker.applications import EVENT_TEXT_LETTERS_MAX, EVENTS_PER_MESSAGE_MAX, TaskEvent
from broker.messages import TaskEvents
from workers.offchain.journal.journal import Posted

# Messages that wait for the broker's word at once; the rest waits in the journal.
UNCONFIRMED_MAX = 8

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
        self._sent: dict[int, list[int]] = {}  # by message: the numbers in it
        self._next = first

    def post(self, posted: Iterable[Posted]) -> None:
        self._waiting |= {each.number: each for each in posted}

    def messages(self) -> Iterator[TaskEvents]:
        """What can be sent now."""
        if len(self._sent) >= UNCONFIRMED_MAX:
            return
        under_way = {number for numbers in self._sent.values() for number in numbers}
        left = [each for number, each in self._waiting.items() if number not in under_way]
        while left and len(self._sent) < UNCONFIRMED_MAX:
            part, left = left[:EVENTS_PER_MESSAGE_MAX], left[EVENTS_PER_MESSAGE_MAX:]
            self._sent[self._next] = [each.number for each in part]
            yield TaskEvents(self._next, [_event(each) for each in part])
            self._next += 1

    def confirmed(self, message: int) -> list[int]:
        """The broker has this message: the numbers that nobody needs any more."""
        numbers = self._sent.pop(message, [])
        for number in numbers:
            self._waiting.pop(number, None)
        return numbers

    def say_again(self) -> None:
        """The broker may have missed what was on its way."""
        self._sent.clear()


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
