"""Where a secret key is: the values of ``secret_keys`` in a client directory, taken apart.

    unencrypted:edsk…                            in the file
    encrypted:edesk…  aggregate_encrypted:BLesk… in the file, under a password
    http://host[:port][/prefix]/tz1…  https://…  with a remote signer
    tcp://host:port/tz1…
    unix:/path/of/socket?pkh=tz1…                also unix:///path/of/socket/tz1…
    remote:tz1…                                  with the remote signer that the environment names
    ledger://words-or-hash[/curve][/path…]       on a device
    pkcs11:token=…;object=…?module-path=…        in a hardware security module (RFC 7512)

No error quotes more of a text than its scheme and the names of its parts: the rest may be a
secret. No value shows a secret or a PIN in its `repr`.

Source: Octez ``src/lib_client_base/client_keys.ml``, ``src/lib_signer_backends/``.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urlsplit

from signers.backends.signer_environment import remote_signer
from signers.errors import BadRequest, MalformedBytes
from signers.formats.tagged_keys import tagged_hash

# No path, address or PIN that works is longer; what is may be a file pasted by mistake.
URI_LETTERS_MAX = 8_192
HARDENED = 1 << 31
# The baking app takes ten numbers, two of which every Tezos path begins with.
LEDGER_PATH_MAX = 8

# The schemes of keys that are not in the file.
ELSEWHERE = frozenset({"http", "https", "tcp", "unix", "remote", "ledger", "pkcs11"})

_PORTS = {"http": 80, "https": 443}
_LEDGER_CURVES = {
    "ed": "ed25519",
    "ed25519": "ed25519",
    "secp256k1": "secp256k1",
    "p256": "p256",
    "p-256": "p256",
    "secp256r1": "p256",
    "bip25519": "bip25519",
    "bip32-ed25519": "bip25519",
}

_Attributes: TypeAlias = tuple[tuple[str, str | int | bytes | None], ...]


class MalformedKeyUri(BadRequest):
    """A value of secret_keys does not say where the key is: correct it, see docs/signers.md."""

    code = "malformed_key_uri"


@dataclass(frozen=True, slots=True)
class PlainKey:
    """A secret that stands in the file as it is: ``edsk…`` or the like."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class EncryptedKey:
    """A secret under a password: ``edesk…`` or the like."""

    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HttpKey:
    """A key of a signer that speaks HTTP; `base` is its URL without a slash at the end."""

    base: str
    key_hash: str

    @property
    def authority(self) -> str:
        """Who keeps the key; keys with one authority share a fate."""
        return self.base


@dataclass(frozen=True, slots=True)
class TcpKey:
    """A key of a signer on a TCP socket."""

    host: str
    port: int
    key_hash: str

    @property
    def authority(self) -> str:
        """Who keeps the key; keys with one authority share a fate."""
        return f"tcp://{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixKey:
    """A key of a signer on a Unix socket."""

    path: str
    key_hash: str

    @property
    def authority(self) -> str:
        """Who keeps the key; keys with one authority share a fate."""
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class LedgerKey:
    """A key of a Ledger; `path` goes on from 44'/1729', hardened numbers with their top bit."""

    device: str  # four words or a key hash; its case matters
    curve: str  # ed25519, secp256k1, p256 or bip25519
    path: tuple[int, ...]

    @property
    def authority(self) -> str:
        """Who keeps the key; keys with one authority share a fate."""
        return f"ledger://{self.device}"


@dataclass(frozen=True, slots=True)
class Pkcs11Key:
    """A key of a token; a part that the URI does not name is None."""

    token: str | None = None
    serial: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    slot: int | None = None
    object: str | None = None  # CKA_LABEL
    id: bytes | None = None  # CKA_ID
    module_path: str | None = None
    module_name: str | None = None
    pin_source: str | None = None
    pin: str | None = field(default=None, repr=False)
    public_key: str | None = None  # ours, x-public-key: the key that is expected there

    @property
    def authority(self) -> str:
        """Who keeps the key, as its URI without key and PIN; keys with one share a fate."""
        return self._uri(self._of_token(), self._of_module())

    def uri(self) -> str:
        """Write the key as a value of secret_keys, but for a PIN that stands in it."""
        of_key = (("object", self.object), ("id", self.id))
        of_user = (("pin-source", self.pin_source), ("x-public-key", self.public_key))
        return self._uri((*self._of_token(), *of_key), (*self._of_module(), *of_user))

    def _of_token(self) -> _Attributes:
        return (
            ("token", self.token),
            ("serial", self.serial),
            ("manufacturer", self.manufacturer),
            ("model", self.model),
            ("slot-id", self.slot),
        )

    def _of_module(self) -> _Attributes:
        return ("module-path", self.module_path), ("module-name", self.module_name)

    @staticmethod
    def _uri(path: _Attributes, query: _Attributes) -> str:
        semicolons, ampersands = ";".join(_written(path)), "&".join(_written(query))
        return f"pkcs11:{semicolons}{'?' if ampersands else ''}{ampersands}"


def _written(attributes: _Attributes) -> Iterator[str]:
    for name, value in attributes:
        if value is not None:
            yield f"{name}={quote(value if isinstance(value, bytes) else str(value))}"


RemoteKey = HttpKey | TcpKey | UnixKey
KeyUri = PlainKey | EncryptedKey | RemoteKey | LedgerKey | Pkcs11Key


def read_key_uri(text: str, environment: Mapping[str, str]) -> KeyUri:
    """Take a value of secret_keys apart; `environment` is asked for ``remote:`` alone.

    Raises MalformedKeyUri, and RemoteSignerUnclear for ``remote:``.
    """
    if len(text) > URI_LETTERS_MAX:
        raise MalformedKeyUri(f"a key's URI is longer than {URI_LETTERS_MAX} letters")
    scheme, colon, rest = text.strip().partition(":")
    if not colon:
        raise MalformedKeyUri("a key's URI begins with a scheme and a colon, as `unencrypted:`")
    match scheme:
        case "unencrypted" | "aggregate_unencrypted":
            return PlainKey(_secret(scheme, rest))
        case "encrypted" | "aggregate_encrypted":
            return EncryptedKey(_secret(scheme, rest))
        case "http" | "https":
            return _http(scheme, _split(scheme, rest))
        case "tcp":
            return _tcp(_split(scheme, rest))
        case "unix":
            return _unix(_split(scheme, rest))
        case "remote":
            return _remote(rest, environment)
        case "ledger":
            return _ledger(_split(scheme, rest))
        case "pkcs11":
            return _pkcs11(rest)
    raise MalformedKeyUri(f"no key is kept as {scheme[:24]!r}")


def _secret(scheme: str, rest: str) -> str:
    secret = rest.removeprefix("//").strip()  # Octez takes and writes both
    if not secret:
        raise MalformedKeyUri(f"{scheme}: has no key behind it")
    return secret


# -- remote signers -------------------------------------------------------------------------------


def _split(scheme: str, rest: str) -> SplitResult:
    try:
        parts = urlsplit(f"{scheme}:{rest}")
        parts.port  # noqa: B018 - raises ValueError unless it is one
    except ValueError:
        raise MalformedKeyUri(f"{scheme}: host or port cannot be read") from None
    if parts.username is not None or parts.password is not None:
        raise MalformedKeyUri(f"{scheme}: a user or password has no place here")
    if parts.fragment:
        raise MalformedKeyUri(f"{scheme}: `#…` has no place here")
    return parts


def _http(scheme: str, parts: SplitResult) -> HttpKey:
    host = _host(scheme, parts)
    if parts.query:
        raise MalformedKeyUri(f"{scheme}: `?…` has no place here")
    prefix, _, key_hash = parts.path.rpartition("/")
    port = parts.port or _PORTS[scheme]
    return HttpKey(
        f"{scheme}://{_bracketed(host)}:{port}{prefix.rstrip('/')}", _key_hash(scheme, key_hash)
    )


def _tcp(parts: SplitResult) -> TcpKey:
    host = _host("tcp", parts)
    if not parts.port:
        raise MalformedKeyUri("tcp: needs a port, as tcp://host:7732/tz1…")
    if parts.query:
        raise MalformedKeyUri("tcp: `?…` has no place here")
    return TcpKey(host, parts.port, _key_hash("tcp", parts.path.removeprefix("/")))


def _unix(parts: SplitResult) -> UnixKey:
    if parts.netloc:
        raise MalformedKeyUri("unix: names a path of this host, as unix:/path?pkh=tz1…")
    path = unquote(parts.path)
    name, _, key_hash = parts.query.partition("=")
    if not parts.query:
        path, _, key_hash = path.rpartition("/")
    elif name != "pkh":
        raise MalformedKeyUri("unix: the key stands behind `?pkh=`, and nothing else does")
    if not path.startswith("/"):
        raise MalformedKeyUri("unix: the path begins with a slash")
    return UnixKey(path, _key_hash("unix", key_hash))


def _remote(rest: str, environment: Mapping[str, str]) -> RemoteKey:
    key_hash = rest.removeprefix("//").strip("/")
    _key_hash("remote", key_hash)
    base = remote_signer(environment)
    separator = "?pkh=" if base.startswith("unix:") else "/"
    found = read_key_uri(f"{base}{separator}{key_hash}", {})
    assert isinstance(found, HttpKey | TcpKey | UnixKey)
    return found


def _host(scheme: str, parts: SplitResult) -> str:
    if not parts.hostname:
        raise MalformedKeyUri(f"{scheme}: the host is missing")
    return parts.hostname


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _key_hash(scheme: str, text: str) -> str:
    try:
        tagged_hash(text)
    except MalformedBytes:
        raise MalformedKeyUri(f"{scheme}: does not end in a key hash, as tz1… or mv1…") from None
    return text


# -- devices --------------------------------------------------------------------------------------


def _ledger(parts: SplitResult) -> LedgerKey:
    if not parts.netloc:
        raise MalformedKeyUri("ledger: the device is missing, as ledger://four-words-or-hash/…")
    if parts.query or ":" in parts.netloc:
        raise MalformedKeyUri("ledger: has neither a port nor `?…`")
    steps = [step for step in parts.path.split("/") if step]
    curve = "ed25519"
    if steps and steps[0].lower() in _LEDGER_CURVES:
        curve = _LEDGER_CURVES[steps.pop(0).lower()]
    if len(steps) > LEDGER_PATH_MAX:
        raise MalformedKeyUri(f"ledger: a path has {LEDGER_PATH_MAX} numbers at most")
    path = tuple(map(_path_step, steps))
    if curve == "ed25519" and not all(step & HARDENED for step in path):
        raise MalformedKeyUri("ledger: ed25519 needs a hardened path, as 0h/0h")
    return LedgerKey(parts.netloc, curve, path)


def _path_step(step: str) -> int:
    number = step[:-1] if step.endswith(("h", "'")) else step
    if not (number.isascii() and number.isdigit()) or len(number) > 10 or int(number) >= HARDENED:
        raise MalformedKeyUri("ledger: a path is made of numbers below 2^31, as 0h/1h")
    return int(number) | (HARDENED if step != number else 0)


_PKCS11_PATH = {
    "token": "token",
    "serial": "serial",
    "manufacturer": "manufacturer",
    "model": "model",
    "slot-id": "slot",
    "object": "object",
    "id": "id",
    "type": "",
}
_PKCS11_QUERY = {
    "module-path": "module_path",
    "module-name": "module_name",
    "pin-source": "pin_source",
    "pin-value": "pin",
    "x-public-key": "public_key",
}


def _pkcs11(rest: str) -> Pkcs11Key:
    path, _, query = rest.partition("?")
    found: dict[str, str | int | bytes] = {}
    for name, value in [
        *_attributes(path.split(";"), _PKCS11_PATH),
        *_attributes(query.split("&"), _PKCS11_QUERY),
    ]:
        if name == "type":
            if value != "private":
                raise MalformedKeyUri("pkcs11: a key that signs has type=private")
        elif name == "id":
            found["id"] = unquote_to_bytes(value)
        elif name == "slot-id":
            if not (value.isascii() and value.isdigit()) or len(value) > 20:
                raise MalformedKeyUri("pkcs11: slot-id is a number")
            found["slot"] = int(value)
        else:
            found[(_PKCS11_PATH | _PKCS11_QUERY)[name]] = _decoded(name, value)
    if not found.keys() & {"token", "serial"}:
        raise MalformedKeyUri("pkcs11: needs token=… or serial=…")
    if not found.keys() & {"object", "id"}:
        raise MalformedKeyUri("pkcs11: needs object=… or id=…")
    if {"pin", "pin_source"} <= found.keys():
        raise MalformedKeyUri("pkcs11: pin-value and pin-source exclude each other")
    return Pkcs11Key(**found)  # type: ignore[arg-type]  # each name has its own type above


def _attributes(parts: Iterable[str], known: Mapping[str, str]) -> list[tuple[str, str]]:
    """Split into names and values, both still encoded; a vendor's own attributes are dropped."""
    found: dict[str, str] = {}
    for part in parts:
        if not part:
            continue
        name, equals, value = part.partition("=")
        if not equals or (name not in known and not name.startswith("x-")):
            raise MalformedKeyUri(f"pkcs11: there is no attribute {name[:24]!r}")
        if name in found:
            raise MalformedKeyUri(f"pkcs11: {name} stands there twice")
        found[name] = value
    return [(name, value) for name, value in found.items() if name in known]


def _decoded(name: str, value: str) -> str:
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise MalformedKeyUri(f"pkcs11: {name} is not UTF-8") from None
