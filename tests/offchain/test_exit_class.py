"""What exit statuses mean, and what an operator is told of its task."""

from __future__ import annotations

import signal

import pytest
from msgspec.structs import replace

from broker.config import OperatorSettings
from workers.offchain.application import Application
from workers.offchain.commands import Run
from workers.offchain.ends import RunEnd
from workers.offchain.operators.exit_class import exit_class, seed_exit_text
from workers.offchain.operators.run_environment import idempotency_key, run_environment

PLAIN = OperatorSettings("p")
LIMITED = OperatorSettings("p", cpu_s=1)
ORDER = Run(1, Application("c" * 64, "a" * 64), 7, 1, "42", "echo", "input")


@pytest.mark.parametrize(
    ("status", "settings", "end"),
    [
        (0, PLAIN, RunEnd.OUTPUT),
        (1, PLAIN, RunEnd.TRANSIENT),
        (75, PLAIN, RunEnd.TRANSIENT),
        (64, PLAIN, RunEnd.PERMANENT),
        (65, PLAIN, RunEnd.PERMANENT),
        (78, PLAIN, RunEnd.PERMANENT),
        (78, OperatorSettings("p", permanent_exits=()), RunEnd.TRANSIENT),
        (3, OperatorSettings("p", permanent_exits=(3,)), RunEnd.PERMANENT),
        (126, PLAIN, RunEnd.CANNOT_START),
        (127, PLAIN, RunEnd.CANNOT_START),
        (255, PLAIN, RunEnd.TRANSIENT),
        (-signal.SIGSEGV, PLAIN, RunEnd.TRANSIENT),
        (-signal.SIGKILL, PLAIN, RunEnd.TRANSIENT),
        (-signal.SIGKILL, LIMITED, RunEnd.RESOURCES),
        (-signal.SIGXCPU, LIMITED, RunEnd.RESOURCES),
        (-signal.SIGXFSZ, PLAIN, RunEnd.RESOURCES),
        (-40, PLAIN, RunEnd.TRANSIENT),
    ],
)
def test_classes(status: int, settings: OperatorSettings, end: RunEnd) -> None:  # T31
    found, text = exit_class(status, settings)
    assert found is end
    assert (text == "") == (end is RunEnd.OUTPUT)


def test_the_source_systems_words() -> None:
    assert seed_exit_text("echo", 3) == "operator echo exited with status: exit status: 3"
    assert seed_exit_text("echo", -11) == "operator echo exited with status: signal: 11 (SIGSEGV)"


@pytest.mark.parametrize("attempt", [1, 2])
def test_attempts_at_a_task_have_one_key(attempt: int) -> None:
    again = replace(ORDER, run=99, attempt=attempt)
    assert idempotency_key(again, "host") == idempotency_key(ORDER, "host")


def test_other_tasks_have_other_keys() -> None:
    others = [
        replace(ORDER, application=Application("c" * 64, "b" * 64)),
        replace(ORDER, serial=8),
        replace(ORDER, group=None),
        replace(ORDER, group=""),
        replace(ORDER, operator="ech", input="oinput"),
        replace(ORDER, input="\ud800"),
    ]
    keys = [idempotency_key(order, "host") for order in [ORDER, *others]]
    keys.append(idempotency_key(ORDER, "another"))
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("group", [None, "with\0zero", "\ud800", "x" * 5000])
def test_an_id_that_cannot_be_a_variable_is_left_out(group: str | None) -> None:
    environment = run_environment(
        replace(ORDER, group=group),
        PLAIN,
        {},
        token="t",
        directory="/d",
        deadline_unix_s=None,
        origin="host",
    )
    assert "FORGEPOOL_TASK_ID" not in environment
    assert "FORGEPOOL_DEADLINE" not in environment, "there is none"
