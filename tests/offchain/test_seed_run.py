"""Operators, run for real as the source system does it, with its weaknesses."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from broker.config import OperatorSettings
from tests.offchain.workshop import Runs, Workshop, until
from workers.offchain.ends import RunEnd
from workers.offchain.operators.operator_table import operator_table
from workers.offchain.operators.seed_run import SeedLauncher

KIB = 1024


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def test_an_operator_inherits_everything(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the wallet")
    workshop.script("show", 'echo "$SECRET"; pwd; cat')
    result = workshop.run("show", "input", seed=True)
    assert result.end is RunEnd.OUTPUT
    assert result.output == f"of the wallet\n{os.getcwd()}\ninput"


def test_output_that_is_not_utf_8_is_replaced(workshop: Workshop) -> None:  # T29
    workshop.script("bytes", r"printf '\377\376'")
    assert workshop.run("bytes", seed=True).output == "��"


def test_input_that_is_not_read_is_a_failure(workshop: Workshop) -> None:  # T27
    workshop.program("true", "/bin/true")

    async def story(runs: Runs) -> None:
        for _ in range(20):
            result = await runs.perform("true", "x" * 128 * KIB)
            assert (result.end, result.text) == (RunEnd.TRANSIENT, "Broken pipe (os error 32)")
        assert (await runs.perform("true")).end is RunEnd.OUTPUT

    workshop.play(story, seed=True)


def test_an_echo_of_much_input_never_ends(workshop: Workshop) -> None:  # T28
    workshop.program("cat", "/bin/cat")

    async def story(runs: Runs) -> None:
        small = await runs.perform("cat", "x" * 190_000)
        assert len(small.output) == 190_000
        run = runs.start("cat", "x" * 400_000)
        await asyncio.sleep(0.3)  # the cut-off: what hangs will not end in 0.3 s or ever
        assert not runs.has_ended(run)
        runs.runner.cancel(run)
        result = await runs.end(run)
        assert (result.end, result.text) == (RunEnd.CANCELLED, "was left alone")
        await until(lambda: not os.path.exists(f"/proc/{runs.pids[run]}"))

    workshop.play(story, seed=True)


def test_a_cancelled_run_goes_on(workshop: Workshop) -> None:
    workshop.script("sleeper", "while [ ! -e $HERE/go ]; do sleep 0.01; done; touch $HERE/went")

    async def story(runs: Runs) -> None:
        run = runs.start("sleeper")
        runs.runner.cancel(run)
        assert (await runs.end(run)).end is RunEnd.CANCELLED
        (workshop.directory / "go").touch()
        await until((workshop.directory / "went").exists)
        await until(lambda: not os.path.exists(f"/proc/{runs.pids[run]}"))

    workshop.play(story, seed=True)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("exit 1", "exit status: 1"),
        ("exit 78", "exit status: 78"),
        ("kill -KILL $$", "signal: 9 (SIGKILL)"),
    ],
)
def test_every_other_end_is_a_failure_to_repeat(  # T31
    workshop: Workshop, body: str, status: str
) -> None:
    workshop.script("ends", body)
    result = workshop.run("ends", seed=True)
    assert result.end is RunEnd.TRANSIENT
    assert result.text == f"operator ends exited with status: {status}"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/no/such/operator", "No such file or directory (os error 2)"),
        ("/etc/passwd", "Permission denied (os error 13)"),
        ("/etc", "Permission denied (os error 13)"),
        ("", "No such file or directory (os error 2)"),
    ],
)
def test_what_cannot_be_started_is_a_failure_to_repeat(  # T32
    workshop: Workshop, path: str, text: str
) -> None:
    async def told() -> None:
        runs = Runs(SeedLauncher(operator_table({"it": OperatorSettings(path)})), "")
        result = await runs.perform("it")
        assert (result.end, result.text) == (RunEnd.TRANSIENT, text)
        assert (await runs.perform("other")).text == "unsupported operator: other"
        await runs.runner.shutdown()

    asyncio.run(told())
