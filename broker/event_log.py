"""The broker's memory of events on disk: bounded, checksummed, good after a kill of the broker.

    events-<number of the first record>-<epoch>.log:  record record record …
    record:  u32 length ‖ u32 CRC-32 of what follows ‖ u64 number ‖ LogRecord in MessagePack

A record is written before its events are published, and not fsynced: it survives the end of the
process, not of the machine (after a power cut the watermark store is the truth). A torn tail is cut
at start. A log that cannot be written is an alarm and never a reason to stop signing.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

import msgspec

from broker.messages import Event, Gone, Replayed
from broker.topics import LogRecord, decode_record, encode_record
from broker.wire import portions

LOG_BYTES_MAX = 64 * 1024 * 1024
SEGMENT_BYTES_MAX = 8 * 1024 * 1024  # the oldest segment goes as a whole
SEGMENTS_MAX = 64  # each start of a broker begins one, and each is an open file
REPLAY_EVENTS_MAX = 100_000  # what one replay may hold in memory; a reader asks again for the rest
EVENT_BYTES = 200  # of an event on the wire, without its body
SCAN_RECORDS = 50  # records looked at between two turns of the broker's loop

_HEAD = struct.Struct(">II")
_NUMBER = struct.Struct(">Q")
_NAME = re.compile(r"^events-(\d{16})-([0-9a-z]+)\.log$")


class _Segment:
    """One file: its records' numbers, which grow, and where they are."""

    def __init__(self, path: Path, epoch: str) -> None:
        self.path = path
        self.epoch = epoch
        self.numbers: list[int] = []
        self.offsets: list[int] = []
        self.size = 0
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def load(self) -> Iterator[tuple[int, LogRecord]]:
        """Read the records of an earlier process; whatever follows the last whole one is cut."""
        content = os.pread(self.fd, os.fstat(self.fd).st_size, 0)
        while True:
            payload = _payload_at(content, self.size)
            if payload is None:
                break
            try:
                record = decode_record(payload[_NUMBER.size :])
            except msgspec.DecodeError:  # another version's record
                break
            self._enter(_NUMBER.unpack_from(payload)[0], _HEAD.size + len(payload))
            yield self.numbers[-1], record
        if self.size != len(content):
            os.ftruncate(self.fd, self.size)

    def append(self, number: int, record: bytes) -> None:
        payload = _NUMBER.pack(number) + record
        framed = _HEAD.pack(len(payload), zlib.crc32(payload)) + payload
        try:
            written = os.write(self.fd, framed)
        except OSError:
            os.ftruncate(self.fd, self.size)
            raise
        if written != len(framed):  # the disk filled up in the middle
            os.ftruncate(self.fd, self.size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._enter(number, written)

    def _enter(self, number: int, size: int) -> None:
        self.numbers.append(number)
        self.offsets.append(self.size)
        self.size += size

    def read(self, number: int) -> LogRecord | None:
        i = bisect_left(self.numbers, number)
        if i == len(self.numbers) or self.numbers[i] != number:
            return None
        end = self.offsets[i + 1] if i + 1 < len(self.offsets) else self.size
        payload = _payload_at(os.pread(self.fd, end - self.offsets[i], self.offsets[i]), 0)
        return decode_record(payload[_NUMBER.size :]) if payload is not None else None

    def close(self) -> None:
        os.close(self.fd)
        self.fd = -1  # a replay that is under way must not read a file of somebody else

    def remove(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)


def _payload_at(content: bytes, offset: int) -> bytes | None:
    head = content[offset : offset + _HEAD.size]
    if len(head) < _HEAD.size:
        return None
    length, checksum = _HEAD.unpack(head)
    payload = content[offset + _HEAD.size : offset + _HEAD.size + length]
    return payload if len(payload) == length and zlib.crc32(payload) == checksum else None


class EventLog:
    """The segments of a directory, the newest of which is written."""

    def __init__(self, directory: Path, epoch: str, bytes_max: int = LOG_BYTES_MAX) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._epoch = epoch
        self._bytes_max = bytes_max
        self._segments: list[_Segment] = []
        self.next_number = 1
        self.failure = ""  # why the log cannot be written; empty: it can

    def load(self) -> Iterator[tuple[int, LogRecord]]:
        """Read what earlier epochs left, oldest first; to be exhausted before the first append."""
        for path in sorted(self._directory.iterdir()):
            named = _NAME.match(path.name)
            if named:
                segment = _Segment(path, named[2])
                yield from segment.load()
                if not segment.numbers:  # of a broker that published nothing
                    segment.remove()
                    continue
                self._segments.append(segment)
                self.next_number = max(self.next_number, segment.numbers[-1] + 1)
                self._drop_oldest()
        self._start_segment()

    def _start_segment(self) -> None:
        name = f"events-{self.next_number:016d}-{self._epoch}.log"
        self._segments.append(_Segment(self._directory / name, self._epoch))
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        while len(self._segments) > 1 and (
            len(self._segments) > SEGMENTS_MAX
            or sum(s.size for s in self._segments) + SEGMENT_BYTES_MAX > self._bytes_max
        ):
            self._segments.pop(0).remove()

    def append(self, record: LogRecord) -> None:
        """Write one turn's record; a failure is kept in `failure`, and the record's number unused.

        Later numbers still agree with those that the dispatcher has noted.
        """
        number, self.next_number = self.next_number, self.next_number + 1
        try:
            if self._segments[-1].size >= SEGMENT_BYTES_MAX:
                self._start_segment()
            self._segments[-1].append(number, encode_record(record))
            self.failure = ""
        except OSError as e:
            self.failure = f"cannot write {self._segments[-1].path.name}: {e.strerror}"

    def read(self, numbers: list[int]) -> list[LogRecord]:
        """Those of the numbered records that are still kept."""
        found = (segment.read(n) for n in numbers for segment in self._segments)
        return [record for record in found if record is not None]

    def replay(
        self, topic: str, epoch: str, first: int, upto: int | None
    ) -> Iterator[list[Replayed | Gone]]:
        """The answer to a replay, in steps of bounded work; an empty one has nothing to send yet.

        Looks backwards from the newest record, for what is asked is nearly always the latest.

        Args:
            upto: the topic's next number, where it is known (in the present epoch).
        """
        segments = [s for s in self._segments if s.epoch == epoch]
        if not segments:
            yield [Gone(topic, epoch, 0)]
            return
        found: list[tuple[int, Event]] = []  # newest first
        looked = 0
        for segment in reversed(segments):
            for number in reversed(segment.numbers):
                record = segment.read(number)
                events = record.of_topic(topic) if record is not None else []
                found += [e for e in reversed(events) if e[0] >= first]
                if events and events[0][0] <= first:
                    break
                del found[:-REPLAY_EVENTS_MAX]  # the newest; they are asked for next
                looked += 1
                if looked % SCAN_RECORDS == 0:
                    yield []
            else:
                continue
            break
        found.reverse()
        yield from self._parts(topic, epoch, first, found, upto)

    @staticmethod
    def _parts(
        topic: str, epoch: str, first: int, found: list[tuple[int, Event]], upto: int | None
    ) -> Iterator[list[Replayed | Gone]]:
        """Events without a hole, or up to the first hole and then Gone."""
        run: list[Event] = []
        for number, event in found[:REPLAY_EVENTS_MAX]:
            if number != first + len(run):
                break
            run.append(event)
        after = first + len(run)
        hole = next((n for n, _ in found if n > after), upto if upto is not None else after)
        missing = hole > after and len(run) < REPLAY_EVENTS_MAX
        sent = 0
        for part in portions(run, lambda event: EVENT_BYTES + len(event.body)):
            sent += len(part)
            more = sent < len(run) or missing
            yield [Replayed(topic, epoch, first + sent - len(part), part, more)]
        if not run and not missing:
            yield [Replayed(topic, epoch, first, [], more=False)]
        if missing:
            yield [Gone(topic, epoch, hole)]

    def close(self) -> None:
        for segment in self._segments:
            segment.close()
        self._segments.clear()
