"""Events on their way to the broker: each is said until the broker has confirmed it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from broker.applications import EVENT_TEXT_LETTERS_MAX, EVENTS_PER_MESSAGE_MAX, TaskEvent
from broker.messages import TaskEvents
from workers.offchain.journal import Posted

# Messages that wait for the broker's word at once; the rest waits in the journal.
UNCONFIRMED_MAX = 8

# What an event's body does not repeat, or what the broker says in fields of its own.
_NOT_IN_BODY = frozenset({"application", "event", "code", "text"})


class EventPost:
    """What the broker does not have yet, in the order in which it happened."""

    def __init__(self) -> None:
        self._waiting: dict[int, Posted] = {}  # by number, which grows
        self._sent: dict[int, list[int]] = {}  # by message: the numbers in it
        self._next = 1

    def post(self, posted: Iterable[Posted]) -> None:
        self._waiting |= {each.number: each for each in posted}

    def messages(self) -> Iterator[TaskEvents]:
        """What can be sent now."""
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
