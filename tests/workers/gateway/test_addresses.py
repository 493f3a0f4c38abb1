"""Addresses that the gateway listens on."""

from __future__ import annotations

import pytest

from broker.errors import Misconfigured
from workers.gateway.addresses import Address, check_socket_path, read_address


@pytest.mark.parametrize(
    ("text", "address", "is_loopback"),
    [
        ("127.0.0.1:6732", Address("127.0.0.1", 6732), True),
        ("127.9.9.9:0", Address("127.9.9.9", 0), True),
        ("localhost:6732", Address("localhost", 6732), True),
        ("[::1]:7732", Address("::1", 7732), True),
        ("0.0.0.0:6732", Address("0.0.0.0", 6732), False),
        ("[::]:6732", Address("::", 6732), False),
        ("10.1.2.3:6732", Address("10.1.2.3", 6732), False),
        ("signer.example:6732", Address("signer.example", 6732), False),
    ],
)
def test_addresses_are_read(text: str, address: Address, is_loopback: bool) -> None:
    assert read_address(text) == address
    assert address.is_loopback is is_loopback
    assert str(address) == text


@pytest.mark.parametrize(
    "text", ["", "6732", ":6732", "localhost", "localhost:", "localhost:http", "localhost:65536",
             "::1:6732", "[]:1"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(Misconfigured, match="no HOST:PORT"):
        read_address(text)


def test_a_path_that_the_system_cannot_bind() -> None:
    assert check_socket_path("/run/signer") == "/run/signer"
    with pytest.raises(Misconfigured, match="108 bytes"):
        check_socket_path("/" + "x" * 107)
