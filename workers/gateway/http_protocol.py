"""The octez-signer protocol over HTTP: which question a call is, and how an answer is written.

    POST /keys/<hash>[?authentication=<signature>][&version=<0..3>]   JSON string, hex of the bytes
    GET  /keys/<hash>
    GET  /authorized_keys
    GET  /known_keys
    GET  /bls_prove_possession/<hash>[?bls_pk=<key>][&authentication=<signature>]
    GET  /livez, /readyz, /healthz

Errors are JSON traces as Octez writes them, under the statuses of `denials`.

Pure. Source: Octez ``src/lib_signer_services/signer_services.ml``, ``src/bin_signer/``.
"""

from __future__ import annotations

import ipaddress
from binascii import unhexlify
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never
from urllib.parse import parse_qsl, unquote

import msgspec

from signers.backends.error_trace import ErrorTrace
from signers.backends.socket_protocol import (
    VERSION_MAX,
    AskAuthorizedKeys,
    AskKnownKeys,
    AskPossessionProof,
    AskPublicKey,
    Sign,
)
from signers.backends.socket_protocol import Request as Question
from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.signable import SIGNABLE_BYTES_MAX
from signers.formats.tagged_keys import tagged_hash
from signers.keyring.keys import read_signature, write_signature
from workers.gateway.answers import (
    BAD_REQUEST,
    FORBIDDEN,
    METHOD_NOT_ALLOWED,
    NOT_ACCEPTABLE,
    NOT_FOUND,
    TOO_LARGE,
    UNAVAILABLE,
    UNSUPPORTED_TYPE,
    Answer,
    AuthorizedKeys,
    Denial,
    KnownKeys,
    Nonce,
    NonceSupport,
    PossessionProof,
    PublicKeyText,
    Signature,
)

JSON = "application/json"
# The longest thing that is signed, as hex between quotes, and some white space around it.
BODY_BYTES_MAX = 2 * SIGNABLE_BYTES_MAX + 1024
RETRY_AFTER_S = 1

_tagged_hash = lru_cache(16_384)(tagged_hash)
_decode_text = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class AskHealth:
    """Whether requests can be served, or, `even_alone`, whether there is somebody to ask."""

    even_alone: bool


@dataclass(frozen=True, slots=True)
class Health:
    """Answers AskHealth."""

    is_ready: bool


@dataclass(frozen=True, slots=True)
class Call:
    """The head of an HTTP request; names of headers are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response."""

    status: int
    body: bytes
    headers: Mapping[str, str]


# -- questions ------------------------------------------------------------------------------------


def check_head(call: Call, own_names: Collection[str]) -> Denial | None:
    """Say why the call cannot be taken, before its body is read.

    A web page that a browser shows may send calls anywhere, also to this host: it is known by its
    Origin, or, where its own name has been made to lead here, by a Host that is not ours.
    """
    host = call.headers.get("host", "")
    if not _is_own(host, own_names):
        text = f"this is not {host[:80]!r}: see --host-name" if host else "a Host header is due"
        return Denial(FORBIDDEN, "wrong_host", text)
    if "origin" in call.headers:
        return Denial(FORBIDDEN, "web_page", "web pages cannot sign here")
    methods = _methods(_segments(call.path))
    if not methods:
        return Denial(NOT_FOUND, "no_such_path", "see docs/gateway.md for the paths there are")
    if call.method not in methods:
        text = f"this path takes {methods}"
        return Denial(METHOD_NOT_ALLOWED, "wrong_method", text, allow=methods)
    if not _accepts_json(call.headers.get("accept", "")):
        return Denial(NOT_ACCEPTABLE, "not_acceptable", f"answers are {JSON}")
    if call.method == "POST":
        kind = call.headers.get("content-type", JSON).partition(";")[0].strip().lower()
        if kind != JSON:
            return Denial(UNSUPPORTED_TYPE, "wrong_type", f"the body must be {JSON}")
        length = call.headers.get("content-length", "0")
        if length.isdecimal() and int(length) > BODY_BYTES_MAX:
            return too_large()
    return None


def too_large() -> Denial:
    """Deny a body beyond the bound."""
    return Denial(TOO_LARGE, "too_large", f"a body has at most {BODY_BYTES_MAX} bytes")


def read_call(call: Call, body: bytes) -> Question | AskHealth | Denial:
    """Read the question of a call whose head was found to be good."""
    try:
        return _read_call(call, body)
    except MalformedBytes as e:
        return Denial(BAD_REQUEST, e.code, str(e))


def _read_call(call: Call, body: bytes) -> Question | AskHealth:
    query = dict(parse_qsl(call.query, keep_blank_values=True))
    authentication = query.get("authentication")
    signature = None if authentication is None else read_signature(authentication)
    match _segments(call.path):
        case ["keys", key_hash] if call.method == "POST":
            version = _version(query.get("version"))
            return Sign(_tagged_hash(key_hash), _data(body), signature, version)
        case ["keys", key_hash]:
            return AskPublicKey(_tagged_hash(key_hash))
        case ["authorized_keys"]:
            return AskAuthorizedKeys()
        case ["known_keys"]:
            return AskKnownKeys()
        case ["bls_prove_possession", key_hash]:
            other = query.get("bls_pk")
            over = None if other is None else base58.decode(base58.BLS_PUBLIC_KEY, other)
            return AskPossessionProof(_tagged_hash(key_hash), over, signature)
        case [name]:
            return AskHealth(even_alone=name == "livez")
    raise MalformedBytes("this path is none of a signer")


def _segments(path: str) -> list[str]:
    return [unquote(segment) for segment in path.split("/") if segment]


def _methods(segments: list[str]) -> str:
    match segments:
        case ["keys", _]:
            return "GET, POST"
        case ["bls_prove_possession", _]:
            return "GET"
        case ["authorized_keys" | "known_keys" | "livez" | "readyz" | "healthz"]:
            return "GET"
    return ""


def _is_own(host: str, own_names: Collection[str]) -> bool:
    """Whether a Host can only mean us: an address, or a name that is ours."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    name = name.strip("[]").lower()
    if name in own_names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _accepts_json(accept: str) -> bool:
    kinds = {kind.partition(";")[0].strip().lower() for kind in accept.split(",")}
    return bool(kinds & {"", "*/*", "application/*", JSON})


def _version(text: str | None) -> int | None:
    if text is None:
        return None
    if len(text) != 1 or not text.isdecimal() or int(text) > VERSION_MAX:
        raise MalformedBytes(f"signature versions are 0 to {VERSION_MAX}")
    return int(text)


def _data(body: bytes) -> bytes:
    try:
        return unhexlify(_decode_text(body))
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
        raise MalformedBytes(
            'the body must be the bytes to sign as hex in a JSON string: "03…", without 0x'
        ) from None


# -- answers --------------------------------------------------------------------------------------


def write_answer(answer: Answer | Health) -> Reply:
    """Write an answer as Octez does."""
    match answer:
        case Signature(raw, curve):
            return _json({"signature": write_signature(raw, curve)})
        case PublicKeyText(text):
            return _json({"public_key": text})
        case AuthorizedKeys(None):
            return _json({})
        case AuthorizedKeys(key_hashes):
            return _json({"authorized_keys": key_hashes})
        case KnownKeys(key_hashes):
            return _json({"known_keys": key_hashes})
        case PossessionProof(raw):
            return _json({"bls_prove_possession": base58.encode(base58.BLS_SIGNATURE, raw)})
        case Nonce(raw):
            return _json({"deterministic_nonce": raw.hex()})
        case NonceSupport(is_there):
            return _json({"supports_deterministic_nonces": is_there})
        case Health(is_ready):
            return _json({"ready": is_ready}, 200 if is_ready else UNAVAILABLE)
        case Denial():
            return _denial(answer)
        case _:
            assert_never(answer)


def _json(value: object, status: int = 200) -> Reply:
    return Reply(status, msgspec.json.encode(value) + b"\n", {"Content-Type": JSON})


def _denial(denial: Denial) -> Reply:
    headers = {"Content-Type": JSON}
    if denial.allow:
        headers["Allow"] = denial.allow
    if denial.may_repeat:
        headers["Retry-After"] = str(RETRY_AFTER_S)
    body = ErrorTrace.failure(denial.message).json() + b"\n"
    return Reply(denial.status, body, headers)
