"""Events on their way from a task processor to the broker."""

from __future__ import annotations

from math import inf
from typing import Any

import msgspec

from broker import wire
from broker.applications import EVENTS_PER_MESSAGE_MAX
from broker.messages import TaskEvents
from tests.offchain.processor_script import A
from workers.offchain.commands import Publish
from workers.offchain.event_post import GATHER_S, NAME_LETTERS_MAX, UNCONFIRMED_MAX, EventPost
from workers.offchain.journal.journal import Posted


def posted(number: int, **fields: Any) -> Posted:
    event = Publish(A, "task_started", number, None, "echo", 1)
    return Posted(number, number.to_bytes(16), msgspec.structs.replace(event, **fields))


def heard(message: TaskEvents) -> TaskEvents:
    """As the broker reads it, which refuses what is too large."""
    read = wire.decode_worker_message(wire.encode(message))
    assert isinstance(read, TaskEvents)
    return read


def test_an_event_is_said_until_it_is_confirmed() -> None:
    post = EventPost(first=7)
    post.post([posted(1), posted(2)])
    [message] = post.messages(0.0)
    assert message.number == 7
    assert list(post.messages(0.0)) == [], "it is on its way"
    post.say_again()
    [again] = post.messages(0.0)
    assert again.events == message.events
    assert post.confirmed(again.number) == [1, 2]
    post.say_again()
    assert list(post.messages(0.0)) == []


def test_events_of_a_busy_moment_are_one_message() -> None:
    post = EventPost(first=1)
    post.post([posted(1)])
    assert len(list(post.messages(0.0))) == 1, "at once, as nothing was said before"
    post.post([posted(2)])
    assert list(post.messages(GATHER_S / 2)) == []
    post.post([posted(3), posted(2)])
    assert post.deadline() == GATHER_S
    [message] = post.messages(GATHER_S)
    assert [int.from_bytes(event.id) for event in message.events] == [2, 3]
    assert post.deadline() == inf
    post.post(posted(n) for n in range(4, 4 + EVENTS_PER_MESSAGE_MAX))
    assert len(list(post.messages(GATHER_S))) == 1, "a full one does not wait"


def test_few_messages_are_on_their_way_at_once() -> None:
    post = EventPost(first=1)
    post.post(posted(n) for n in range(EVENTS_PER_MESSAGE_MAX * (UNCONFIRMED_MAX + 1)))
    messages = list(post.messages(0.0))
    assert len(messages) == UNCONFIRMED_MAX
    post.confirmed(messages[0].number)
    [last] = post.messages(0.0)
    assert last.events[-1].id == (EVENTS_PER_MESSAGE_MAX * (UNCONFIRMED_MAX + 1) - 1).to_bytes(16)


def test_the_broker_takes_whatever_an_application_has_named_its_task() -> None:
    """One that it cannot take would be said for ever, and everything behind it not at all."""
    endless = "\U0001f980" * 100_000
    post = EventPost(first=1)
    post.post([posted(1, group=endless, operator=endless, certificate="\U0001f980" * 2000)])
    [message] = post.messages(0.0)
    body = msgspec.msgpack.decode(heard(message).events[0].body)
    assert body["group"] == endless[: NAME_LETTERS_MAX - 1] + "…"
    assert len(body["operator"]) == NAME_LETTERS_MAX


def test_a_word_on_a_message_of_another_processor_confirms_nothing() -> None:
    """A worker that has started its processor again may still hear of the last one's messages."""
    post = EventPost(first=1000)
    post.post([posted(1)])
    [message] = post.messages(0.0)
    assert post.confirmed(1) == []
    assert post.confirmed(message.number) == [1]
