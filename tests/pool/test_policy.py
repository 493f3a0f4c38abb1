"""Policy and reload in a real pool: all workers or none, no restart, and nothing left behind."""

from __future__ import annotations

import json
import os
import pty
import signal
from collections.abc import Iterator

import psutil
import pytest
from pool_process import END_S, POLICY, PoolProcess, a_pool, forgepool, noop, until

from broker.client import Admin, new_id
from broker.messages import ATTESTATION_READY, SIGN, SIGNED, Event, Reloaded, Request

pytestmark = pytest.mark.process

NOTHING = "[default]\nkinds = []\n"
BROKEN = "[default]\nkinds = ['blok']\n"
ASKED = 'reload = "asked"\n'


def sign(pool: PoolProcess, delegate: str, client: str = "baker") -> Event:
    with pool.client(client) as connection:
        id = connection.push(Request(new_id(), SIGN, noop("text"), delegate))
        (event,) = connection.wait(id)
    return event


def reload(pool: PoolProcess, *, dry_run: bool = False) -> Reloaded:
    admin = Admin(pool.endpoints)
    try:
        return admin.reload(dry_run=dry_run)
    finally:
        admin.close()


def attest(pool: PoolProcess) -> set[str]:
    with pool.client() as client:
        return {event.event for event in client.wait(pool.attest(client, pool.next_level()))}


@pytest.fixture(scope="module")
def shared(template: PoolProcess) -> Iterator[PoolProcess]:
    with a_pool(template) as pool:
        pool.configure(ASKED)
        pool.serve()
        yield pool


@pytest.fixture
def asked(shared: PoolProcess) -> PoolProcess:
    """A pool that runs and takes changes when it is asked to; with the usual policy again."""
    shared.set_policy(POLICY)
    assert reload(shared).taken
    return shared


def test_without_a_policy_keys_sign_blocks_and_votes_only(pool: PoolProcess) -> None:
    (pool.state_dir / "policy.toml").unlink()
    pool.serve(1)
    assert attest(pool) == {ATTESTATION_READY}
    event = sign(pool, pool.delegates[0])
    assert (event.event, event.code) == ("refused", "policy")
    assert "rule 'default': it allows no operations" in event.text


def test_who_asks_decides(asked: PoolProcess) -> None:
    asked.set_policy(POLICY + 'clients = ["wallet-*"]\n')
    assert reload(asked).taken
    delegate = asked.delegates[0]
    assert sign(asked, delegate, "wallet-1").event == SIGNED
    assert "its clients are wallet-*, not baker" in sign(asked, delegate).text


def test_the_file_may_be_named(pool: PoolProcess) -> None:
    other = pool.directory / "other.toml"
    other.write_text(NOTHING)
    pool.serve(1, "--policy", str(other))
    assert attest(pool) == {"refused"}


def test_a_worker_does_not_start_with_a_broken_policy(pool: PoolProcess) -> None:
    pool.set_policy(BROKEN)
    done = pool.run("worker", check=False)
    assert done.returncode == 78
    assert "policy.toml: line 1, [default]: `kinds`: 'blok' is unknown" in done.stderr


def test_a_change_comes_into_force_by_itself(pool: PoolProcess) -> None:
    pool.serve()
    pids = pool.signing_pids()
    pool.set_policy(BROKEN)
    pool.wait_for_log("policy_unreadable")
    assert attest(pool) == {ATTESTATION_READY}, "the policy before stays in force"
    pool.set_policy(NOTHING)
    until(lambda: attest(pool) == {"refused"}, what="the new policy on all workers")
    assert pool.signing_pids() == pids, "without a restart"


def test_a_reload_is_for_keys_and_policy_and_all_workers(asked: PoolProcess) -> None:
    pids = asked.signing_pids()
    asked.on_files("keys", "generate", "late")
    asked.set_policy(NOTHING)
    plan = asked.run("reload", "--dry-run").stdout
    assert "keys added: mv1" in plan
    assert "rule 'default': kinds consensus -> none" in plan
    assert "could take it" in plan
    assert attest(asked) == {ATTESTATION_READY}, "nothing has changed yet"

    told = json.loads(asked.run("reload", "--json").stdout)
    assert (told["taken"], told["problem"]) == (True, "")
    assert [(w["name"], w.get("taken")) for w in told["workers"]] == [("w0", True), ("w1", True)]
    assert attest(asked) == {"refused"}
    asked.read_keys()
    assert sign(asked, asked.delegates[-1]).code == "policy", "the new key is known"
    assert "nothing changes" in asked.run("reload").stdout
    assert asked.signing_pids() == pids, "without a restart"


def test_what_one_worker_cannot_read_nobody_takes(asked: PoolProcess) -> None:
    asked.set_policy(BROKEN)
    refused = asked.run("reload", check=False)
    assert refused.returncode == 1
    assert refused.stdout.startswith("FAILED: a worker could not read it; nothing has changed")
    assert "line 1, [default]" in refused.stdout
    assert attest(asked) == {ATTESTATION_READY}


def test_workers_with_different_policies_take_neither(asked: PoolProcess) -> None:
    other = asked.directory / "other.toml"
    other.write_text(NOTHING)
    stranger = asked.start_command("worker", "--name", "x", "--policy", str(other))
    asked.wait_for_signing(3)
    done = reload(asked)
    stranger.terminate()
    assert stranger.wait(END_S) == 0
    until(lambda: len(asked.workers()) == 2, what="the stranger's leave")
    assert not done.taken
    assert "different policies" in done.problem


def test_a_stopped_worker_is_not_left_behind_with_the_old_policy(pool: PoolProcess) -> None:
    pool.configure(ASKED)
    pool.serve()
    stopped = pool.signing_pids()["w1"]
    pool.set_policy(NOTHING)
    pool.signal(stopped, signal.SIGSTOP)
    done = reload(pool)
    assert not done.taken or stopped not in {worker.pid for worker in done.workers}
    until(lambda: stopped not in pool.signing_pids().values(), what="the supervisor to end it")
    pool.wait_for_signing(2)
    assert reload(pool).taken
    assert attest(pool) == {"refused"}


def test_a_hangup_is_a_reload(pool: PoolProcess) -> None:
    pool.configure(ASKED)
    pool.serve()
    assert pool.serving is not None
    pids = pool.signing_pids()
    pool.set_policy(NOTHING)
    pool.serving.send_signal(signal.SIGHUP)
    pool.wait_for_log("reloaded workers=w0,w1")
    assert "kinds consensus -> none" in pool.log()
    assert attest(pool) == {"refused"}
    assert pool.signing_pids() == pids
    pool.set_policy(BROKEN)
    pool.serving.send_signal(signal.SIGHUP)
    pool.wait_for_log("reload_failed")
    assert attest(pool) == {"refused"}


def test_a_closed_terminal_ends_what_was_started_in_it(pool: PoolProcess) -> None:
    """A shell's hangup is no reload: the pool drains, as it does on Ctrl-C."""
    child, terminal = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the suite may run under nohup(1)
        os.execvpe(
            forgepool()[0],
            forgepool("serve", "--workers", "1", "--state-dir", str(pool.state_dir)),
            pool.environment,
        )
    pool.wait_for_signing(1)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    pool.wait_for_end()


def test_a_thousand_reloads_leave_nothing_behind(pool: PoolProcess) -> None:
    """Neither memory nor descriptors of broker and worker grow; upstream's took 14 months."""
    pool.configure(ASKED)
    pool.serve(1)
    processes = [psutil.Process(pid) for pid in (pool.broker_pid, *pool.signing_pids().values())]

    def held() -> list[tuple[int, int]]:
        return [(p.memory_info().rss, p.num_fds()) for p in processes]

    admin = Admin(pool.endpoints)
    try:
        for number in range(1, 1301):
            pool.set_policy(NOTHING if number % 2 else POLICY)
            done = admin.reload()
            assert (done.taken, len(done.changes)) == (True, 2)
            if number == 300:
                before = held()
    finally:
        admin.close()
    for (memory, descriptors), (memory_then, descriptors_then) in zip(before, held(), strict=True):
        assert descriptors_then <= descriptors
        assert memory_then - memory < 1024 * 1024, "less than a kilobyte a reload"


def test_a_disabled_key_stops_at_once_and_for_good(pool: PoolProcess) -> None:
    """Disabling needs no reload: the store knows, and still does after everything was killed."""
    pool.serve(1)
    delegate, *others = pool.delegates
    pool.on_files("keys", "disable", delegate)
    assert sign(pool, delegate).code == "key_disabled"
    assert sign(pool, others[0]).event == SIGNED
    for pid in pool.pids():
        pool.signal(pid, signal.SIGKILL)
    assert pool.serving is not None
    pool.serving.wait()
    pool.wait_for_end()
    pool.serve(1)
    assert sign(pool, delegate).code == "key_disabled"
