"""Off-chain tasks in settings and flags: what they come to together, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner

from broker.applications import Watched
from broker.cli import broker, serve
from broker.config import OperatorSettings, TaskSettings, load_settings
from broker.errors import EXIT_MISCONFIGURED, Misconfigured
from broker.task_options import (
    TaskFlags,
    configured_applications,
    controller_key,
    parse_operator,
    with_task_options,
)

CHAIN, OTHER_CHAIN = "c" * 64, "d" * 64
A, B = "a" * 64, "b" * 64


def refused(*words: str) -> pytest.RaisesExc[Misconfigured]:
    """A refusal whose text has all these words, in this order."""
    return pytest.raises(Misconfigured, match=".*".join(re.escape(word) for word in words))


def settings_of(text: str, directory: Path) -> TaskSettings:
    (directory / "forgepool.toml").write_text(text)
    return load_settings(directory).tasks


# -- the settings file ----------------------------------------------------------------------------


def test_a_table_of_operators_and_applications_is_read(tmp_path: Path) -> None:
    tasks = settings_of(
        f"""
        [tasks]
        chain_id = "{CHAIN}"
        [tasks.operators.echo]
        path = "/bin/cat"
        timeout_s = 5
        set_env = {{ LEVEL = "1" }}
        [tasks.operators.sum]
        path = "sha256sum"
        permanent_exits = []
        [tasks.applications.{A}]
        operators = ["echo"]
        [tasks.applications."{OTHER_CHAIN}/{B}"]
        operators = ["*"]
        """,
        tmp_path,
    )
    assert TaskFlags().applied_to(tasks) == tasks
    assert tasks.operators["echo"] == OperatorSettings(
        "/bin/cat", timeout_s=5, set_env={"LEVEL": "1"}
    )
    assert tasks.operators["sum"].permanent_exits == ()
    assert configured_applications(tasks) == [
        Watched(CHAIN + A, ["echo"]),
        Watched(OTHER_CHAIN + B, None),
    ]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[tasks]\nmode = 'careful'", "$.tasks.mode"),
        ("[tasks]\nretry_delay_s = 0", "$.tasks.retry_delay_s"),
        ("[tasks]\nmax_attempts = 0", "$.tasks.max_attempts"),
        ("[tasks]\nconcurrency = 0", "$.tasks.concurrency"),
        ("[tasks]\nsubmit_limit_s = 0", "$.tasks.submit_limit_s"),
        ("[tasks]\noperator = {}", "operator"),
        ("[tasks.operators.echo]\ntimeout_s = 1", "path"),
        ("[tasks.operators.echo]\npath = ''", "path"),
        ("[tasks.operators.'']\npath = 'cat'", "$.tasks.operators"),
        ("[tasks.operators.echo]\npath = 'cat'\ntimeout_s = -1", "timeout_s"),
        ("[tasks.operators.echo]\npath = 'cat'\noutput_bytes_max = 0", "output_bytes_max"),
        ("[tasks.operators.echo]\npath = 'cat'\npermanent_exits = [0]", "permanent_exits"),
        ("[tasks.operators.echo]\npath = 'cat'\nmemory_bytes = 0", "memory_bytes"),
        ("[tasks.applications.a]\n", "operators"),
        ("[tasks.applications.a]\noperators = []", "operators"),
    ],
)
def test_nonsense_is_refused_with_its_place(tmp_path: Path, text: str, where: str) -> None:
    with refused(where):
        settings_of(text, tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"node_service": "localhost:8080"}, ("node service", "localhost:8080")),
        ({"chain_id": "NetXdQprcVkpaWU"}, ("id of the chain", "64 digits")),
        ({"controller": A}, ("on which chain", "tasks.chain_id")),
        ({"controller": "me", "chain_id": CHAIN}, ("id of the application", "'me'")),
        ({"controller_owner": "0x1"}, ("0x1", "no controller", "--controller-id")),
        ({"retry_delay_s": 10.0, "retry_max_s": 9.0}, ("retry_max_s", "retry_delay_s = 10")),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    changes: dict[str, object], words: tuple[str, ...]
) -> None:
    with refused(*words):
        TaskFlags().applied_to(msgspec.structs.replace(TaskSettings(), **changes))


def test_an_application_cannot_use_an_operator_that_there_is_not(tmp_path: Path) -> None:
    text = f"[tasks.operators.echo]\npath='cat'\n[tasks.applications.'{CHAIN}/{A}']\n"
    tasks = settings_of(text + "operators = ['ehco']", tmp_path)
    with refused(A, "'ehco'"):
        TaskFlags().applied_to(tasks)
    assert TaskFlags(operators=("ehco=cat",)).applied_to(tasks)


def test_an_application_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    text = f"[tasks]\nchain_id='{CHAIN}'\n"
    for name in (A, f"{CHAIN}/{A}"):
        text += f"[tasks.applications.'{name}']\noperators = ['*']\n"
    with refused(A, "twice"):
        TaskFlags().applied_to(settings_of(text, tmp_path))


# -- flags ----------------------------------------------------------------------------------------


def test_flags_weigh_more_than_the_file(tmp_path: Path) -> None:
    tasks = settings_of(
        f"[tasks]\nnode_service='http://other:1'\nmode='compat'\nchain_id='{OTHER_CHAIN}'\n"
        f"[tasks.operators.echo]\npath='/bin/cat'\ntimeout_s=7\n"
        f"[tasks.applications.'{CHAIN}/{B}']\noperators=['echo']\n",
        tmp_path,
    )
    flags = TaskFlags((A,), ("echo=/bin/tac", "ls"), "http://here:2", CHAIN, mode="hardened")
    both = flags.applied_to(tasks)
    assert (both.node_service, both.mode) == ("http://here:2", "hardened")
    assert both.operators == {
        "echo": OperatorSettings("/bin/tac", timeout_s=7),
        "ls": OperatorSettings("ls"),
    }
    assert configured_applications(both) == [
        Watched(CHAIN + B, ["echo"]),
        Watched(CHAIN + A, None),
    ]


@pytest.mark.parametrize(
    "flags",
    [
        TaskFlags((f"{CHAIN}/{A}",)),
        TaskFlags(operators=("cat",)),
        TaskFlags(controller_id=CHAIN + A),
    ],
)
def test_the_default_node_service_is_asked_only_by_who_has_something_to_do(
    flags: TaskFlags,
) -> None:
    assert flags.applied_to(TaskSettings()).node_service == TaskSettings().node_service
    assert TaskFlags().applied_to(TaskSettings()).node_service == ""
    # Nor does a worker without operators take what its pool's other workers can perform.
    assert TaskFlags(node_service="http://h:1").applied_to(TaskSettings()).node_service == ""


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (OperatorSettings("p", timeout_s=9, timeout_max_s=8), "timeout_max_s is less"),
        (OperatorSettings("p", env=["A=B"]), "env: 'A=B' is no name"),
        (OperatorSettings("p", env=["HOME", ""]), "env: '' is no name"),
        (OperatorSettings("p", set_env={"A=B": "c"}), "'A=B' cannot be a variable"),
        (OperatorSettings("p", set_env={"": "c"}), "'' cannot be a variable"),
        (OperatorSettings("p", set_env={"A": "\0"}), "'A' cannot be a variable"),
        (OperatorSettings("p", set_env={"FORGEPOOL_RUN": "c"}), "FORGEPOOL_RUN is the pool's"),
    ],
)
def test_an_operator_s_settings_that_cannot_be_are_refused(
    settings: OperatorSettings, reason: str
) -> None:
    tasks = TaskSettings(operators={"it": settings})
    with refused("operator 'it'", reason):
        TaskFlags().applied_to(tasks)
    seed = msgspec.structs.replace(tasks, mode="compat")  # the source system bounds nothing
    assert TaskFlags().applied_to(seed) == seed


def test_a_controller_is_watched_too() -> None:
    flags = TaskFlags(chain_id=CHAIN, controller_id=A, controller_owner="0x1")
    tasks = flags.applied_to(TaskSettings())
    assert controller_key(tasks) == CHAIN + A
    assert configured_applications(tasks) == [Watched(CHAIN + A)]


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("a", ("a", "a")),
        ("a=b", ("a", "b")),
        ("a=b=c", ("a", "b=c")),
        ("=b", ("", "b")),
        ("a=", ("a", "")),
        ("", ("", "")),
    ],
)
def test_an_operator_is_split_at_the_first_sign(text: str, parsed: tuple[str, str]) -> None:
    assert parse_operator(text) == parsed


def test_what_the_source_system_takes_for_an_operator_compat_takes_too() -> None:  # T44
    flags = TaskFlags(operators=("=b", "a=", "", "x=1", "x=2"), mode="compat")
    table = flags.applied_to(TaskSettings()).operators
    assert {name: each.path for name, each in table.items()} == {"": "", "a": "", "x": "2"}


@pytest.mark.parametrize("operators", [("=b",), ("a=",), ("",), ("x=1", "x=2")])
def test_and_hardened_refuses_it(operators: tuple[str, ...]) -> None:  # T44
    with refused("--operator", repr(operators[-1])):
        TaskFlags(operators=operators).applied_to(TaskSettings())


def test_another_process_understands_the_flags_that_it_is_passed() -> None:
    flags = TaskFlags(
        (A, f"{CHAIN}/{B}"), ("echo=cat", "-x"), "http://h:1", OTHER_CHAIN, mode="compat"
    )
    assert _read(flags.arguments()) == flags
    assert _read(TaskFlags(controller_id=A).arguments()) == TaskFlags(controller_id=A)
    assert TaskFlags().arguments() == []


def _read(arguments: list[str]) -> TaskFlags:
    heard: list[TaskFlags] = []

    @click.command()
    @with_task_options
    def command(task_flags: TaskFlags) -> None:
        heard.append(task_flags)

    command.main(arguments, standalone_mode=False)
    return heard[0]


def test_an_operator_s_path_is_seen_from_where_the_command_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["a=./x", "b=ops/x=1", "./c", "d=/bin/cat", "e=cat", "sum"]
    heard = _read([f"--operator={each}" for each in given])
    assert heard.operators == (
        f"a={tmp_path}/x", f"b={tmp_path}/ops/x=1", f"./c={tmp_path}/c", "d=/bin/cat", "e=cat",
        "sum",
    )  # fmt: skip
    monkeypatch.chdir("/")
    assert _read(heard.arguments()) == heard


@pytest.mark.parametrize("command", [serve, broker])
def test_either_a_controller_or_applications(
    command: click.Command, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = CliRunner().invoke(
        command,
        ["--state-dir", str(tmp_path), "--application-id", f"{CHAIN}/{A}",
         "--controller-id", f"{CHAIN}/{B}"],
    )  # fmt: skip
    assert done.exit_code == EXIT_MISCONFIGURED
    assert "not both" in done.output
