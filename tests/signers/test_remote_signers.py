"""Clients of remote signers against a real server, over HTTP, TCP and a Unix socket alike."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from signers.backends.backend import (
    BackEnd,
    ClientKey,
    SignerFailed,
    SignerLost,
    SignerMalformed,
    SignerRejected,
    SignerTimeout,
    SignerUnavailable,
    SignerUnknownKey,
)
from signers.backends.http_signer import ANSWER_BYTES_MAX, HttpSigner, WrongTlsFile, tls_context
from signers.backends.socket_signer import SocketSigner
from signers.errors import SignersError
from signers.formats.networks import MAVRYK, TEZOS
from signers.keyring.keys import SecretKey
from tests.signers.signer_server import Mode, SignerServer

ALICE, BOB, CLIENT = (SecretKey(bytes([i]) * 32) for i in (1, 2, 3))
A, B = (key.public_key.hash(MAVRYK) for key in (ALICE, BOB))
MESSAGE = b"\x03 whatever is signed, its watermark in front"
LONG_S, SHORT_S = 20.0, 0.3

pytestmark = pytest.mark.process


@pytest.fixture
def server() -> Iterator[SignerServer]:
    with SignerServer([ALICE]) as server:
        yield server


Connect = Callable[..., BackEnd]


@pytest.fixture(params=["http", "tcp", "unix"])
def connect(request: pytest.FixtureRequest, server: SignerServer) -> Iterator[Connect]:
    """Makes a client of the server, by one of the three ways."""
    clients: list[BackEnd] = []

    def make(client_key: ClientKey | None = None) -> BackEnd:
        client: BackEnd
        if request.param == "http":
            client = HttpSigner(server.http, connections=2, client_key=client_key)
        else:
            address = server.tcp_address if request.param == "tcp" else server.unix_path
            client = SocketSigner(address, client_key=client_key)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def sign(client: BackEnd, timeout_s: float = LONG_S, key_hash: str = A) -> bytes:
    return client.sign(ALICE.public_key, key_hash, MESSAGE, timeout_s)


# -- what is asked --------------------------------------------------------------------------------


def test_it_signs_and_tells_its_key(connect: Connect) -> None:
    client = connect()
    assert client.public_key(A, LONG_S) == ALICE.public_key
    for _ in range(2):
        assert ALICE.public_key.verify(MESSAGE, sign(client))


def test_a_key_hash_of_either_network_will_do(connect: Connect) -> None:
    client = connect()
    key_hash = ALICE.public_key.hash(TEZOS)
    assert client.public_key(key_hash, LONG_S) == ALICE.public_key
    assert ALICE.public_key.verify(MESSAGE, sign(client, key_hash=key_hash))


def test_a_key_that_it_does_not_have_is_unknown(connect: Connect) -> None:
    client = connect()
    with pytest.raises(SignerUnknownKey):
        sign(client, key_hash=B)
    # On a socket octez-signer answers nothing at all to this question.
    with pytest.raises((SignerUnknownKey, SignerUnavailable)):
        client.public_key(B, LONG_S)


# -- authentication -------------------------------------------------------------------------------


def test_who_is_authorized_signs(server: SignerServer, connect: Connect) -> None:
    server.authorized = [BOB.public_key, CLIENT.public_key]
    assert ALICE.public_key.verify(MESSAGE, sign(connect(ClientKey(CLIENT))))


def test_who_is_not_authorized_asks_for_no_signature(
    server: SignerServer, connect: Connect
) -> None:
    server.authorized = [CLIENT.public_key]
    with pytest.raises(SignerRejected, match="no authentication_key is set"):
        sign(connect())
    with pytest.raises(SignerRejected, match="ours is not among them"):
        sign(connect(ClientKey(BOB)))
    assert server.asked == 0


def test_the_list_of_clients_is_asked_for_once_and_again_after_a_refusal(
    server: SignerServer, connect: Connect
) -> None:
    client = connect(ClientKey(CLIENT))
    for _ in range(3):
        sign(client)
    assert server.questions == 1
    server.authorized = [CLIENT.public_key]
    with pytest.raises(SignerRejected, match="missing authentication"):
        sign(client)
    assert ALICE.public_key.verify(MESSAGE, sign(client))
    assert server.questions == 2


def test_who_was_not_authorized_and_is_now_signs_at_once(
    server: SignerServer, connect: Connect
) -> None:
    client = connect(ClientKey(CLIENT))
    server.authorized = [BOB.public_key]
    with pytest.raises(SignerRejected, match="ours is not among them"):
        sign(client)
    server.authorized = [CLIENT.public_key]
    assert ALICE.public_key.verify(MESSAGE, sign(client))


# -- what may go wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "error", "text"),
    [
        (Mode.HANGS, SignerTimeout, "no answer in time"),
        (Mode.DRIPS, SignerTimeout, "no answer in time"),
        (Mode.CLOSES, SignerLost, None),
        (Mode.RESETS, SignerLost, None),
        (Mode.TRUNCATES, SignerLost, None),
        (Mode.FAILS, SignerFailed, "the device is locked"),
        (Mode.WATERMARK, SignerRejected, "not above high watermark"),
    ],
)
def test_each_way_not_to_sign_is_told_apart_and_nothing_is_repeated(
    server: SignerServer,
    connect: Connect,
    mode: Mode,
    error: type[SignersError],
    text: str | None,
) -> None:
    client = connect()
    sign(client)
    server.mode = mode
    with pytest.raises(error, match=text):
        sign(client, SHORT_S if mode in (Mode.HANGS, Mode.DRIPS) else LONG_S)
    assert server.asked == 2, "a request that may have been received is never sent again"
    server.mode = Mode.HONEST
    assert ALICE.public_key.verify(MESSAGE, sign(client))


def test_an_answer_of_no_protocol_is_malformed_or_lost(
    server: SignerServer, connect: Connect
) -> None:
    server.mode = Mode.GARBAGE
    with pytest.raises((SignerMalformed, SignerLost)):
        sign(connect())
    assert server.asked == 1


def test_a_dead_signer_is_unavailable_and_back_when_it_is(
    server: SignerServer, connect: Connect
) -> None:
    client = connect()
    sign(client)
    server.stop()
    with pytest.raises((SignerUnavailable, SignerLost)):
        sign(client)
    with pytest.raises(SignerUnavailable):
        sign(client)
    server.start()
    assert ALICE.public_key.verify(MESSAGE, sign(client))
    assert server.asked == 2


def test_the_time_limit_is_that_of_the_whole_exchange(
    server: SignerServer, connect: Connect
) -> None:
    server.mode = Mode.DRIPS  # no single wait is long
    with pytest.raises(SignerTimeout):
        sign(connect(), SHORT_S)


def test_without_time_nothing_is_sent(server: SignerServer, connect: Connect) -> None:
    with pytest.raises(SignerUnavailable):
        sign(connect(), 0.0)
    assert server.asked == server.questions == 0


# -- over HTTP alone ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (400, b"bad body", SignerRejected, "status 400: bad body"),
        (401, b'[{"msg":"no"}]', SignerRejected, "status 401: no"),
        (403, b'[{"id":"failure","msg":"not allowed"}]', SignerRejected, "not allowed"),
        (404, b"", SignerUnknownKey, "status 404"),
        (409, b'[{"msg":"watermark"}]', SignerRejected, "status 409: watermark"),
        (412, b"", SignerRejected, "status 412"),
        (500, b'[{"msg":"magic byte 0x03 not allowed"}]', SignerRejected, "magic byte"),
        (500, b'[{"msg":"no Ledger"}]', SignerFailed, "no Ledger"),
        (500, b"Internal Server Error", SignerLost, "Internal"),  # whose word is that?
        (502, b"<html>", SignerLost, "status 502"),
        (503, b"", SignerLost, "status 503"),
        (504, b"", SignerLost, "status 504"),
        (301, b"", SignerMalformed, "status 301"),
        (200, b"", SignerMalformed, "answer"),
        (200, b"[" * 5000, SignerMalformed, "answer"),
        (200, b'{"signature":"edsigabc"}', SignerMalformed, "signature"),
        (200, b'{"signature":1}', SignerMalformed, "answer"),
        (200, b" " * (ANSWER_BYTES_MAX + 1), SignerMalformed, "over"),
    ],
)
def test_each_status_has_its_meaning(
    server: SignerServer, status: int, body: bytes, error: type[SignersError], text: str
) -> None:
    server.mode, server.status, server.body = Mode.STATUS, status, body
    client = HttpSigner(server.http, connections=1)
    with pytest.raises(error, match=text):
        sign(client)
    client.close()


def test_a_signature_version_is_named_for_tezos_bls_keys_alone(server: SignerServer) -> None:
    client = HttpSigner(server.http, connections=1)
    sign(client)
    assert server.queries == [{}]
    with pytest.raises(SignerUnknownKey):
        sign(client, key_hash="tz4TFJdv9Jd44FtBMAxi3KQT7AtazhVyaPa6")
    with pytest.raises(SignerUnknownKey):
        sign(client, key_hash="mv4exNvckxdb6QUqdaYycTabXyP4p2mNoios")
    assert server.queries[1:] == [{"version": ["3"]}, {}]
    client.close()


def test_headers_of_the_environment_go_with_each_question(server: SignerServer) -> None:
    client = HttpSigner(server.http, connections=1, headers=[("x-key", "1"), ("host", "h")])
    sign(client)
    assert [(each["x-key"], each["host"]) for each in server.headers] == [("1", "h")] * 2
    client.close()


def test_connections_are_kept_and_used_again(server: SignerServer) -> None:
    client = HttpSigner(server.http, connections=2)
    for _ in range(5):
        sign(client)
    assert server.connections == 1
    client.close()


# -- over HTTPS -----------------------------------------------------------------------------------

CERTIFICATE = Path(__file__).parent / "vectors" / "tls" / "test-signer.pem"


@pytest.fixture
def secure_server() -> Iterator[SignerServer]:
    """A server that shows a certificate and wants to see one."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(CERTIFICATE)
    tls.load_verify_locations(CERTIFICATE)
    tls.verify_mode = ssl.CERT_REQUIRED
    with SignerServer([ALICE], tls=tls) as server:
        yield server


def test_certificates_are_checked_on_both_sides(secure_server: SignerServer) -> None:
    client = HttpSigner(
        secure_server.http, connections=1, tls=tls_context(CERTIFICATE, CERTIFICATE)
    )
    assert ALICE.public_key.verify(MESSAGE, sign(client))
    client.close()


def test_a_server_that_nobody_vouches_for_is_asked_for_nothing(secure_server: SignerServer) -> None:
    client = HttpSigner(secure_server.http, connections=1, tls=tls_context(None, CERTIFICATE))
    with pytest.raises(SignerUnavailable, match=r"(?i)certificate"):
        sign(client)
    assert secure_server.questions == 0
    client.close()


def test_a_client_without_a_certificate_is_sent_away(secure_server: SignerServer) -> None:
    client = HttpSigner(secure_server.http, connections=1, tls=tls_context(CERTIFICATE, None))
    with pytest.raises(SignerUnavailable):
        sign(client)
    assert secure_server.questions == 0
    client.close()


def test_a_file_that_is_no_certificate_is_said(tmp_path: Path) -> None:
    for files in ((tmp_path / "absent", None), (None, tmp_path / "absent"), (Path(__file__), None)):
        with pytest.raises(WrongTlsFile, match=str(files[0] or files[1])):
            tls_context(*files)
