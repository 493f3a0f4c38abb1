"""The table of operators, before anything runs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from broker.config import OperatorSettings
from workers.offchain.operators.operator_files import located, problems
from workers.offchain.operators.operator_table import Operator, limit_arguments, operator_table


@pytest.mark.parametrize(
    ("timeout_s", "highest_s", "expected"),
    [
        (10, None, [10, 20, 40, 80, 80]),
        (10, 25, [10, 20, 25, 25, 25]),
        (10, 10, [10, 10, 10, 10, 10]),
        (0, None, [math.inf] * 5),
    ],
)
def test_the_time_limit_grows_with_the_attempts(
    timeout_s: float, highest_s: float | None, expected: list[float]
) -> None:
    operator = Operator("it", OperatorSettings("p", timeout_s=timeout_s, timeout_max_s=highest_s))
    assert [operator.time_limit_s(attempt) for attempt in (1, 2, 3, 4, 10_000)] == expected


def test_limits_are_given_only_where_they_are_set() -> None:
    assert limit_arguments(OperatorSettings("p")) == []
    limited = OperatorSettings("p", cpu_s=5, file_bytes=0)
    assert limit_arguments(limited) == ["--cpu=5:6", "--fsize=0"]


def test_operators_are_located_once(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "it"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    paths = {"it": "it", "a": "bin/it", "b": "../x", "c": "/bin/cat", "d": "nowhere"}
    table = operator_table({name: OperatorSettings(path) for name, path in paths.items()})
    found = located(table, f"/nonexistent:{program.parent}", tmp_path)
    assert {name: operator.path for name, operator in found.items()} == {
        "it": str(program),
        "a": str(program),
        "b": str(tmp_path.parent / "x"),
        "c": "/bin/cat",
        "d": "nowhere",
    }


def test_what_cannot_be_run_is_found_before_it_is_needed(  # T32
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("no program")
    settings = {
        "good": OperatorSettings("/bin/cat"),
        "unknown": OperatorSettings("no-such-program"),
        "missing": OperatorSettings(f"{tmp_path}/missing"),
        "text": OperatorSettings(f"{tmp_path}/text"),
        "directory": OperatorSettings(str(tmp_path)),
        "limited": OperatorSettings("/bin/cat", cpu_s=1),
    }
    table = located(operator_table(settings), "/bin", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert problems(table) == [
        "operator 'unknown': no-such-program is not in PATH",
        f"operator 'missing': {tmp_path}/missing does not exist",
        f"operator 'text': {tmp_path}/text is not executable by us",
        f"operator 'directory': {tmp_path} is not a file",
        "operator 'limited': /bin/cat has limits, which need the program prlimit (of util-linux)",
    ]


@pytest.mark.parametrize(
    ("first_line", "missing"),
    [
        ("#!/bin/sh", ""),
        ("#! /bin/sh -e", ""),
        ("#!/usr/bin/env sh", ""),
        ("#!/usr/bin/env -S no-such-program -x", ""),  # env's own affair
        ("#!/no/such/interpreter -x", "/no/such/interpreter"),
        ("#!/bin/sh\r", "/bin/sh\r"),
        ("#!sh", "sh"),
        ("#!", ""),
        ("#!/usr/bin/env no-such-program", "no-such-program"),
    ],
)
def test_a_script_needs_its_interpreter(tmp_path: Path, first_line: str, missing: str) -> None:
    script = tmp_path / "script"
    script.write_bytes(f"{first_line}\nexit 0\n".encode())
    script.chmod(0o755)
    found = problems(operator_table({"it": OperatorSettings(str(script))}))
    assert found == [
        f"operator 'it': {script} needs the interpreter {each!r}, which cannot be executed"
        for each in [missing]
        if each
    ]
