"""What the environment says of remote signers, in the names of Octez and of Mavryk.

``TEZOS_SIGNER_UNIX_PATH``, or one of ``TEZOS_SIGNER_TCP_HOST``, ``…_HTTP_HOST`` and
``…_HTTPS_HOST`` with its ``…_PORT``, names the signer of ``remote:`` keys;
``TEZOS_SIGNER_HTTP_HEADERS`` adds headers to what is asked over HTTP. Mavryk writes ``MAVRYK_``.

Source: Octez ``src/lib_signer_backends/unix/remote.ml``, ``http_gen.ml``.
"""

from collections.abc import Mapping

from signers.errors import BadRequest

_PREFIXES = ("TEZOS_SIGNER_", "MAVRYK_SIGNER_")
HTTP_HEADERS_ENVS = tuple(f"{prefix}HTTP_HEADERS" for prefix in _PREFIXES)
_PORTS = {"TCP": 7732, "HTTP": 6732, "HTTPS": 443}
_PORT_MAX = 65535


class RemoteSignerUnclear(BadRequest):
    """The environment names no remote signer, or several: set exactly one of the variables."""

    code = "remote_signer_unclear"


class WrongHttpHeaders(BadRequest):
    """TEZOS_SIGNER_HTTP_HEADERS cannot be used: one `name: value` a line, host and x-… alone."""

    code = "wrong_http_headers"


def remote_signer(environment: Mapping[str, str]) -> str:
    """Return the URI that ``remote:`` stands for, without a key. Raises RemoteSignerUnclear."""
    found = [
        name
        for prefix in _PREFIXES
        for name in (f"{prefix}UNIX_PATH", *(f"{prefix}{kind}_HOST" for kind in _PORTS))
        if environment.get(name)
    ]
    if len(found) != 1:
        which = " and ".join(found) if found else "none is set"
        raise RemoteSignerUnclear(
            "remote: keys need exactly one of TEZOS_SIGNER_UNIX_PATH, TEZOS_SIGNER_TCP_HOST, "
            "TEZOS_SIGNER_HTTP_HOST and TEZOS_SIGNER_HTTPS_HOST, or the same with MAVRYK_ "
            f"({which})"
        )
    [name] = found
    value = environment[name]
    if name.endswith("UNIX_PATH"):
        return f"unix:{value}"
    stem = name.removesuffix("_HOST")
    kind = stem.rpartition("_")[2]
    port = environment.get(f"{stem}_PORT") or str(_PORTS[kind])
    if not (port.isascii() and port.isdigit()) or not 0 < int(port[:6]) <= _PORT_MAX:
        raise RemoteSignerUnclear(f"{stem}_PORT is no port")
    host = f"[{value}]" if ":" in value and not value.startswith("[") else value
    return f"{kind.lower()}://{host}:{port}"


def http_headers(environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the headers that go with every question over HTTP. Raises WrongHttpHeaders."""
    for name in HTTP_HEADERS_ENVS:
        if text := environment.get(name, "").strip():
            return [_header(name, line) for line in text.split("\n")]
    return []


def _header(variable: str, line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    name, value = name.strip().lower(), value.strip()
    if not colon or not (name == "host" or name.startswith("x-")):
        raise WrongHttpHeaders(
            f"{variable}: each line is `host: value` or `x-…: value`, nothing else"
        )
    if not (name.isascii() and value.isascii() and value.isprintable()):
        raise WrongHttpHeaders(f"{variable}: headers are made of ASCII letters")
    return name, value
