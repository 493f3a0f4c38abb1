"""Reading and writing bytes as Octez' data-encoding lays them out, bounded and exact.

Integers are big-endian. A boolean is ``ff`` or ``00``. Z and N are the two variable-length
numbers: groups of seven bits, the least significant first, a set top bit meaning that more
follow; Z spends a bit of its first group on the sign. Every number has one encoding, so a
trailing group of zeros is refused, and what decodes encodes to the same bytes again.
"""

from collections.abc import Callable
from struct import Struct
from typing import TypeVar

from signers.errors import MalformedBytes

_Value = TypeVar("_Value")

_I32 = Struct(">i")
_I64 = Struct(">q")

INT31_MAX = 0x7FFF_FFFF
# Amounts, counters and gas fit in 10 bytes and the widest DAL bitset in 300.
VARIABLE_NUMBER_BYTES_MAX = 1024


class Reader:
    """A place in a piece of bytes; every step checks that the bytes are there.

    All methods raise MalformedBytes, and move only past what they return.
    """

    __slots__ = ("data", "end", "offset")

    def __init__(self, data: bytes, offset: int = 0, end: int | None = None) -> None:
        self.data = data
        self.offset = offset
        self.end = len(data) if end is None else end

    @property
    def remaining(self) -> int:
        """How many bytes are left."""
        return self.end - self.offset

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        start = self.offset
        self._advance(count)
        return self.data[start : start + count]

    def rest(self) -> bytes:
        """Return all bytes that are left."""
        return self.take(self.remaining)

    def u8(self) -> int:
        start = self.offset
        self._advance(1)
        return self.data[start]

    def u16(self) -> int:
        return int.from_bytes(self.take(2))

    def u32(self) -> int:
        return int.from_bytes(self.take(4))

    def i32(self) -> int:
        start = self.offset
        self._advance(4)
        number: int = _I32.unpack_from(self.data, start)[0]
        return number

    def i64(self) -> int:
        start = self.offset
        self._advance(8)
        number: int = _I64.unpack_from(self.data, start)[0]
        return number

    def natural_i32(self, what: str) -> int:
        """Read a level, a round or another 32-bit number that is never negative."""
        number = self.i32()
        if number < 0:
            raise MalformedBytes(f"the {what} is negative: {number}")
        return number

    def boolean(self) -> bool:
        """Read ``ff`` or ``00``."""
        byte = self.u8()
        if byte not in (0x00, 0xFF):
            raise MalformedBytes(f"a boolean is ff or 00, not {byte:02x}")
        return byte == 0xFF

    def optional(self, read: Callable[[], _Value]) -> _Value | None:
        """Read a value that may be absent: ``ff`` and the value, or ``00``."""
        return read() if self.boolean() else None

    def natural(self, *, bytes_max: int = VARIABLE_NUMBER_BYTES_MAX) -> int:
        """Read an N: a number of any size that is not negative."""
        return self._groups(first_bits=7, bytes_max=bytes_max)[0]

    def integer(self, *, bytes_max: int = VARIABLE_NUMBER_BYTES_MAX) -> int:
        """Read a Z: a number of any size and sign."""
        magnitude, first = self._groups(first_bits=6, bytes_max=bytes_max)
        if not first & 0x40:
            return magnitude
        if magnitude == 0:
            raise MalformedBytes("a Z is minus zero")
        return -magnitude

    def sized(self, *, bytes_max: int | None = None) -> "Reader":
        """Read a 32-bit length and return a reader of exactly that many next bytes."""
        count = self.u32()
        if bytes_max is not None and count > bytes_max:
            raise MalformedBytes(f"a field of {count} bytes is longer than {bytes_max}")
        start = self.offset
        self._advance(count)
        return Reader(self.data, start, start + count)

    def finish(self) -> None:
        """Check that nothing is left."""
        if self.offset != self.end:
            raise MalformedBytes(f"{self.remaining} bytes are left over")

    def _advance(self, count: int) -> None:
        if count < 0 or self.offset + count > self.end:
            raise MalformedBytes(
                f"the bytes end early: {count} wanted at offset {self.offset}, "
                f"{self.remaining} left"
            )
        self.offset += count

    def _groups(self, *, first_bits: int, bytes_max: int) -> tuple[int, int]:
        """Return a variable-length number without its sign, and its first byte."""
        start = self.offset
        stop = start
        limit = min(self.end, start + bytes_max)
        while stop < limit and self.data[stop] & 0x80:
            stop += 1
        if stop >= limit:
            raise MalformedBytes("a variable-length number does not end")
        first, higher = self.data[start], self.data[start + 1 : stop + 1]
        if higher and higher[-1] == 0:
            raise MalformedBytes("a variable-length number ends in a group of zeros")
        self.offset = stop + 1
        # Through text, because shifting a growing number is quadratic in its length.
        bits = "".join(f"{group & 0x7F:07b}" for group in reversed(higher))
        lowest = first & ((1 << first_bits) - 1)
        return (int(bits, 2) << first_bits | lowest if bits else lowest), first


def natural(number: int) -> bytes:
    """Write an N."""
    return _write_groups(number, first_bits=7, sign=0)


def integer(number: int) -> bytes:
    """Write a Z."""
    return _write_groups(abs(number), first_bits=6, sign=0x40 if number < 0 else 0)


def boolean(value: bool) -> bytes:
    """Write ``ff`` for true and ``00`` for false."""
    return b"\xff" if value else b"\x00"


def optional(value: bytes | None) -> bytes:
    """Write bytes that may be absent: ``ff`` and the bytes, or ``00``."""
    return b"\x00" if value is None else b"\xff" + value


def sized(content: bytes) -> bytes:
    """Write bytes behind their 32-bit length."""
    return len(content).to_bytes(4) + content


def _write_groups(number: int, *, first_bits: int, sign: int) -> bytes:
    groups = bytearray([sign | number & ((1 << first_bits) - 1)])
    number >>= first_bits
    while number:
        groups[-1] |= 0x80
        groups.append(number & 0x7F)
        number >>= 7
    return bytes(groups)
