"""`forgepool tasks` where no pool runs: what it says of settings, and which words it refuses."""

from __future__ import annotations

import errno
import os
from contextlib import closing
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from broker.errors import EXIT_MISCONFIGURED
from broker.place import Place, at_a_place
from workers.offchain.application import Application
from workers.offchain.commands import KeepTask, TakeEpoch
from workers.offchain.journal.journal import Journal, Places
from workers.offchain.journal.journal_tables import JOURNAL_NAME
from workers.offchain.records import TaskRecord, TaskState
from workers.tasks_command import tasks

A = "a" * 64
WRONG_COMMAND_LINE = click.UsageError.exit_code


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


OPERATORS = """
[tasks.operators.price]
path = "price"
[tasks.operators.echo]
path = "/bin/cat"
"""


def test_a_mistake_in_an_operator_s_table_is_told_with_its_name(tmp_path: Path) -> None:
    configure(tmp_path, f"{OPERATORS}memmory_bytes = 1\n[tasks.operators.last]\npath = 'x'")
    done = run(tmp_path, "check")
    assert done.exit_code == EXIT_MISCONFIGURED
    assert "[tasks.operators.echo]" in done.stderr
    assert "memmory_bytes" in done.stderr


def test_a_pipe_is_no_program_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o700)
    done = run(tmp_path, "check", "--operator", f"echo={tmp_path / 'pipe'}")
    assert done.exit_code == 1
    assert done.stderr == f"problem: operator 'echo': {tmp_path / 'pipe'} is not a file\n"


@pytest.mark.parametrize("flag", ["--node-service", "--controller-owner"])
def test_an_empty_flag_is_no_flag_that_was_left_out(tmp_path: Path, flag: str) -> None:
    done = run(tmp_path, "check", flag, "")
    assert done.exit_code == WRONG_COMMAND_LINE
    assert f"{flag} is empty" in done.stderr


@pytest.mark.parametrize("flag", ["--application-id", "--chain-id", "--controller-id"])
@pytest.mark.parametrize("id", ["", "xyz", A[1:], A.upper(), f"/{A}", f"{A}/b"])
def test_an_id_that_is_none_is_a_wrong_command_line(tmp_path: Path, flag: str, id: str) -> None:
    done = run(tmp_path, "check", flag, id)
    assert done.exit_code == WRONG_COMMAND_LINE
    assert flag in done.stderr
    assert "is not 64 digits of 0-9a-f" in done.stderr


def test_a_mistake_in_an_application_s_table_is_told_with_its_id(tmp_path: Path) -> None:
    configure(tmp_path, f"{OPERATORS}[tasks.applications.{A}]\noperators = 'echo'")
    done = run(tmp_path, "check")
    assert done.exit_code == EXIT_MISCONFIGURED
    assert f"[tasks.applications.{A}]" in done.stderr


def test_check_shows_what_a_run_may_use(tmp_path: Path) -> None:
    configure(
        tmp_path,
        "[tasks.operators.cat]\npath = '/bin/cat'\ntimeout_s = 3\nconcurrency = 2\ncpu_s = 7",
    )
    done = run(tmp_path, "check")
    assert done.exit_code == 0
    assert "timeout 3 to 24 s, at once 2" in done.stdout
    assert "cpu_s 7" in done.stdout


def test_check_warns_of_a_file_that_the_system_cannot_execute(tmp_path: Path) -> None:
    (tmp_path / "price").write_text("echo 1\n")
    (tmp_path / "price").chmod(0o700)
    configure(tmp_path, "[tasks.operators.price]\npath = './price'")
    done = run(tmp_path, "check")
    assert done.exit_code == 0
    assert "warning: operator 'price'" in done.stderr
    (tmp_path / "price").write_text("#!/bin/sh\necho 1\n")
    assert "warning" not in run(tmp_path, "check").stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["list", "--application-id", "xyz"], "'xyz' is no id"),
        (["list", "--application-id", ""], "'' is no id"),
        (["resume", "xyz"], "the id of the application is not 64 digits"),
        (["forget", f"x/{A}"], "the id of the chain is not 64 digits"),
        (["watch", "deadbeef", "--any-operator"], "the id of the application is not 64 digits"),
        (["watch", A, "--any-operator", "--operator", "echo"], "contradict"),
        (["watch", A], "say what they may use"),
        (["watch", A, "--operator", ""], "--operator is empty"),
        (["unwatch", "deadbeef"], "the id of the application is not 64 digits"),
        (["unwatch", A, "--chain-id", "c"], "the id of the chain is not 64 digits"),
        (["show", ":1"], "names no task"),
        (["show", "price"], "names no task"),
        (["retry", "a:1", "xyz:2"], "'xyz:2' names no task"),
        (["drop", "a:1", "a:"], "'a:' names no task"),
    ],
)
def test_wrong_words_are_told_before_anybody_is_asked(
    tmp_path: Path, words: list[str], says: str
) -> None:
    done = run(tmp_path, *words)
    assert done.exit_code == WRONG_COMMAND_LINE
    assert says in done.stderr


def test_an_application_alone_needs_a_chain_of_the_settings(tmp_path: Path) -> None:
    done = run(tmp_path, "watch", A, "--any-operator")
    assert done.exit_code == EXIT_MISCONFIGURED
    assert "on which chain?" in done.stderr


def test_a_task_that_is_held_up_is_shown_with_what_it_waits_for(tmp_path: Path) -> None:
    application = Application("c" * 64, A)
    with closing(Journal(tmp_path / JOURNAL_NAME, Places(total=2))) as journal:
        dead = KeepTask(application, TaskRecord(1, "it", "echo", "", TaskState.DEAD))
        behind = KeepTask(application, TaskRecord(2, "it", "echo", ""))
        journal.commit([TakeEpoch(application, 1), dead, behind])
    assert run(tmp_path, "list", "--state", "waiting").stdout == (
        "waiting    aaaaaaaaaaaa:2  echo  group it  0 attempts  held up by task 1\n"
    )
    assert f"held_up_by   {application}:1\n" in run(tmp_path, "show", "a:2").stdout
    assert "held up" not in run(tmp_path, "list", "--state", "dead").stdout
    # However people write the application.
    for id in (A, application.chain_id, str(application), application.key):
        assert len(run(tmp_path, "list", "--application-id", id).stdout.splitlines()) == 2
    assert run(tmp_path, "list", "--application-id", "b").stdout == ""


def test_a_reader_that_has_enough_hears_no_complaint(tmp_path: Path) -> None:
    @click.command()
    @at_a_place
    def talks(place: Place) -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    done = CliRunner().invoke(talks, ["--state-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert done.stderr == ""
