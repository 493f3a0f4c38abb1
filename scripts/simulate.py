"""The long form of tests/pool/test_simulation.py: as many seeds as one likes, on all cores."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "pool"))
from simulation import Conflict, simulate


def run(seed: int, chaos_s: float) -> tuple[int, int, int, str]:
    """One seed: how many signatures were released, and what went wrong.

    The third number counts blocks that a device was first surely not asked for.
    """
    try:
        world = simulate(seed, chaos_s=chaos_s)
    except Conflict as e:
        return seed, 0, 0, str(e)
    return seed, world.releases, world.signed_after_all, ""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", default=1000, show_default=True, type=click.IntRange(1))
@click.option("--first", default=0, show_default=True, help="The first seed.")
@click.option("--chaos-seconds", default=12.0, show_default=True, help="Simulated, per seed.")
def main(seeds: int, first: int, chaos_seconds: float) -> None:
    """Simulate pools that are killed, stopped, cut and doubled, and check every promise."""
    start, released, after_all, broken = time.monotonic(), 0, 0, 0
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        wanted = range(first, first + seeds)
        done = pool.map(run, wanted, [chaos_seconds] * seeds, chunksize=4)
        for seed, releases, blocks_after_all, problem in done:
            released += releases
            after_all += blocks_after_all
            if problem:
                broken += 1
                click.echo(problem)
            elif (seed - first + 1) % 100 == 0:
                click.echo(f"{seed - first + 1} seeds, {released} signatures released", err=True)
    taken = time.monotonic() - start
    click.echo(
        f"{seeds} seeds, {released} signatures released ({after_all} of blocks that a device was "
        f"not asked for at first), {broken} broken, {taken:.0f} s"
    )
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main(prog_name="scripts/simulate")
