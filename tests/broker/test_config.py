"""Settings and addresses: what is taken, what is refused, and that a refusal says where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.config import (
    IPC_PATH_BYTES_MAX,
    Endpoints,
    Settings,
    default_state_dir,
    is_local,
    load_settings,
    resolve_endpoints,
)
from broker.errors import Misconfigured
from broker.event_log import LOG_BYTES_MAX


def refused(*words: str) -> pytest.RaisesExc[Misconfigured]:
    """A refusal whose text has all these words, in this order."""
    return pytest.raises(Misconfigured, match=".*".join(re.escape(word) for word in words))


# -- forgepool.toml -------------------------------------------------------------------------------


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == Settings()
    assert Settings().event_log_bytes == LOG_BYTES_MAX


def test_the_file_of_the_state_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / "forgepool.toml").write_text(
        'workers = 7\nblock_preparation = "ahead"\n[endpoints]\nevents = "tcp://127.0.0.1:7002"\n'
        '[curve.clients]\nalice = "key"\n'
    )
    settings = load_settings(tmp_path)
    assert (settings.workers, settings.block_preparation) == (7, "ahead")
    assert settings.endpoints == Endpoints(events="tcp://127.0.0.1:7002")
    assert settings.curve.clients == {"alice": "key"}


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    (tmp_path / "forgepool.toml").write_text("workers = 7")
    named = tmp_path / "another.toml"
    with refused(str(named), "no such file"):
        load_settings(tmp_path, named)
    named.write_text("workers = 3")
    assert load_settings(tmp_path, named).workers == 3


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"workers = ", ""),
        (b"workers = 2\nworkers = 3", ""),
        (b'node = "\xff"', "utf-8"),
        (b'workers = "two"', "$.workers"),
        (b"workers = -1", "$.workers"),
        (b"workers = 1025", "$.workers"),
        (b"worker = 2", "worker"),
        (b'block_preparation = "never"', "$.block_preparation"),
        (b'block_preparation = "ahead\\n"', "$.block_preparation"),
        (b"drain_timeout_s = -0.5", "$.drain_timeout_s"),
        (b"drain_timeout_s = nan", "$.drain_timeout_s"),
        (b"event_log_bytes = 1000", "$.event_log_bytes"),
        (b"[endpoints]\nreqests = 'tcp://127.0.0.1:1'", "reqests"),
        (b"[curve]\nclients = 'alice'", "$.curve.clients"),
    ],
)
def test_a_file_that_says_nonsense_is_refused_with_its_name_and_the_place(
    tmp_path: Path, content: bytes, where: str
) -> None:
    file = tmp_path / "forgepool.toml"
    file.write_bytes(content)
    with refused(str(file), where):
        load_settings(tmp_path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "forgepool.toml").mkdir()
    with refused("forgepool.toml", "directory"):
        load_settings(tmp_path)


def test_the_state_directory_is_told_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORGEPOOL_STATE_DIR", str(tmp_path))
    assert default_state_dir() == tmp_path
    monkeypatch.setenv("FORGEPOOL_STATE_DIR", "")
    assert default_state_dir() == Path.home() / ".forgepool"
    monkeypatch.delenv("FORGEPOOL_STATE_DIR")
    assert default_state_dir() == Path.home() / ".forgepool"


# -- addresses ------------------------------------------------------------------------------------


def test_a_socket_without_an_address_is_in_the_state_directory() -> None:
    chosen = resolve_endpoints(Path("/state"), Endpoints(admin="tcp://127.0.0.1:7001"))
    assert chosen == Endpoints(
        requests="ipc:///state/run/requests.ipc",
        admin="tcp://127.0.0.1:7001",
        events="ipc:///state/run/events.ipc",
        workers="ipc:///state/run/workers.ipc",
    )


def test_a_relative_state_directory_is_one_place_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_endpoints(Path("s"), Endpoints()).admin == f"ipc://{tmp_path}/s/run/admin.ipc"


@pytest.mark.parametrize("letter", ["x", "é"])
def test_an_ipc_path_has_as_many_bytes_as_the_system_allows(letter: str) -> None:
    room = IPC_PATH_BYTES_MAX - len("/")
    path = "/" + letter * (room // len(letter.encode()))
    resolve_endpoints(Path("/s"), Endpoints(events=f"ipc://{path}"))
    with refused("the events socket's path has", "bytes", "107", "--state-dir"):
        resolve_endpoints(Path("/s"), Endpoints(events=f"ipc://{path}xx"))


def test_a_state_directory_too_deep_for_its_sockets_is_refused() -> None:
    with refused("requests", "--state-dir"):
        resolve_endpoints(Path("/" + "deep/" * 20), Endpoints())


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:7001",
        "tcp://*:7001",
        "tcp://127.0.0.1:*",
        "tcp://[::1]:65535",
        "inproc://x",
    ],
)
def test_an_address_of_a_known_form_is_taken(address: str) -> None:
    assert resolve_endpoints(Path("/s"), Endpoints(requests=address)).requests == address


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1",
        "tcp://:7001",
        "tcp://127.0.0.1:",
        "tcp://127.0.0.1:http",
        "tcp://127.0.0.1:65536",
        "tcp://",
        "ws://127.0.0.1:7001",
        "TCP://127.0.0.1:7001",
        "127.0.0.1:7001",
        "/run/requests.ipc",
        "ipc://",
        "ipc://@abstract",
    ],
)
def test_an_address_that_is_none_is_refused_with_the_sockets_name(address: str) -> None:
    with refused("requests", address):
        resolve_endpoints(Path("/s"), Endpoints(requests=address))


@pytest.mark.parametrize(
    "address",
    ["ipc:///run/x.ipc", "inproc://x", "tcp://127.0.0.1:1", "tcp://127.9.9.9:1", "tcp://[::1]:1",
     "tcp://localhost:1"],
)  # fmt: skip
def test_only_this_machine_reaches_a_local_address(address: str) -> None:
    assert is_local(address)


@pytest.mark.parametrize(
    "address",
    ["tcp://*:1", "tcp://0.0.0.0:1", "tcp://[::]:1", "tcp://10.0.0.1:1", "tcp://[fe80::1]:1",
     "tcp://eth0:1", "tcp://example.org:1", "tcp://127.0.0.1.example.org:1",
     "tcp://localhost.example.org:1", "tcp://:1"],
)  # fmt: skip
def test_whatever_may_be_reached_from_elsewhere_is_not_local(address: str) -> None:
    assert not is_local(address)
