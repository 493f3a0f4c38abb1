"""The listener's side of the notification stream, as transcripts: frames in, outputs out."""

from __future__ import annotations

import json
from math import inf
from typing import get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.offchain.node_service.notification_session import (
    ANSWER_S_MAX,
    RESUBSCRIBE_FIRST_S,
    Lost,
    NotificationSession,
    Output,
    Say,
)
from workers.offchain.node_service.notifications import (
    PING,
    PONG,
    Frame,
    read_frame,
    subscribe,
    unsubscribe,
)
from workers.offchain.offchain_errors import MalformedFrame, StreamBroken
from workers.offchain.stimuli import Notified, StreamOpened

CHAIN, OTHER = "a1" * 32, "b2" * 32
ACK = '{"type":"connection_ack"}'
PONGED = '{"type":"pong"}'
ENDED = '{"type":"complete","id":"1"}'


def session(*chains: str, legacy: bool = False) -> NotificationSession:
    return NotificationSession(chains, legacy=legacy, chance=lambda: 1.0, now=0.0)


def opened(*chains: str) -> NotificationSession:
    """A session whose chains are open."""
    new = session(*chains)
    new.handle(ACK, 0.0)
    for _ in chains:
        new.handle(PONGED, 0.0)
    return new


def news(reason: object, name: str = "1", chain: str = CHAIN, kind: str = "next") -> str:
    told = {"notifications": {"chain_id": chain, "reason": reason, "another_key": 1}}
    return msgspec.json.encode({"type": kind, "id": name, "payload": {"data": told}}).decode()


def subscribed(name: str, chain: str) -> list[Output]:
    return [Say(subscribe(name, chain, legacy=False)), Say(PING)]


def test_a_chain_is_open_when_the_ping_behind_its_subscription_is_answered() -> None:
    new = session(CHAIN, OTHER)
    assert new.begin() == [Say('{"type":"connection_init","payload":{}}')]
    assert new.handle(ACK, 1.0) == subscribed("1", CHAIN) + subscribed("2", OTHER)
    assert new.handle(PONGED, 1.1) == [StreamOpened(CHAIN)]
    assert new.handle(PONGED, 1.2) == [StreamOpened(OTHER)]
    assert new.handle(PONGED, 1.3) == []
    assert new.handle(ACK, 1.4) == []
    assert new.deadline() == inf


def test_a_server_of_the_old_protocol_is_asked_in_its_words_and_not_pinged() -> None:
    new = session(CHAIN, legacy=True)
    [wish, opening] = new.handle(ACK, 0.0)
    assert wish == Say(subscribe("1", CHAIN, legacy=True))
    assert '"type":"start"' in wish.text
    assert opening == StreamOpened(CHAIN)
    assert new.handle('{"type":"ka"}', 1.0) == []
    block = news({"NewBlock": {"height": 7, "hash": "00"}}, kind="data")
    assert new.handle(block, 1.0) == [Notified(CHAIN, "NewBlock", 7)]
    assert new.unwatch(CHAIN) == [Say('{"id":"1","type":"stop"}')]


@pytest.mark.parametrize(
    ("reason", "name", "height"),
    [
        ({"NewBlock": {"height": 5, "hash": "00", "event_streams": []}}, "NewBlock", 5),
        ({"NewBlock": {"height": 2**64 - 1, "hash": "00"}}, "NewBlock", 2**64 - 1),
        ({"NewRound": {"height": 5, "round": {"MultiLeader": 0}}}, "NewRound", 5),
        ({"NewIncomingBundle": {"origin": OTHER, "height": 1}}, "NewIncomingBundle", 1),
        ({"BlockExecuted": {"height": 5, "hash": "00"}}, "BlockExecuted", 5),
        ({"NewEvents": {"height": 5, "block_hash": "", "event_streams": []}}, "NewEvents", 5),
        ({"OfALaterVersion": {"x": 1}}, "OfALaterVersion", None),
        ({"OfALaterVersion": None}, "OfALaterVersion", None),
        ({"NewBlock": {"height": "5"}}, "NewBlock", None),
        ({"NewBlock": {"height": True}}, "NewBlock", None),
        ("WithoutFields", "WithoutFields", None),
    ],
)
def test_reasons_are_passed_on_by_name(reason: object, name: str, height: int | None) -> None:
    assert opened(CHAIN).handle(news(reason), 0.0) == [Notified(CHAIN, name, height)]


def test_a_chain_is_watched_and_no_longer() -> None:
    new = opened(CHAIN)
    assert new.watch(OTHER, 5.0) == subscribed("2", OTHER)
    assert new.unwatch(OTHER) == [Say(unsubscribe("2", legacy=False))]
    assert new.handle(PONGED, 5.0) == [], "nobody waits for it any more"
    assert new.handle(news({"NewBlock": {}}, "2", OTHER), 5.0) == []
    assert new.handle('{"type":"complete","id":"2"}', 5.0) == []


def test_what_is_watched_before_the_connection_is_taken_is_asked_for_then() -> None:
    new = session(CHAIN)
    assert new.watch(OTHER, 0.0) == []
    assert new.unwatch(CHAIN) == []
    assert new.handle(ACK, 0.0) == subscribed("1", OTHER)


def test_a_subscription_that_ends_is_made_again_after_a_growing_pause() -> None:
    new = opened(CHAIN)
    assert new.handle(ENDED, 10.0) == [Lost(CHAIN, "the server has ended it")]
    assert new.deadline() == 10.0 + RESUBSCRIBE_FIRST_S
    assert new.tick(10.5) == []
    assert new.tick(11.0) == subscribed("2", CHAIN)
    refused = '{"type":"next","id":"2","payload":{"errors":[{"message":"no such chain"}]}}'
    assert new.handle(refused, 12.0) == [Lost(CHAIN, "no such chain")]
    assert new.handle('{"type":"complete","id":"2"}', 12.0) == [], "it is known already"
    assert new.deadline() == 12.0 + 2 * RESUBSCRIBE_FIRST_S
    assert new.tick(14.0) == subscribed("3", CHAIN)
    assert new.handle(news({"NewBlock": {}}, "3"), 14.0) == [Notified(CHAIN, "NewBlock", None)]
    new.handle('{"type":"error","id":"3","payload":[{"message":"x"}]}', 20.0)
    assert new.deadline() in (20.0 + RESUBSCRIBE_FIRST_S, 14.0 + ANSWER_S_MAX)


def test_a_server_that_does_not_take_the_connection_is_given_up() -> None:
    new = session(CHAIN)
    assert new.deadline() == ANSWER_S_MAX
    assert new.tick(ANSWER_S_MAX - 1) == []
    with pytest.raises(StreamBroken, match="not acknowledged"):
        new.tick(ANSWER_S_MAX)
    with pytest.raises(StreamBroken, match="we are full"):
        session().handle('{"type":"connection_error","payload":{"message":"we are full"}}', 0.0)


def test_a_server_that_answers_no_ping_is_given_up() -> None:
    new = session(CHAIN)
    new.handle(ACK, 3.0)
    assert new.deadline() == 3.0 + ANSWER_S_MAX
    with pytest.raises(StreamBroken, match="no answer to a ping"):
        new.tick(3.0 + ANSWER_S_MAX)


def test_a_server_that_pings_is_answered() -> None:
    assert opened(CHAIN).handle('{"type":"ping"}', 0.0) == [Say(PONG)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '{"type":"hello"}',
        '{"type":1}',
        '{"type":"next","id":"1"}',
        '{"type":"next","id":"1","payload":{"data":{"notifications":{"chain_id":"x"}}}}',
        news({}),
        news({"NewBlock": {}, "NewRound": {}}),
        "[" * 10_000,
        b"\xff\xfe",
    ],
)
def test_what_is_no_frame_says_so(text: str | bytes) -> None:
    with pytest.raises(MalformedFrame):
        opened(CHAIN).handle(text, 0.0)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["data", "errors", "message", "notifications", "chain_id", "reason", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
_FRAMES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["next", "data", "error", "complete", "ping", "connection_ack", "connection_error"]
        )
    },
    optional={"id": st.sampled_from(["1", "2", ""]) | _JSON, "payload": _JSON},
)


@given(st.binary(max_size=60) | st.text(max_size=60) | _FRAMES.map(json.dumps))
def test_any_bytes_give_a_frame_or_an_error(text: str | bytes) -> None:
    try:
        frame = read_frame(text)
    except MalformedFrame:
        return
    assert isinstance(frame, get_args(Frame))


@settings(max_examples=40)
@given(st.lists(_FRAMES, max_size=4))
def test_any_frames_leave_the_session_usable_or_end_it(frames: list[object]) -> None:
    new = opened(CHAIN, OTHER)
    try:
        for frame in frames:
            new.handle(json.dumps(frame), 0.0)
    except (MalformedFrame, StreamBroken):
        return
    new.tick(1.0)
    new.unwatch(OTHER)
    new.handle(news({"NewBlock": {}}, "2", OTHER), 1.0)
    assert new.watch(OTHER, 1.0)[1:] == [Say(PING)]
