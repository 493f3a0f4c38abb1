"""Every ZeroMQ socket of the project is made here, with each option that matters set.

Why each: the high-water marks bound memory, and ROUTER and PUB drop silently at them, hence
ROUTER_MANDATORY (a full or vanished peer is an error to the sender); MAXMSGSIZE bounds what a
stranger can make us hold; LINGER is never the default, which would hang at exit; IMMEDIATE keeps
messages from piling up for a peer that is not there; heartbeats find a dead TCP peer.
"""

from __future__ import annotations

import os
from pathlib import Path

import zmq

from broker.config import is_local
from broker.errors import Misconfigured
from broker.messages import MESSAGE_BYTES_MAX, TOPIC_LETTERS_MAX

HIGH_WATER_MESSAGES = 10_000
EVENTS_HIGH_WATER_MESSAGES = 50_000  # a subscriber that lags more sees a gap and asks
# Of the broker, for each connection: who pushes without end or does not read what he is answered
# must not cost a gigabyte. A full push has 60 kB and more, and its answer 100 kB. What waits waits
# with the sender; an answer that is dropped is asked for again.
ROUTER_HIGH_WATER_MESSAGES = 1000
# libzmq enters all subscriptions that have arrived at once, at some microseconds each.
SUBSCRIPTIONS_HIGH_WATER_MESSAGES = 1000
SUBSCRIPTION_BYTES_MAX = 2 * TOPIC_LETTERS_MAX + 1  # `live/…/<topic>` behind its flag
LINGER_MS = 500  # what is in flight at exit gets half a second
# A restarted broker is found at once; growing pauses would cost a vote half a second.
RECONNECT_MS = 25
TCP_HEARTBEAT_MS = 1000
TCP_HEARTBEAT_TIMEOUT_MS = 5000

# As plain numbers: pyzmq's are enums, and their `|`, as well as asking a socket whether there is
# more of a message, takes longer than to send or to receive one.
_NOBLOCK = int(zmq.NOBLOCK)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


class CurveIdentity:
    """Our CurveZMQ key pair and, for a client, the server's public key."""

    def __init__(self, public: bytes, secret: bytes, server: bytes | None = None) -> None:
        self.public = public
        self._secret = secret
        self.server = server

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        socket.curve_publickey = self.public
        socket.curve_secretkey = self._secret
        if self.server is None:
            socket.curve_server = True
        else:
            socket.curve_serverkey = self.server


def make_socket(
    context: zmq.Context[zmq.Socket[bytes]],
    kind: int,
    *,
    curve: CurveIdentity | None = None,
    domain: str = "",
) -> zmq.Socket[bytes]:
    """A socket of the given kind (ROUTER, DEALER, XPUB, SUB) with every option explicit."""
    socket = context.socket(kind)
    publishes = kind in (zmq.XPUB, zmq.SUB)
    socket.sndhwm = EVENTS_HIGH_WATER_MESSAGES if publishes else HIGH_WATER_MESSAGES
    socket.rcvhwm = EVENTS_HIGH_WATER_MESSAGES if publishes else HIGH_WATER_MESSAGES
    if kind == zmq.ROUTER:
        socket.sndhwm = socket.rcvhwm = ROUTER_HIGH_WATER_MESSAGES
    if kind == zmq.XPUB:
        socket.rcvhwm = SUBSCRIPTIONS_HIGH_WATER_MESSAGES
    # What reaches an XPUB is a subscription, and libzmq keeps a node for each byte of it.
    socket.maxmsgsize = SUBSCRIPTION_BYTES_MAX if kind == zmq.XPUB else MESSAGE_BYTES_MAX
    socket.linger = LINGER_MS
    socket.reconnect_ivl = RECONNECT_MS
    socket.reconnect_ivl_max = 0  # never longer
    socket.heartbeat_ivl = TCP_HEARTBEAT_MS
    socket.heartbeat_timeout = TCP_HEARTBEAT_TIMEOUT_MS
    socket.ipv6 = True
    if kind == zmq.ROUTER:
        socket.router_mandatory = True
    if kind == zmq.DEALER:
        socket.immediate = True
    if domain:
        socket.zap_domain = domain.encode()
    if curve is not None:
        curve.apply(socket)
    return socket


def bind(socket: zmq.Socket[bytes], address: str, *, authenticated: bool) -> str:
    """Bind and return the address (with the port that was chosen for `*`).

    Raises:
        Misconfigured: the address can be reached from other machines and nobody is
            authenticated on it, or it cannot be bound.
    """
    if not is_local(address) and not authenticated:
        raise Misconfigured(
            f"{address} can be reached from other machines: give it CURVE keys and an allow-list "
            "([curve] in forgepool.toml), or bind to 127.0.0.1 or an ipc:// path"
        )
    try:
        if address.startswith("ipc://"):
            path = Path(address[len("ipc://") :])
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Whoever holds broker.lock owns these; a stale file of a killed broker is replaced.
            path.unlink(missing_ok=True)
        umask = os.umask(0o177)
        try:
            socket.bind(address)
        finally:
            os.umask(umask)
    except (OSError, zmq.ZMQError) as e:
        raise Misconfigured(f"cannot listen on {address}: {e.strerror}") from None
    return bound_address(socket)


def connect(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, address: str, curve: CurveIdentity | None
) -> zmq.Socket[bytes]:
    """A socket that is connected to the address; a TCP one proves who we are, if we have keys."""
    guarded = curve if address.startswith("tcp://") else None
    socket = make_socket(context, kind, curve=guarded)
    socket.connect(address)
    return socket


def bound_address(socket: zmq.Socket[bytes]) -> str:
    """The address that the socket was last bound to."""
    return socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")


def send(socket: zmq.Socket[bytes], frames: list[bytes]) -> bool:
    """Send without waiting; False when the peer is gone or takes nothing (an event, no error)."""
    try:
        for frame in frames[:-1]:
            socket.send(frame, _NOBLOCK_MORE)
        socket.send(frames[-1], _NOBLOCK)
    except zmq.Again:
        return False
    except zmq.ZMQError as e:
        if e.errno == zmq.EHOSTUNREACH:
            return False
        raise
    return True


def receive(socket: zmq.Socket[bytes]) -> list[bytes] | None:
    """The next message, or None when there is none now."""
    received = receive_frames(socket)
    return None if received is None else [frame.bytes for frame in received]


def receive_frames(socket: zmq.Socket[bytes]) -> list[zmq.Frame] | None:
    """The next message with what ZeroMQ knows of it, or None when there is none now."""
    try:
        frame = socket.recv(_NOBLOCK, copy=False)
    except zmq.Again:
        return None
    frames = [frame]
    while frame.more:
        frame = socket.recv(_NOBLOCK, copy=False)
        frames.append(frame)
    return frames
