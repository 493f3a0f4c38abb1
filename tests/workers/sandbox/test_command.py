"""The command in a process of its own: how it starts, what it says, how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from signers.formats import base58
from signers.formats.networks import MAVRYK
from signers.keyring.curve import Curve
from signers.marks.watermark_store import WatermarkStore
from signers.marks.watermarks_command import watermarks
from workers.sandbox.accounts import SandboxKey, accounts_json, bakers_json, sandbox_keys
from workers.sandbox.command import sandbox

pytestmark = pytest.mark.process

RUN = "from workers.sandbox.command import sandbox; sandbox()"
WAIT_S = 20
NO_TLS = False  # all is plain HTTP here: the system's certificates need not be read for it


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Options that name the bakers and accounts of a chain."""
    bakers, accounts = tmp_path / "bakers.json", tmp_path / "accounts.json"
    bakers.write_text(json.dumps(bakers_json(sandbox_keys("s", "baker", 3), [10**12] * 3)))
    keys = sandbox_keys("s", "account", 2)
    accounts.write_text(
        json.dumps(
            accounts_json(keys[:1], 10**9, MAVRYK)
            + accounts_json(keys[1:], 10**9, MAVRYK, revealed=False)
        )
    )
    return ["--bakers", str(bakers), "--accounts", str(accounts), "--port", "0"]


@contextmanager
def running(options: list[str], **popen: Any) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """A sandbox process and the line that it printed when it was ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **popen,
    )
    try:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def test_what_the_system_refuses_is_told_in_a_sentence(files: list[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for options, says in (
            (["--port", port], "address already in use"),
            (["--ready-file", str(tmp_path / "none" / "ready")], "No such file"),
        ):
            done = subprocess.run(
                [sys.executable, "-c", RUN, *files, *options],
                capture_output=True, text=True, timeout=WAIT_S,
            )  # fmt: skip
            assert done.returncode == 1
            assert says in done.stderr
            assert "Traceback" not in done.stderr


def test_it_says_where_it_is_and_ends_on_sigterm(files: list[str], tmp_path: Path) -> None:
    ready_file = tmp_path / "ready.json"
    with running([*files, "--seed", "s", "--ready-file", str(ready_file)]) as (process, ready):
        assert ready["pid"] == process.pid
        url = ready["url"]
        assert url == f"http://127.0.0.1:{ready['port']}"
        assert httpx.get(f"{url}/chains/main/chain_id", verify=NO_TLS).json() == ready["chain_id"]
        assert json.loads(ready_file.read_text()) == ready
        contracts = httpx.get(
            f"{url}/chains/main/blocks/head/context/contracts", verify=NO_TLS
        ).json()
        assert len(contracts) == 5
        # A stream that is open does not hold it up.
        with httpx.stream("GET", f"{url}/monitor/heads/main", verify=NO_TLS) as heads:
            lines = heads.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            assert next(lines, None) is None
        assert process.wait(WAIT_S) == 0
        assert process.stderr is not None
        logged = process.stderr.read()
    assert f"listening host=127.0.0.1 port={ready['port']} chain_id={ready['chain_id']}" in logged
    assert "ending level=1" in logged


def test_the_seed_decides_the_chain(files: list[str]) -> None:
    def chain_of(*options: str) -> Any:
        with running([*files, *options]) as (_, ready):
            return ready["chain_id"], ready["seed"]

    one, other = chain_of(), chain_of()
    assert one != other
    assert chain_of("--seed", one[1]) == one


def test_it_ends_with_its_parent(files: list[str]) -> None:
    reading, writing = os.pipe()
    try:
        options = [*files, "--parent-pipe-fd", str(reading)]
        with running(options, pass_fds=[reading]) as (process, _):
            os.close(writing)
            writing = -1
            assert process.wait(WAIT_S) == 0
    finally:
        os.close(reading)
        if writing >= 0:
            os.close(writing)


def test_options_reach_the_chain(files: list[str]) -> None:
    options = [
        *files,
        *("--minimal-block-delay", "3", "--delay-increment", "2", "--committee-size", "64"),
        *("--consensus-threshold", "40", "--start-in", "100"),
        *("--constant", "max_operations_time_to_live=9", "--slow-ms", "/version=1"),
    ]
    with running(options) as (_, ready):
        head = f"{ready['url']}/chains/main/blocks/head"
        constants = httpx.get(f"{head}/context/constants", verify=NO_TLS).json()
        assert constants["minimal_block_delay"] == "3"
        assert constants["delay_increment_per_round"] == "2"
        assert constants["consensus_committee_size"] == 64
        assert constants["consensus_threshold"] == 40
        assert constants["max_operations_time_to_live"] == 9
        assert httpx.get(f"{ready['url']}/version", verify=NO_TLS).status_code == 200


def usage_error(*options: str) -> str:
    """What the command says about options that it does not take; no process is started."""
    result = CliRunner().invoke(sandbox, options)
    assert result.exit_code == 2, result.output
    return result.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--protocol", "ushuaia"], "mavryk has boreas or atlas, not ushuaia"),
        (["--constant", "nothing=1"], "boreas has no constant nothing"),
        (["--constant", "blocks_per_cycle=many"], "the value is not JSON"),
        (["--constant", 'blocks_per_cycle="8"'], "has no constant blocks_per_cycle like '8'"),
        (["--slow-ms", "version"], "a path and milliseconds are due"),
    ],
)
def test_what_cannot_be_is_said(files: list[str], options: list[str], words: str) -> None:
    assert words in usage_error(*files, *options)


BLS_BAKER = SandboxKey(bytes(range(32)), Curve.BLS)
BAKER = sandbox_keys("s", "baker", 1)[0]


@pytest.mark.parametrize(
    ("bakers", "words"),
    [
        ("{", "bakers: "),
        ("[]", "at least one baker"),
        ([{"public_key": "edpk", "stake": "1"}], "is not a public key"),
        ([{"public_key": BAKER.public_key_text, "stake": 0}], "has no stake"),
        ([{"public_key": BAKER.public_key_text, "stake": "-1"}], "not an amount"),
        (bakers_json([BAKER, BAKER], [1, 1]), "listed twice"),
        (bakers_json([BAKER], [10**18 * 9]), "out of range"),
        (bakers_json([BLS_BAKER], [1]), "under Boreas here bls keys do not bake"),
    ],
)
def test_a_file_of_bakers_that_is_none(tmp_path: Path, bakers: Any, words: str) -> None:
    file = tmp_path / "bakers.json"
    file.write_text(bakers if isinstance(bakers, str) else json.dumps(bakers))
    assert words in usage_error("--bakers", str(file), "--port", "0")


@pytest.mark.parametrize(
    ("account", "words"),
    [
        ({"balance": "1"}, "either a public_key or an address"),
        ({"balance": "1", "address": "tz1zorglub"}, "tz1zorglub"),
        ({"balance": "1", "adress": "mv1"}, "adress"),
        ({"balance": True, "address": "mv1"}, "accounts: "),
    ],
)
def test_an_account_that_is_none(
    files: list[str], tmp_path: Path, account: dict[str, Any], words: str
) -> None:
    file = tmp_path / "accounts.json"
    file.write_text(json.dumps([account]))
    assert words in usage_error(*files, "--accounts", str(file))


def test_the_doctor_of_watermarks_asks_it_as_any_node(files: list[str], tmp_path: Path) -> None:
    with running(files) as (_, ready):
        store, chain = tmp_path / "watermarks.db", ready["chain_id"]
        chain_id = base58.decode(base58.CHAIN_ID, chain)
        WatermarkStore.create(store, network="mavryk", chain_id=chain_id)
        words = ["doctor", "--node", ready["url"], "--state-dir", str(tmp_path), "--json"]
        result = CliRunner().invoke(watermarks, words)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["head"]["level"] == 1
