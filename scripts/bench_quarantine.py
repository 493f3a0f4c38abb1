"""What the quarantine can take: votes verified a second, a chain backwards, a flood, own duties.

All of it is the whole path by real processes: feeder (this one), quarantine, broker, one worker a
core, the store with its fsync, the event log, the events back at the feeder. A vote counts when its
`cleared` has come: it was verified and is stored, and its proposal was known.

The chain's first level has many rounds of a second each, all of them proposed: so there are enough
votes that nobody has seen. `bare` is as many processes as cores that do nothing but verify the same
signatures by PyNaCl, before and after each run. On a machine that others use too, five processes
get more of it than two: there the ratio of CPU times is the one to look at.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from itertools import cycle, islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import msgspec
import psutil
from bench_chain import VOTE_KINDS, BenchChain, Block
from bench_hostile import ITEMS_A_NAME, Hostile, forged
from nacl.bindings import crypto_sign_open

from broker.client import Client, new_id
from broker.config import Endpoints, QuarantineSettings, quarantine_endpoints
from broker.messages import HELD, Event, Request
from broker.quarantine.offers import (
    VERIFY_BLOCK,
    VERIFY_VOTE,
    VERIFY_VOTES,
    BlockOffer,
    VoteOffer,
    VotesOffer,
)
from signers.formats import base58, block_header
from workers.give_way import give_way

CORES = os.cpu_count() or 1
SPAWN = get_context("spawn")
DELEGATES, SLOTS = 400, 7000  # as many as the bounds are made for
ROUNDS_A_RUN = 20  # of the chain: 16,000 votes, a second and more
RUNS_MAX = 14  # a level with more votes than the table of offences holds is no network's
BARE_S = 1.0  # of each of the two bare runs around one of ours
UNDER_WAY = 4096  # items: enough for all workers and the store's commit
PUSH = 512
VOTES_AT_ONCE = 64  # in a request
PEERS = 32  # honest ones: each may send 4,096 votes a second, and 64 blocks at once
TTL_MS = 60_000
WAIT_S = 60.0

REVERSED_BLOCKS = 200
REVERSED_DELEGATES, REVERSED_SLOTS = 8, 256

HOSTILE = 100_000  # so many until all that is remembered is full, and as many measured
HONEST_EVERY = 100
HONEST_DEADLINE_S = 5.0  # half a round of the networks: a later vote is of little use
LOOK_EVERY = 1_000  # items
# A plateau: in the last quarter nothing is above the highest of the quarter before by more than
# this. Queues sway with the machine's load, and an allocator takes what it needs in steps.
PLATEAU_SHARE = 1.1
PLATEAU_RSS_BYTES = 2 * 1024 * 1024
PLATEAU_ENTRIES = 512

OWN_KEYS = 64
OWN_FLOOD_S = 5.0  # of each round
CLEARED = "cleared"

_encode = msgspec.msgpack.Encoder().encode
Signed = list[tuple[bytes, bytes, bytes]]  # key, digest, signature


class OwnPool(Protocol):
    """What `bench.Pool` can do."""

    state_dir: Path
    process: Any

    def latencies_s(self, count: int) -> list[float]: ...


StartPool = Callable[..., AbstractContextManager[OwnPool]]
Percentile = Callable[[list[float], float], float]


# -- the bare limit -------------------------------------------------------------------------------


def _verify_for(signed: Signed, seconds: float) -> tuple[float, float]:
    """Verifications a second of one process that does nothing else, and CPU seconds of each."""
    messages = [(signature + digest, key) for key, digest, signature in signed]
    done, start, cpu = 0, time.perf_counter(), time.process_time()
    while (taken := time.perf_counter() - start) < seconds:
        for message, key in messages:
            crypto_sign_open(message, key)
        done += len(messages)
    return done / taken, (time.process_time() - cpu) / done


def _longest_verification_s(signed: Signed) -> float:
    """CPU of the longest of all these, behind which an own vote may find itself."""
    longest = 0.0
    for key, digest, signature in signed:
        start = time.thread_time()
        crypto_sign_open(signature + digest, key)
        longest = max(longest, time.thread_time() - start)
    return longest


# -- feeding --------------------------------------------------------------------------------------


def request_of(item: bytes | Block, peer: str) -> Request:
    """What a feeder asks about a vote or a block."""
    if isinstance(item, bytes):
        kind, payload = VERIFY_VOTE, _encode(VoteOffer(peer, item))
    else:
        kind, payload = VERIFY_BLOCK, _encode(BlockOffer(peer, *item))
    return Request(new_id(), kind, payload, "any", ttl_ms=TTL_MS)


def requests_of(votes: list[bytes]) -> Iterator[Request]:
    """The same about many votes, some at once, from one peer after the other."""
    for place, some in enumerate(_batched(votes, VOTES_AT_ONCE)):
        offer = VotesOffer(f"p{place % PEERS}", some)
        yield Request(new_id(), VERIFY_VOTES, _encode(offer), "any", ttl_ms=TTL_MS)


def _batched(votes: list[bytes], count: int) -> Iterator[list[bytes]]:
    return (votes[at : at + count] for at in range(0, len(votes), count))


def feed(client: Client, requests: Iterable[Request], items_each: int = 1) -> Iterator[Event]:
    """Push them all, so many items under way at once; their ends, as they come."""
    queue, open_ = iter(requests), 0
    until = time.monotonic() + WAIT_S
    while True:
        due = list(islice(queue, min(PUSH, UNDER_WAY - open_) // items_each))
        open_ += len(due) * items_each
        if due:
            client.push_all(due)
        elif not open_:
            return
        for news in client.poll(0.0 if due else 1.0):
            if not isinstance(news, Event):
                raise SystemExit(f"the quarantine refused: {news}")
            if news.event != HELD:
                open_ -= 1
                until = time.monotonic() + WAIT_S
                yield news
        if time.monotonic() > until:
            raise SystemExit(f"{open_} items have had no end for {WAIT_S} s")


def _all_cleared(events: Iterable[Event]) -> None:
    others = Counter(f"{e.event} {e.code} {e.text}" for e in events if e.event != CLEARED)
    if others:
        raise SystemExit(f"not all are cleared: {others.most_common(5)}")


class Quarantine:
    """A running pool with its quarantine, a feeder of it, and its chain."""

    def __init__(self, pool: OwnPool, chain: BenchChain, client: Client, url: str) -> None:
        self.pool = pool
        self.chain = chain
        self.client = client
        self._url = url  # of the node
        self._rounds = 0  # that have a proposal

    def processes(self) -> dict[str, list[psutil.Process]]:
        """The pool's processes by part."""
        found: dict[str, list[psutil.Process]] = {"quarantine": [], "broker": [], "workers": []}
        for child in psutil.Process(self.pool.process.pid).children(recursive=True):
            command = child.cmdline()
            part = next((name for name in ("quarantine", "broker") if name in command), "workers")
            found[part].append(child)
        return found

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by part."""
        used = {"feeder": sum(os.times()[:2])}
        for part, processes in self.processes().items():
            used[part] = sum(sum(each.cpu_times()[:2]) for each in processes)
        return used

    def sizes(self) -> dict[str, int]:
        """Resident bytes of each part, and how full each area of the quarantine is."""
        found = {
            f"rss.{part}": sum(each.memory_info().rss for each in processes)
            for part, processes in self.processes().items()
        }
        gauges = self.client.status()["gauges"]
        assert isinstance(gauges, dict)
        return found | gauges

    def propose(self, rounds: int) -> list[bytes]:
        """Have so many more rounds' proposals cleared; the votes of all delegates for them."""
        first, self._rounds = self._rounds, self._rounds + rounds
        chain, activation = self.chain, self.chain.head
        blocks = [chain.block(activation, round_) for round_ in range(first, self._rounds)]
        offers = [request_of(block, f"p{n % PEERS}") for n, block in enumerate(blocks)]
        _all_cleared(feed(self.client, offers))
        votes = []
        for raw, _ in blocks:
            header = block_header.decode(raw)
            assert header.payload_hash is not None
            at = activation.hash, header.level, header.round, header.payload_hash
            for kind in VOTE_KINDS:
                votes += chain.votes_for(kind, *at)
        return votes

    def hostile(self) -> Hostile:
        return Hostile(self.chain, self.propose(2), self._rounds + ROUNDS_A_RUN)

    def give_to_node(self, block: Block) -> None:
        """The node follows what was cleared, as the pool's own node would."""
        header, passes = block
        operations = [
            [{"branch": _block_hash(each[:32]), "data": each[32:].hex()} for each in one_pass]
            for one_pass in passes
        ]
        body = msgspec.json.encode({"data": header.hex(), "operations": operations})
        path = f"{self._url}/injection/block?chain=main"
        with urllib.request.urlopen(urllib.request.Request(path, body), timeout=WAIT_S) as answer:
            answer.read()


def _block_hash(raw: bytes) -> str:
    return base58.encode(base58.BLOCK_HASH, raw)


def quarantine_of(pool: OwnPool) -> Endpoints:
    return quarantine_endpoints(pool.state_dir, QuarantineSettings())


@contextlib.contextmanager
def running_quarantine(start_pool: StartPool, chain: BenchChain) -> Iterator[Quarantine]:
    """A pool with a quarantine whose node is at the beginning of a chain."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-chain-")))
        url = stack.enter_context(chain.node(directory))
        options = ["--node", url, "--quarantine"]
        pool = stack.enter_context(
            start_pool(CORES, OWN_KEYS, chain_id=chain.id, serve_options=options)
        )
        client = stack.enter_context(Client(quarantine_of(pool), "feeder"))
        client.wait_live(WAIT_S)
        until = time.monotonic() + WAIT_S
        while client.status().get("head_level") is None:
            if time.monotonic() > until:
                raise SystemExit("the quarantine does not know its chain")
            time.sleep(0.05)
        yield Quarantine(pool, chain, client, url)


# -- what is measured -----------------------------------------------------------------------------


class BareVerifiers:
    """As many processes as cores, which verify when they are told to."""

    def __init__(self) -> None:
        self._processes = ProcessPoolExecutor(CORES, mp_context=SPAWN)

    def run(self, signed: Signed) -> tuple[float, float]:
        """Verifications a second of all together, and CPU microseconds of each."""
        found = list(self._processes.map(_verify_for, [signed] * CORES, [BARE_S] * CORES))
        return sum(rate for rate, _ in found), statistics.mean(cpu for _, cpu in found) * 1e6

    def close(self) -> None:
        self._processes.shutdown()


def measure_rate(start_pool: StartPool, rounds: int) -> dict[str, Any]:
    """Verified votes a second against the bare limit, and the CPU of a vote against bare CPU."""
    rounds = min(rounds, RUNS_MAX)
    chain = BenchChain("rate", DELEGATES, SLOTS, age_s=ROUNDS_A_RUN * (rounds + 2))
    runs: list[dict[str, float]] = []
    with (
        contextlib.closing(BareVerifiers()) as bare,
        running_quarantine(start_pool, chain) as quarantine,
    ):
        for run in range(rounds + 1):  # the first is to get warm
            votes = quarantine.propose(ROUNDS_A_RUN)
            signed = [chain.signed_message(vote) for vote in votes[:1000]]
            before, used, start = bare.run(signed), quarantine.cpu_s(), time.perf_counter()
            _all_cleared(feed(quarantine.client, requests_of(votes), VOTES_AT_ONCE))
            per_s = len(votes) / (time.perf_counter() - start)
            cpu = {part: s - used[part] for part, s in quarantine.cpu_s().items()}
            cpu_us = {part: s / len(votes) * 1e6 for part, s in cpu.items()}
            after = bare.run(signed)
            limit, bare_us = (statistics.mean(both) for both in zip(before, after, strict=True))
            if run:
                runs.append(
                    {
                        "per_s": per_s,
                        "bare_per_s": limit,
                        "ratio_to_bare": per_s / limit,
                        "bare_cpu_us": bare_us,
                        "cpu_ratio_to_bare": bare_us / sum(cpu_us.values()),
                        **{f"cpu_us_per_vote.{part}": us for part, us in cpu_us.items()},
                    }
                )
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def measure_reversed_chain(start_pool: StartPool) -> dict[str, Any]:
    """A chain pushed once, from its head down; the node follows what is cleared."""
    chain = BenchChain("reversed", REVERSED_DELEGATES, REVERSED_SLOTS, REVERSED_BLOCKS + 60)
    blocks = [chain.bake() for _ in range(REVERSED_BLOCKS)]
    offers = [request_of(block, f"p{n % PEERS}") for n, block in enumerate(blocks)]
    number = {offer.id: n for n, offer in enumerate(offers)}
    cleared, others = list[int](), Counter[str]()
    with running_quarantine(start_pool, chain) as quarantine:
        start = time.perf_counter()
        for event in feed(quarantine.client, reversed(offers)):
            if event.event == CLEARED:
                cleared.append(number[event.id])
                quarantine.give_to_node(blocks[cleared[-1]])
            else:
                others[f"{event.event} {event.code}"] += 1
        taken = time.perf_counter() - start
    return {
        "reverse_chain_cleared": len(cleared),
        "reverse_chain_in_level_order": cleared == sorted(cleared),
        "reverse_chain_other_ends": dict(others),
        "reverse_chain_s": taken,
    }


def measure_flood(start_pool: StartPool) -> dict[str, Any]:
    """Memory under hostile items, and what becomes of honest ones among them."""
    chain = BenchChain("flood", DELEGATES, SLOTS, age_s=600)
    ends, late, looks = Counter[str](), list[float](), list[dict[str, int]]()
    with running_quarantine(start_pool, chain) as quarantine:
        honest = iter(quarantine.propose(2 * HOSTILE // HONEST_EVERY // len(VOTE_KINDS) // 400 + 1))
        pushed_at: dict[bytes, float] = {}
        hostile = quarantine.hostile()

        def mixed() -> Iterator[Request]:
            for n, (item, name) in enumerate(islice(hostile.items(), 2 * HOSTILE)):
                yield request_of(item, name)
                if n % HONEST_EVERY == 0:
                    offer = request_of(next(honest), "honest")
                    pushed_at[offer.id] = time.monotonic()
                    yield offer

        start = time.perf_counter()
        for done, event in enumerate(feed(quarantine.client, mixed())):
            at = pushed_at.pop(event.id, None)
            if at is None:
                ends[event.event] += 1
            else:
                late.append(time.monotonic() - at if event.event == CLEARED else float("inf"))
            if done % LOOK_EVERY == 0:
                looks.append(quarantine.sizes())
        taken = time.perf_counter() - start
    higher = grown(looks[len(looks) // 2 :])
    rss = {name: look for name, look in looks[-1].items() if name.startswith("rss.")}
    return {
        "hostile_per_s": 2 * HOSTILE / taken,
        "hostile_ends": dict(ends),
        "honest": len(late),
        "honest_in_time": sum(each <= HONEST_DEADLINE_S for each in late),
        "honest_latest_s": max(late),
        "rss_plateau": not higher,
        "above_plateau": higher,
        "rss_mib": {name[4:]: size / 2**20 for name, size in rss.items()},
    }


def grown(looks: list[dict[str, int]]) -> dict[str, list[int]]:
    """What was higher in the last quarter than on its plateau: highest before, and then."""
    half = len(looks) // 2
    found = {}
    for name in looks[0]:
        before, last = (max(look[name] for look in part) for part in (looks[:half], looks[half:]))
        more = PLATEAU_RSS_BYTES if name.startswith("rss.") else PLATEAU_ENTRIES
        if last > before * PLATEAU_SHARE + more:
            found[name] = [before, last]
    return found


def _flood(endpoints: Endpoints, votes: list[bytes], seconds: float) -> float:
    """Forged votes, each of which costs a verification, for so long; how many a second.

    As nice as the quarantine, for what it stands for comes from other machines.
    """
    give_way()
    start = time.monotonic()

    def offers() -> Iterator[Request]:
        for n, vote in enumerate(cycle(votes)):
            if time.monotonic() > start + seconds:
                return
            yield request_of(forged(vote), f"{start} {n // ITEMS_A_NAME}")

    with Client(endpoints, "flood") as client:
        client.wait_live(WAIT_S)
        done = sum(1 for _ in feed(client, offers()))
    return done / (time.monotonic() - start)


def measure_own_votes(start_pool: StartPool, percentile: Percentile, rounds: int) -> dict[str, Any]:
    """The pool's own votes, one at a time, while its workers verify as fast as they can."""
    chain = BenchChain("own", DELEGATES, SLOTS, age_s=600)
    idle, flooded, rates = list[float](), list[float](), list[float]()
    with (
        ProcessPoolExecutor(1, mp_context=SPAWN) as processes,
        running_quarantine(start_pool, chain) as quarantine,
    ):
        pool = quarantine.pool
        votes = quarantine.propose(1)
        pool.latencies_s(50)
        for _ in range(rounds):
            idle += pool.latencies_s(300)
            before = _received(quarantine.client)
            flood = processes.submit(_flood, quarantine_of(pool), votes, OWN_FLOOD_S)
            while _received(quarantine.client) < before + UNDER_WAY and not flood.done():
                time.sleep(0.05)
            while not flood.done():
                flooded += pool.latencies_s(20)
            rates.append(flood.result())
        longest_s = _longest_verification_s([chain.signed_message(vote) for vote in votes])
    idle_s, flooded_s = percentile(idle, 0.99), percentile(flooded, 0.99)
    bound_s = max(3 * idle_s, idle_s + 2 * longest_s)
    return {
        "own_vote_idle_p50_ms": statistics.median(idle) * 1e3,
        "own_vote_idle_p99_ms": idle_s * 1e3,
        "own_vote_flood_p50_ms": statistics.median(flooded) * 1e3,
        "own_vote_flood_p99_ms": flooded_s * 1e3,
        "own_votes_in_flood": len(flooded),
        "flood_verified_per_s": statistics.median(rates),
        "longest_verification_ms": longest_s * 1e3,
        "own_vote_p99_bound_ms": bound_s * 1e3,
        "own_vote_p99_ratio": flooded_s / idle_s,
        "own_vote_p99_within_bound": flooded_s <= bound_s,
    }


def _received(client: Client) -> int:
    received = client.status()["received"]
    assert isinstance(received, int)
    return received


def measure_quarantine(
    start_pool: StartPool, percentile: Percentile, rounds: int
) -> dict[str, Any]:
    """All four, one after the other."""
    return {
        **measure_rate(start_pool, rounds),
        **measure_reversed_chain(start_pool),
        **measure_flood(start_pool),
        **measure_own_votes(start_pool, percentile, rounds),
    }
