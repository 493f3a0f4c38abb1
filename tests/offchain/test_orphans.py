"""What runs have left behind is ended, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from workers.offchain.operators.orphans import end_orphans, processes_of_runs
from workers.offchain.operators.process_table import ProcessIdentity, boot_id, process_row

PATIENCE_S = 60.0


def wait_until(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.002)


def is_alive(pid: int) -> bool:
    row = process_row(pid)
    return row is not None and not row.has_ended


def identity_of(pid: int) -> ProcessIdentity:
    row = process_row(pid)
    assert row is not None
    return row.identity


@pytest.fixture
def token(tmp_path: Path) -> Iterator[str]:
    token = f"orphans-{os.getpid()}-{tmp_path.name}"
    yield token
    assert end_orphans({token}) == []


def start(command: str, token: str | None, *, own_group: bool = True) -> subprocess.Popen[bytes]:
    """A shell with the token of a run, or without one."""
    environment = {"PATH": os.environ["PATH"]} | ({"FORGEPOOL_RUN": token} if token else {})
    return subprocess.Popen(
        ["/bin/sh", "-c", command], env=environment, process_group=0 if own_group else None
    )


RUNNER = """
import asyncio, os, sys
from pathlib import Path
from broker.config import OperatorSettings
from tests.offchain.workshop import APPLICATION
from workers.offchain.commands import Run
from workers.offchain.operators.launcher import OperatorLauncher
from workers.offchain.operators.operator_runner import OperatorRunner
from workers.offchain.operators.operator_table import operator_table
from workers.offchain.operators.scratch import Scratch

async def main(path, scratch, token):
    table = operator_table({"it": OperatorSettings(path)})
    launcher = OperatorLauncher(table, Scratch(Path(scratch)), os.environ, "origin")
    runner = OperatorRunner(launcher, print, print)
    runner.start(Run(1, APPLICATION, 1, 1, None, "it", "x" * 200_000), token)
    await asyncio.sleep(3600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.process
def test_operators_of_a_killed_runner_are_found_by_their_token(tmp_path: Path, token: str) -> None:
    """T40. One hides behind a double fork in a session of its own, one has no token any more."""
    operator = tmp_path / "operator"
    operator.write_text(
        "#!/bin/sh\n"
        f"cd {tmp_path}\n"
        "trap '' TERM HUP PIPE\n"
        "setsid sh -c '(echo $$ > hidden.new; mv hidden.new hidden; sleep 1000; :) &'\n"
        "env -i sh -c 'echo $$ > bare.new; mv bare.new bare; exec sleep 1000' &\n"
        "echo $$ > leader.new; mv leader.new leader; sleep 1000; :\n"
    )
    operator.chmod(0o755)
    root = Path(__file__).parents[2]
    runner = subprocess.Popen(
        [sys.executable, "-c", RUNNER, str(operator), str(tmp_path / "scratch"), token],
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    stranger = start("exec sleep 1000", None)
    names = ("hidden", "bare", "leader")
    try:
        wait_until(lambda: all((tmp_path / name).exists() for name in names))
        runner.kill()
        runner.wait()
        leader, bare = (int((tmp_path / name).read_text()) for name in ("leader", "bare"))
        assert is_alive(leader), "nobody has ended it"
        found = {row.pid for row in processes_of_runs({token})}
        assert {leader, bare} < found
        assert end_orphans({token}, grace_s=0.05) == []
        assert not any(is_alive(pid) for pid in found)
        assert is_alive(stranger.pid)
    finally:
        runner.kill()
        stranger.kill()
        stranger.wait()
        runner.wait()


def test_an_orphan_may_end_in_peace(tmp_path: Path, token: str) -> None:
    ready, tidied = tmp_path / "ready", tmp_path / "tidied"
    command = f"trap 'touch {tidied}; exit 0' TERM; touch {ready}; while :; do sleep 0.01; done"
    orphan = start(command, token)
    wait_until(ready.exists)
    assert end_orphans({token}, grace_s=PATIENCE_S) == []
    assert tidied.exists()
    orphan.wait()


def test_only_the_whole_token_counts(token: str) -> None:
    other = start("exec sleep 1000", f"{token}0")
    try:
        assert end_orphans({token, ""}) == []
        assert is_alive(other.pid)
    finally:
        other.kill()
        other.wait()


def test_a_group_that_a_run_has_only_joined_is_not_the_runs(token: str) -> None:
    """Somebody starts a program with a token by hand: his shell is not ours to end."""
    shell = start(f"FORGEPOOL_RUN={token} sleep 1000 & sleep 1000; :", None)
    ours = start("exec sleep 1000", token, own_group=False)
    try:
        wait_until(lambda: len(processes_of_runs({token})) == 2)
        assert end_orphans({token}) == []
        assert is_alive(shell.pid)
        assert ours.wait() == -signal.SIGKILL, "it is in the group of this test"
    finally:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


def test_a_leader_is_known_by_number_and_start(token: str) -> None:
    """It has emptied its environment; the number alone may be another's by now."""
    leader = start("sleep 1000 & exec env -i sleep 1000", None)
    try:
        known = identity_of(leader.pid)
        wait_until(lambda: "sleep" in Path(f"/proc/{leader.pid}/comm").read_text())
        earlier = ProcessIdentity(known.pid, known.started - 1, boot_id())
        assert end_orphans(set(), [earlier]) == []
        assert is_alive(leader.pid)
        members = {row.pid for row in processes_of_runs(set(), [known])}
        assert leader.pid in members
        assert end_orphans(set(), [known]) == []
        assert not any(is_alive(pid) for pid in members)
    finally:
        os.killpg(leader.pid, signal.SIGKILL)
        leader.wait()


def test_a_process_with_an_odd_name_has_a_row(tmp_path: Path, token: str) -> None:
    program = tmp_path / "a ) R (b"
    program.symlink_to("/bin/sleep")
    odd = subprocess.Popen([program, "1000"])
    try:
        wait_until(lambda: ")" in Path(f"/proc/{odd.pid}/comm").read_text())
        row = process_row(odd.pid)
        assert row is not None
        assert (row.group, row.has_ended) == (os.getpgrp(), False)
    finally:
        odd.kill()
        wait_until(lambda: not is_alive(odd.pid))
        odd.wait()
    assert process_row(odd.pid) is None
