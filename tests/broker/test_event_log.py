"""The event log on a real disk: restarts, torn and damaged files, full disks, bounds, replays."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from log_records import CLIENT, DELEGATE, a_record, an_event, many_events

from broker.event_log import EVENT_BYTES, SCAN_RECORDS, SEGMENTS_MAX, EventLog
from broker.messages import Gone, Replayed
from broker.topics import LogRecord
from broker.wire import PORTION_BYTES_MAX, encode

TOPICS = ("all", f"c/{CLIENT}", f"d/{DELEGATE}")
CHILD = Path(__file__).parent / "full_disk_log.py"


class LogScript:
    """A directory whose log is opened by one broker after the other."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.epoch = 0
        self.log: EventLog

    def starts(self, *, bytes_max: int = 1 << 30) -> list[tuple[int, LogRecord]]:
        """A broker starts; what it finds."""
        self.epoch += 1
        self.log = EventLog(self.directory, f"e{self.epoch}", bytes_max)
        return list(self.log.load())

    def logs(self, *numbers: int) -> None:
        for number in numbers:
            self.log.append(a_record(number))
            assert self.log.failure == ""

    def ends(self) -> None:
        self.log.close()

    def files(self) -> list[Path]:
        return sorted(self.directory.glob("events-*.log"))

    def written(self) -> Path:
        """The one file that has records."""
        [path] = [p for p in self.files() if p.stat().st_size]
        return path

    def replay(
        self, first: int, *, topic: str = "all", epoch: str = "e1", upto: int | None = None
    ) -> list[Replayed | Gone]:
        steps = self.log.replay(topic, epoch, first, upto)
        return [answer for answers in steps for answer in answers]


@pytest.fixture
def script(tmp_path: Path) -> LogScript:
    return LogScript(tmp_path / "events")


def replayed(first: int, last: int, *, more: bool = False, topic: str = "all") -> Replayed:
    events = [an_event(n) for n in range(first, last + 1)]
    return Replayed(topic, "e1", first, events, more)


# -- over restarts --------------------------------------------------------------------------------


def test_what_was_logged_is_found_by_the_next_broker(script: LogScript) -> None:
    assert script.starts() == []
    script.logs(1, 2)
    script.ends()
    assert script.starts() == [(1, a_record(1)), (2, a_record(2))]
    script.logs(3)
    assert script.log.read([3, 1]) == [a_record(3), a_record(1)]
    script.ends()
    assert [number for number, _ in script.starts()] == [1, 2, 3]
    script.ends()


def test_a_killed_broker_has_logged_what_it_had_written(script: LogScript) -> None:
    died = subprocess.run(
        [sys.executable, CHILD, script.directory, str(1 << 20), "3", "die"], check=False
    )
    assert died.returncode == -9
    assert script.starts() == [(n, a_record(n)) for n in (1, 2, 3)]
    script.ends()


def test_only_the_owner_may_read_the_log(script: LogScript) -> None:
    script.starts()
    script.logs(1)
    script.ends()
    assert stat.S_IMODE(script.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in script.files()} == {0o600}


def test_other_files_of_the_directory_are_left_alone(script: LogScript) -> None:
    script.directory.mkdir()
    other = script.directory / "events-of-last-year.log"
    other.write_bytes(b"keep me")
    assert script.starts() == []
    script.logs(1)
    script.ends()
    assert other.read_bytes() == b"keep me"


# -- torn and damaged -----------------------------------------------------------------------------


def test_a_torn_tail_is_cut_wherever_it_was_torn(script: LogScript) -> None:
    script.starts()
    script.logs(1, 2)
    script.ends()
    path, whole = script.written(), script.written().read_bytes()
    for length in range(len(whole) // 2, len(whole)):
        path.write_bytes(whole[:length])
        assert [n for n, _ in script.starts()] == [1]
        assert path.read_bytes() == whole[: len(whole) // 2], "both records are equally long"
        script.ends()


def test_after_a_torn_tail_the_log_goes_on(script: LogScript) -> None:
    script.starts()
    script.logs(1, 2)
    script.ends()
    script.written().write_bytes(script.written().read_bytes()[:-1])
    script.starts()
    script.logs(2, 3)
    script.ends()
    assert script.starts() == [(n, a_record(n)) for n in (1, 2, 3)]
    script.ends()


def test_zeros_that_a_power_cut_left_are_no_record(script: LogScript) -> None:
    script.starts()
    script.logs(1)
    script.ends()
    path = script.written()
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(4096))
    assert [n for n, _ in script.starts()] == [1]
    assert path.read_bytes() == whole
    script.ends()


def test_a_flipped_bit_anywhere_cuts_the_log_before_its_record(script: LogScript) -> None:
    script.starts()
    script.logs(1, 2)
    script.ends()
    path, whole = script.written(), script.written().read_bytes()
    for at in range(len(whole) // 2, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        assert [n for n, _ in script.starts()] == [1], f"bit {at % 8} of byte {at}"
        script.ends()


def test_a_damaged_file_takes_nothing_from_those_after_it(script: LogScript) -> None:
    script.starts()
    script.logs(1)
    script.ends()
    damaged = script.written()
    script.starts()
    script.logs(2)
    script.ends()
    damaged.write_bytes(b"rubbish")
    assert script.starts() == [(2, a_record(2))]
    script.logs(3)
    assert script.log.read([1, 2, 3]) == [a_record(2), a_record(3)]
    script.ends()


def test_a_record_of_another_version_is_cut(script: LogScript) -> None:
    script.starts()
    script.logs(1)
    script.log.append([b"not", b"ours"])  # type: ignore[arg-type]
    script.ends()
    assert [n for n, _ in script.starts()] == [1]
    script.ends()


@pytest.mark.parametrize("at", range(0, 100, 7))
def test_a_record_that_was_damaged_since_is_not_read(script: LogScript, at: int) -> None:
    script.starts()
    script.logs(1, 2, 3)
    path, whole = script.written(), script.written().read_bytes()
    third = len(whole) // 3
    assert third > 100
    path.write_bytes(
        whole[: third + at] + bytes([whole[third + at] ^ 0x20]) + whole[third + at + 1 :]
    )
    assert script.log.read([1, 2, 3]) == [a_record(1), a_record(3)]
    assert script.replay(1, upto=4) == [replayed(1, 1, more=True), Gone("all", "e1", 3)]
    script.ends()


def test_a_file_that_was_cut_since_ends_no_broker(script: LogScript) -> None:
    script.starts()
    script.logs(1, 2)
    os.truncate(script.written(), 5)
    assert script.log.read([1, 2]) == []
    assert script.replay(1, upto=3) == [Gone("all", "e1", 3)]
    script.ends()


# -- a full disk ----------------------------------------------------------------------------------


@pytest.mark.parametrize("records", [3, 50])
def test_a_full_disk_is_told_and_forgotten_when_it_is_over(script: LogScript, records: int) -> None:
    script.starts()
    script.logs(1)
    script.ends()
    size = script.written().stat().st_size
    script.written().unlink()
    # Room for two records and a half: the third is cut short, the others find no room at all.
    child = subprocess.run(
        [sys.executable, CHILD, script.directory, str(2 * size + size // 2), str(records)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    *failures, after, descriptors = child.stdout.splitlines()
    assert failures[:2] == ["", ""]
    assert all(text.startswith("cannot write events-") for text in failures[2:])
    assert len(failures) == records
    assert after == ""
    assert int(descriptors) < 20, "a failed append opens nothing"
    found = [n for n, _ in script.starts()]
    assert found == [1, 2, records + 1], "numbers of failed appends stay unused"
    script.ends()


def test_a_file_that_takes_nothing_is_an_alarm_and_raises_nothing(
    script: LogScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.event_log.SEGMENT_BYTES_MAX", 1)
    script.starts()
    script.logs(1)
    (script.directory / f"events-{3:016d}-e1.log").symlink_to("/dev/full")
    for number in range(2, 5):
        script.log.append(a_record(number))
        assert script.log.failure.startswith("cannot write events-")
    assert script.log.read([1, 2, 3, 4]) == [a_record(1)]
    assert script.log.next_number == 5
    script.ends()


# -- bounds ---------------------------------------------------------------------------------------


def test_the_log_stays_within_its_bound_and_drops_the_oldest_file_as_a_whole(
    script: LogScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.starts()
    script.logs(1)
    size = script.written().stat().st_size
    script.ends()
    script.written().unlink()
    monkeypatch.setattr("broker.event_log.SEGMENT_BYTES_MAX", 4 * size)
    script.starts(bytes_max=10 * size)
    for number in range(1, 41):
        script.logs(number)
        assert sum(p.stat().st_size for p in script.files()) <= 10 * size
        kept = [n for n in range(1, number + 1) if script.log.read([n])]
        assert kept == list(range(kept[0], number + 1))
        assert kept[0] % 4 == 1, "a file begins with each fourth record"
        assert len(kept) >= min(number, 5), "no more is dropped than must be"
    script.ends()


def test_many_restarts_leave_neither_files_nor_descriptors(script: LogScript) -> None:
    before = open_descriptors()
    for _ in range(200):
        script.starts()
        script.ends()
    assert len(script.files()) == 1
    for number in range(1, SEGMENTS_MAX + 20):
        script.starts()
        script.logs(number)
        script.ends()
    assert len(script.files()) <= SEGMENTS_MAX
    kept = [n for n, _ in script.starts()]
    assert kept == list(range(kept[0], SEGMENTS_MAX + 20)), "the newest stay"
    assert open_descriptors() <= before + SEGMENTS_MAX
    script.ends()
    assert open_descriptors() <= before


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_the_file_that_is_written_stays_whatever_the_bound(script: LogScript) -> None:
    script.starts(bytes_max=0)
    script.logs(1, 2)
    assert script.log.read([1, 2]) == [a_record(1), a_record(2)]
    script.ends()


# -- replays --------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", TOPICS)
def test_a_replay_gives_every_event_from_the_one_asked_for(script: LogScript, topic: str) -> None:
    script.starts()
    script.logs(*range(1, 6))
    assert script.replay(3, topic=topic, upto=6) == [replayed(3, 5, topic=topic)]
    assert script.replay(1, topic=topic, upto=6) == [replayed(1, 5, topic=topic)]
    script.ends()


def test_a_replay_of_what_is_still_to_come_is_empty(script: LogScript) -> None:
    script.starts()
    assert script.replay(1, upto=1) == [replayed(1, 0)]
    script.logs(1, 2)
    assert script.replay(3, upto=3) == [replayed(3, 2)]
    script.ends()


def test_a_replay_begins_in_the_middle_of_a_record(script: LogScript) -> None:
    script.starts()
    script.log.append(many_events(1, 4))
    script.log.append(many_events(5, 9))
    assert script.replay(3, upto=10) == [replayed(3, 9)]
    script.ends()


def test_a_long_replay_comes_in_parts(script: LogScript) -> None:
    script.starts()
    count = 2 * PORTION_BYTES_MAX // EVENT_BYTES
    script.log.append(many_events(1, count))
    parts = [part for part in script.replay(1, upto=count + 1) if isinstance(part, Replayed)]
    assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
    assert len(parts) > 2
    following = 1
    for part in parts:
        assert part.first == following
        assert len(encode(part)) < 2 * PORTION_BYTES_MAX
        following += len(part.events)
    assert following == count + 1
    script.ends()


def test_a_replay_holds_no_more_than_its_bound(
    script: LogScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.event_log.REPLAY_EVENTS_MAX", 3)
    script.starts()
    script.logs(*range(1, 8))
    assert script.replay(2, upto=8) == [replayed(2, 4)]
    script.ends()


def test_a_replay_works_in_steps_and_looks_no_further_back_than_it_must(
    script: LogScript,
) -> None:
    script.starts()
    script.logs(*range(1, 4 * SCAN_RECORDS + 1))
    last = 4 * SCAN_RECORDS
    assert list(script.log.replay("all", "e1", last, last + 1)) == [[replayed(last, last)]]
    steps = list(script.log.replay("all", "e1", SCAN_RECORDS, last + 1))
    assert steps[:-1] == [[]] * 3
    assert steps[-1] == [replayed(SCAN_RECORDS, last)]
    script.ends()


def test_a_replay_under_way_reads_no_file_that_was_dropped_meanwhile(
    script: LogScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.starts()
    script.logs(*range(1, SCAN_RECORDS + 2))
    steps = script.log.replay("all", "e1", 1, SCAN_RECORDS + 2)
    assert next(steps) == []
    monkeypatch.setattr("broker.event_log.SEGMENTS_MAX", 1)
    monkeypatch.setattr("broker.event_log.SEGMENT_BYTES_MAX", 1)
    script.logs(SCAN_RECORDS + 2)
    with pytest.raises(OSError, match="descriptor"):
        list(steps)
    script.ends()


def test_a_former_epoch_is_replayed_and_an_unknown_one_is_gone(script: LogScript) -> None:
    script.starts()
    script.logs(1, 2)
    script.ends()
    script.starts()
    script.logs(1)
    assert script.replay(1, epoch="e1") == [replayed(1, 2)]
    assert script.replay(3, epoch="e1") == [replayed(3, 2)]
    assert script.replay(1, epoch="never") == [Gone("all", "never", 0)]
    script.ends()


def test_an_event_of_another_client_or_delegate_is_not_replayed(script: LogScript) -> None:
    script.starts()
    script.logs(1)
    for topic in ("c/another", "d/another"):
        assert script.replay(1, topic=topic, upto=1) == [Replayed(topic, "e1", 1, [], False)]
    script.ends()


@pytest.mark.parametrize(
    ("first", "answer"),
    [
        (1, [replayed(1, 2, more=True), Gone("all", "e1", 5)]),
        (3, [Gone("all", "e1", 5)]),
        (5, [replayed(5, 6)]),
    ],
)
def test_a_hole_is_told_with_the_next_event_that_is_kept(
    script: LogScript, first: int, answer: list[Replayed | Gone]
) -> None:
    script.starts()
    script.logs(1, 2)
    script.log.next_number += 2  # as two appends that failed leave it
    script.logs(5, 6)
    assert script.replay(first, upto=7) == answer
    script.ends()


def test_what_was_never_written_at_the_end_is_gone(script: LogScript) -> None:
    script.starts()
    script.logs(1)
    assert script.replay(1, upto=4) == [replayed(1, 1, more=True), Gone("all", "e1", 4)]
    assert script.replay(2, upto=4) == [Gone("all", "e1", 4)]
    script.ends()


def test_what_the_bound_has_dropped_is_gone(
    script: LogScript, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.event_log.SEGMENT_BYTES_MAX", 1)
    script.starts(bytes_max=400)
    script.logs(*range(1, 31))
    oldest = next(n for n in range(1, 31) if script.log.read([n]))
    assert 1 < oldest < 30
    assert script.replay(1, upto=31) == [Gone("all", "e1", oldest)]
    assert script.replay(oldest, upto=31) == [replayed(oldest, 30)]
    script.ends()
