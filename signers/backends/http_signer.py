"""A signer that speaks octez-signer's HTTP: octez-signer itself, Signatory, and their like.

    GET  {base}/authorized_keys                         {} or {"authorized_keys": [hash…]}
    GET  {base}/keys/{hash}                             {"public_key": "edpk…"}
    POST {base}/keys/{hash}[?authentication=][&version=]  "hex of the message" → {"signature": …}

Connections are kept and used again. The two questions may be asked a second time when a kept
connection turns out to be closed; a request to sign never is.

Source: Octez ``src/lib_signer_services/signer_services.ml``, ``src/lib_signer_backends/
http_gen.ml``, ``src/bin_signer/http_daemon.ml``; Signatory ``pkg/server/server.go``.
"""

import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import httpcore
import msgspec

from signers.backends.authorized_keys import AuthorizedKeys
from signers.backends.backend import (
    BLS_VERSION_OF_TEZOS,
    CONNECT_S_MAX,
    ClientKey,
    SignerFailed,
    SignerLost,
    SignerMalformed,
    SignerRejected,
    SignerTimeout,
    SignerUnavailable,
    SignerUnknownKey,
    authentication,
    error_of_trace,
    key_with_hash,
)
from signers.backends.bounded_stream import BoundedNetwork, Deadline
from signers.backends.error_trace import ErrorTrace
from signers.backends.socket_protocol import authentication_bytes
from signers.errors import BadRequest, MalformedBytes, SignersError
from signers.formats.networks import TEZOS
from signers.formats.tagged_keys import (
    BLS_TAG,
    network_of_hash,
    tagged_hash,
    tagged_public_key,
)
from signers.keyring.keys import PublicKey, read_signature, write_signature

# Servers close idle connections after 5 s and more; forgetting them first avoids most races.
KEEP_ALIVE_S = 4.0
# The longest good answer is a list of authorized keys: 1,000 of them.
ANSWER_BYTES_MAX = 64 * 1024

_REJECTIONS = {400, 401, 403, 405, 406, 409, 412, 413, 415, 422}

Body = TypeVar("Body")


class _AuthorizedKeys(msgspec.Struct):
    authorized_keys: list[str] | None = None


class _PublicKey(msgspec.Struct):
    public_key: str


class _Signature(msgspec.Struct):
    signature: str


class WrongTlsFile(BadRequest):
    """A certificate or key of the settings cannot be read: correct its path or the file."""

    code = "wrong_tls_file"


def tls_context(authorities: Path | None, certificate: Path | None) -> ssl.SSLContext:
    """Say whom to believe over HTTPS, and who we are.

    `authorities` vouch for the signer instead of those of the system; `certificate` is ours, with
    its key, for signers that ask for one. Raises WrongTlsFile.
    """
    try:
        context = ssl.create_default_context(cafile=authorities)
    except (OSError, ValueError) as e:
        raise WrongTlsFile(f"{authorities}: {e}") from None
    if certificate is not None:
        try:
            context.load_cert_chain(certificate)
        except (OSError, ValueError) as e:
            raise WrongTlsFile(f"{certificate}: {e}") from None
    return context


class HttpSigner:
    """The signer at a base URL; any number of threads may use it at once."""

    def __init__(
        self,
        base: str,
        *,
        connections: int,
        client_key: ClientKey | None = None,
        headers: Sequence[tuple[str, str]] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._base = base
        self._client_key = client_key
        self._headers = [("accept", "application/json"), ("accept-encoding", "identity"), *headers]
        self._authorized = AuthorizedKeys(time.monotonic)
        self._deadline = Deadline()
        self._connections = httpcore.ConnectionPool(
            tls,
            max_connections=connections,
            keepalive_expiry=KEEP_ALIVE_S,
            network_backend=BoundedNetwork(self._deadline, CONNECT_S_MAX),
        )

    def sign(self, public_key: PublicKey, key_hash: str, message: bytes, timeout_s: float) -> bytes:
        """Have a message signed, watermark included. Raises the errors of `backend`."""
        self._deadline.begin(timeout_s)
        try:
            return self._sign(key_hash, message)
        except SignerRejected:
            self._authorized.forget()
            raise

    def _sign(self, key_hash: str, message: bytes) -> bytes:
        tagged = tagged_hash(key_hash)
        authorized = self._authorized.get(self._ask_authorized)
        proof = authentication(self._client_key, authorized, authentication_bytes(tagged, message))
        query = []
        if proof is not None:
            assert self._client_key is not None
            curve = self._client_key.secret.public_key.curve
            query.append(f"authentication={write_signature(proof, curve)}")
        if tagged[0] == BLS_TAG and network_of_hash(key_hash) is TEZOS:
            query.append(f"version={BLS_VERSION_OF_TEZOS}")
        path = f"/keys/{key_hash}" + ("?" if query else "") + "&".join(query)
        answer = self._exchange("POST", path, msgspec.json.encode(message.hex()))
        try:
            return read_signature(_decode(answer, _Signature).signature)
        except MalformedBytes as e:
            raise SignerMalformed(f"its signature: {e}") from None

    def public_key(self, key_hash: str, timeout_s: float) -> PublicKey:
        """Ask for a key, which has this hash. Raises the errors of `backend`."""
        self._deadline.begin(timeout_s)
        text = _decode(self._ask(f"/keys/{key_hash}"), _PublicKey).public_key
        try:
            return key_with_hash(tagged_public_key(text), key_hash)
        except MalformedBytes as e:
            raise SignerMalformed(f"its public key: {e}") from None

    def close(self) -> None:
        """Close the connections that are kept."""
        self._connections.close()

    def _ask_authorized(self) -> list[bytes] | None:
        try:
            hashes = _decode(self._ask("/authorized_keys"), _AuthorizedKeys).authorized_keys
            return None if hashes is None else [tagged_hash(text) for text in hashes]
        except MalformedBytes as e:
            raise SignerMalformed(f"its authorized keys: {e}") from None

    def _ask(self, path: str) -> bytes:
        """Ask what changes nothing, once more if the connection was closed just then."""
        try:
            return self._exchange("GET", path, None)
        except SignerLost:
            pass
        except SignerTimeout as e:  # no signature was asked for yet
            raise SignerUnavailable(str(e)) from None
        try:
            return self._exchange("GET", path, None)
        except (SignerLost, SignerTimeout) as e:
            raise SignerUnavailable(str(e)) from None

    def _exchange(self, method: str, path: str, content: bytes | None) -> bytes:
        """Send one request, once; return the body of its good answer."""
        headers = self._headers
        if content is not None:
            headers = [*headers, ("content-type", "application/json")]
        self._deadline.has_sent = False
        try:
            # Beyond its connections a request waits for one of them.
            left = self._deadline.left_s(httpcore.PoolTimeout)
            with self._connections.stream(
                method, self._base + path, headers=headers, content=content,
                extensions={"timeout": {"pool": left}},
            ) as response:  # fmt: skip
                body = bytearray()
                for piece in response.iter_stream():
                    body += piece
                    if len(body) > ANSWER_BYTES_MAX:
                        raise SignerMalformed(f"it answers over {ANSWER_BYTES_MAX} bytes")
                status = response.status
        except httpcore.TimeoutException as e:
            if self._deadline.has_sent:
                raise SignerTimeout("no answer in time") from None
            raise SignerUnavailable(f"not connected in time ({_reason(e)})") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError) as e:
            if self._deadline.has_sent:
                raise SignerLost(f"no whole answer ({_reason(e)})") from None
            raise SignerUnavailable(_reason(e)) from None
        if status == 200:
            return bytes(body)
        raise _error_of(status, bytes(body))


def _error_of(status: int, body: bytes) -> SignersError:
    """Tell from status and body what a signer means that does not sign."""
    trace = ErrorTrace.from_body(body)
    text = f"status {status}: {trace.text}"
    if status == 404:
        return SignerUnknownKey(text)
    if status in _REJECTIONS:
        return SignerRejected(text)
    if status == 500 and trace.is_told:
        return error_of_trace(trace)
    if status == 429:
        return SignerFailed(text)
    if status >= 500:  # a proxy's word, 503 too: nobody knows what happened behind it
        return SignerLost(text)
    return SignerMalformed(text)


def _decode(body: bytes, answer: type[Body]) -> Body:
    try:
        return msgspec.json.decode(body, type=answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise SignerMalformed(f"its answer: {e}") from None


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
