"""A small remote signer with real sockets and real signatures, which can also misbehave.

It speaks octez-signer's three ways, HTTP, TCP and Unix socket, at once, and does what `mode`
says, which may change at any time:

    server = SignerServer([key], TEZOS)
    with server:
        uri = f"{server.http}/{hash}"
        server.mode = Mode.HANGS

Test keys only. As a program (for measurements) it prints its HTTP address and serves until its
standard input is closed:

    python signer_server.py MODE edsk…
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import sys
import tempfile
import threading
from contextlib import suppress
from email.message import Message
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingMixIn
from socketserver import TCPServer as _TCPServer
from socketserver import UnixStreamServer as _UnixServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from signers.backends.error_trace import ErrorTrace
from signers.backends.socket_protocol import (
    AskAuthorizedKeys,
    AskPublicKey,
    Dialect,
    Request,
    Sign,
    authentication_bytes,
    authorized_keys_answer,
    decode_request,
    error_answer,
    frame,
    public_key_answer,
    signature_answer,
)
from signers.formats.hashes import blake2b_32
from signers.formats.networks import MAVRYK, Network
from signers.formats.tagged_keys import hash_text, tagged_hash, tagged_public_key
from signers.keyring.keys import PublicKey, SecretKey, read_signature, write_signature


class Mode(Enum):
    """What the signer does with a request to sign."""

    HONEST = "honest"
    HANGS = "hangs"  # takes the request and says nothing
    SLOW = "slow"  # signs after `delay_s`
    LIES = "lies"  # gives bytes that are no signature of anything
    OTHER_KEY = "other_key"  # signs with another key
    TRUNCATES = "truncates"  # ends in the middle of its answer
    CLOSES = "closes"  # closes the connection instead of answering
    RESETS = "resets"  # likewise, with a reset
    GARBAGE = "garbage"  # answers in no protocol
    DRIPS = "drips"  # sends a byte now and then, for ever
    FAILS = "fails"  # cannot sign
    WATERMARK = "watermark"  # refuses by its own watermark
    STATUS = "status"  # over HTTP: answers with `status` and `body`


OTHER = SecretKey(b"other key of the signer in tests")
_FAILS = ErrorTrace.failure("the device is locked")
_WATERMARK = ErrorTrace.failure("attestation level 5 and round 0 not above high watermark (9,0)")
_DRIP_S = 0.05


class SignerServer:
    """Signs with some keys for whoever may ask; `asked` counts requests to sign."""

    def __init__(
        self,
        keys: list[SecretKey],
        network: Network = MAVRYK,
        *,
        authorized: list[PublicKey] | None = None,
        mode: Mode = Mode.HONEST,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._keys = {tagged_hash(key.public_key.hash(network)): key for key in keys}
        self._network = network
        self.authorized = authorized
        self.mode = mode
        self.delay_s = 0.1
        self.status, self.body = 500, b""
        self.asked = 0
        self.questions = 0
        self.connections = 0
        self.queries: list[dict[str, list[str]]] = []
        self.headers: list[Message] = []
        self._tls = tls
        self._ended = threading.Event()
        self._directory = tempfile.TemporaryDirectory(prefix="signer-")
        self._http_port = self._tcp_port = 0
        self._servers: list[Any] = []

    # -- where it is ------------------------------------------------------------------------------

    @property
    def http(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._http_port}"

    @property
    def tcp(self) -> str:
        return f"tcp://127.0.0.1:{self._tcp_port}"

    @property
    def tcp_address(self) -> tuple[str, int]:
        return "127.0.0.1", self._tcp_port

    @property
    def unix_path(self) -> str:
        return str(Path(self._directory.name) / "socket")

    def start(self) -> None:
        """Listen, on the ports of the last time if there was one."""
        self._ended = threading.Event()
        owner = self

        class Http(_HttpRequest):
            signer = owner

        class Framed(_FramedRequests):
            signer = owner

        servers = (
            _HttpServer(("127.0.0.1", self._http_port), Http),
            _TcpServer(("127.0.0.1", self._tcp_port), Framed),
            _UnixSocketServer(self.unix_path, Framed),
        )
        self._http_port, self._tcp_port = (server.server_address[1] for server in servers[:2])
        if self._tls is not None:
            # The handshake is made in the connection's thread, when it is first read from.
            servers[0].socket = self._tls.wrap_socket(
                servers[0].socket, server_side=True, do_handshake_on_connect=False
            )
        for server in servers:
            server.start(self)
        self._servers = list(servers)

    def stop(self) -> None:
        """Be dead: nobody listens, and open connections end."""
        self._ended.set()
        for server in self._servers:
            server.end()
        self._servers = []
        Path(self.unix_path).unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._directory.cleanup()

    # -- what it says -----------------------------------------------------------------------------

    def key(self, tagged: bytes) -> SecretKey | None:
        return self._keys.get(tagged)

    def sign(self, tagged: bytes, data: bytes, proof: bytes | None) -> bytes | ErrorTrace:
        """The signature, or why there is none."""
        key = self.key(tagged)
        if key is None:
            return ErrorTrace.failure("no keys for the source contract manager")
        if self.authorized is not None:
            if proof is None:
                return ErrorTrace.failure("missing authentication signature field")
            message = authentication_bytes(tagged, data)
            if not any(each.verify(message, proof) for each in self.authorized):
                return ErrorTrace.failure("invalid authentication signature")
        match self.mode:
            case Mode.FAILS:
                return _FAILS
            case Mode.WATERMARK:
                return _WATERMARK
            case Mode.LIES:
                return b"\x01" * 64
            case Mode.OTHER_KEY:
                key = OTHER
            case Mode.SLOW:
                self._ended.wait(self.delay_s)
        return key.sign(data, blake2b_32(data))

    def authorized_hashes(self) -> list[bytes] | None:
        if self.authorized is None:
            return None
        return [tagged_hash(each.hash(self._network)) for each in self.authorized]

    def hash_text(self, tagged: bytes) -> str:
        return hash_text(tagged, self._network)

    @property
    def dialect(self) -> Dialect:
        return Dialect.of(self._network)

    def misbehaves(self, connection: socket.socket, answer: bytes) -> bool:
        """Do to a request what the mode says instead of answering it; False: answer it."""
        self.asked += 1
        match self.mode:
            case Mode.HANGS:
                self._hold()
            case Mode.TRUNCATES:
                connection.sendall(answer[: len(answer) // 2])
            case Mode.CLOSES:
                pass
            case Mode.RESETS:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            case Mode.GARBAGE:
                connection.sendall(b"\x00\x05\xffhello\r\n\r\n")
            case Mode.DRIPS:
                for place in range(len(answer)):
                    if self._ended.wait(_DRIP_S) or self.mode is not Mode.DRIPS:
                        break
                    connection.sendall(answer[place : place + 1])
            case _:
                return False
        return True

    def _hold(self) -> None:
        while self.mode is Mode.HANGS and not self._ended.wait(0.01):
            pass


# -- servers --------------------------------------------------------------------------------------


class _Server(ThreadingMixIn):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128
    signer: SignerServer

    def start(self: Any, signer: SignerServer) -> None:
        self.signer = signer
        self.connections: set[socket.socket] = set()
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def end(self: Any) -> None:
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.thread.join(5)

    def process_request(self: Any, request: socket.socket, client_address: Any) -> None:
        self.connections.add(request)
        self.signer.connections += 1
        super().process_request(request, client_address)  # type: ignore[misc]

    def shutdown_request(self: Any, request: Any) -> None:
        self.connections.discard(request)
        if self.signer.mode is Mode.RESETS:
            request.close()  # without the shutdown that would end it in an orderly way
        else:
            super().shutdown_request(request)  # type: ignore[misc]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no news."""


class _HttpServer(_Server, ThreadingHTTPServer):
    pass


class _TcpServer(_Server, _TCPServer):
    pass


class _UnixSocketServer(_Server, _UnixServer):
    pass


class _FramedRequests(StreamRequestHandler):
    signer: SignerServer

    def handle(self) -> None:
        while True:
            head = self.rfile.read(2)
            if len(head) < 2:
                return
            request = decode_request(self.rfile.read(int.from_bytes(head)), self.signer.dialect)
            answer = frame(self._answer(request))
            if not isinstance(request, Sign):
                self.signer.questions += 1
            elif self.signer.misbehaves(self.connection, answer):
                return
            self.connection.sendall(answer)

    def _answer(self, request: Request) -> bytes:
        signer = self.signer
        match request:
            case AskAuthorizedKeys():
                return authorized_keys_answer(signer.authorized_hashes())
            case AskPublicKey(tagged):
                key = signer.key(tagged)
                assert key is not None  # octez-signer raises, too, and drops the connection
                return public_key_answer(tagged_public_key(key.public_key.text()))
            case Sign(tagged, data, proof):
                found = signer.sign(tagged, data, proof)
                if isinstance(found, ErrorTrace):
                    return error_answer(found)
                return signature_answer(found)
        return error_answer(ErrorTrace.failure("not here"))


class _HttpRequest(BaseHTTPRequestHandler):
    signer: SignerServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def parse_request(self) -> bool:
        is_whole = super().parse_request()
        if is_whole:
            self.signer.headers.append(self.headers)
        return is_whole

    def do_GET(self) -> None:
        self.signer.questions += 1
        if self.path == "/authorized_keys":
            hashes = self.signer.authorized_hashes()
            texts = {} if hashes is None else {
                "authorized_keys": [self.signer.hash_text(each) for each in hashes]
            }  # fmt: skip
            self._send(200, json.dumps(texts).encode())
            return
        key = self.signer.key(tagged_hash(self.path.rpartition("/")[2]))
        if key is None:
            self._send(404, b"")
        else:
            self._send(200, json.dumps({"public_key": key.public_key.text()}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        self.signer.queries.append(query)
        proof = read_signature(query["authentication"][0]) if "authentication" in query else None
        tagged = tagged_hash(parts.path.rpartition("/")[2])
        found = self.signer.sign(tagged, bytes.fromhex(json.loads(body)), proof)
        if self.signer.mode is Mode.STATUS:
            status, content = self.signer.status, self.signer.body
        elif isinstance(found, ErrorTrace):
            status, content = 500, found.json()
        else:
            status, content = 200, json.dumps({"signature": write_signature(found)}).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(content)}\r\n\r\n".encode()
        if self.signer.misbehaves(self.connection, head + content):
            self.close_connection = True
            return
        self._send(status, content)

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main(mode: str, *secrets: str) -> None:
    """Serve until standard input is closed; each line on it is the mode from then on."""
    with SignerServer([SecretKey.read(each) for each in secrets], mode=Mode(mode)) as server:
        print(server.http, flush=True)
        for line in sys.stdin:
            match line.strip():
                case "stop":
                    server.stop()
                case "start":
                    server.start()
                case other:
                    server.mode = Mode(other)


if __name__ == "__main__":
    main(*sys.argv[1:])
