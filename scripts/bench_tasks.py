"""What the task processor adds to an operator's run, beside `subprocess.run` of the same program.

A real processor works for sandbox applications in this process. Both sides get the same input and
read the same output, are equally nice, run as many at once, and take turns in short blocks, because
the machine is shared and noisy:

dispatch   from one start of an operator to the next, while the chain takes no outcome: decide,
           write down, start, feed, listen, reap, write down. What the claim is about.
committed  from the request of a batch to its last outcome on the chain, one block for each. Here
           most of the time goes to HTTP, one fsync for each outcome, and the sandbox itself.

The operator is about the least that does anything: a Python program, started without what its
environment adds, that reads a text and writes JSON. `cat` shows what is added to one that does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
from plain_runs import Spent, plain_block
from task_steps import task_steps

from broker import wire
from broker.applications import ApplicationShare
from broker.config import OperatorSettings, TaskSettings
from broker.messages import Applications, TaskEvents, TaskEventsAck
from workers.offchain.application import Application
from workers.offchain.channel import ProcessorSetup
from workers.offchain.processor_process import NICENESS
from workers.offchain.task_processor import TaskProcessor
from workers.sandbox_apps.application_host import ApplicationHost
from workers.sandbox_apps.faults import Fault, FaultKind
from workers.sandbox_apps.host_server import HostServer
from workers.sandbox_apps.plan import Plan
from workers.sandbox_apps.task_application import RequestTask

INPUT = "x" * 100
BLOCK = 40  # runs of a kind in a row
BLOCKS = 2  # of each kind in a round of the bench: more short ones meet a changing load alike
BATCH = 500  # tasks without ids, requested in one block
BATCH_CAP = 4
# A batch takes seconds; on a busy machine tens of them.
PATIENCE_S = 300.0

_MEASURING = f"""#!{sys.executable} -IS
import json, sys
print(json.dumps({{"letters": len(sys.stdin.read())}}))
"""
# It notes itself, says what it was given and how many of it there are; some take longer.
_COUNTING = """#!/bin/sh
read number
: > {running}/$$
set -- {running}/*
[ $((number % 7)) = 0 ] && sleep 0.1 || sleep 0.02
rm {running}/$$
echo $number $#
"""


# -- the processor --------------------------------------------------------------------------------


class Driven:
    """A task processor of one application, looked after as its worker does."""

    def __init__(self, directory: Path, host: ApplicationHost, plan: Plan, settings: TaskSettings):
        self.host = host
        self.application = Application(plan.chains[0], plan.applications[0])
        self.started_at: list[float] = []
        self.outcomes = 0
        self._inner = TaskProcessor(ProcessorSetup("bench", str(directory), settings))
        self._news = asyncio.Event()
        share = ApplicationShare(self.application.key, 1, 0, None)
        self._inner.take(Applications("bench", 1, [share]), time.monotonic())

    async def attend(self) -> None:
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._inner.fileno(), readable.set)
        try:
            while True:
                left_s = self._inner.deadline() - time.monotonic()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, min(left_s, 1.0))):
                        await readable.wait()
                readable.clear()
                for body in self._inner.exchange(time.monotonic()):
                    self._hear(body)
        finally:
            loop.remove_reader(self._inner.fileno())
            await asyncio.to_thread(self._inner.close)

    def _hear(self, body: bytes) -> None:
        message = wire.decode_worker_message(body)
        if not isinstance(message, TaskEvents):
            return
        now = time.perf_counter()
        for event in message.events:
            if event.event == "task_started":
                self.started_at.append(now)
            elif event.event == "task_outcome":
                self.outcomes += 1
            elif event.code != "ambiguous":  # the outcome that had to wait; it is sent again
                raise SystemExit(f"a task went wrong: {event.event} {event.code} {event.text}")
        self._inner.take(TaskEventsAck(message.number), time.monotonic())
        self._news.set()

    def request(self, operator: str, inputs: list[str]) -> None:
        """Let the application ask for tasks, all in one block."""
        where = self.application.chain_id, self.application.application_id
        self.host.network.execute(*where, [RequestTask(operator, each) for each in inputs])
        self.host.tell_news()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._news.clear()
                await self._news.wait()

    @property
    def results(self) -> list[str]:
        application = self.host.network.applications[self.application.application_id]
        found: list[str] = application.summary(self.application.chain_id)["results"]
        return found

    def cpu_s(self) -> tuple[float, float]:
        """Of the processor and of all that it has run, and of itself."""
        assert self._inner.pid is not None
        used = psutil.Process(self._inner.pid).cpu_times()
        own = used.user + used.system
        return own + used.children_user + used.children_system, own


@contextlib.asynccontextmanager
async def _driven(
    operators: dict[str, OperatorSettings], *, at_once: int, ids: bool = True
) -> AsyncIterator[Driven]:
    plan = Plan.of()
    host = plan.host(ids=ids)
    server = HostServer(host)
    url = f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}"
    settings = TaskSettings(
        node_service=url,
        operators=operators,
        concurrency=at_once,
        per_application=at_once,
        retry_delay_s=0.001,
    )
    with tempfile.TemporaryDirectory(prefix="forgepool-bench-") as directory:
        driven = Driven(Path(directory), host, plan, settings)
        attending = asyncio.create_task(driven.attend())
        try:
            yield driven
        finally:
            attending.cancel()
            await asyncio.gather(attending, return_exceptions=True)
            await server.stop()


# -- what is measured -----------------------------------------------------------------------------


async def _dispatch_block(driven: Driven, at_once: int) -> Spent:
    """Runs whose outcomes the chain does not take yet, from one start to the next."""
    # The first outcome to be submitted waits for its answer, and with it all others.
    driven.host.faults.add(Fault(FaultKind.HANG, field="processTaskOutcome", times=0))
    driven.started_at.clear()
    count, before = BLOCK + at_once, driven.outcomes
    driven.request("program", [INPUT] * count)
    await driven.until(lambda: len(driven.started_at) >= at_once)
    used = driven.cpu_s()
    await driven.until(lambda: len(driven.started_at) == count)
    cpu_s, own_s = (after - at for at, after in zip(used, driven.cpu_s(), strict=True))
    wall_s = driven.started_at[-1] - driven.started_at[at_once - 1]
    driven.host.faults.clear()
    await driven.until(lambda: driven.outcomes == before + count)
    return Spent(*(seconds / BLOCK * 1e3 for seconds in (wall_s, cpu_s, own_s)))


async def _committed_block(driven: Driven) -> Spent:
    """Runs from the request to the last outcome in a block."""
    until, used, start = driven.outcomes + BLOCK, driven.cpu_s(), time.perf_counter()
    driven.request("program", [INPUT] * BLOCK)
    await driven.until(lambda: driven.outcomes == until)
    wall_s = time.perf_counter() - start
    cpu_s, own_s = (after - at for at, after in zip(used, driven.cpu_s(), strict=True))
    return Spent(*(seconds / BLOCK * 1e3 for seconds in (wall_s, cpu_s, own_s)))


async def measure_overhead(program: str, at_once: int, rounds: int) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    plain, dispatch, committed = list[Spent](), list[Spent](), list[Spent]()
    with _nice_process() as rival:
        async with _driven({"program": OperatorSettings(program)}, at_once=at_once) as driven:
            for turn in range(rounds + 1):
                found = (
                    await loop.run_in_executor(rival, plain_block, program, INPUT, BLOCK, at_once),
                    await _dispatch_block(driven, at_once),
                    await _committed_block(driven),
                )
                if turn:  # the first is to get warm
                    for spent, to in zip(found, (plain, dispatch, committed), strict=True):
                        to.append(spent)
    return {
        "plain_ms": statistics.median(each.wall_ms for each in plain),
        "dispatch_ms": statistics.median(each.wall_ms for each in dispatch),
        "committed_ms": statistics.median(each.wall_ms for each in committed),
        "ratio_to_subprocess": _ratio(dispatch, plain),
        "committed_ratio_to_subprocess": _ratio(committed, plain),
        "cpu_ratio_to_subprocess": sum(d.cpu_ms for d in dispatch) / sum(p.cpu_ms for p in plain),
        "processor_cpu_ms": statistics.mean(each.own_cpu_ms for each in dispatch),
        "committed_processor_cpu_ms": statistics.mean(each.own_cpu_ms for each in committed),
    }


def _nice_process() -> ProcessPoolExecutor:
    """A process for what is compared with the processor, as nice as that."""
    return ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), initializer=os.nice, initargs=(NICENESS,)
    )


def _ratio(ours: list[Spent], plain: list[Spent]) -> float:
    return statistics.median(a.wall_ms / b.wall_ms for a, b in zip(ours, plain, strict=True))


def _measure_programs(rounds: int) -> dict[str, Any]:
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory(prefix="forgepool-bench-") as directory:
        measuring = _script(Path(directory) / "measuring", _MEASURING)
        return {
            **asyncio.run(measure_overhead(measuring, 1, rounds)),
            "one_per_core": asyncio.run(measure_overhead(measuring, cores, rounds)),
            "cat": asyncio.run(measure_overhead("/bin/cat", 1, rounds)),
            "cat_one_per_core": asyncio.run(measure_overhead("/bin/cat", cores, rounds)),
        }


def _script(path: Path, text: str) -> str:
    path.write_text(text)
    path.chmod(0o700)
    return str(path)


async def _measure_order() -> dict[str, Any]:
    """Tasks without ids, some of them slow: the order of the outcomes, and how many ran at once."""
    with tempfile.TemporaryDirectory(prefix="forgepool-bench-") as directory:
        running = Path(directory) / "running"
        running.mkdir()
        script = _script(Path(directory) / "counting", _COUNTING.format(running=running))
        operators = {"counting": OperatorSettings(script)}
        async with _driven(operators, at_once=BATCH_CAP, ids=False) as driven:
            driven.request("counting", [f"{number}\n" for number in range(BATCH)])
            await driven.until(lambda: driven.outcomes == BATCH)
            said = [tuple(map(int, result.split())) for result in driven.results]
    most = max(at_once for _, at_once in said)
    return {
        "tasks": BATCH,
        "in_order": [number for number, _ in said] == list(range(BATCH)) and most <= BATCH_CAP,
        "most_at_once": most,
        "cap": BATCH_CAP,
    }


def measure_tasks(rounds: int) -> dict[str, Any]:
    """Dispatch of runs, one after the other and one for each core; order and caps of a batch."""
    found = _measure_programs(rounds * BLOCKS)
    with _nice_process() as alone:
        found["cat_steps"] = alone.submit(task_steps, "/bin/cat", INPUT, BATCH).result()
    return found | asyncio.run(_measure_order())
