"""The CPU of each step of a vote, in one process: the pure cores and the wire, best of many rounds.

The best of many is nearly the same on a busy machine, where throughput says little. There is no
socket, no second process and no cold cache in it: the pool's own CPU per vote is about twice this.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from nacl.bindings import crypto_sign, crypto_sign_BYTES, crypto_sign_seed_keypair

from broker import wire
from broker.client_session import ClientSession
from broker.collector import tune_collector
from broker.dispatcher import Dispatcher
from broker.event_log import EventLog
from broker.messages import (
    CREDIT_US_DEFAULT,
    FORGE_AND_SIGN_ATTESTATIONS,
    PROTOCOL_VERSION,
    Request,
    Vote,
    VoteBatch,
    WorkerHello,
)
from signers.formats import base58
from signers.marks.watermark import FRESH
from signers.marks.watermark_store import WatermarkStore
from signers.policy.decision import Policy
from workers.pipeline import Committed, SigningBatch
from workers.worker import Worker

T = TypeVar("T")
VOTES = 256  # of a round: one message, one commit
REQUEST_VOTES = 64
CLIENT, PEER = "bench", b"worker"
CHAIN = b"bnch"
CHAIN_ID = base58.encode(base58.CHAIN_ID, CHAIN)
BRANCH = base58.encode(base58.BLOCK_HASH, bytes(32))
PAYLOAD_HASH = base58.encode(base58.PAYLOAD_HASH, bytes(32))


class OneProcess:
    """A client, a broker, a worker and a store without anything between them."""

    def __init__(self, directory: Path) -> None:
        self.keys = [f"mv1{os.urandom(17).hex()[:33]}" for _ in range(VOTES)]
        self.secret = crypto_sign_seed_keypair(bytes(32))[1]
        self.now, self.level = 1.0, 1
        self.best_s: dict[str, float] = {}
        WatermarkStore.create(directory / "watermarks.db", network="mavryk", chain_id=CHAIN)
        self.store = WatermarkStore.open(directory / "watermarks.db")
        with self.store.begin() as transaction:
            for key in self.keys:
                transaction.enable(key, key, floor=FRESH)
            transaction.commit()
        self.client = ClientSession(CLIENT)
        self.broker = Dispatcher("bench", 0.0, 0.0)
        self.broker.subscribed(f"c/{CLIENT}")
        self.log = EventLog(directory / "events", "bench")
        list(self.log.load())
        hello = WorkerHello(
            PROTOCOL_VERSION, "w0", 1, 1, self.store.uuid, "host", CREDIT_US_DEFAULT, "", []
        )
        self.worker = Worker(
            hello,
            holds_key=frozenset(self.keys).__contains__,
            is_elsewhere=frozenset[str]().__contains__,
            policy=Policy(),
        )
        self.worker.keys_known(self.keys)
        for _ in range(2):  # hello, then the keys
            for message in self.worker.end_turn(self.now).to_broker:
                self.broker.worker_message(PEER, message, self.now)
            for _, answer in self.broker.end_turn(self.now, self.now).to_workers:
                self.worker.broker_message(answer, self.now)

    def timed(self, step: str, work: Callable[[], T]) -> T:
        start = time.thread_time()  # without the wait for the disk, and for other people
        done = work()
        taken = time.thread_time() - start
        self.best_s[step] = min(taken, self.best_s.get(step, inf))
        return done

    def round(self) -> None:
        """Every key votes once, from the client's call to its news."""
        self.level += 1
        self.now += 0.001
        now, timed = self.now, self.timed
        payload = wire.encode(VoteBatch(CHAIN_ID, BRANCH, self.level, 0, PAYLOAD_HASH))
        requests = [
            Request(
                os.urandom(16),
                FORGE_AND_SIGN_ATTESTATIONS,
                payload,
                votes=[
                    Vote(key, slot) for slot, key in enumerate(self.keys[i : i + REQUEST_VOTES])
                ],
            )
            for i in range(0, VOTES, REQUEST_VOTES)
        ]
        pushed = timed("client: push", lambda: self._push(requests))
        push = timed("broker: decode push", lambda: wire.decode_client_message(pushed))
        timed("broker: accept", lambda: self.broker.client_message(None, push, now, now))
        turn = timed("broker: dispatch", lambda: self.broker.end_turn(now, now))
        [(_, assign)] = turn.to_workers
        assigned = timed("broker: encode assignment", lambda: wire.encode(assign))
        work = timed("worker: decode assignment", lambda: wire.decode_broker_message(assigned))
        timed("worker: bytes and digests", lambda: self.worker.broker_message(work, now))
        [batch] = timed("worker: batch", lambda: self.worker.end_turn(now)).to_store
        assert isinstance(batch, SigningBatch)
        verdicts = timed("store: judge and commit", lambda: self._commit(batch))
        timed("worker: verdicts", lambda: self.worker.judged(batch, verdicts, now))
        [jobs] = self.worker.end_turn(now).to_sign
        timed("signature", lambda: self._sign(jobs))
        self.worker.signed(jobs)
        self.worker.committed(Committed(batch), now)
        results = timed("worker: results", lambda: self.worker.end_turn(now)).to_broker[0]
        sent = timed("worker: encode results", lambda: wire.encode(results))
        got = timed("broker: decode results", lambda: wire.decode_worker_message(sent))
        timed("broker: results", lambda: self.broker.worker_message(PEER, got, now))
        turn = timed("broker: events", lambda: self.broker.end_turn(now, now))
        assert turn.record is not None
        record = turn.record
        timed("broker: log", lambda: self.log.append(record))
        published = timed("broker: encode events", lambda: wire.encode(turn.publish[0][1]))
        events = timed("client: decode events", lambda: wire.decode_events(published))
        timed("client: news", lambda: self.client.events(events, now))
        assert len(self.client.news) == VOTES
        self.client.news.clear()
        for _, message in turn.to_workers:
            self.worker.broker_message(message, now)
        self.store.fold_if_due()

    def _push(self, requests: list[Request]) -> bytes:
        for request in requests:
            self.client.push(request, self.now)
        [message] = self.client.to_send(self.now)
        return wire.encode(message)

    def _commit(self, batch: SigningBatch) -> Any:
        with self.store.begin() as transaction:
            verdicts = transaction.judge([(job.delegate, job.signable) for job in batch.jobs])
            transaction.commit()
        return verdicts

    def _sign(self, jobs: list[Any]) -> None:
        for job in jobs:
            job.signature = crypto_sign(job.signable.digest, self.secret)[:crypto_sign_BYTES]


def measure_steps(rounds: int = 400) -> dict[str, Any]:
    """Microseconds of each step for one vote, in batches of 256."""
    with tempfile.TemporaryDirectory(prefix="forgepool-bench-") as name:
        pool = OneProcess(Path(name))
        tune_collector()
        for _ in range(rounds):
            pool.round()
        pool.store.close()
        pool.log.close()
    found = {step: taken / VOTES * 1e6 for step, taken in pool.best_s.items()}
    parts = dict.fromkeys(("client", "broker", "worker", "store", "signature"), 0.0)
    for step, taken in found.items():
        parts[step.partition(":")[0]] += taken
    return {"us_per_vote": parts, "us_per_step": found}
