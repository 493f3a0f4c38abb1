"""A gateway in trouble: garbage, slow and greedy clients, a pool that restarts, its own death."""

from __future__ import annotations

import random
import re
import select
import signal
import socket
import threading
from collections.abc import Iterator
from http.client import HTTPException

import pytest
from gateway_process import (
    Answer,
    GatewayProcess,
    attestation,
    call_on,
    exchange,
    is_closed,
    make_certificate,
    receive_exactly,
)
from pool_process import PoolProcess, batch, noop, until

from signers.formats.tagged_keys import tagged_hash

pytestmark = pytest.mark.process

TRIES = 150
STUCK_S = 5.0  # nothing could be sent for so long: not merely a gateway that had no processor
SLOW_S = 30.0  # well beyond what the gateway allows


@pytest.fixture(scope="module")
def gateway(running: PoolProcess) -> GatewayProcess:
    certificate, key = make_certificate(running.directory)
    found = GatewayProcess(
        running, "--https", "127.0.0.1:0", "--certificate", certificate, "--key", key,
        "--allow-list-known-keys",
    )  # fmt: skip
    found.start()
    return found


@pytest.fixture
def fresh(pool: PoolProcess) -> GatewayProcess:
    """A gateway of a pool that is not running yet."""
    return GatewayProcess(pool)


def still_signs(gateway: GatewayProcess) -> None:
    key = gateway.pool.keys[0]
    data = noop("still here")
    assert key.has_signed_bytes(data, gateway.sign(key.key_hash, data).signature)
    with gateway.tcp() as connection:
        sign = b"\x00" + tagged_hash(key.key_hash) + len(data).to_bytes(4) + data
        assert key.has_signed_bytes(data, exchange(connection, sign)[1:])


# -- strangers ------------------------------------------------------------------------------------


def garbage(chance: random.Random, key_hash: str) -> Iterator[bytes]:
    """What no honest client sends, some of it nearly right."""
    call = (
        f'POST /keys/{key_hash} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 6\r\n\r\n"0311"'
    ).encode()
    frame = b"\x00\x1a\x00" + tagged_hash(key_hash) + b"\x00\x00\x00\x00"
    yield from (
        b"\x00\x00", b"\xff\xff", b"\x00\x01\x08", b"\x00\x02\x02\x00", b"\r\n\r\n", b"\0" * 70_000,
        b"GET / HTTP/9.9\r\n\r\n", b"GET\r\n\r\n", b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /keys/x HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /keys/x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /keys/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /keys/%ff%00 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /keys/\xff\xfe HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
        b"\x00\x1b\x00" + tagged_hash(key_hash) + b"\xff\xff\xff\xff\x00",
    )  # fmt: skip
    for whole in (call, frame):
        for _ in range(TRIES):
            at = chance.randrange(len(whole))
            yield whole[:at] + bytes([chance.randrange(256)]) + whole[at + 1 :]


def test_garbage_on_every_listener_changes_nothing(gateway: GatewayProcess) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    for sent in garbage(random.Random(seed), gateway.pool.delegates[0]):
        for port in gateway.ports.values():
            with socket.create_connection(("127.0.0.1", port), 20) as stranger:
                _send_and_hang_up(stranger, sent)
        with gateway.unix() as stranger:
            _send_and_hang_up(stranger, sent)
    assert gateway.process is not None
    assert gateway.process.poll() is None
    assert "Traceback" not in gateway.pool.log()
    still_signs(gateway)


def _send_and_hang_up(stranger: socket.socket, sent: bytes) -> None:
    """Send everything, say that this is all, and hear the other end out."""
    try:
        stranger.sendall(sent)
        stranger.shutdown(socket.SHUT_WR)
        while stranger.recv(65_536):
            pass
    except ConnectionError:
        pass  # it has heard enough


def test_slow_clients_are_ended_and_others_are_not_held_up(gateway: GatewayProcess) -> None:
    key_hash = gateway.pool.delegates[0]
    began = f"POST /keys/{key_hash} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()
    slow: list[socket.socket] = []
    for scheme, sent in (
        ("http", b""),  # says nothing
        ("http", began),  # never ends its head
        ("http", began + b'Content-Type: application/json\r\nContent-Length: 80\r\n\r\n"03'),
        ("tcp", b"\x00"),
        ("tcp", b"\x00\x1a\x00"),
    ):
        stranger = socket.create_connection(("127.0.0.1", gateway.ports[scheme]), SLOW_S)
        stranger.sendall(sent)
        slow.append(stranger)
    takers = [
        takes_nothing(
            gateway, "http", f"GET /keys/{key_hash} HTTP/1.1\r\nHost: ::1\r\n\r\n".encode()
        ),
        takes_nothing(gateway, "tcp", b"\x00\x01\x06"),
    ]
    still_signs(gateway)
    for stranger in slow:
        with stranger:
            while stranger.recv(4096):
                pass  # the one whose body does not come is told so
    for stranger in takers:
        with stranger:
            cut_off = select.poll()
            cut_off.register(stranger, 0)
            assert cut_off.poll(SLOW_S * 1000), "who takes no answer is cut off"
    still_signs(gateway)


def takes_nothing(gateway: GatewayProcess, scheme: str, call: bytes) -> socket.socket:
    """A stranger who asks until the gateway listens no longer, and never reads an answer."""
    stranger = socket.socket()
    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stranger.connect(("127.0.0.1", gateway.ports[scheme]))
    stranger.setblocking(False)
    while select.select([], [stranger], [], STUCK_S)[1]:
        stranger.send(call * 100)
    return stranger


def test_a_body_without_end_is_cut(gateway: GatewayProcess) -> None:
    head = f"POST /keys/{gateway.pool.delegates[0]} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.ports["http"]), 20) as greedy:
        greedy.sendall(head.encode())
        received = b""
        try:
            for _ in range(64):
                greedy.sendall(b"10000\r\n" + b"0" * 0x10000 + b"\r\n")
            received = greedy.recv(65_536)
        except ConnectionError:
            received = received or b"HTTP/1.1 413"  # cut while we were still sending
        assert received.startswith(b"HTTP/1.1 413")
    still_signs(gateway)


def test_connections_are_bounded(gateway: GatewayProcess) -> None:
    """A thousand idle ones: the first of each kind go on, the others are closed at once."""
    many: list[socket.socket] = []
    try:
        for scheme in ("tcp", "http"):
            address = "127.0.0.1", gateway.ports[scheme]
            many += [socket.create_connection(address, 20) for _ in range(500)]
            assert is_closed(many[-1])
        assert exchange(many[0], b"\x02") == b"\x00\x00"
        with gateway.unix() as other:
            assert is_closed(other)  # the bound is that of both
        many[500].sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert many[500].recv(64).startswith(b"HTTP/1.1 200")
        with socket.create_connection(("127.0.0.1", gateway.ports["https"]), 20) as other:
            assert is_closed(other)
    finally:
        for connection in many:
            connection.close()
    assert "Traceback" not in gateway.pool.log()
    until(lambda: _answers(gateway), what="a free connection")
    still_signs(gateway)


def _answers(gateway: GatewayProcess) -> bool:
    with gateway.tcp() as connection:
        try:
            return exchange(connection, b"\x02") == b"\x00\x00"
        except (ConnectionError, AssertionError):
            return False


def test_frames_that_come_in_pieces_or_many_at_once_are_served(gateway: GatewayProcess) -> None:
    key = gateway.pool.keys[3]
    data = noop("pieces")
    sign = b"\x00" + tagged_hash(key.key_hash) + len(data).to_bytes(4) + data
    framed = len(sign).to_bytes(2) + sign
    with gateway.tcp() as connection:
        for byte in framed[:-1]:
            connection.sendall(bytes([byte]))
        connection.sendall(framed[-1:] + b"\x00\x01\x02" * 50 + framed)
        first = receive_exactly(connection, int.from_bytes(receive_exactly(connection, 2)))
        assert key.has_signed_bytes(data, first[1:])
        for _ in range(50):
            assert receive_exactly(connection, 4) == b"\x00\x02\x00\x00"
        connection.shutdown(socket.SHUT_WR)  # it is answered all the same
        last = receive_exactly(connection, int.from_bytes(receive_exactly(connection, 2)))
        assert last == first
        assert is_closed(connection)


def test_http_calls_that_come_many_at_once_are_answered_in_their_order(
    gateway: GatewayProcess,
) -> None:
    key = gateway.pool.keys[3]
    body = f'"{noop("many at once").hex()}"'
    sign = f"POST /keys/{key.key_hash} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
    sign += f"\r\n\r\n{body}"
    alive = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.ports["http"]), 20) as connection:
        connection.sendall(((alive + sign) * 20).encode())
        received = b""
        while received.count(b"HTTP/1.1 200 ") < 40 or not received.endswith(b"\n"):
            received += connection.recv(65_536)
    answers = re.findall(rb'\{"(ready|signature)":', received)
    assert answers == [b"ready", b"signature"] * 20


# -- the pool's trouble ---------------------------------------------------------------------------


def test_without_a_pool_requests_are_503_and_later_ones_are_signed(fresh: GatewayProcess) -> None:
    pool = fresh.pool
    gateway = GatewayProcess(pool, "--timeout", "0.5")
    gateway.start()
    key = pool.keys[0]
    data = attestation(batch(pool.next_level()))
    assert gateway.call("GET", "/livez").status == 200
    assert gateway.call("GET", "/readyz").status == 503
    none = gateway.sign(key.key_hash, data)
    assert none.status == 503
    assert "Retry-After" in none.headers
    pool.serve(1)
    until(lambda: gateway.call("GET", "/readyz").status == 200, what="a gateway that is ready")
    answer = until(
        lambda: found if (found := gateway.sign(key.key_hash, data)).status == 200 else None,
        what="a signature",
    )
    assert key.has_signed_bytes(data, answer.signature)


def test_a_request_outlives_whoever_of_the_pool_is_killed(fresh: GatewayProcess) -> None:
    """Broker and workers, while a slow signer works: the client is answered by the next ones.

    When the gateway is killed its client is cut off, and gets that signature from the next.
    """
    pool = fresh.pool
    pool.serve(2, delays_ms={pool.delegates[0]: 1000})
    fresh.start()
    key = pool.keys[0]
    answers: list[Answer | None] = []

    def ask(data: bytes) -> None:
        try:
            answers.append(fresh.sign(key.key_hash, data))
        except (ConnectionError, HTTPException):
            answers.append(None)

    def who_works() -> int:
        [active] = [each for each in pool.status()["workers"] if each["active"]]
        return int(active["pid"])

    assert fresh.process is not None
    for victim in (lambda: pool.broker_pid, who_works, lambda: fresh.process.pid):  # type: ignore[union-attr]
        data = attestation(batch(pool.next_level()))
        client = threading.Thread(target=ask, args=(data,))
        client.start()
        pool.wait_for_active()
        pool.signal(victim(), signal.SIGKILL)
        client.join()
        if (answer := answers[-1]) is None:
            fresh.process.wait()
            fresh.start(**fresh.ports)
            answer = fresh.sign(key.key_hash, data)
        assert key.has_signed_bytes(data, answer.signature)
    assert answers.count(None) == 1


def test_a_full_drain_is_told_to_clients(fresh: GatewayProcess) -> None:
    pool = fresh.pool
    pool.serve(1, delays_ms={pool.delegates[0]: 1500})
    gateway = GatewayProcess(pool, "--timeout", "3")
    gateway.start()
    key = pool.keys[0]
    data = attestation(batch(pool.next_level()))
    answers = []
    client = threading.Thread(target=lambda: answers.append(gateway.sign(key.key_hash, data)))
    client.start()
    pool.wait_for_active()
    assert pool.terminate() == 0
    client.join()
    assert key.has_signed_bytes(data, answers[0].signature)  # what was active is waited for
    assert gateway.sign(pool.delegates[1], data).status == 503


# -- the gateway's own death ----------------------------------------------------------------------


def test_a_killed_gateway_comes_back_and_repeats_are_identical(fresh: GatewayProcess) -> None:
    pool = fresh.pool
    pool.serve(2)
    fresh.start()
    key_hash, level = pool.delegates[0], pool.next_level()
    first = fresh.sign(key_hash, attestation(batch(level))).signature
    connection = fresh.connection()
    call_on(connection, "GET", "/authorized_keys")
    assert fresh.process is not None
    pool.signal(fresh.process.pid, signal.SIGKILL)
    fresh.process.wait()
    fresh.start(**fresh.ports)  # its ports and its socket's path are free again
    assert fresh.sign(key_hash, attestation(batch(level))).signature == first
    assert fresh.sign(key_hash, attestation(batch(level, content="b"))).status == 409
    connection.close()


def test_serve_starts_it_restarts_it_and_ends_it(pool: PoolProcess) -> None:
    pool.configure('[gateway]\nhttp = "127.0.0.1:0"\nlist_known_keys = true\n')
    pool.serve(1)
    pool.wait_for_log("listening at=http://")
    [pid] = _gateway_pids(pool)
    pool.signal(pid, signal.SIGKILL)
    until(lambda: pool.log().count("listening at=http://") == 2, what="another gateway")
    gateway = GatewayProcess(pool)
    gateway.ports = {
        "http": int(pool.log().rpartition("listening at=http://127.0.0.1:")[2].split()[0])
    }
    assert len(gateway.call("GET", "/known_keys").body["known_keys"]) == len(pool.keys)
    key = pool.keys[0]
    data = attestation(batch(pool.next_level()))
    assert key.has_signed_bytes(data, gateway.sign(key.key_hash, data).signature)
    assert pool.terminate() == 0
    pool.wait_for_end()


def _gateway_pids(pool: PoolProcess) -> list[int]:
    """Who serves the gateway now, as the supervisor's log says."""
    started = [line for line in pool.log().splitlines() if "started name=gateway pid=" in line]
    return [int(started[-1].rpartition("pid=")[2])]
