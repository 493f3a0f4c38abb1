"""A real gateway for tests, and clients of it that use nothing of ours: HTTP, and bare sockets."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pool_process import ANSWER_S, CHAIN, READY_S, PoolProcess, until

from broker.messages import VoteBatch
from signers.formats import base58
from signers.formats.signable import Kind
from signers.formats.vote import VoteTemplate


class Answer(NamedTuple):
    """An HTTP answer; `body` is the JSON it holds."""

    status: int
    body: Any
    headers: dict[str, str]

    @property
    def signature(self) -> bytes:
        assert self.status == 200, self
        return base58.decode(base58.ED25519_SIGNATURE, self.body["signature"])

    @property
    def message(self) -> str:
        [error] = self.body
        assert error["id"] == "failure"
        return str(error["msg"])


class GatewayProcess:
    """One `forgepool gateway` of a pool."""

    def __init__(self, pool: PoolProcess, *options: str) -> None:
        self.pool = pool
        self._options = options
        self.unix_path = str(pool.directory / "signer.sock")
        self.process: subprocess.Popen[bytes] | None = None
        self.ports: dict[str, int] = {}

    def start(self, **ports: int) -> None:
        """Start it, on ports of the system's choice or on those of before, and wait for them."""
        seen = len(self.pool.log())
        self.process = self.pool.start_command(
            "gateway",
            *("--http", f"127.0.0.1:{ports.get('http', 0)}"),
            *("--tcp", f"127.0.0.1:{ports.get('tcp', 0)}"),
            *("--unix", self.unix_path),
            *self._options,
        )
        until(lambda: "listening at=unix:" in self.pool.log()[seen:], READY_S, "a gateway")
        found = re.findall(r"listening at=(\w+)://\S+:(\d+)", self.pool.log()[seen:])
        self.ports = {scheme: int(port) for scheme, port in found}

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.ports["http"], timeout=ANSWER_S)

    def call(self, method: str, target: str, body: str | None = None, **headers: str) -> Answer:
        connection = self.connection()
        try:
            return call_on(connection, method, target, body, **headers)
        finally:
            connection.close()

    def sign(self, key_hash: str, data: bytes, query: str = "") -> Answer:
        return self.call("POST", f"/keys/{key_hash}{query}", f'"{data.hex()}"')

    @contextmanager
    def tcp(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.ports["tcp"]), ANSWER_S) as connection:
            yield connection

    @contextmanager
    def unix(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(self.unix_path)
            yield connection


def call_on(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    body: str | None = None,
    **headers: str,
) -> Answer:
    """One call on a connection that stays open."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, target, body, {"Content-Type": "application/json"} | named)
    response = connection.getresponse()
    content = response.read()
    return Answer(response.status, json.loads(content), dict(response.getheaders()))


def exchange(connection: socket.socket, message: bytes) -> bytes:
    """Send one message of the socket protocol, and read the answer."""
    connection.sendall(len(message).to_bytes(2) + message)
    return receive_exactly(connection, int.from_bytes(receive_exactly(connection, 2)))


def receive_exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        part = connection.recv(count - len(received))
        assert part, f"closed after {len(received)} of {count} bytes"
        received += part
    return received


def is_closed(connection: socket.socket) -> bool:
    """Whether the other end hangs up without another word."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def make_certificate(directory: Path) -> tuple[str, str]:
    """A certificate of `localhost` that nobody but its own file vouches for, and its key."""
    certificate, key = str(directory / "cert.pem"), str(directory / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


def attestation(batch: VoteBatch, slot: int = 0) -> bytes:
    """The bytes of an attestation to sign, watermark included."""
    template = VoteTemplate(
        Kind.ATTESTATION,
        CHAIN,
        base58.decode(base58.BLOCK_HASH, batch.branch),
        batch.level,
        batch.round,
        base58.decode(base58.PAYLOAD_HASH, batch.payload_hash),
    )
    return template.signable(slot, None)
