"""Events of off-chain tasks: logged, numbered and published like others, and each once."""

from __future__ import annotations

import pytest
from pool_script import sign
from task_script import A, B, TaskScript, TaskWorker, event

from broker import wire
from broker.applications import (
    EVENT_BODY_BYTES_MAX,
    EVENTS_PER_MESSAGE_MAX,
    TASK_DEAD,
    TASK_OUTCOME,
    TASK_STARTED,
    TaskEvent,
)
from broker.errors import MalformedMessage
from broker.known_events import EVENT_IDS_MAX, KnownEvents
from broker.messages import REFUSED, Event, TaskEvents, TaskEventsAck


def acknowledged(worker: TaskWorker) -> list[int]:
    return [message.number for message in worker.heard if isinstance(message, TaskEventsAck)]


def test_events_are_on_their_topics_in_their_order() -> None:
    pool = TaskScript(A, B)
    worker = pool.worker_with_tasks("w0")
    for topic in ("all", "c/offchain", f"d/{A}", f"d/{B}"):
        pool.core.subscribed(topic)
    dead = event(3, B, TASK_DEAD, body=b"map", code="exit", text="exit status 1")
    worker.says(TaskEvents(7, [event(1), event(2, A, TASK_OUTCOME, body=b"m"), dead]))
    turn = pool.turn()
    assert [(topic, events.first, len(events.events)) for topic, events in turn.publish][:5] == [
        ("c/offchain", 1, 3),
        (f"d/{A}", 1, 1),
        (f"d/{A}", 2, 1),
        (f"d/{B}", 1, 1),
        ("all", 1, 3),
    ]
    assert pool.events[-1] == Event(
        dead.id, B, "task_dead", b"map", code="exit", text="exit status 1"
    )
    assert turn.record is not None, "and in the log before they are acknowledged"
    assert acknowledged(worker) == [7]
    assert pool.core.status(pool.now)["events"] == {
        "task_started": 1, "task_outcome": 1, "task_dead": 1,
    }  # fmt: skip


def test_events_that_are_said_again_are_acknowledged_again_and_nothing_else() -> None:
    pool = TaskScript(A)
    worker = pool.worker_with_tasks("w0")
    worker.says(TaskEvents(1, [event(1), event(2)]))
    pool.turn()
    other = pool.worker_with_tasks("w1")
    other.says(TaskEvents(4, [event(2), event(3)]))  # the next owner has found them in the journal
    pool.turn()
    worker.says(TaskEvents(1, [event(1), event(2)]))
    turn = pool.turn()
    assert [each.id for each in pool.events] == [event(n).id for n in (1, 2, 3)]
    assert turn.record is None
    assert (acknowledged(worker), acknowledged(other)) == ([1, 1], [4])
    assert pool.core.status(pool.now)["tasks"]["repeated_events"] == 3  # type: ignore[index]


def test_only_the_last_ids_are_remembered() -> None:
    known = KnownEvents()
    assert known.is_new(b"first")
    assert all(known.is_new(bytes([0]) + n.to_bytes(4)) for n in range(EVENT_IDS_MAX - 1))
    assert not known.is_new(b"first")
    assert known.is_new(b"one more")
    assert known.is_new(b"first")


def test_nobody_pushes_under_the_name_of_the_events() -> None:
    pool = TaskScript()
    pool.worker("w0")
    [ack] = pool.push("offchain", sign("mv1a"))
    assert (ack.status, ack.code) == (REFUSED, "wrong_client")
    assert "offchain" in ack.text


@pytest.mark.parametrize(
    "changed",
    [
        TaskEvents(-1, []),
        TaskEvents(1, [event(1, name="signed")]),
        TaskEvents(1, [event(1, key=A[1:])]),
        TaskEvents(1, [event(1, key=A[:-1] + "G")]),
        TaskEvents(1, [TaskEvent(bytes(15), A, TASK_STARTED)]),
        TaskEvents(1, [event(1, body=bytes(EVENT_BODY_BYTES_MAX + 1))]),
        TaskEvents(1, [event(1)] * (EVENTS_PER_MESSAGE_MAX + 1)),
    ],
)
def test_events_beyond_a_bound_are_malformed(changed: TaskEvents) -> None:
    with pytest.raises(MalformedMessage):
        wire.decode_worker_message(wire.encode(changed))
