"""How commands and answers travel: USB HID reports of 64 bytes, or lengths on a TCP stream.

USB: channel u16 · 05 · sequence u16 · data; the data of all reports is a length u16 and the
command, or the length of answer and status word and these. TCP, as Speculos has it: a length u32
and the command; a length u32 that does not count the status word, the answer, and that.

Source: LedgerHQ ledgercomm, ledgerblue, speculos ``mcu/apdu.py``.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from signers.errors import MalformedBytes

REPORT_BYTES: Final = 64
_TAG: Final = b"\x05"
_HEAD_BYTES: Final = 5
_STATUS_BYTES: Final = 2
LENGTH_BYTES: Final = 4
# No answer of the baking app has more than a few hundred bytes.
ANSWER_BYTES_MAX: Final = 4096


class Answer(NamedTuple):
    """What a device says to a command."""

    data: bytes
    status: int


def answer(body: bytes) -> Answer:
    """Take data and status word apart. Raises MalformedBytes."""
    if len(body) < _STATUS_BYTES:
        raise MalformedBytes("an answer without a status word")
    return Answer(body[:-_STATUS_BYTES], int.from_bytes(body[-_STATUS_BYTES:]))


# -- USB ------------------------------------------------------------------------------------------


def to_reports(command: bytes, channel: int) -> Iterator[bytes]:
    """Cut a command (or an answer, for a device) into reports."""
    stream = len(command).to_bytes(2) + command
    room = REPORT_BYTES - _HEAD_BYTES
    for sequence, start in enumerate(range(0, len(stream), room)):
        head = channel.to_bytes(2) + _TAG + sequence.to_bytes(2)
        yield (head + stream[start : start + room]).ljust(REPORT_BYTES, b"\0")


class ReportReader:
    """Puts the reports of one answer together.

    A report of another channel is an answer to somebody else, or to a command that was given up
    before the device was opened anew: it is passed over.
    """

    def __init__(self, channel: int) -> None:
        self._channel = channel.to_bytes(2)
        self._stream = b""
        self._next = 0

    def take(self, report: bytes) -> bytes | None:
        """Take one report: the whole answer with its last one. Raises MalformedBytes."""
        if len(report) != REPORT_BYTES:
            raise MalformedBytes(f"a report of {len(report)} bytes")
        if report[:2] != self._channel:
            return None
        if report[2:3] != _TAG or int.from_bytes(report[3:5]) != self._next:
            raise MalformedBytes("a report is missing or stands in another's place")
        self._next += 1
        self._stream += report[_HEAD_BYTES:]
        length = int.from_bytes(self._stream[:2])
        if length > ANSWER_BYTES_MAX:
            raise MalformedBytes(f"an answer of {length} bytes")
        return self._stream[2 : 2 + length] if len(self._stream) >= 2 + length else None


# -- TCP ------------------------------------------------------------------------------------------


def to_stream(command: bytes) -> bytes:
    """A command on a TCP stream."""
    return len(command).to_bytes(LENGTH_BYTES) + command


def answer_to_stream(body: bytes) -> bytes:
    """An answer (status word included) on a TCP stream, for a device."""
    return (len(body) - _STATUS_BYTES).to_bytes(LENGTH_BYTES) + body


def answer_bytes(length: bytes) -> int:
    """How many bytes follow the length of an answer. Raises MalformedBytes."""
    count = int.from_bytes(length)
    if count > ANSWER_BYTES_MAX:
        raise MalformedBytes(f"an answer of {count} bytes")
    return count + _STATUS_BYTES
