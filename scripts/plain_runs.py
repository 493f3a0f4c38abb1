"""What one would do without a task processor: `subprocess.run`, once or in threads.

In a file of its own, so that the process in which it runs has loaded nothing else.
"""

from __future__ import annotations

import resource
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple


class Spent(NamedTuple):
    """What a run took, on average of a block."""

    wall_ms: float
    cpu_ms: float  # of all that took part in it: the operator's too
    own_cpu_ms: float = 0.0  # of the processor's process alone


def plain_block(program: str, content: str, runs: int, at_once: int) -> Spent:
    """Run a program so many times, in a process that does nothing else."""

    def run(_: int) -> None:
        done = subprocess.run([program], input=content.encode(), capture_output=True, check=True)
        done.stdout.decode()

    start, used = time.perf_counter(), _cpu_s()
    if at_once == 1:
        for number in range(runs):
            run(number)
    else:
        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(run, range(runs)))
    return Spent(*(s / runs * 1e3 for s in (time.perf_counter() - start, _cpu_s() - used)))


def _cpu_s() -> float:
    """Of us and of the children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(of.ru_utime + of.ru_stime for of in used)
