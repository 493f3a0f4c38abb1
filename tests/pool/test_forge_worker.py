"""What the forge worker promises, in a real pool.

Two sources, both named at each test: the description of `Forge_worker` (Mavryk,
``src/proto_001_PtAtLas/lib_delegate/forge_worker.mli``), sentence by sentence, and upstream's own
tests (Tezos, ``src/proto_alpha/lib_delegate/test/workers/test_forge_worker.ml``), by number.
"""

from __future__ import annotations

import random
from contextlib import ExitStack

import pytest
from pool_process import PoolProcess, batch, names, noop, until

from broker.client import Client, new_id
from broker.messages import (
    ATTESTATION_READY,
    CANCELLED,
    FORGE_AND_SIGN_ATTESTATIONS,
    PREATTESTATION_READY,
    SIGN,
    SIGNED,
    Event,
    Request,
    Vote,
)
from broker.wire import encode

pytestmark = pytest.mark.process


def signing(client: Client, count: int, delegates: list[str]) -> list[bytes]:
    """Push so many requests to sign, in one message, over some delegates in turn."""
    requests = [
        Request(new_id(), SIGN, noop(f"{client.name} {i}"), delegates[i % len(delegates)])
        for i in range(count)
    ]
    client.push_all(requests)
    return [request.id for request in requests]


def events_of(client: Client, ids: list[bytes]) -> list[Event]:
    return [event for id in ids for event in client.wait(id)]


def queues(pool: PoolProcess) -> int:
    count: int = pool.status()["queues"]
    return count


# -- queues: "If the delegate's queue did not previously exist, it will be created" ---------------


def test_concurrent_requests_for_one_delegate_share_one_queue(pool: PoolProcess) -> None:
    """Upstream 1 and 3: a hundred concurrent uses of one delegate make one queue."""
    pool.serve()
    with ExitStack() as stack:
        clients = [stack.enter_context(pool.client(f"baker-{i}")) for i in range(5)]
        pushed = [(client, signing(client, 20, pool.delegates[:1])) for client in clients]
        for client, ids in pushed:
            assert names(events_of(client, ids)) == [SIGNED] * 20
    assert queues(pool) == 1


def test_each_delegate_has_a_queue_of_its_own(pool: PoolProcess) -> None:
    """Upstream 2 and 4: two hundred requests over five delegates in any order, five queues."""
    pool.serve()
    delegates = pool.delegates[:5]
    chosen = delegates + random.Random(4).choices(delegates, k=195)
    with pool.client() as client:
        assert queues(pool) == 0
        assert names(events_of(client, signing(client, 200, chosen))) == [SIGNED] * 200
    assert queues(pool) == 5


# -- "get_event_stream: onto which tasks completion results are pushed" ---------------------------


def test_a_batch_of_attestations_gives_one_event_for_each_delegate(running: PoolProcess) -> None:
    """Upstream 5."""
    with running.client() as client:
        events = client.wait(
            running.attest(client, running.next_level(), running.delegates[:3]), 5.0
        )
    assert names(events) == [ATTESTATION_READY] * 3
    assert {event.delegate for event in events} == set(running.delegates[:3])
    by_hash = {key.key_hash: key for key in running.keys}
    assert all(by_hash[event.delegate].has_signed(0x13, event.body) for event in events)


def test_a_batch_of_preattestations_gives_one_event_for_each_delegate(running: PoolProcess) -> None:
    """Upstream 6."""
    with running.client() as client:
        events = client.wait(
            running.preattest(client, running.next_level(), delegates=running.delegates[:3]), 5.0
        )
    assert names(events) == [PREATTESTATION_READY] * 3
    by_hash = {key.key_hash: key for key in running.keys}
    assert all(by_hash[event.delegate].has_signed(0x12, event.body) for event in events)


def test_one_request_per_delegate_gives_one_event_each_and_no_more(running: PoolProcess) -> None:
    """Upstream 8 and 10: none is missing, none comes twice."""
    level = running.next_level()
    with running.client() as client:
        ids = [running.attest(client, level, [delegate]) for delegate in running.delegates]
        events = events_of(client, ids)
        assert sorted(event.delegate for event in events) == sorted(running.delegates)
        assert names(events) == [ATTESTATION_READY] * 6
        # What is pushed later ends later: nothing of the earlier requests is still on its way.
        assert len(client.wait(running.attest(client, running.next_level()))) == 6
        assert client.poll() == []


# -- "only one request may be active per delegate at any time" ------------------------------------


def test_a_request_for_a_busy_delegate_waits_until_the_active_one_is_complete(
    pool: PoolProcess,
) -> None:
    """Description, Concurrency: it is "enqueued and only executed after the first one"."""
    slow = pool.delegates[0]
    pool.serve(delays_ms={slow: 300})
    with pool.client() as client:
        ids = [pool.attest(client, level, [slow]) for level in (10, 11, 12)]
        pool.wait_for_active(1)
        assert pool.status()["open_tasks"] == 3
        ended = []
        while len(ended) < 3:
            ended += [news.id for news in client.poll(0.05) if isinstance(news, Event)]
            assert pool.status()["active"] <= 1
    assert ended == ids, "in the order in which they were pushed"


def test_delegates_do_not_wait_for_each_others_signers(pool: PoolProcess) -> None:
    """Description: it "works concurrently on each delegate's tasks", here all on one worker."""
    hanging, *slow, quick = pool.delegates
    delays_ms = dict.fromkeys(slow, 300) | {hanging: 60_000}
    pool.serve(1, "--drain-timeout", "0.1", delays_ms=delays_ms)
    with pool.client() as client:
        hangs = pool.attest(client, 10, [hanging], ttl_ms=120_000)
        pool.wait_for_active(1)
        ids = [pool.attest(client, 10, [delegate]) for delegate in slow]
        assert names(client.wait(pool.attest(client, 10, [quick]))) == [ATTESTATION_READY]
        assert names(events_of(client, ids)) == [ATTESTATION_READY] * len(slow)
        assert client.session.wants(hangs)
        assert pool.terminate() == 1, "what hangs is cut short"


# -- "It is possible to cancel all pending tasks but not each delegate's active tasks" ------------


def test_cancelling_touches_what_is_pending_and_never_what_is_active(pool: PoolProcess) -> None:
    """Upstream 9, and the description's Cancellation."""
    slow = pool.delegates[0]
    pool.serve(delays_ms={slow: 800})
    with pool.client() as client:
        active, *pending = (pool.attest(client, 10, [slow], round=round) for round in range(3))
        pool.wait_for_active(1)
        done = client.cancel()
        assert (done.count, done.active) == (2, 1)
        assert names(events_of(client, pending)) == [CANCELLED] * 2
        assert names(client.wait(active)) == [ATTESTATION_READY]
        # Unlike upstream a cancelled vote has not touched its mark: it can be asked for again.
        assert names(client.wait(pool.attest(client, 10, [slow], round=2))) == [ATTESTATION_READY]


def test_all_pending_tasks_of_everybody_can_be_cancelled(pool: PoolProcess) -> None:
    """Description: "cancels all the worker's delegate queues pending tasks"."""
    # Active for as long as it takes to start a command on a busy machine.
    pool.serve(delays_ms=dict.fromkeys(pool.delegates, 4000))
    with pool.client("one") as one, pool.client("two") as two:
        ids = [pool.attest(one, 10, [delegate]) for delegate in pool.delegates]
        pool.wait_for_active(6)
        pending = pool.attest(two, 11)
        until(lambda: pool.status()["open_tasks"] == 12)
        assert pool.run("cancel", "--all").stdout == "cancelled=6 still_active=6\n"
        assert names(two.wait(pending)) == [CANCELLED] * 6
        assert names(events_of(one, ids)) == [ATTESTATION_READY] * 6


# -- "shutdown cancels all pending tasks but still waits for each active one to complete" ---------


def test_shutdown_cancels_what_is_pending_and_waits_for_what_is_active(pool: PoolProcess) -> None:
    slow, other = pool.delegates[:2]
    pool.serve(delays_ms={slow: 1000, other: 800})
    with pool.client() as client:
        active = [pool.attest(client, 10, [delegate]) for delegate in (slow, other)]
        pool.wait_for_active(2)
        pending = [pool.attest(client, 11, [delegate]) for delegate in (slow, other)]
        until(lambda: pool.status()["open_tasks"] == 4)
        pool.serving.terminate()
        assert names(events_of(client, pending)) == [CANCELLED] * 2
        assert names(events_of(client, active)) == [ATTESTATION_READY] * 2
    assert pool.serving.wait(10.0) == 0
    pool.wait_for_end(5.0)


def test_a_batch_is_taken_apart_into_each_delegates_own_tasks(pool: PoolProcess) -> None:
    """One delegate's slow signer holds up his own vote of a batch alone."""
    slow = pool.delegates[0]
    pool.serve(delays_ms={slow: 800})
    with pool.client() as client:
        id = new_id()
        votes = [Vote(delegate, slot) for slot, delegate in enumerate(pool.delegates)]
        client.push(Request(id, FORGE_AND_SIGN_ATTESTATIONS, encode(batch(10)), votes=votes))
        pool.wait_for_active(1)
        others = [news for news in client.poll() if isinstance(news, Event)]
        until(lambda: others.extend(client.poll()) or len(others) == 5)
        assert slow not in {event.delegate for event in others}
        assert [event.delegate for event in client.wait(id)] == [slow]
