"""How sockets are made: who may reach them, and what they do when a peer is gone or full."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zmq

from broker.errors import Misconfigured
from broker.messages import MESSAGE_BYTES_MAX
from broker.sockets import (
    EVENTS_HIGH_WATER_MESSAGES,
    HIGH_WATER_MESSAGES,
    LINGER_MS,
    ROUTER_HIGH_WATER_MESSAGES,
    SUBSCRIPTION_BYTES_MAX,
    SUBSCRIPTIONS_HIGH_WATER_MESSAGES,
    CurveIdentity,
    bind,
    bound_address,
    connect,
    make_socket,
    receive,
    send,
)

Context = zmq.Context[zmq.Socket[bytes]]


@pytest.fixture
def context() -> Iterator[Context]:
    with zmq.Context() as context:
        yield context


# -- who may reach them ---------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["tcp://*:*", "tcp://0.0.0.0:*", "tcp://[::]:*"])
def test_an_address_that_others_reach_is_bound_only_when_they_are_authenticated(
    context: Context, address: str
) -> None:
    with closing(make_socket(context, zmq.ROUTER)) as socket:
        with pytest.raises(Misconfigured, match="CURVE"):
            bind(socket, address, authenticated=False)
        assert bound_address(socket) == ""
        bind(socket, address, authenticated=True)


def test_an_ipc_socket_is_its_owners_alone(context: Context, tmp_path: Path) -> None:
    address = f"ipc://{tmp_path}/a/run/x.ipc"
    with closing(make_socket(context, zmq.ROUTER)) as socket:
        assert bind(socket, address, authenticated=False) == address
        path = tmp_path / "a" / "run" / "x.ipc"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_stale_file_of_a_killed_broker_is_replaced(context: Context, tmp_path: Path) -> None:
    (tmp_path / "x.ipc").write_text("left behind")
    with closing(make_socket(context, zmq.ROUTER)) as socket:
        bind(socket, f"ipc://{tmp_path}/x.ipc", authenticated=False)
        assert (tmp_path / "x.ipc").is_socket()


@pytest.mark.parametrize("path", ["file/x.ipc", "directory", "x" * 200])
def test_a_path_that_cannot_be_bound_is_refused(
    context: Context, tmp_path: Path, path: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    with (
        closing(make_socket(context, zmq.ROUTER)) as socket,
        pytest.raises(Misconfigured, match="cannot listen"),
    ):
        bind(socket, f"ipc://{tmp_path}/{path}", authenticated=False)


def test_a_port_that_is_taken_is_refused(context: Context) -> None:
    with (
        closing(make_socket(context, zmq.ROUTER)) as first,
        closing(make_socket(context, zmq.ROUTER)) as second,
    ):
        address = bind(first, "tcp://127.0.0.1:*", authenticated=False)
        assert "*" not in address
        port = address.rpartition(":")[2]
        with pytest.raises(Misconfigured, match=f"cannot listen on .*{port}"):
            bind(second, f"tcp://127.0.0.1:{port}", authenticated=False)


# -- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "out", "in_", "bytes_max"),
    [
        (zmq.ROUTER, ROUTER_HIGH_WATER_MESSAGES, ROUTER_HIGH_WATER_MESSAGES, MESSAGE_BYTES_MAX),
        (zmq.DEALER, HIGH_WATER_MESSAGES, HIGH_WATER_MESSAGES, MESSAGE_BYTES_MAX),
        (zmq.SUB, EVENTS_HIGH_WATER_MESSAGES, EVENTS_HIGH_WATER_MESSAGES, MESSAGE_BYTES_MAX),
        (
            zmq.XPUB,
            EVENTS_HIGH_WATER_MESSAGES,
            SUBSCRIPTIONS_HIGH_WATER_MESSAGES,
            SUBSCRIPTION_BYTES_MAX,
        ),
    ],
)
def test_whatever_a_socket_may_hold_is_bounded(
    context: Context, kind: int, out: int, in_: int, bytes_max: int
) -> None:
    with closing(make_socket(context, kind)) as socket:
        assert (socket.sndhwm, socket.rcvhwm) == (out, in_)
        assert (socket.maxmsgsize, socket.linger) == (bytes_max, LINGER_MS)


@pytest.mark.parametrize(("scheme", "guarded"), [("tcp://127.0.0.1:1", True), ("ipc:///x", False)])
def test_who_connects_over_tcp_proves_who_he_is(
    context: Context, scheme: str, guarded: bool
) -> None:
    public, secret = zmq.curve_keypair()
    identity = CurveIdentity(public, secret, server=public)
    with closing(connect(context, zmq.DEALER, scheme, identity)) as socket:
        assert (socket.mechanism == zmq.CURVE) == guarded


def test_two_that_know_each_others_keys_talk(context: Context) -> None:
    (public, secret), (our_public, our_secret) = zmq.curve_keypair(), zmq.curve_keypair()
    server = CurveIdentity(public, secret)
    with closing(make_socket(context, zmq.ROUTER, curve=server, domain="workers")) as router:
        assert (router.mechanism, router.curve_server) == (zmq.CURVE, 1)
        assert router.zap_domain == b"workers"
    with closing(make_socket(context, zmq.ROUTER, curve=server)) as router:
        port = bind(router, "tcp://127.0.0.1:*", authenticated=True).rpartition(":")[2]
        client = CurveIdentity(our_public, our_secret, server=public)
        with closing(connect(context, zmq.DEALER, f"tcp://127.0.0.1:{port}", client)) as dealer:
            dealer.poll(5000, zmq.POLLOUT)
            assert send(dealer, [b"hello"])
            router.poll(5000)
            assert (receive(router) or [])[1:] == [b"hello"]


# -- sending and receiving ------------------------------------------------------------------------


def test_nobody_is_waited_for(context: Context) -> None:
    with (
        closing(make_socket(context, zmq.ROUTER)) as router,
        closing(make_socket(context, zmq.DEALER)) as dealer,
    ):
        assert receive(router) is None
        assert not send(dealer, [b"to nobody"]), "nothing piles up for who is not there"
        assert not send(router, [b"gone", b"message"]), "a vanished peer is told, not ignored"
        router.bind("inproc://here")
        dealer.connect("inproc://here")
        assert send(dealer, [b"hello"])
        router.poll(5000)
        peer, message = receive(router) or []
        assert message == b"hello"
        assert send(router, [peer, b"world"])
        dealer.poll(5000)
        assert receive(dealer) == [b"world"]
        assert receive(dealer) is None


def test_nothing_piles_up_for_a_broker_that_is_not_there_yet(
    context: Context, tmp_path: Path
) -> None:
    address = f"ipc://{tmp_path}/x.ipc"
    with (
        closing(connect(context, zmq.DEALER, address, None)) as dealer,
        closing(make_socket(context, zmq.ROUTER)) as router,
    ):
        assert not send(dealer, [b"lost"])
        bind(router, address, authenticated=False)
        dealer.poll(5000, zmq.POLLOUT)
        assert send(dealer, [b"hello"])
        router.poll(5000)
        assert (receive(router) or [])[1:] == [b"hello"]


def test_a_broken_socket_is_an_error_and_not_a_peer_that_is_gone(context: Context) -> None:
    socket = make_socket(context, zmq.DEALER)
    socket.close()
    with pytest.raises(zmq.ZMQError):
        send(socket, [b"hello"])
