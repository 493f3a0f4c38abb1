"""The watch list on the disk: replaced as a whole, and never taken for empty when it is not."""

from __future__ import annotations

import os
import select
from contextlib import closing
from pathlib import Path

import pytest
from task_script import A, B

from broker.errors import UnreadableWatchList
from broker.watch_list import KeptList
from broker.watch_list_file import (
    FILE_NAME,
    WatchListWriter,
    read_watch_list,
    write_watch_list,
)

KEPT = KeptList(
    epochs=1000, settled=False, watched={A: None, B: ["echo"]}, controller=B, found={A: []},
    given={A: 7},
)  # fmt: skip


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_watch_list(tmp_path) == KeptList()
    for kept in (KEPT, KeptList(epochs=2000)):
        write_watch_list(tmp_path, kept)
        assert read_watch_list(tmp_path) == kept
    assert os.listdir(tmp_path) == [FILE_NAME]
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_a_write_that_was_cut_short_leaves_the_old_list(tmp_path: Path) -> None:
    write_watch_list(tmp_path, KEPT)
    (tmp_path / (FILE_NAME + ".new")).write_bytes(b'{"layout": 1, "epo')
    assert read_watch_list(tmp_path) == KEPT
    write_watch_list(tmp_path, KeptList())
    assert read_watch_list(tmp_path) == KeptList()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: text[: len(text) // 2],
        lambda text: text + b"}",
        lambda text: bytes(len(text)),
        lambda text: text.replace(b'"epochs"', b'"epoch"'),
        lambda text: text.replace(b"1000", b"-1"),
        lambda text: text.replace(b'"layout": 1', b'"layout": 2'),
        lambda text: text.replace(A.encode(), A[1:].encode()),
        lambda text: text.replace(b"echo", b"\xff\xfe"),
    ],
)
def test_a_file_that_is_not_ours_is_named_and_left_alone(tmp_path: Path, damage: object) -> None:
    write_watch_list(tmp_path, KEPT)
    file = tmp_path / FILE_NAME
    damaged = damage(file.read_bytes())  # type: ignore[operator]
    assert damaged != file.read_bytes()
    file.write_bytes(damaged)
    with pytest.raises(UnreadableWatchList, match=f"{FILE_NAME}.*restore"):
        read_watch_list(tmp_path)
    assert file.read_bytes() == damaged


def test_a_file_that_cannot_be_opened_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(UnreadableWatchList, match=FILE_NAME):
        read_watch_list(tmp_path)


def written(writer: WatchListWriter, kept: KeptList) -> str:
    writer.write(kept)
    assert select.select([writer.fileno()], [], [], 10)[0]
    return writer.result()


def test_the_writer_says_when_it_is_there_or_why_not(tmp_path: Path) -> None:
    with closing(WatchListWriter(tmp_path / "state")) as writer:
        assert written(writer, KEPT) == f"cannot write {FILE_NAME}: No such file or directory"
        (tmp_path / "state").mkdir()
        assert written(writer, KEPT) == ""
        assert read_watch_list(tmp_path / "state") == KEPT


def test_a_write_that_is_under_way_is_waited_for(tmp_path: Path) -> None:
    writer = WatchListWriter(tmp_path)
    writer.write(KEPT)
    writer.close()
    assert read_watch_list(tmp_path) == KEPT
