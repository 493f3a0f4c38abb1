"""The variables that name a remote signer, as Octez and Mavryk spell them."""

import pytest

from signers.backends.signer_environment import (
    RemoteSignerUnclear,
    WrongHttpHeaders,
    http_headers,
    remote_signer,
)


@pytest.mark.parametrize("prefix", ["TEZOS", "MAVRYK"])
@pytest.mark.parametrize(
    ("variables", "uri"),
    [
        ({"UNIX_PATH": "/run/signer"}, "unix:/run/signer"),
        ({"TCP_HOST": "h"}, "tcp://h:7732"),
        ({"TCP_HOST": "h", "TCP_PORT": "17"}, "tcp://h:17"),
        ({"HTTP_HOST": "h"}, "http://h:6732"),
        ({"HTTP_HOST": "::1", "HTTP_PORT": "80"}, "http://[::1]:80"),
        ({"HTTPS_HOST": "h"}, "https://h:443"),
    ],
)
def test_one_variable_names_the_signer(prefix: str, variables: dict[str, str], uri: str) -> None:
    assert remote_signer({f"{prefix}_SIGNER_{name}": v for name, v in variables.items()}) == uri


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TEZOS_SIGNER_TCP_HOST": ""},
        {"TEZOS_SIGNER_TCP_HOST": "h", "TEZOS_SIGNER_HTTP_HOST": "h"},
        {"TEZOS_SIGNER_TCP_HOST": "h", "MAVRYK_SIGNER_UNIX_PATH": "/run/signer"},
        {"TEZOS_SIGNER_TCP_HOST": "h", "TEZOS_SIGNER_TCP_PORT": "0"},
        {"TEZOS_SIGNER_TCP_HOST": "h", "TEZOS_SIGNER_TCP_PORT": "65536"},
        {"TEZOS_SIGNER_TCP_HOST": "h", "TEZOS_SIGNER_TCP_PORT": "http"},
    ],
)
def test_none_or_several_or_no_port_is_an_error(environment: dict[str, str]) -> None:
    with pytest.raises(RemoteSignerUnclear):
        remote_signer(environment)


def test_headers_stand_one_a_line() -> None:
    text = "Host: signer.example\n X-Key : a: b"
    headers = [("host", "signer.example"), ("x-key", "a: b")]
    assert http_headers({"TEZOS_SIGNER_HTTP_HEADERS": text}) == headers
    assert http_headers({"MAVRYK_SIGNER_HTTP_HEADERS": text}) == headers
    assert http_headers({}) == []


@pytest.mark.parametrize("text", ["host", "authorization: x", "x-a: \u00e9", "x-a: 1\nb: 2"])
def test_other_headers_are_refused(text: str) -> None:
    with pytest.raises(WrongHttpHeaders):
        http_headers({"TEZOS_SIGNER_HTTP_HEADERS": text})
