"""`forgepool tasks` where no pool runs: what it says of settings, and which words it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from workers.tasks_command import tasks

A = "a" * 64


def run(directory: Path, *arguments: str) -> Result:
    done = CliRunner().invoke(tasks, [*arguments, "--state-dir", str(directory)])
    assert done.exception is None or isinstance(done.exception, SystemExit), "no traceback"
    return done


def configure(directory: Path, text: str) -> None:
    (directory / "forgepool.toml").write_text(text)


@pytest.mark.parametrize("words", [("list",), ("show", "a:1"), ("retry", "a:1"), ("drop", "a:1")])
def test_in_compat_mode_there_is_no_journal(tmp_path: Path, words: tuple[str, ...]) -> None:
    configure(tmp_path, "[tasks]\nmode = 'compat'")
    done = run(tmp_path, *words)
    assert done.exit_code == 1
    assert "compat" in done.stderr
    assert done.stdout == ""
