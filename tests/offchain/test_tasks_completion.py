"""What Tab offers in `forgepool tasks`, asked as a shell asks."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from workers.offchain.application import Application
from workers.offchain.commands import KeepTask, TakeEpoch
from workers.offchain.journal.journal import Journal, Places
from workers.offchain.journal.journal_tables import JOURNAL_NAME
from workers.offchain.records import TaskRecord, TaskState
from workers.tasks_command import tasks

APPLICATION = Application("c" * 64, "a" * 64)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A journal with a dead and a waiting task, and two operators in the settings."""
    (tmp_path / "forgepool.toml").write_text(
        "[tasks.operators.price]\npath = 'x'\n[tasks.operators.echo]\npath = 'y'"
    )
    with closing(Journal(tmp_path / JOURNAL_NAME, Places(total=2))) as journal:
        journal.commit(
            [
                TakeEpoch(APPLICATION, 1),
                KeepTask(APPLICATION, TaskRecord(1, None, "echo", "", TaskState.DEAD)),
                KeepTask(APPLICATION, TaskRecord(2, None, "echo", "", TaskState.WAITING)),
            ],
            [],
        )
    return tmp_path


def offered(state_dir: Path, *words: str) -> list[str]:
    """What may stand in place of the last of the words."""
    command, *others, incomplete = words
    arguments = [command, "--state-dir", str(state_dir), *others]
    completion = ShellComplete(tasks, {}, "tasks", "_COMPLETE")
    return [item.value for item in completion.get_completions(arguments, incomplete)]


def test_tasks_are_offered_to_where_they_fit(state_dir: Path) -> None:
    assert offered(state_dir, "show", "") == ["aaaaaaaaaaaa:1", "aaaaaaaaaaaa:2"]
    assert offered(state_dir, "retry", "aa") == ["aaaaaaaaaaaa:1"]
    assert offered(state_dir, "drop", "b") == []


def test_applications_and_operators_are_offered(state_dir: Path) -> None:
    assert offered(state_dir, "list", "--application-id", "a") == ["a" * 64]
    assert offered(state_dir, "watch", "x", "--operator", "") == ["price", "echo"]
    assert offered(state_dir, "watch", "x", "--operator", "pr") == ["price"]


def test_where_nothing_can_be_read_nothing_is_offered(tmp_path: Path) -> None:
    assert offered(tmp_path, "show", "") == []
    (tmp_path / "forgepool.toml").write_text("[tasks")
    assert offered(tmp_path, "watch", "x", "--operator", "") == []
    assert offered(tmp_path, "unwatch", "") == []
