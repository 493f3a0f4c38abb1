"""Commands and answers against recorded ones.

Bytes of commands: ledger-app-tezos-baking's own tests, seed of 24 times "zebra" (path
44'/1729'/0'/0'); keys of answers: its snapshots; signatures: computed from these keys.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.errors import MalformedBytes
from signers.ledger.apdu import (
    HARDENED,
    AuthorisedKey,
    Derivation,
    DeviceMark,
    DeviceMarks,
    Instruction,
    Version,
    command,
    encode_path,
    full_path,
    path_text,
    read_authorised_key,
    read_marks,
    read_public_key,
    read_signature,
    read_version,
    setup_command,
    sign_commands,
)
from signers.ledger.device_errors import NotForDevice

PATH = full_path((HARDENED, HARDENED))
VOTE = bytes.fromhex("12" + "00" * 36 + "14" + "0000" + "00000001" + "00000002" + "00" * 32)
ED = "2102747884d9abdf16b3ab745158925f567e222f71225501826fa83347f6cbe9c393"
SECP = (
    "4104211f369d9ec3a0fbe10febf05a8b67a9ca705b90534b9dfe3e08f2dac99bd008"
    "111079d35265a935866e0444f1a4c1044c9c81f4178d43ef5c132332019bf9c1"
)
P256 = (
    "410497f4d381101d2908a13669313faec5dbf6693985584f96268ea2c25178199ddd"
    "1aad041e7564795eb4b9a4f379e8cdc0c8391f7b2880613771fff76e6a6b05cf"
)
SECP_DER = (
    "3144022060d3201d7b2975b79358bdb968470f5d0d0b3d2f73eba28f6b2c6e36de45c3ce"
    "0220423c329186e1d291e64dbbefaccec065056d011aa715441af4bd9fb8fb728aa1"
)


def test_commands_are_those_of_the_apps_own_tests() -> None:
    assert command(Instruction.VERSION).hex() == "8000000000"
    assert command(Instruction.QUERY_ALL_WATERMARKS).hex() == "800b000000"
    assert command(Instruction.GET_PUBLIC_KEY, 0, Derivation.P256, encode_path(PATH)).hex() == (
        "8002000211048000002c800006c18000000080000000"
    )
    assert command(Instruction.GET_PUBLIC_KEY, data=encode_path(full_path(()))).hex() == (
        "8002000009028000002c800006c1"
    )
    assert command(Instruction.RESET, data=(1).to_bytes(4)).hex() == "800600000400000001"
    assert setup_command(Derivation.ED25519, PATH, bytes([0, 0, 0, 1]), 1, 2).hex() == (
        "800a00001d000000010000000100000002048000002c800006c18000000080000000"
    )


def test_a_signature_is_asked_for_in_two_commands() -> None:
    choose, data = sign_commands(Derivation.ED25519, PATH, VOTE, with_hash=True)
    assert choose.hex() == "800f000011048000002c800006c18000000080000000"
    assert data == bytes.fromhex("800f810050") + VOTE
    choose, data = sign_commands(Derivation.ED25519, PATH, VOTE, with_hash=False)
    assert (choose[1], data[1]) == (4, 4)


def test_what_does_not_fit_into_one_command_is_not_sent() -> None:
    sign_commands(Derivation.ED25519, PATH, bytes(235), with_hash=True)
    with pytest.raises(NotForDevice):
        sign_commands(Derivation.ED25519, PATH, bytes(236), with_hash=True)


def test_paths_are_written_as_people_do() -> None:
    assert path_text((*PATH, 7)) == "44h/1729h/0h/0h/7"
    assert path_text(full_path((), 1969)) == "44h/1969h"


@pytest.mark.parametrize(
    ("answer", "derivation", "key"),
    [
        (ED, Derivation.ED25519, ED[4:]),
        (SECP, Derivation.SECP256K1, "03" + SECP[4:68]),
        (P256, Derivation.P256, "03" + P256[4:68]),
    ],
)
def test_public_keys(answer: str, derivation: Derivation, key: str) -> None:
    assert read_public_key(bytes.fromhex(answer), derivation).hex() == key
    for other in Derivation:
        same = {Derivation.ED25519, Derivation.BIP32_ED25519}
        if (other in same) != (derivation in same):
            with pytest.raises(MalformedBytes):
                read_public_key(bytes.fromhex(answer), other)


def test_a_der_signature_may_carry_a_parity_bit() -> None:
    raw = SECP_DER[8:72] + SECP_DER[76:]
    for first in ("31", "30"):
        der = bytes.fromhex(first + SECP_DER[2:])
        assert read_signature(der, Derivation.SECP256K1).hex() == raw
    with pytest.raises(MalformedBytes):
        read_signature(bytes.fromhex("32" + SECP_DER[2:]), Derivation.SECP256K1)


@given(st.integers(1, 2**256 - 1), st.integers(1, 2**256 - 1))
def test_der_numbers_are_padded_to_32_bytes(r: int, s: int) -> None:
    body = b""
    for number in (r, s):
        digits = number.to_bytes(number.bit_length() // 8 + 1)  # a leading zero where DER wants it
        body += bytes([2, len(digits)]) + digits
    der = bytes([0x30, len(body)]) + body
    assert read_signature(der, Derivation.P256) == r.to_bytes(32) + s.to_bytes(32)


def test_versions_marks_and_authorised_keys() -> None:
    assert read_version(bytes.fromhex("01020501")) == Version(1, 2, 5, 1)
    assert str(Version(1, 2, 5, 1)) == "2.5.1"
    marks = bytes.fromhex("0000000100000002" + "0000000300000004" + "7a06a770")
    assert read_marks(marks) == DeviceMarks(DeviceMark(1, 2), DeviceMark(3, 4), marks[-4:])
    old = bytes.fromhex("00000001000000037a06a770")
    assert read_marks(old) == DeviceMarks(DeviceMark(1, 0), DeviceMark(3, 0), old[-4:])
    authorised = bytes.fromhex("00048000002c800006c18000000080000000")
    assert read_authorised_key(authorised) == AuthorisedKey(Derivation.ED25519, PATH)
    assert read_authorised_key(bytes(2)) is None


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_malformed(data: bytes) -> None:
    readers = [read_version, read_marks, read_authorised_key]
    readers += [lambda d, c=c: read_public_key(d, c) for c in Derivation]  # type: ignore[misc]
    readers += [lambda d, c=c: read_signature(d, c) for c in Derivation]  # type: ignore[misc]
    for read in readers:
        with suppress(MalformedBytes):
            read(data)
