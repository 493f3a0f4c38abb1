"""What a run of an operator costs beside a plain `subprocess.run` of the same program.

Both get the same input and read the same output. The run also has its own process group, its own
directory, a small environment, caps, a time limit, and the end of what it leaves behind. Runs and
plain calls take turns in blocks, so that a load that comes and goes meets both alike.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from msgspec import Struct

from broker.config import OperatorSettings
from workers.offchain.application import Application
from workers.offchain.commands import Run
from workers.offchain.ends import RunEnd, RunResult
from workers.offchain.operators.launcher import OperatorLauncher
from workers.offchain.operators.operator_runner import OperatorRunner
from workers.offchain.operators.operator_table import operator_table
from workers.offchain.operators.scratch import Scratch

APPLICATION = Application("c" * 64, "a" * 64)
INPUT = "x" * 100
BLOCK = 50  # runs of a kind in a row


class Overhead(Struct, frozen=True):
    """Milliseconds per run, of the median block, and how they compare."""

    program: str
    at_once: int
    plain_ms: float
    run_ms: float
    ratio: float  # of the blocks in pairs, the median
    cpu_ratio: float  # of CPU time, the program's too: the same on a busy machine


class Spent(Struct, frozen=True):
    """What a run took, on average of a block."""

    wall_ms: float
    cpu_ms: float


class Clocks:
    """Wall and CPU time, from a moment on."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), _cpu_s()

    def spent(self) -> Spent:
        wall_s, cpu_s = time.perf_counter() - self._wall_s, _cpu_s() - self._cpu_s
        return Spent(wall_s / BLOCK * 1000, cpu_s / BLOCK * 1000)


def _cpu_s() -> float:
    """Of us and of the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)


def run_overhead(program: str, at_once: int, runs: int) -> Overhead:
    """Run a program `runs` times each way, with so many at once."""
    with tempfile.TemporaryDirectory() as directory:
        return asyncio.run(_measure(program, at_once, runs, Path(directory)))


async def _measure(program: str, at_once: int, runs: int, directory: Path) -> Overhead:
    ends: asyncio.Queue[RunResult] = asyncio.Queue()
    table = operator_table({"program": OperatorSettings(program)})
    launcher = OperatorLauncher(table, Scratch(directory), os.environ, "bench")
    runner = OperatorRunner(launcher, lambda _, result: ends.put_nowait(result), lambda *_: None)
    plain: list[Spent] = []
    ours: list[Spent] = []
    with ThreadPoolExecutor(at_once) as pool:
        _plain_block(program, pool, at_once)  # both once, to have everything loaded
        await _block(runner, ends, at_once)
        for _ in range(max(3, runs // BLOCK)):
            plain.append(_plain_block(program, pool, at_once))
            ours.append(await _block(runner, ends, at_once))
    await runner.shutdown()
    pairs = list(zip(ours, plain, strict=True))
    return Overhead(
        program,
        at_once,
        round(statistics.median(spent.wall_ms for spent in plain), 3),
        round(statistics.median(spent.wall_ms for spent in ours), 3),
        round(statistics.median(run.wall_ms / bare.wall_ms for run, bare in pairs), 3),
        round(statistics.median(run.cpu_ms / bare.cpu_ms for run, bare in pairs), 3),
    )


def _plain(program: str) -> None:
    done = subprocess.run([program], input=INPUT.encode(), capture_output=True, check=True)
    done.stdout.decode()


def _plain_block(program: str, pool: ThreadPoolExecutor, at_once: int) -> Spent:
    clocks = Clocks()
    if at_once == 1:
        for _ in range(BLOCK):
            _plain(program)
    else:
        list(pool.map(_plain, [program] * BLOCK))
    return clocks.spent()


async def _block(runner: OperatorRunner, ends: asyncio.Queue[RunResult], at_once: int) -> Spent:
    clocks = Clocks()
    running = 0
    for serial in range(BLOCK):
        if running == at_once:
            _check(await ends.get())
            running -= 1
        order = Run(serial, APPLICATION, serial, 1, None, "program", INPUT)
        runner.start(order, f"bench-{os.getpid()}-{serial}")
        running += 1
    for _ in range(running):
        _check(await ends.get())
    return clocks.spent()


def _check(result: RunResult) -> None:
    if result.end is not RunEnd.OUTPUT:
        raise SystemExit(f"a run failed: {result.text} {result.stderr}")


if __name__ == "__main__":
    for program in ("/bin/true", "/bin/cat"):
        for at_once in (1, os.cpu_count() or 1):
            measured = run_overhead(program, at_once, int(sys.argv[1]) if sys.argv[1:] else 500)
            print(msgspec.json.encode(measured).decode())
