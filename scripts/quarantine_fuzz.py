"""The long form of tests/quarantine/test_storm.py and of its expiry races, on all cores."""

from __future__ import annotations

import os
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from random import Random

import click

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "quarantine"))
from expiry_race import expiry_race
from storm import storm

ITEMS_PER_SEED = 20_000
RACES_AT_ONCE = 500


def run(seed: int, items: int) -> tuple[int, dict[str, int], int, str]:
    """One seed: what came of its items, the process's memory in MiB, and what went wrong."""
    try:
        core = storm(seed, items).script.core
    except AssertionError as e:
        return seed, {}, 0, f"seed {seed}: {e}"
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return seed, dict(core.accounting.outcomes.all()), rss, ""


def race(seed: int) -> str:
    """One expiry race; what went wrong."""
    try:
        expiry_race(Random(seed))
    except (AssertionError, ValueError) as e:
        return f"race {seed}: {e}"
    return ""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--items", default=1_000_000, show_default=True, type=click.IntRange(1))
@click.option("--first", default=0, show_default=True, help="The first seed.")
@click.option(
    "--races", default=10_000, show_default=True, type=click.IntRange(0),
    help="Blocks that clear about when what waits for them expires.",
)  # fmt: skip
def main(items: int, first: int, races: int) -> None:
    """Storm the quarantine's core, and check conservation and bounds after each step."""
    start, broken, done, rss = time.monotonic(), 0, 0, 0
    sizes = [ITEMS_PER_SEED] * (items // ITEMS_PER_SEED)
    if items % ITEMS_PER_SEED:
        sizes.append(items % ITEMS_PER_SEED)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for seed, ends, used, problem in pool.map(run, range(first, first + len(sizes)), sizes):
            done += sizes[seed - first]
            rss = max(rss, used)
            if problem:
                broken += 1
                click.echo(problem)
            else:
                told = ", ".join(f"{count} {end}" for end, count in sorted(ends.items()))
                click.echo(f"seed {seed}: {told} since its last restart", err=True)
        for problem in pool.map(race, range(first, first + races), chunksize=RACES_AT_ONCE):
            if problem:
                broken += 1
                click.echo(problem)
    taken = time.monotonic() - start
    click.echo(
        f"{done} items, {races} races, {broken} seeds broken, {rss} MiB at most, {taken:.0f} s"
    )
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main(prog_name="scripts/quarantine_fuzz")
