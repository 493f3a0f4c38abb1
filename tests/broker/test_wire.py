"""The one file that knows the bytes: every message survives them, and no bytes surprise it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, get_args

import msgpack
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from message_strategies import any_of

from broker import wire
from broker.errors import MalformedMessage
from broker.messages import (
    REQUESTS_PER_PUSH_MAX,
    AdminMessage,
    BlockReady,
    BrokerMessage,
    Cancel,
    ClientMessage,
    Events,
    Push,
    Replay,
    ReplyMessage,
    Request,
    Vote,
    VoteBatch,
    WorkerMessage,
)

CODECS: dict[str, tuple[Any, Callable[[bytes], object]]] = {
    "client": (ClientMessage, wire.decode_client_message),
    "admin": (AdminMessage, wire.decode_admin_message),
    "reply": (ReplyMessage, wire.decode_reply),
    "worker": (WorkerMessage, wire.decode_worker_message),
    "broker": (BrokerMessage, wire.decode_broker_message),
    "events": (Events, wire.decode_events),
    "votes": (VoteBatch, lambda data: wire.decode_as(VoteBatch, data)),
    "block": (BlockReady, lambda data: wire.decode_as(BlockReady, data)),
}
MESSAGES = {
    f"{socket}-{kind.__name__}": (kind, decode)
    for socket, (union, decode) in CODECS.items()
    for kind in get_args(union) or (union,)
}
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_survives_the_wire(name: str) -> None:
    kind, decode = MESSAGES[name]

    @quick
    @given(any_of(kind))
    def check(message: object) -> None:
        data = wire.encode(message)
        assert decode(data) == message
        assert type(decode(data)) is kind
        # Another implementation reads it, and what that writes again is the same message.
        read = msgpack.unpackb(data, strict_map_key=False)
        assert decode(msgpack.packb(read)) == message

    check()


def taken_or_malformed(decode: Callable[[bytes], object], data: bytes) -> None:
    """Any other exception fails the test, and so does a message that would not survive."""
    with suppress(MalformedMessage):
        again = wire.encode(decode(data))
        assert wire.encode(decode(again)) == again


@pytest.mark.parametrize("socket", CODECS)
def test_any_bytes_are_a_message_or_malformed(socket: str) -> None:
    _, decode = CODECS[socket]

    @quick
    @given(st.binary(max_size=200))
    def check(data: bytes) -> None:
        taken_or_malformed(decode, data)

    check()


@pytest.mark.parametrize("socket", CODECS)
def test_damaged_messages_are_messages_or_malformed(socket: str) -> None:
    union, decode = CODECS[socket]

    @quick
    @given(any_of(union), st.data())
    def check(message: object, draw: st.DataObject) -> None:
        data = bytearray(wire.encode(message))
        for _ in range(draw.draw(st.integers(1, 3))):
            data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
        taken_or_malformed(decode, bytes(data))
        taken_or_malformed(decode, bytes(data[: draw.draw(st.integers(0, len(data)))]))
        taken_or_malformed(decode, bytes(data) + b"\x00")

    check()


@pytest.mark.parametrize("socket", CODECS)
def test_any_value_of_another_shape_is_a_message_or_malformed(socket: str) -> None:
    _, decode = CODECS[socket]

    @quick
    @given(any_of(object))
    def check(value: object) -> None:
        taken_or_malformed(decode, msgpack.packb(value))

    check()


@pytest.mark.parametrize("socket", CODECS)
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",  # never used in MessagePack
        b"\x91" * 100_000,  # an array in an array in …
        b"\xdd\xff\xff\xff\xff",  # four thousand million elements are announced
        b"\xc6\xff\xff\xff\xff",
        b"\xc7\x0c\xff" + b"\xff" * 12,  # a moment that no calendar has
        b"\x81\xa4type\xa2\xff\xfe",  # not UTF-8
    ],
)
def test_well_known_nastiness_is_malformed(socket: str, data: bytes) -> None:
    with pytest.raises(MalformedMessage) as raised:
        CODECS[socket][1](data)
    assert raised.value.code == "malformed"
    assert str(raised.value)


def test_a_status_nested_without_end_is_malformed() -> None:
    status = msgpack.packb({"type": "status", "epoch": "e", "status": {"depth": 0}})
    assert wire.decode_reply(status)
    with pytest.raises(MalformedMessage):
        wire.decode_reply(status[:-1] + b"\x91" * 100_000 + b"\x00")


# -- bounds: what a stranger may make the broker hold ---------------------------------------------

ID = bytes(16)


def a_push(**changes: object) -> bytes:
    """A push of one request, some of whose fields are changed."""
    request = {"id": ID, "kind": "sign", "payload": b"x", "delegate": "mv1a", **changes}
    return wire.encode({"type": "push", "client": "baker", "requests": [request]})


def test_a_push_within_all_bounds_is_taken() -> None:
    [request] = wire.decode_client_message(a_push(ttl_ms=1)).requests  # type: ignore[union-attr]
    assert request == Request(ID, "sign", b"x", "mv1a", ttl_ms=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": bytes(15)},
        {"id": bytes(17)},
        {"id": "sixteen letters."},
        {"payload": bytes(6 * 1024 * 1024 + 1)},
        {"payload": "text"},
        {"delegate": ""},
        {"delegate": "m" * 129},
        {"delegate": "mv1a\n"},
        {"delegate": "mv1/a"},
        {"ttl_ms": 0},
        {"ttl_ms": 24 * 3600 * 1000 + 1},
        {"ttl_ms": 1.5},
        {"deadline_unix_ms": -1},
        {"votes": [["", 0]]},
        {"votes": [["m" * 129, 0]]},
        {"votes": [["mv1a", 0], ["mv1/a", 1]]},
        {"votes": [["mv1a", 0], ["mv1ä", 1]]},
        {"votes": [["mv1a\n", 0]]},
        {"votes": [["mv1a", 65_536]]},
        {"votes": [["mv1a", -1]]},
        {"votes": [["mv1a", 0, "-1"]]},
        {"votes": [["mv1a", 0, "1" * 1025]]},
        {"votes": [["mv1a", 0, "1\n"]]},
        {"votes": [["mv1a", 0, ""]]},
        {"votes": [["mv1a", 0, "1"], ["mv1b", 1, "١"]]},
        {"votes": [["mv1a", 0]] * 4097},
    ],
)
def test_a_request_beyond_a_bound_is_malformed(changes: dict[str, object]) -> None:
    with pytest.raises(MalformedMessage):
        wire.decode_client_message(a_push(**changes))


@pytest.mark.parametrize("client", ["", "c" * 65, "baker\n", "all the bakers", "bäcker", None])
def test_a_client_name_that_could_be_mistaken_is_malformed(client: object) -> None:
    request = {"id": ID, "kind": "sign", "payload": b"x", "delegate": "mv1a"}
    with pytest.raises(MalformedMessage):
        wire.decode_client_message(
            wire.encode({"type": "push", "client": client, "requests": [request]})
        )


@pytest.mark.parametrize("count", [0, REQUESTS_PER_PUSH_MAX + 1])
def test_a_push_of_nothing_or_of_too_much_is_malformed(count: int) -> None:
    push = Push("baker", [Request(ID, "sign", b"x", "mv1a")] * count)
    with pytest.raises(MalformedMessage):
        wire.decode_client_message(wire.encode(push))


@pytest.mark.parametrize(
    "message", [Replay("", "e", 1), Replay("t" * 161, "e", 1), Replay("all", "e", 0)]
)
def test_a_replay_of_what_cannot_be_is_malformed(message: Replay) -> None:
    with pytest.raises(MalformedMessage):
        wire.decode_client_message(wire.encode(message))


def test_a_batch_of_votes_has_a_level_and_a_round_of_the_chain() -> None:
    for level, round_ in ((-1, 0), (2**31, 0), (0, -1), (0, 2**31)):
        batch = VoteBatch("Net", "B", level, round_, "vh")
        with pytest.raises(MalformedMessage):
            wire.decode_as(VoteBatch, wire.encode(batch))


# -- which socket takes what ----------------------------------------------------------------------


def test_operators_messages_are_none_on_the_request_socket() -> None:
    for message in (b"shutdown", b"worker_ended", b"await_workers"):
        text = {"type": message.decode(), "pid": 1, "how": "", "pids": []}
        assert wire.decode_admin_message(wire.encode(text))
        with pytest.raises(MalformedMessage):
            wire.decode_client_message(wire.encode(text))


def test_a_push_is_none_on_the_admin_socket() -> None:
    with pytest.raises(MalformedMessage):
        wire.decode_admin_message(a_push())


# -- what clients see (docs/protocol.md) ----------------------------------------------------------


def test_what_clients_see_are_maps_with_named_fields() -> None:
    assert msgpack.unpackb(wire.encode(Cancel("baker", id=ID))) == {
        "type": "cancel", "client": "baker", "id": ID,
    }  # fmt: skip


def test_a_field_that_is_not_known_yet_is_ignored() -> None:
    message = {"type": "cancel", "client": "baker", "colour": "red"}
    assert wire.decode_client_message(wire.encode(message)) == Cancel("baker")


def test_votes_are_short_arrays() -> None:
    assert msgpack.unpackb(wire.encode(Vote("mv1a", 7))) == ["mv1a", 7, None, None]
    assert msgspec.convert(["mv1a", 7], Vote) == Vote("mv1a", 7)
    assert msgspec.convert(["tz4a", 7, "5", "tz4b"], Vote) == Vote("tz4a", 7, "5", "tz4b")
