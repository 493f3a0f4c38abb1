"""The numbers, booleans and sized fields that every format is made of."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.errors import MalformedBytes
from signers.formats import codec
from signers.formats.codec import Reader


@pytest.mark.parametrize(
    ("number", "written"),
    [(0, "00"), (1, "01"), (63, "3f"), (64, "8001"), (2048, "8020"), (-1, "41"), (-64, "c001")],
)
def test_z_has_its_sign_in_the_first_group(number: int, written: str) -> None:
    assert codec.integer(number).hex() == written
    assert Reader(bytes.fromhex(written)).integer() == number


@pytest.mark.parametrize(
    ("number", "written"), [(0, "00"), (127, "7f"), (128, "8001"), (976, "d007")]
)
def test_n_has_seven_bits_a_group(number: int, written: str) -> None:
    assert codec.natural(number).hex() == written
    assert Reader(bytes.fromhex(written)).natural() == number


@given(st.integers(-(2**2000), 2**2000))
def test_a_written_number_reads_back(number: int) -> None:
    reader = Reader(codec.integer(number) + b"\x07")
    assert reader.integer() == number
    assert reader.remaining == 1
    assert Reader(codec.natural(abs(number))).natural() == abs(number)


@given(st.binary(min_size=1, max_size=20))
def test_a_number_has_one_encoding(data: bytes) -> None:
    pairs: list[tuple[Callable[[Reader], int], Callable[[int], bytes]]] = [
        (Reader.natural, codec.natural),
        (Reader.integer, codec.integer),
    ]
    for read, write in pairs:
        reader = Reader(data)
        try:
            number = read(reader)
        except MalformedBytes:
            continue
        assert write(number) == data[: reader.offset]


@pytest.mark.parametrize("written", ["", "80", "8000", "818000", "40", "ff" * 2000 + "01"])
def test_a_number_that_is_not_canonical_or_not_ended_is_refused(written: str) -> None:
    with pytest.raises(MalformedBytes):
        Reader(bytes.fromhex(written)).integer()


def test_a_number_may_not_be_longer_than_its_bound() -> None:
    with pytest.raises(MalformedBytes):
        Reader(codec.natural(2**70)).natural(bytes_max=10)
    assert Reader(codec.natural(2**70 - 1)).natural(bytes_max=10) == 2**70 - 1


def test_a_boolean_is_all_ones_or_all_zeros() -> None:
    assert Reader(b"\xff").boolean()
    assert not Reader(b"\x00").boolean()
    for byte in (0x01, 0x80, 0xFE):
        with pytest.raises(MalformedBytes):
            Reader(bytes([byte])).boolean()


def test_a_sized_field_ends_where_it_says() -> None:
    reader = Reader(codec.sized(b"abc") + b"d")
    field = reader.sized()
    assert field.rest() == b"abc"
    with pytest.raises(MalformedBytes):
        field.take(1)
    assert reader.rest() == b"d"
    reader.finish()


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\0\0\0\x05abcd", b"\xff\xff\xff\xffabcd"])
def test_a_sized_field_longer_than_the_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedBytes):
        Reader(data).sized()


def test_what_is_left_over_is_told() -> None:
    with pytest.raises(MalformedBytes, match="2 bytes are left over"):
        Reader(b"ab").finish()


def test_an_absent_value_is_a_zero_byte() -> None:
    assert codec.optional(None) == b"\0"
    assert codec.optional(b"ab") == b"\xffab"
    reader = Reader(b"\0\xffab")
    assert reader.optional(reader.rest) is None
    assert reader.optional(reader.rest) == b"ab"
