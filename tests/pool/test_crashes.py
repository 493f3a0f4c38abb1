"""Killed, stopped and crash-looping processes: nothing is lost, nothing conflicting is signed."""

from __future__ import annotations

import signal
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from pool_process import END_S, PoolProcess, an_empty_pool, forgepool, names, until

from broker.client import Client
from broker.errors import EXIT_OCCUPIED
from broker.messages import ATTESTATION_READY, EVENT_REFUSED, FAILED, Event
from signers.marks.store_lock import lock_holder

pytestmark = pytest.mark.process


def only(active: dict[int, int]) -> int:
    """The pid of the one worker that has something active."""
    (pid,) = active
    return pid


# -- workers --------------------------------------------------------------------------------------


def test_what_a_killed_worker_had_ends_on_another(pool: PoolProcess) -> None:
    slow = pool.delegates[0]
    pool.serve(delays_ms={slow: 1000})
    with pool.client() as client:
        id = pool.attest(client, 10, [slow])
        killed = only(pool.wait_for_active(1))
        pool.signal(killed, signal.SIGKILL)
        until(lambda: pool.active_on().keys() - {killed}, what="the task on another worker")
        assert names(client.wait(id)) == [ATTESTATION_READY]
        assert names(client.wait(pool.attest(client, 11))) == [ATTESTATION_READY] * 6
        pool.wait_for_signing(2)  # the supervisor has started it again
        assert client.poll() == []


def test_the_keys_of_a_stopped_worker_move_and_nothing_conflicting_is_signed(
    pool: PoolProcess,
) -> None:
    slow = pool.delegates[0]
    pool.serve(delays_ms={slow: 1000})
    with pool.client() as client:
        id = pool.attest(client, 10, [slow])
        stopped = only(pool.wait_for_active(1))
        pool.signal(stopped, signal.SIGSTOP)
        others = pool.delegates[1:]
        assert names(client.wait(pool.attest(client, 10, others))) == [ATTESTATION_READY] * 5
        (vote,) = client.wait(id)
        assert vote.event == ATTESTATION_READY
        conflict = client.wait(pool.attest(client, 10, content="b"))
        assert names(conflict) == [EVENT_REFUSED] * 6
        assert {event.code for event in conflict} == {"watermark_conflict"}
        # It wakes with the task still in hand, or the supervisor has ended it: both are well.
        with suppress(psutil.NoSuchProcess):
            pool.signal(stopped, signal.SIGCONT)
        (again,) = client.wait(pool.attest(client, 10, [slow]))
        assert again.body == vote.body
        assert names(client.wait(pool.attest(client, 11))) == [ATTESTATION_READY] * 6


def test_a_worker_stopped_inside_the_stores_lock_does_not_stop_the_pool(pool: PoolProcess) -> None:
    pool.serve()
    with pool.client() as client:
        stopped = stop_a_lock_holder(pool, client)
        pool.sign_at(client, 1_000_000)
        assert not psutil.pid_exists(stopped)
        assert "it holds the store's lock for too long" in pool.log()
        pool.wait_for_signing(2)


def stop_a_lock_holder(pool: PoolProcess, client: Client) -> int:
    """Stop some worker while it holds the store's lock, by trying until that is so."""
    workers = set(pool.signing_pids().values())
    end = time.monotonic() + 60.0
    level = 10
    while time.monotonic() < end:
        level += 1
        id = pool.attest(client, level)
        while client.session.wants(id):
            client.poll(0.0)
            holder = lock_holder(pool.store)
            if holder is None or holder.pid not in workers:
                continue
            pool.signal(holder.pid, signal.SIGSTOP)
            process = psutil.Process(holder.pid)
            until(partial(lambda p: p.status() == psutil.STATUS_STOPPED, process))
            if lock_holder(pool.store) == holder:
                return holder.pid
            pool.signal(holder.pid, signal.SIGCONT)  # it let go before it stopped
    raise AssertionError("no worker was ever stopped inside the lock")


def test_a_crash_looping_worker_gives_its_keys_away(pool: PoolProcess) -> None:
    pool.serve()
    with pool.client() as client:
        level = 10
        for _ in range(5):  # deaths with growing pauses in between
            victim = until(lambda: pool.signing_pids().get("w1"))
            pool.signal(victim, signal.SIGKILL)
            level += 1
            assert names(client.wait(pool.attest(client, level))) == [ATTESTATION_READY] * 6
        assert pool.log().count("died name=w1") == 5
        assert "died name=w0" not in pool.log()


def test_a_request_under_which_three_workers_died_is_given_up(pool: PoolProcess) -> None:
    slow, other = pool.delegates[:2]
    pool.serve(delays_ms={slow: 60_000})
    with pool.client() as client:
        poison = pool.attest(client, 10, [slow], ttl_ms=120_000)
        killed: set[int] = set()
        for _ in range(3):
            victim = until(lambda: pool.active_on().keys() - killed).pop()
            pool.signal(victim, signal.SIGKILL)
            killed.add(victim)
        (event,) = client.wait(poison)
        assert (event.event, event.code) == (FAILED, "poison")
        assert names(client.wait(pool.attest(client, 11, [other]))) == [ATTESTATION_READY]


def test_a_worker_without_the_keys_does_not_take_them_over(
    pool: PoolProcess, tmp_path: Path
) -> None:
    pool.serve()
    pool.start_command("worker", "--name", "keyless", "--base-dir", str(tmp_path / "nothing"))
    until(lambda: "keyless" in {w["name"] for w in pool.workers()})
    with pool.client() as client:
        for level in (10, 11):
            assert names(client.wait(pool.attest(client, level))) == [ATTESTATION_READY] * 6


def test_a_worker_with_another_store_signs_nothing_here(pool: PoolProcess) -> None:
    pool.serve()
    with an_empty_pool() as other, pool.client() as client:
        other.make(1)
        where = ("--state-dir", str(other.state_dir), "--broker", pool.endpoints.workers)
        pool.start(*forgepool("worker", "--name", "foreign", *where))
        for level in (10, 11):
            foreign = until(lambda: [w for w in pool.workers() if w["name"] == "foreign"])[0]
            assert not foreign["signs"]
            assert "watermark store" in foreign["why_not"]
            assert names(client.wait(pool.attest(client, level))) == [ATTESTATION_READY] * 6
            pool.signal(pool.broker_pid, signal.SIGKILL)  # whoever says hello first afterwards
            pool.wait_for_signing(2)


def test_a_worker_that_was_added_by_hand_ends_by_ctrl_c_when_its_work_is_done(
    pool: PoolProcess,
) -> None:
    slow = pool.delegates[0]
    pool.serve(0, delays_ms={slow: 500})
    worker = pool.start_command("worker", "--name", "by-hand")
    pool.wait_for_signing(1)
    with pool.client() as client:
        id = pool.attest(client, 10, [slow])
        pool.wait_for_active(1)
        worker.send_signal(signal.SIGINT)
        assert names(client.wait(id)) == [ATTESTATION_READY]
    assert worker.wait(END_S) == 0


# -- the broker -----------------------------------------------------------------------------------


def test_a_killed_broker_loses_no_request_and_ends_none_twice(pool: PoolProcess) -> None:
    pool.serve()
    with pool.client() as client, pool.client("witness") as witness:
        ids: list[bytes] = []
        ended: Counter[tuple[bytes, str, str]] = Counter()

        def push_some() -> None:
            if client.session.open < 20:
                ids.append(pool.attest(client, 10 + len(ids)))

        def hear(wait_s: float) -> None:
            for news in client.poll(wait_s):
                assert isinstance(news, Event), news
                ended[news.id, news.delegate, news.event] += 1

        until(lambda: push_some() or hear(0.0) or len(ended) > 300)
        pool.signal(pool.broker_pid, signal.SIGKILL)
        pool.attest(witness, 1_000_000)
        votes: list[Event] = []  # the other client goes on pushing while no broker is there
        until(lambda: push_some() or hear(0.01) or votes.extend(witness.poll()) or votes)
        assert set(names(votes)) == {ATTESTATION_READY}
        until(lambda: hear(0.1) or not client.session.open)
        hear(0.5)  # would more come?
    assert set(ended.values()) == {1}
    assert {(id, delegate) for id, delegate, _ in ended} == {
        (id, delegate) for id in ids for delegate in pool.delegates
    }
    # Behind the witness's mark they are refused; none has failed.
    assert {event for _, _, event in ended} <= {ATTESTATION_READY, EVENT_REFUSED}


def test_a_stopped_broker_is_replaced(pool: PoolProcess) -> None:
    pool.serve()
    stopped = pool.broker_pid
    with pool.client() as client:
        assert names(client.wait(pool.attest(client, 10))) == [ATTESTATION_READY] * 6
        pool.signal(stopped, signal.SIGSTOP)
        assert names(client.wait(pool.attest(client, 11))) == [ATTESTATION_READY] * 6
    assert pool.broker_pid != stopped
    assert pool.terminate() == 0


def test_a_second_broker_says_that_one_is_running(pool: PoolProcess) -> None:
    pool.serve(1)
    pid = pool.broker_pid
    for command in ("broker", "serve"):
        refused = pool.run(command, check=False)
        assert refused.returncode == EXIT_OCCUPIED, "a service manager may start it again"
        assert f"already running, pid {pid} is its broker" in refused.stderr
    with pool.client() as client:
        assert names(client.wait(pool.attest(client, 10))) == [ATTESTATION_READY] * 6
    assert "died" not in pool.log()


def test_a_socket_path_that_is_too_long_is_a_clear_error(pool: PoolProcess) -> None:
    pool.state_dir = pool.directory / ("x" * 100)
    pool.state_dir.mkdir()
    for command in ("serve", "broker", "worker", "status"):
        refused = pool.run(command, check=False)
        assert refused.returncode not in (0, None)
        assert "107" in refused.stderr
        assert "--state-dir" in refused.stderr
        assert "Traceback" not in refused.stderr


# -- the supervisor -------------------------------------------------------------------------------


def test_no_orphan_outlives_a_killed_supervisor(pool: PoolProcess) -> None:
    slow = pool.delegates[0]
    pool.serve(delays_ms={slow: 1000})
    with pool.client() as client:
        id = pool.attest(client, 10, [slow])
        pool.wait_for_active(1)
        pool.serving.kill()
        assert names(client.wait(id)) == [ATTESTATION_READY]  # they drain
    pool.wait_for_end(8.0)


def test_no_orphan_outlives_a_supervisor_killed_with_its_broker(pool: PoolProcess) -> None:
    slow = pool.delegates[0]
    pool.serve(delays_ms={slow: 1000})
    with pool.client() as client:
        pool.attest(client, 10, [slow])
        pool.wait_for_active(1)
        broker = pool.broker_pid
        pool.serving.kill()
        pool.signal(broker, signal.SIGKILL)
    pool.wait_for_end(15.0)


def test_a_second_signal_ends_a_drain_now(pool: PoolProcess) -> None:
    slow = pool.delegates[0]
    pool.serve(delays_ms={slow: 60_000})
    with pool.client() as client:
        pool.attest(client, 10, [slow], ttl_ms=120_000)
        pool.wait_for_active(1)
        pool.serving.terminate()
        until(lambda: pool.status().get("draining"))
        assert pool.serving.poll() is None
        pool.serving.send_signal(signal.SIGINT)
        assert pool.serving.wait(5.0) == 128 + signal.SIGINT, "something was cut short"
    pool.wait_for_end(5.0)


def test_a_drain_can_be_given_a_time_limit(pool: PoolProcess) -> None:
    slow = pool.delegates[0]
    pool.serve(2, "--drain-timeout", "0.5", delays_ms={slow: 60_000})
    with pool.client() as client:
        pool.attest(client, 10, [slow], ttl_ms=120_000)
        pool.wait_for_active(1)
        assert pool.terminate() == 1
    pool.wait_for_end(5.0)
