"""The commands on wrong input: a sentence that says what to do, the right status, no traceback."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner
from pool_process import PoolProcess, an_empty_pool, batch, noop, until

from broker.client import RequestRefused, new_id
from broker.command import main
from broker.messages import FORGE_AND_SIGN_ATTESTATIONS, SIGN, Request, Vote

pytestmark = pytest.mark.process

WRONG_COMMAND_LINE = 2
MISCONFIGURED = 78


def payload(pool: PoolProcess, level: int) -> str:
    return json.dumps(
        {"chain_id": pool.chain_id, "branch": "B", "level": level, "round": 0, "payload_hash": "v"}
    )


# -- wrong command lines: nobody is asked ---------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["push", "attestations", "-d", "mv1", "--payload", "{}"], "no batch of votes"),
        (["push", "attestations", "-d", "mv1:x", "--payload", "PAYLOAD"], "slot"),
        (["push", "attestations", "-d", "mv1", "--payload", "{"], "no batch of votes"),
        (["push", "attestations", "-d", "mv1", "--payload", " "], "--payload is empty"),
        (["push", "block", "-d", "mv1", "--payload", "{"], "not JSON"),
        (["push", "sign", "-d", "mv1", "--payload", "zz"], "not hex"),
        (["push", "sign", "-d", "mv1", "-d", "mv2", "--payload", "03"], "one --delegate"),
        (["cancel"], "say what"),
        (["cancel", "--id", "00" * 16], "--client"),
        (["cancel", "--id", "zz", "--client", "me"], "not hex"),
        (["watch", "mv1QVrXoh32T4EadVM64DV9JW6BZpfE643oh"], "d/<delegate>"),
        (["watch", "c/"], "c/<client>"),
    ],
    ids=lambda value: None if isinstance(value, str) else " ".join(value),
)
def test_a_wrong_command_line_says_what_is_wrong(
    pool: PoolProcess, arguments: list[str], says: str
) -> None:
    given = [payload(pool, 7) if word == "PAYLOAD" else word for word in arguments]
    done = CliRunner().invoke(main, [*given, "--state-dir", str(pool.state_dir)])
    assert done.exit_code == WRONG_COMMAND_LINE
    assert isinstance(done.exception, SystemExit), "no traceback"
    assert says in done.stderr


# -- what cannot run ------------------------------------------------------------------------------


def test_serve_does_not_begin_without_a_store() -> None:
    with an_empty_pool() as pool:
        done = pool.run("serve", check=False)
        assert done.returncode == MISCONFIGURED
        assert "forgepool init" in done.stderr
        assert not pool.state_dir.exists(), "nothing is made"


@pytest.mark.parametrize("command", ["serve", "worker", "baker"])
@pytest.mark.parametrize("given", ["flag", "file"])
def test_a_node_is_named_by_a_url(pool: PoolProcess, command: str, given: str) -> None:
    if given == "file":
        pool.configure('node = "127.0.0.1:8732"')
    flag = ["--node", "127.0.0.1:8732"] if given == "flag" else []
    done = pool.run(command, *flag, check=False)
    assert done.returncode == MISCONFIGURED
    assert "http://HOST:PORT" in done.stderr


def test_an_address_that_others_reach_ends_serve_as_misconfigured(pool: PoolProcess) -> None:
    pool.configure('[endpoints]\nrequests = "tcp://0.0.0.0:*"')
    done = pool.run("serve", check=False)
    assert done.returncode == MISCONFIGURED
    assert "CURVE" in done.stderr


def test_a_state_directory_that_cannot_be_made_is_told_in_a_sentence() -> None:
    with an_empty_pool() as pool:
        pool.state_dir = Path("/proc/forgepool")
        done = pool.run("broker", check=False)
        assert done.returncode == 1
        assert "/proc/forgepool" in done.stderr
        assert "Traceback" not in done.stderr


def test_who_watches_a_pool_that_is_not_there_is_told_and_goes_on_waiting(
    pool: PoolProcess,
) -> None:
    watching = pool.start_command("watch", "--count", "1")
    pool.wait_for_log("Still waiting")
    pool.serve()
    until(lambda: watching.poll() is not None or push_noop(pool))
    assert watching.wait() == 0


def push_noop(pool: PoolProcess) -> None:
    with pool.client() as client:
        client.wait(client.push(Request(new_id(), SIGN, noop("news"), pool.delegates[0])))


# -- a running pool -------------------------------------------------------------------------------


def test_a_vote_that_the_protocol_cannot_carry_is_refused_at_once(running: PoolProcess) -> None:
    wrong, level = [Vote(running.delegates[0], 0x10000)], running.next_level()
    with running.client() as client:
        id = client.push_votes(FORGE_AND_SIGN_ATTESTATIONS, batch(level), wrong, ttl_ms=3_600_000)
        with pytest.raises(RequestRefused, match="malformed"):
            client.wait(id, 3600)
    done = running.run("push", "sign", "-d", "my key", "--payload", "03", check=False)
    assert done.returncode == 1
    assert "malformed" in done.stderr


def test_without_a_worker_status_says_so_and_what_was_pushed_can_be_cancelled(
    pool: PoolProcess,
) -> None:
    pool.start_command("broker")
    until(pool.status)
    shown = pool.run("status").stdout
    assert "no worker has joined" in shown
    assert not set("[]{}'") & set(shown), "it is written for people"
    what = ("-d", pool.delegates[0], "--payload", noop("news").hex(), "--client", "me")
    pushing = pool.start_command("push", "sign", *what)
    pool.wait_for_log("pushed id=")
    (id,) = re.findall(r"pushed id=(\w+) client=me", pool.log())
    until(lambda: "cancelled=1" in pool.run("cancel", "--client", "me", "--id", id).stdout)
    assert pushing.wait() == 1
    pool.signal(pool.broker_pid, signal.SIGTERM)
    pool.wait_for_end()
