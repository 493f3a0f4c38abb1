"""Speed claims live here: each a ratio to a bare limit measured in the same run.

bare      as many processes as cores that do nothing but sign (libsodium through PyNaCl)
executor  what one would use instead: ProcessPoolExecutor, one task per vote
pool      `forgepool serve` with one worker per core, durable marks, this process as the client

Runs are interleaved and medians quoted, because the machine is shared and noisy.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import psutil
from bench_back_ends import TROUBLES, measure_back_ends
from bench_floor import running_hops
from bench_quarantine import measure_quarantine
from bench_quarantine_steps import measure_quarantine_steps
from bench_signers import measure_signers
from bench_steps import measure_steps
from bench_tasks import measure_tasks
from bench_unlock import measure_unlock
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair
from rich.console import Console
from rich.table import Table

from broker.client import Client, new_id
from broker.config import Endpoints, resolve_endpoints
from broker.messages import FORGE_AND_SIGN_ATTESTATIONS, Event, Request, Vote, VoteBatch
from broker.wire import encode
from signers.formats import base58
from signers.formats.signable import Kind
from signers.formats.vote import VoteTemplate
from signers.keyring.keystore import Keystore

CORES = os.cpu_count() or 1
CHAIN_ID = base58.encode(base58.CHAIN_ID, b"bnch")
BRANCH = base58.encode(base58.BLOCK_HASH, bytes(32))
PAYLOAD_HASH = base58.encode(base58.PAYLOAD_HASH, bytes(32))
SPAWN = get_context("spawn")
VOTES = VoteTemplate(Kind.ATTESTATION, b"bnch", bytes(32), 1, 0, bytes(32))


# -- the bare limit, and what one would use instead -----------------------------------------------


def _sign_for(seconds: float) -> tuple[float, float]:
    """Signatures per second of one process that does nothing else, and CPU (µs) of each."""
    _, secret = crypto_sign_seed_keypair(bytes(32))
    digest, count, start, used = bytes(32), 0, time.perf_counter(), time.process_time()
    while (taken := time.perf_counter() - start) < seconds:
        for _ in range(500):
            crypto_sign(digest, secret)
        count += 500
    return count / taken, (time.process_time() - used) / count * 1e6


def _sign_one(digest: bytes) -> bytes:
    return crypto_sign(digest, _EXECUTOR_SECRET)[:64]


_EXECUTOR_SECRET = crypto_sign_seed_keypair(bytes(32))[1]


class Rivals:
    """Bare signers and an executor, started once so that their start is not measured."""

    def __init__(self) -> None:
        self.bare = ProcessPoolExecutor(CORES, mp_context=SPAWN)
        self.executor = ProcessPoolExecutor(CORES, mp_context=SPAWN)
        self.bare_us: list[float] = []  # CPU of a signature, by run
        list(self.bare.map(_sign_for, [0.1] * CORES))
        list(self.executor.map(_sign_one, [bytes(32)] * 100))

    def bare_per_s(self, seconds: float) -> float:
        found = list(self.bare.map(_sign_for, [seconds] * CORES))
        self.bare_us += [us for _, us in found]
        return sum(per_s for per_s, _ in found)

    def executor_per_s(self, seconds: float) -> float:
        done, start = 0, time.perf_counter()
        while (taken := time.perf_counter() - start) < seconds:
            futures = [self.executor.submit(_sign_one, bytes(32)) for _ in range(500)]
            for future in futures:
                future.result()
            done += 500
        return done / taken

    def executor_latencies_s(self, count: int) -> list[float]:
        found = []
        for _ in range(count):
            start = time.perf_counter()
            self.executor.submit(_sign_one, bytes(32)).result()
            found.append(time.perf_counter() - start)
        return found

    def close(self) -> None:
        self.bare.shutdown()
        self.executor.shutdown()


def raw_sync_latencies_s(directory: Path, count: int) -> list[float]:
    """What one write and fdatasync cost on the disk that the store is on."""
    fd = os.open(directory / "raw", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, bytes(1 << 20), 0)
    os.fsync(fd)
    found = []
    for i in range(count):
        start = time.perf_counter()
        os.pwrite(fd, bytes(4096), 4096 * (i % 256))
        os.fdatasync(fd)
        found.append(time.perf_counter() - start)
    os.close(fd)
    return found


# -- the pool -------------------------------------------------------------------------------------


@dataclass
class Pool:
    """A running `forgepool serve` and a client of it."""

    process: subprocess.Popen[bytes]
    state_dir: Path
    endpoints: Endpoints
    delegates: list[str]
    client: Client
    chain_id: str = CHAIN_ID
    level: int = 1

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by part; ours is the client."""
        used = {"broker": 0.0, "workers": 0.0, "client": sum(os.times()[:2])}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            part = "broker" if "broker" in child.cmdline() else "workers"
            times = child.cpu_times()
            used[part] += times.user + times.system
        return used

    def votes_per_s(self, batch: int, seconds: float, *, outstanding: int) -> float:
        """Push batches of votes, `outstanding` votes under way, and count the signed ones."""
        client, delegates = self.client, self.delegates
        batches = [delegates[i : i + batch] for i in range(0, len(delegates), batch)]
        queue = self.batches(batches)
        open_votes = done = 0
        start = time.perf_counter()
        while (taken := time.perf_counter() - start) < seconds or open_votes:
            due = []
            while taken < seconds and open_votes + batch <= outstanding:
                request = next(queue)
                assert request.votes is not None
                open_votes += len(request.votes)
                due.append(request)
            if due:
                client.push_all(due)
            for news in client.poll(1.0):
                if not isinstance(news, Event) or news.event != "attestation_ready":
                    raise SystemExit(f"the pool did not sign: {news}")
                open_votes -= 1
                done += 1
        return done / (time.perf_counter() - start)

    def batches(self, batches: list[list[str]]) -> Iterator[Request]:
        while True:
            self.level += 1
            payload = encode(VoteBatch(self.chain_id, BRANCH, self.level, 0, PAYLOAD_HASH))
            for names in batches:
                votes = [Vote(name, slot) for slot, name in enumerate(names)]
                yield Request(new_id(), FORGE_AND_SIGN_ATTESTATIONS, payload, votes=votes)

    def latencies_s(self, count: int) -> list[float]:
        """One vote at a time, from push to event."""
        found = []
        queue = self.batches([[d] for d in self.delegates])
        for _ in range(count):
            request = next(queue)
            start = time.perf_counter()
            self.client.push(request)
            self.client.wait(request.id)
            found.append(time.perf_counter() - start)
        return found


def _forgepool(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "broker.command", *arguments]


@contextlib.contextmanager
def running_pool(
    workers: int,
    delegates: int,
    prepare: Callable[[Path], None] = lambda _: None,
    *,
    curve: str = "ed25519",
    chain_id: str = CHAIN_ID,
    serve_options: Sequence[str] = (),
) -> Iterator[Pool]:
    """A pool with fresh test keys in a directory of its own, prepared before it is started."""
    network = "tezos" if curve == "bls" else "mavryk"  # where keys of the curve vote
    with tempfile.TemporaryDirectory(prefix="forgepool-bench-") as name:
        state_dir = Path(name)
        where = ["--state-dir", name]
        run = lambda *a: subprocess.run(_forgepool(*a), check=True, stdout=subprocess.DEVNULL)  # noqa: E731
        run("init", *where, "--network", network, "--chain-id", chain_id)
        run("keys", "generate", "bench", *where, "--count", str(delegates), "--curve", curve)
        prepare(state_dir)
        log = (state_dir / "log").open("wb")
        serve = _forgepool("serve", *where, "--workers", str(workers), *serve_options)
        process = subprocess.Popen(serve, stderr=log)
        try:
            endpoints = resolve_endpoints(state_dir, Endpoints())
            run("status", *where, "--wait", "20")
            client = Client(endpoints, "bench")
            client.wait_live()
            keys = [entry.key_hash for entry in Keystore(state_dir / "keys").entries()]
            try:
                yield Pool(process, state_dir, endpoints, keys, client, chain_id)
            finally:
                client.close()
        finally:
            process.terminate()
            process.wait(20)
            log.close()


# -- what is measured -----------------------------------------------------------------------------


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def measure_votes(seconds: float, rounds: int) -> dict[str, Any]:
    """Durable votes through the whole pool, against the bare limit and the executor."""
    rivals = Rivals()
    bare, executor, batches, singles = [], [], [], []
    cpu: dict[str, list[float]] = {"broker": [], "workers": [], "client": []}
    with running_pool(CORES, 2048) as pool:
        pool.votes_per_s(64, 1.0, outstanding=4096)
        for _ in range(rounds):
            before = rivals.bare_per_s(seconds / 2)
            used, done = pool.cpu_s(), time.perf_counter()
            per_s = pool.votes_per_s(64, seconds, outstanding=4096)
            votes = per_s * (time.perf_counter() - done)
            after = pool.cpu_s()
            for part, found in cpu.items():
                found.append((after[part] - used[part]) / votes * 1e6)
            bare.append((before + rivals.bare_per_s(seconds / 2)) / 2)
            batches.append(per_s)
            singles.append(pool.votes_per_s(1, seconds / 2, outstanding=512))
            executor.append(rivals.executor_per_s(seconds / 2))
    rivals.close()
    return {
        "per_s": statistics.median(batches),
        "singles_per_s": statistics.median(singles),
        "bare_per_s": statistics.median(bare),
        "executor_per_s": statistics.median(executor),
        "ratio_to_bare": statistics.median(p / b for p, b in zip(batches, bare, strict=True)),
        "ratio_to_executor": statistics.median(
            p / e for p, e in zip(batches, executor, strict=True)
        ),
        "singles_ratio_to_executor": statistics.median(
            s / e for s, e in zip(singles, executor, strict=True)
        ),
        "cpu_us_per_vote": {part: statistics.median(found) for part, found in cpu.items()},
        "bare_cpu_us": statistics.median(rivals.bare_us),
        "cpu_ratio_to_bare": statistics.median(rivals.bare_us)
        / statistics.median(map(sum, zip(*cpu.values(), strict=True))),
    }


def measure_latency(rounds: int, count: int = 300) -> dict[str, Any]:
    """One durable vote at a time, against the executor's round trip and two raw fdatasyncs."""
    rivals = Rivals()
    ours, theirs, raw = [], [], []
    with running_pool(CORES, 64) as pool:
        pool.latencies_s(50)
        for _ in range(rounds):
            theirs += rivals.executor_latencies_s(count)
            ours += pool.latencies_s(count)
            raw += raw_sync_latencies_s(pool.state_dir, count)
    rivals.close()
    budget = statistics.median(theirs) + 2 * statistics.median(raw)
    return {
        "p50_ms": statistics.median(ours) * 1e3,
        "p99_ms": percentile(ours, 0.99) * 1e3,
        "executor_p50_ms": statistics.median(theirs) * 1e3,
        "raw_fdatasync_p50_ms": statistics.median(raw) * 1e3,
        "ratio_to_budget": statistics.median(ours) / budget,
    }


def measure_floor(seconds: float, rounds: int, count: int = 300) -> dict[str, Any]:
    """What the goals of `votes` and `latency` ask for, measured for hops without a pool."""
    rivals = Rivals()
    bare, batches, cpu, theirs, ours, raw = [], [], [], [], [], []
    with running_hops(SPAWN, CORES) as hops:
        hops.votes_per_s(64, 1.0, outstanding=4096)
        for _ in range(rounds):
            before = rivals.bare_per_s(seconds / 2)
            used, start = hops.cpu_s(), time.perf_counter()
            per_s = hops.votes_per_s(64, seconds, outstanding=4096)
            votes = per_s * (time.perf_counter() - start)
            cpu.append((hops.cpu_s() - used) / votes * 1e6)
            bare.append((before + rivals.bare_per_s(seconds / 2)) / 2)
            batches.append(per_s)
            theirs += rivals.executor_latencies_s(count)
            ours += hops.latencies_s(count)
            raw += raw_sync_latencies_s(hops.directory, count)
    rivals.close()
    budget = statistics.median(theirs) + 2 * statistics.median(raw)
    return {
        "per_s": statistics.median(batches),
        "ratio_to_bare": statistics.median(p / b for p, b in zip(batches, bare, strict=True)),
        "cpu_us_per_vote": statistics.median(cpu),
        "cpu_ratio_to_bare": statistics.median(rivals.bare_us) / statistics.median(cpu),
        "p50_ms": statistics.median(ours) * 1e3,
        "executor_p50_ms": statistics.median(theirs) * 1e3,
        "raw_fdatasync_p50_ms": statistics.median(raw) * 1e3,
        "latency_ratio_to_budget": statistics.median(ours) / budget,
    }


def measure_broker(seconds: float) -> dict[str, Any]:
    """CPU of the broker process for each vote, in batches of 256."""
    with running_pool(CORES, 2048) as pool:
        pool.votes_per_s(256, 1.0, outstanding=4096)
        before, start = pool.cpu_s(), time.perf_counter()
        per_s = pool.votes_per_s(256, seconds, outstanding=4096)
        votes = per_s * (time.perf_counter() - start)
        used = {part: pool.cpu_s()[part] - before[part] for part in before}
    return {
        "us_per_vote": used["broker"] / votes * 1e6,
        "votes": round(votes),
        "per_s": per_s,
    }


_QUEUES = """
import resource, sys
from broker.dispatcher import Dispatcher
from broker.messages import *
count = int(sys.argv[1])
rss = lambda: int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
core = Dispatcher("bench", 0.0, 0.0)
core.worker_message(b"w", WorkerHello(1, "w", 1, 1, "s", "h", 10**12, "", []), 1.0)
core.end_turn(1.0, 1.0)
names = [f"mv1{i:033d}" for i in range(count)]
before = rss()
for i in range(0, count, 1000):
    votes = [Vote(n, 0) for n in names[i:i + 1000]]
    request = Request(i.to_bytes(16), FORGE_AND_SIGN_ATTESTATIONS, b"", votes=votes)
    core.client_message("c", Push("c", [request]), 1.0, 1.0)
    items = []
    while len(items) < len(votes):
        for _, m in core.end_turn(1.0, 1.0).to_workers:
            if isinstance(m, Assign):
                items += [t for a in m.assignments for t in a.items]
    results = [Result(t.task, t.attempt, 0, b"") for t in items]
    core.worker_message(b"w", Results(i + 1, results), 1.0)
    core.end_turn(1.0, 1.0)
assert len(core.queues) == count and not core.active
print((rss() - before) / count)
"""


def measure_delegates(count: int = 100_000) -> dict[str, Any]:
    """Memory of the broker for each idle queue, after each has had a task."""
    out = subprocess.run(
        [sys.executable, "-c", _QUEUES, str(count)], check=True, capture_output=True, text=True
    )
    return {"queues": count, "bytes_per_queue": float(out.stdout)}


def measure_scale(seconds: float) -> dict[str, Any]:
    """Throughput by number of workers, and what a model of the CPU costs says of more cores."""
    points, cpu = {}, {}
    for workers in (1, 2, 4, 8):
        with running_pool(workers, 2048) as pool:
            pool.votes_per_s(64, 1.0, outstanding=4096)
            before, start = pool.cpu_s(), time.perf_counter()
            per_s = pool.votes_per_s(64, seconds, outstanding=4096)
            votes = per_s * (time.perf_counter() - start)
            after = pool.cpu_s()
            points[str(workers)] = per_s
            cpu[str(workers)] = {p: (after[p] - before[p]) / votes * 1e6 for p in after}
    # Each part's CPU for a vote is what it is; the broker is one thread, so on enough cores it is
    # the limit, and enough is when all parts together keep it busy.
    at = cpu[str(min(CORES, 8))]
    return {
        "per_s": points,
        "cpu_us_per_vote": cpu,
        "model": {
            "limit_here": f"{CORES} cores, shared by client, broker and workers",
            "limit_on_more_cores": "the broker's one thread",
            "per_s_at_that_limit": 1e6 / at["broker"],
            "cores_at_that_limit": sum(at.values()) / at["broker"],
            "predicted_per_s_here": CORES * 1e6 / sum(at.values()),
        },
    }


GATEWAY_CLIENTS = 64


@contextlib.contextmanager
def running_gateway(pool: Pool) -> Iterator[int]:
    """A gateway of a running pool; gives its HTTP port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    where = ["--state-dir", str(pool.state_dir), "--http", f"127.0.0.1:{port}"]
    log = (pool.state_dir / "gateway.log").open("wb")
    process = subprocess.Popen(_forgepool("gateway", *where), stderr=log)
    try:
        until = time.monotonic() + 20
        while not _is_ready(port):
            if time.monotonic() > until:
                raise SystemExit("the gateway is not ready in 20 s")
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except OSError:
        return False


async def _gateway_client(
    port: int, key_hash: str, level: int, until: float, latencies: list[float]
) -> None:
    """One connection that stays open: a vote of the next level as soon as the last is signed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = (
        f"POST /keys/{key_hash} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    )
    while (start := time.perf_counter()) < until:
        level += 1
        vote = VOTES.signable(0, None)[:-40] + level.to_bytes(4) + bytes(36)
        body = f'"{vote.hex()}"'
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        content = await reader.readexactly(length)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"the gateway did not sign: {content!r}")
        latencies.append(time.perf_counter() - start)
    writer.close()


def measure_gateway(seconds: float, rounds: int) -> dict[str, Any]:
    """Durable votes over HTTP, each client with a key of its own; one disk write for comparison."""
    per_s, p50, p99, raw = [], [], [], []
    level = 0
    with running_pool(CORES, GATEWAY_CLIENTS) as pool, running_gateway(pool) as port:
        for turn in range(rounds + 1):  # the first is to get warm
            found: list[float] = []

            async def round_of_all(found: list[float] = found, level: int = level) -> None:
                until = time.perf_counter() + seconds
                clients = (_gateway_client(port, d, level, until, found) for d in pool.delegates)
                await asyncio.gather(*clients)

            start = time.perf_counter()
            asyncio.run(round_of_all())
            taken = time.perf_counter() - start
            level += len(found) + 1  # above whatever any of them has signed
            if turn:
                per_s.append(len(found) / taken)
                p50.append(statistics.median(found) * 1e3)
                p99.append(percentile(found, 0.99) * 1e3)
                raw += raw_sync_latencies_s(pool.state_dir, 200)
    raw_ms = statistics.median(raw) * 1e3
    return {
        "clients": GATEWAY_CLIENTS,
        "per_s": statistics.median(per_s),
        "p50_ms": statistics.median(p50),
        "p99_ms": statistics.median(p99),
        "raw_fdatasync_p50_ms": raw_ms,
        "fsync_share_of_p50": raw_ms / statistics.median(p50),
    }


def measure_recovery(times: int = 10) -> dict[str, Any]:
    """From kill -9 of the broker to the next signed vote, and from kill -9 of a worker."""
    found: dict[str, list[float]] = {"broker": [], "worker": []}
    with running_pool(CORES, 64) as pool:
        pool.latencies_s(20)
        for _ in range(times):
            for victim, taken in found.items():
                status = pool.client.status()
                workers = status["workers"]
                assert isinstance(workers, list)
                pid = status["pid"] if victim == "broker" else workers[0]["pid"]
                assert isinstance(pid, int)
                os.kill(pid, signal.SIGKILL)
                start = time.perf_counter()
                request = next(pool.batches([pool.delegates]))  # every key, whoever owns it
                pool.client.push(request)
                pool.client.wait(request.id, 30)
                taken.append(time.perf_counter() - start)
                time.sleep(1.0)  # the next kill meets a pool that is whole
    return {f"after_{v}_kill_s": statistics.median(taken) for v, taken in found.items()} | {
        f"after_{v}_kill_max_s": max(taken) for v, taken in found.items()
    }


def measure_idle(seconds: float = 30.0) -> dict[str, Any]:
    """CPU of all processes of a pool that has nothing to do and a client that listens."""
    with running_pool(CORES, 64) as pool:
        supervisor = psutil.Process(pool.process.pid)
        cpu_s = lambda: sum(pool.cpu_s().values()) + sum(supervisor.cpu_times()[:2])  # noqa: E731
        pool.latencies_s(20)
        time.sleep(2.0)  # what was started late has started
        before, start = cpu_s(), time.perf_counter()
        time.sleep(seconds)
        used = cpu_s() - before
    return {"percent_of_core": 100 * used / (time.perf_counter() - start)}


MEASURES: dict[str, Callable[[float, int], dict[str, Any]]] = {
    "votes": lambda seconds, rounds: measure_votes(seconds, rounds),
    "latency": lambda seconds, rounds: measure_latency(rounds),
    "broker": lambda seconds, rounds: measure_broker(seconds),
    "delegates": lambda seconds, rounds: measure_delegates(),
    "floor": lambda seconds, rounds: measure_floor(seconds, rounds),
    "steps": lambda seconds, rounds: measure_steps(),
    "gateway": measure_gateway,
    "recovery": lambda seconds, rounds: measure_recovery(),
    "idle": lambda seconds, rounds: measure_idle(),
    "scale": lambda seconds, rounds: measure_scale(seconds),
    "backends": lambda seconds, rounds: measure_back_ends(running_pool, percentile, rounds),
    "signers": lambda seconds, rounds: measure_signers(seconds, rounds, running_pool),
    "quarantine": lambda seconds, rounds: {
        **measure_quarantine(running_pool, percentile, rounds),
        **measure_quarantine_steps(),
    },
    "unlock": lambda seconds, rounds: measure_unlock(running_pool, percentile, rounds),
    "tasks": lambda seconds, rounds: measure_tasks(rounds),
}
GOALS = {
    "votes.ratio_to_bare": ("≥", 0.65),
    "votes.ratio_to_executor": ("≥", 5),
    "latency.ratio_to_budget": ("≤", 1),
    "broker.us_per_vote": ("≤", 8),
    "delegates.bytes_per_queue": ("≤", 1024),
    "recovery.after_broker_kill_s": ("≤", 1.5),
    "idle.percent_of_core": ("≤", 1),
    **{f"backends.{trouble}.p99_ratio": ("≤", 1.5) for trouble in TROUBLES},
    "signers.bls.sign_ratio": ("≥", 0.85),
    "quarantine.ratio_to_bare": ("≥", 0.7),
    "quarantine.reverse_chain_cleared": ("≥", 200),
    "quarantine.rss_plateau": ("=", True),
    "quarantine.service_us_per_vote": ("≤", 25),
    "quarantine.lane_us_per_vote": ("≤", 10),
    "quarantine.own_vote_p99_within_bound": ("=", True),
    "signers.bls.verify_ratio": ("≥", 0.85),
    "tasks.ratio_to_subprocess": ("≤", 1.3),
    "tasks.in_order": ("=", True),
}


def _flat(found: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("what", nargs=-1, type=click.Choice(list(MEASURES)))
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.option("--seconds", default=4.0, show_default=True, help="Of each measured run.")
@click.option("--rounds", default=5, show_default=True, help="Interleaved runs of which the median counts.")  # fmt: skip  # noqa: E501
def main(what: tuple[str, ...], as_json: bool, seconds: float, rounds: int) -> None:
    """Measure the pool; without arguments everything (a few minutes)."""
    found: dict[str, Any] = {"cores": CORES}
    for name in what or MEASURES:
        print(f"measuring {name} ...", file=sys.stderr, flush=True)
        found[name] = MEASURES[name](seconds, rounds)
    if as_json:
        print(json.dumps(found))
        return
    table = Table("measure", "value", "goal")
    for name, value in _flat(found):
        sign, goal = GOALS.get(name, ("", ""))
        shown = f"{value:,.3f}" if isinstance(value, float) else str(value)
        table.add_row(name, shown, f"{sign} {goal}".strip())
    Console().print(table)


if __name__ == "__main__":
    main(prog_name="scripts/bench")
