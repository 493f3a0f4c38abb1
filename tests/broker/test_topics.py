"""Who hears which event under which number, and what the log's record says of it afterwards."""

from __future__ import annotations

from math import inf

import pytest

from broker import wire
from broker.delegate_queue import DelegateQueue
from broker.messages import MESSAGE_BYTES_MAX, PAYLOAD_BYTES_MAX, Event, Events
from broker.topics import (
    HEADS_EVERY_S,
    HEADS_PER_TURN_MAX,
    EndedOfClient,
    LogRecord,
    Topics,
    decode_record,
    encode_record,
)
from broker.wire import PORTION_BYTES_MAX

REQUEST_ID, PRINT = bytes(16), b"f" * 16
EVERYTHING = ("all", "c/baker", "c/other", "d/a", "d/b", "d/nobody")


class TopicsScript:
    """Topics of epoch e1; each turn names what ended: "baker:a" is an event of a for baker."""

    def __init__(self, *wanted: str) -> None:
        self.topics = Topics("e1")
        self.queues: dict[str, DelegateQueue] = {}
        self.count = 0
        self.record: LogRecord
        for topic in wanted:
            self.topics.subscribed(topic)

    def turn(self, *ended: str) -> dict[str, list[tuple[int, str]]]:
        """Number a turn; what is published, by topic: number and text of each event."""
        by_client: dict[str, EndedOfClient] = {}
        for what in ended:
            client, delegate = what.split(":")
            queue = self.queues.setdefault(delegate, DelegateQueue(delegate))
            group = by_client.setdefault(client, EndedOfClient())
            self.count += 1
            event = Event(REQUEST_ID, delegate, "signed", f"{what}#{self.count}".encode())
            group.add(event, queue)
            group.requests[REQUEST_ID] = PRINT
        self.record, published = self.topics.number(by_client, 1_700_000_000_123)
        heard: dict[str, list[tuple[int, str]]] = {}
        for topic, message in published:
            assert message.epoch == "e1"
            assert message.events, "a message of nothing would be taken for a head"
            heard.setdefault(topic, []).extend(numbered(message))
        return heard

    def head(self, topic: str) -> int:
        return self.topics.head(topic, self.queues).first


def numbered(message: Events) -> list[tuple[int, str]]:
    return [(n, e.body[:40].decode()) for n, e in enumerate(message.events, message.first)]


# -- numbers --------------------------------------------------------------------------------------


def test_each_topic_counts_its_own_events() -> None:
    script = TopicsScript("all", "c/baker", "c/other", "d/a", "d/b")
    assert script.turn("baker:a", "other:a", "baker:b") == {
        "c/baker": [(1, "baker:a#1"), (2, "baker:b#3")],
        "c/other": [(1, "other:a#2")],
        "d/a": [(1, "baker:a#1"), (2, "other:a#2")],
        "d/b": [(1, "baker:b#3")],
        "all": [(1, "baker:a#1"), (2, "baker:b#3"), (3, "other:a#2")],
    }
    assert script.turn("other:b", "baker:a") == {
        "c/other": [(2, "other:b#4")],
        "c/baker": [(3, "baker:a#5")],
        "d/b": [(2, "other:b#4")],
        "d/a": [(3, "baker:a#5")],
        "all": [(4, "other:b#4"), (5, "baker:a#5")],
    }


def test_a_client_whose_counter_was_forgotten_goes_on_above_every_number_it_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("broker.topics.CLIENTS_MAX", 2)
    script = TopicsScript("c/baker", "c/third")
    script.turn("baker:a", "baker:b", "baker:c")
    script.turn("other:a")
    assert script.turn("third:a") == {"c/third": [(1, "third:a#5")]}  # baker's place is gone
    assert script.head("c/baker") == 4
    assert script.turn("baker:a") == {"c/baker": [(4, "baker:a#6")]}
    assert script.head("c/other") == 4, "no number twice, whoever it was that was forgotten"
    script.turn("baker:a")
    assert script.turn("third:b", "baker:b") == {
        "c/third": [(2, "third:b#8")],
        "c/baker": [(6, "baker:b#9")],
    }


def test_events_of_one_turn_travel_in_one_message_for_each_topic_of_many() -> None:
    script = TopicsScript("all", "c/baker")
    ended = {"baker": EndedOfClient()}
    for delegate in "abc":
        queue = script.queues.setdefault(delegate, DelegateQueue(delegate))
        ended["baker"].add(Event(REQUEST_ID, delegate, "signed"), queue)
    _, published = script.topics.number(ended, 0)
    assert [(topic, len(m.events)) for topic, m in published] == [("c/baker", 3), ("all", 3)]


def test_big_events_of_one_turn_travel_in_messages_that_a_socket_takes() -> None:
    script = TopicsScript("all", "c/baker")
    script.turn("baker:a")
    ended = {"baker": EndedOfClient()}
    for _ in range(5):
        queue = script.queues["a"]
        ended["baker"].add(Event(REQUEST_ID, "a", "signed", bytes(PAYLOAD_BYTES_MAX // 2)), queue)
    _, published = script.topics.number(ended, 0)
    assert all(len(wire.encode(m)) < MESSAGE_BYTES_MAX for _, m in published)
    for topic in ("all", "c/baker"):
        messages = [m for t, m in published if t == topic]
        assert len(messages) > 1
        assert [n for m in messages for n, _ in numbered(m)] == [2, 3, 4, 5, 6]


def test_many_events_without_a_body_are_many_messages_too() -> None:
    topics = Topics("e1")
    topics.subscribed("all")
    ended, queue = EndedOfClient(), DelegateQueue("")
    for n in range(20_000):
        ended.add(Event(n.to_bytes(16), "", "duplicate", code="open"), queue)
    _, published = topics.number({"feeder": ended}, 0)
    assert len(published) > 1
    assert max(len(wire.encode(message)) for _, message in published) < PORTION_BYTES_MAX
    assert [n for _, m in published for n, _ in numbered(m)] == list(range(1, 20_001))


def test_what_nobody_wants_is_counted_and_logged_and_not_published() -> None:
    script = TopicsScript()
    assert script.turn("baker:a", "baker:b") == {}
    assert [e.delegate for _, e in script.record.of_topic("all")] == ["a", "b"]
    script.topics.subscribed("c/baker")
    script.topics.subscribed("d/b")
    assert script.turn("baker:b", "baker:a") == {
        "c/baker": [(3, "baker:b#3"), (4, "baker:a#4")],
        "d/b": [(2, "baker:b#3")],
    }


def test_who_does_not_want_a_topic_any_more_is_not_sent_it() -> None:
    script = TopicsScript("c/baker", "d/a", "d/a", "all")
    for topic in ("c/baker", "d/a", "all", "d/a", "c/never"):
        script.topics.unsubscribed(topic)
    assert script.turn("baker:a") == {}
    script.topics.subscribed("d/a")
    assert script.turn("baker:a") == {"d/a": [(2, "baker:a#2")]}


# -- heads ----------------------------------------------------------------------------------------


def test_a_head_is_the_number_that_comes_next() -> None:
    script = TopicsScript()
    assert [script.head(topic) for topic in EVERYTHING] == [1] * 6
    script.turn("baker:a", "baker:b", "other:b")
    assert [script.head(topic) for topic in EVERYTHING] == [4, 3, 2, 2, 3, 1]
    assert script.topics.head("all", script.queues) == Events("e1", 4, [])


def test_once_a_second_the_head_of_each_wanted_topic_is_due() -> None:
    script = TopicsScript("c/baker", "d/a")
    script.turn("baker:a")
    due = script.topics.heads_due(script.queues, 50.0)
    assert due == [("c/baker", Events("e1", 2, [])), ("d/a", Events("e1", 2, []))]
    assert script.topics.deadline() == 50.0 + HEADS_EVERY_S
    assert script.topics.heads_due(script.queues, 50.0 + HEADS_EVERY_S - 0.01) == []
    assert len(script.topics.heads_due(script.queues, 50.0 + HEADS_EVERY_S)) == 2


def test_many_heads_are_spread_over_turns_and_each_comes_once() -> None:
    script = TopicsScript()
    topics = [f"d/{i}" for i in range(2 * HEADS_PER_TURN_MAX + 1)]
    for topic in topics:
        script.topics.subscribed(topic)
    heard: list[str] = []
    turns = 0
    while not turns or script.topics.deadline() == 0.0:
        due = script.topics.heads_due(script.queues, 50.0)
        assert len(due) <= HEADS_PER_TURN_MAX
        heard += [topic for topic, _ in due]
        turns += 1
        script.topics.unsubscribed("d/0")  # between two turns
    assert turns == 3
    assert sorted(heard) == sorted(topics[1:])
    assert script.topics.deadline() == 50.0 + HEADS_EVERY_S


def test_while_nobody_listens_nothing_is_waited_for() -> None:
    script = TopicsScript()
    assert script.topics.deadline() == inf
    script.topics.subscribed("all")
    assert script.topics.deadline() < inf
    script.topics.unsubscribed("all")
    assert script.topics.deadline() == inf


# -- the record -----------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", EVERYTHING)
def test_the_record_gives_each_topic_what_was_published_on_it(topic: str) -> None:
    script = TopicsScript(*EVERYTHING)
    for turn in (["baker:a", "other:a", "baker:b"], ["other:b"], ["baker:b", "baker:a"]):
        heard = script.turn(*turn).get(topic, [])
        logged = decode_record(encode_record(script.record))
        assert [(n, e.body.decode()) for n, e in logged.of_topic(topic)] == heard


@pytest.mark.parametrize("topic", ["", "a", "x/a", "c/", "d/", "baker", "all/"])
def test_the_record_gives_nothing_to_what_is_no_topic_of_its(topic: str) -> None:
    script = TopicsScript()
    script.turn("baker:a")
    assert script.record.of_topic(topic) == []


def test_the_record_names_the_requests_with_what_tells_a_reused_id() -> None:
    script = TopicsScript()
    script.turn("baker:a", "baker:b")
    [group] = script.record.clients
    assert [(r.id, r.fingerprint) for r in group.requests] == [(REQUEST_ID, PRINT)]
    assert script.record.unix_ms == 1_700_000_000_123
