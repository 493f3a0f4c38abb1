"""The server's side of the notification stream, as transcripts."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.sandbox_apps.sandbox_chain import Notification
from workers.sandbox_apps.stream_desk import Close, StreamDesk

CHAIN = "a1" * 32
INIT = '{"type":"connection_init","payload":{}}'
BLOCK = Notification(CHAIN, {"NewBlock": {"height": 5, "hash": "00"}})


def subscribe(query: str, verb: str = "subscribe", **variables: object) -> str:
    payload = {"query": query, "variables": variables, "operationName": None}
    return json.dumps({"id": "1", "type": verb, "payload": payload})


def literal(chain: str = CHAIN) -> str:
    return subscribe(f'subscription {{ notifications(chainId: "{chain}") }}')


def desk(*, legacy: bool = False) -> StreamDesk:
    new = StreamDesk([CHAIN], legacy=legacy)
    assert new.handle(INIT) == ['{"type":"connection_ack"}']
    return new


@pytest.mark.parametrize(
    "wish",
    [
        literal(),
        subscribe("subscription($c: ChainId!) { notifications(chainId: $c) }", c=CHAIN),
        subscribe("subscription($c: ChainId!) { notifications(chainId: $c) }", "start", c=CHAIN),
    ],
)
def test_news_of_a_chain_are_told_until_the_subscription_ends(wish: str) -> None:
    new = desk()
    assert new.tell(BLOCK) == []
    assert new.handle(wish) == []
    told = '{"notifications":{"chain_id":"CHAIN","reason":{"NewBlock":{"height":5,"hash":"00"}}}}'
    frame = '{"type":"next","id":"1","payload":{"data":' + told.replace("CHAIN", CHAIN) + "}}"
    assert new.tell(BLOCK) == [frame]
    assert new.tell(Notification("b2" * 32, {})) == []
    assert new.handle('{"type":"complete","id":"1"}') == []
    assert new.tell(BLOCK) == []


def test_the_old_protocol_has_its_own_word_for_news() -> None:
    new = desk(legacy=True)
    new.handle(literal())
    assert '"type":"data"' in new.tell(BLOCK)[0]
    assert new.handle('{"type":"stop","id":"1"}') == []


@pytest.mark.parametrize("wish", [literal("b2" * 32), subscribe("subscription { other }")])
def test_a_chain_that_is_not_there_has_errors_and_an_end(wish: str) -> None:
    [errors, end] = desk().handle(wish)
    assert "cannot listen" in errors
    assert json.loads(end) == {"type": "complete", "id": "1"}


def test_a_sign_of_life_is_answered() -> None:
    assert desk().handle('{"type":"ping"}') == ['{"type":"pong"}']
    assert desk().handle('{"type":"pong"}') == []


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (["nonsense"], 1002),
        (['{"type":"unheard"}'], 1002),
        ([literal()], 1011),
        ([INIT, INIT], 4429),
    ],
)
def test_a_listener_that_keeps_to_no_protocol_is_closed(frames: list[str], code: int) -> None:
    new = StreamDesk([CHAIN], legacy=False)
    *first, last = frames
    for frame in first:
        new.handle(frame)
    with pytest.raises(Close) as closed:
        new.handle(last)
    assert closed.value.code == code


@given(st.text(max_size=40) | st.sampled_from(["subscribe", "complete"]).map(
    lambda kind: json.dumps({"type": kind, "id": "1", "payload": {"query": None}})
))  # fmt: skip
def test_any_text_is_answered_or_closes(text: str) -> None:
    with contextlib.suppress(Close):
        desk().handle(text)
