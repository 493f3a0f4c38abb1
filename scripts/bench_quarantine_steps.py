"""The CPU of each step of a vote that is verified, in one process: quarantine, store and lane.

As with `bench_steps`, best of many rounds: it is nearly the same on a busy machine. There are no
sockets between the parts, no second process and no cold cache in it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import zmq
from bench_chain import VOTE_KINDS, BenchChain, Block
from bench_quarantine import request_of, requests_of
from nacl.bindings import crypto_sign_open

from broker import wire
from broker.collector import tune_collector
from broker.event_log import EventLog
from broker.messages import Ack, Acks, CheckAsked, Checked, Push
from broker.quarantine.bounds import Bounds
from broker.quarantine.event_stream import EventStream, Told
from broker.quarantine.notices import notices
from broker.quarantine.quarantine import Quarantine
from broker.quarantine.store import STORE_NAME, QuarantineStore
from broker.quarantine.store_thread import Forget
from broker.quarantine.turn import Turn
from broker.verification import CheckAnswer, CheckSlice
from signers.formats import block_header
from workers.verification.lane import Lane
from workers.verification.node_questions import (
    ChainTold,
    ChainWanted,
    Question,
    RightsTold,
    RightsWanted,
    RulesTold,
    StateTold,
    StateWanted,
    VoterTold,
)
from workers.verification.node_questions import Told as NodeAnswer

T = TypeVar("T")
CLIENT, EPOCH = "feeder", "bench"
SLICE_S = 0.002


class OneProcess:
    """A quarantine with store and events, and a worker's lane whose node is the chain itself."""

    def __init__(self, chain: BenchChain, directory: Path) -> None:
        self.chain = chain
        self.names = {
            key.address: key.address_text(chain.chain.rules.network) for key in chain.keys
        }
        self.now = 1.0
        self.spent_s: dict[str, float] = {}  # in this round
        self.best_s: dict[str, float] = {}
        bounds = Bounds.of(len(chain.keys))
        self.core = Quarantine(chain.id, bounds, self.now, time.time(), round_ms=10_000)
        self.store = QuarantineStore(directory / STORE_NAME, chain.id)
        self.log = EventLog(directory / "events", EPOCH)
        list(self.log.load())
        self.lane = Lane(
            chain.chain.rules.network, clock=time.monotonic, cpu=time.thread_time, has_node=True
        )
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._events, self._feeder = (self._context.socket(kind) for kind in (zmq.XPUB, zmq.SUB))
        self._events.bind("inproc://events")
        self._feeder.connect("inproc://events")
        self._feeder.subscribe(f"c/{CLIENT}")
        self.stream = EventStream(EPOCH, self.log, self._events)
        self._events.poll(1000)
        self.stream.read_subscriptions()

    def timed(self, step: str, work: Callable[..., T], *given: Any) -> T:
        start = time.thread_time()  # without the wait for the disk, and for other people
        done = work(*given)
        self.spent_s[step] = self.spent_s.get(step, 0.0) + time.thread_time() - start
        return done

    def round(self, items: Sequence[bytes | Block], *, counts: bool = True) -> None:
        """Push some items and go on until all are cleared; the best times of all rounds count."""
        core, timed, unix_now = self.core, self.timed, time.time()
        before = core.accounting.outcomes.of("cleared")
        self.spent_s = {}
        self.now += 1.0  # which gives each peer its tokens again
        votes = [item for item in items if isinstance(item, bytes)]
        requests = [request_of(item, "p") for item in items if not isinstance(item, bytes)]
        requests += requests_of(votes)
        pushed = wire.encode(Push(CLIENT, requests))
        push = timed("service: decode push", wire.decode_client_message, pushed)
        acks = timed("service: take", self._take, push, unix_now)
        timed("service: acknowledge", wire.encode, Acks(EPOCH, acks))
        while core.accounting.outcomes.of("cleared") < before + len(items):
            self.now += 0.001
            turn = timed("service: give out", core.end_turn, self.now, unix_now)
            self._tell(turn)
            if turn.slices:
                reply = timed(
                    "service: decode answers", wire.decode_reply, self._check(turn.slices)
                )
                assert isinstance(reply, Checked)
                timed("service: judge", core.answered, reply.answers, self.now, unix_now)
            if turn.batch is not None:
                timed("store: commit", self.store.commit, [turn.batch])
                timed("service: stored", core.stored, turn.batch.number, self.now, unix_now)
                self.stream.stored([turn.batch.number])
            timed("service: events", self.stream.flush, unix_now, lambda forget: None)
            while self._feeder.poll(0):
                self._feeder.recv_multipart()
        for step, taken in self.spent_s.items() if counts else ():
            self.best_s[step] = min(taken, self.best_s.get(step, inf))

    def _take(self, push: object, unix_now: float) -> list[Ack]:
        assert isinstance(push, Push)
        return [self.core.pushed(CLIENT, each, self.now, unix_now) for each in push.requests]

    def _tell(self, turn: Turn) -> None:
        number = 0 if turn.batch is None else turn.batch.number
        own = notices(turn)
        if turn.events or own or turn.forget:
            self.stream.tell(Told(number, turn.events + own, Forget(turn.forget, [])))

    def _check(self, slices: list[CheckSlice]) -> bytes:
        """What a worker makes of slices; the message with its answers."""
        self.timed("service: encode slices", wire.encode, CheckAsked(slices))
        answers = self.timed("worker: lane and signatures", self._judge, slices)
        return wire.encode(Checked(EPOCH, answers, len(slices)))

    def _judge(self, slices: list[CheckSlice]) -> list[CheckAnswer]:
        lane = self.lane
        for each in slices:
            lane.take(each, self.now)
        while lane or lane.questions:
            lane.work(self.now, SLICE_S)
            questions, lane.questions = lane.questions, []
            for asked in questions:
                lane.answered(asked.number, self._answer(asked.question), self.now)
        answers, lane.answers = lane.answers, []
        return answers

    def _answer(self, question: Question) -> NodeAnswer:
        """What a node at the beginning of the chain says."""
        rules, head, names = self.chain.chain.rules, self.chain.head, self.names
        constants = rules.constants
        match question:
            case RightsWanted():
                voters = [
                    VoterTold(names[owner], names[owner], rules.consensus_keys[owner], slots)
                    for owner, slots in rules.rights.committee(question.level).slots.items()
                ]
                return RightsTold(question.level, voters)
            case StateWanted():
                return StateTold(0, [head.hash], [])
        told = RulesTold(
            rules.genesis.protocol.hash,
            constants.minimal_block_delay_s,
            constants.delay_increment_per_round_s,
            constants.proof_of_work_threshold,
            constants.hard_gas_limit_per_block,
            constants.hard_gas_limit_per_operation,
            constants.hard_storage_limit_per_operation,
            constants.consensus_committee_size,
            constants.consensus_threshold,
            constants.max_operations_time_to_live,
            constants.max_operation_data_length,
        )
        if isinstance(question, ChainWanted):
            return ChainTold(told, head.hash, [head.raw_header], len(names), self.chain.id)
        return told

    def close(self) -> None:
        self.store.close()
        self.log.close()
        self._feeder.close()
        self._events.close()
        self._context.term()


def _bare_s(chain: BenchChain, votes: list[bytes]) -> float:
    signed = [(signature + d, key) for key, d, signature in map(chain.signed_message, votes)]
    start = time.thread_time()
    for message, key in signed:
        crypto_sign_open(message, key)
    return time.thread_time() - start


def measure_quarantine_steps(
    rounds: int = 30, delegates: int = 400, slots: int = 7000
) -> dict[str, Any]:
    """Microseconds of each step for one vote, pushed with those of all other delegates."""
    chain = BenchChain("steps", delegates, slots, age_s=rounds + 60)
    bare_s = inf
    with tempfile.TemporaryDirectory(prefix="forgepool-bench-") as name:
        one = OneProcess(chain, Path(name))
        tune_collector()
        for round_ in range(rounds):
            block = chain.block(chain.head, round_)
            one.round([block], counts=False)
            header = block_header.decode(block[0])
            assert header.payload_hash is not None
            at = chain.head.hash, header.level, header.round, header.payload_hash
            for kind in VOTE_KINDS:
                votes = chain.votes_for(kind, *at)
                one.round(votes)
                bare_s = min(bare_s, _bare_s(chain, votes))
        one.close()
    count = len(chain.chain.rules.rights.committee(2).slots)
    found = {step: taken / count * 1e6 for step, taken in one.best_s.items()}
    lane_us = found.pop("worker: lane and signatures") - bare_s / count * 1e6
    return {"service_us_per_vote": sum(found.values()), "lane_us_per_vote": lane_us, "steps": found}
