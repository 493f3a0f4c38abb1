"""A signer on a TCP or Unix socket, as octez-signer serves them.

Each question has a connection of its own, as with Octez' clients, and one time limit as a whole.

Source: Octez ``src/lib_signer_backends/unix/socket.ml``, ``src/lib_base/unix/socket.ml``.
"""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

from signers.backends.authorized_keys import AuthorizedKeys
from signers.backends.backend import (
    BLS_VERSION_OF_TEZOS,
    CONNECT_S_MAX,
    ClientKey,
    SignerLost,
    SignerMalformed,
    SignerRejected,
    SignerTimeout,
    SignerUnavailable,
    authentication,
    error_of_trace,
    key_with_hash,
)
from signers.backends.error_trace import ErrorTrace
from signers.backends.socket_protocol import (
    AskAuthorizedKeys,
    AskPublicKey,
    Dialect,
    FrameReader,
    Request,
    Sign,
    a_public_key,
    a_signature,
    authentication_bytes,
    authorized_keys,
    decode_answer,
    encode_request,
    frame,
)
from signers.errors import MalformedBytes
from signers.formats.codec import Reader
from signers.formats.tagged_keys import network_of_hash, tagged_hash
from signers.keyring.keys import PublicKey

RECEIVE_BYTES = 4096

Address = tuple[str, int] | str
Value = TypeVar("Value")


class SocketSigner:
    """The signer at (host, port) or at the path of a Unix socket; threads may share it."""

    def __init__(self, address: Address, *, client_key: ClientKey | None = None) -> None:
        self._address = address
        self._client_key = client_key
        self._authorized = AuthorizedKeys(time.monotonic)

    def sign(self, public_key: PublicKey, key_hash: str, message: bytes, timeout_s: float) -> bytes:
        """Have a message signed, watermark included. Raises the errors of `backend`."""
        try:
            return self._sign(key_hash, message, time.monotonic() + timeout_s)
        except SignerRejected:
            self._authorized.forget()
            raise

    def _sign(self, key_hash: str, message: bytes, end: float) -> bytes:
        tagged = tagged_hash(key_hash)
        authorized = self._authorized.get(
            lambda: self._question(AskAuthorizedKeys(), key_hash, authorized_keys, end)
        )
        proof = authentication(self._client_key, authorized, authentication_bytes(tagged, message))
        request = Sign(tagged, message, proof, BLS_VERSION_OF_TEZOS)
        return self._exchange(request, key_hash, a_signature, end)

    def public_key(self, key_hash: str, timeout_s: float) -> PublicKey:
        """Ask for a key, which has this hash. Raises the errors of `backend`."""
        end = time.monotonic() + timeout_s
        request = AskPublicKey(tagged_hash(key_hash))
        return key_with_hash(self._question(request, key_hash, a_public_key, end), key_hash)

    def close(self) -> None:
        """Nothing is kept between questions."""

    def _question(
        self, request: Request, key_hash: str, read: Callable[[Reader], Value], end: float
    ) -> Value:
        """Ask what changes nothing: without an answer no signature was asked for."""
        try:
            return self._exchange(request, key_hash, read, end)
        except (SignerLost, SignerTimeout) as e:
            raise SignerUnavailable(str(e)) from None

    def _exchange(
        self, request: Request, key_hash: str, read: Callable[[Reader], Value], end: float
    ) -> Value:
        """Send one request, once, and read its answer."""
        message = frame(encode_request(request, Dialect.of(network_of_hash(key_hash))))
        with self._connect(end) as connection:
            answer = _ask(connection, message, end)
        try:
            value = decode_answer(answer, read)
        except MalformedBytes as e:
            raise SignerMalformed(f"its answer: {e}") from None
        if isinstance(value, ErrorTrace):
            raise error_of_trace(value)
        return value

    def _connect(self, end: float) -> socket.socket:
        left = min(CONNECT_S_MAX, end - time.monotonic())
        if left <= 0:
            raise SignerUnavailable("no time is left")
        try:
            if not isinstance(self._address, str):
                return socket.create_connection(self._address, left)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(left)
                connection.connect(self._address)
            except BaseException:
                connection.close()
                raise
            return connection
        except OSError as e:
            raise SignerUnavailable(str(e) or "not connected in time") from None


def _ask(connection: socket.socket, message: bytes, end: float) -> bytes:
    reader, sent = FrameReader(), False
    try:
        connection.settimeout(_left(end))
        sent = True
        connection.sendall(message)
        while True:
            connection.settimeout(_left(end))
            received = connection.recv(RECEIVE_BYTES)
            if not received:
                cut = " in the middle of its answer" if reader.is_within_frame else ""
                raise SignerLost(f"it has closed the connection{cut}")
            messages = reader.feed(received)
            if len(messages) > 1 or (messages and reader.is_within_frame):
                raise SignerMalformed("it answers more than was asked")
            if messages:
                return messages[0]
    except TimeoutError:
        if sent:
            raise SignerTimeout("no answer in time") from None
        raise SignerUnavailable("no time is left") from None
    except OSError as e:
        raise SignerLost(str(e)) from None


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
