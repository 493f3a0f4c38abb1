"""The seeded simulation, short; scripts/simulate runs it for as many seeds as one likes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import simulation
from simulation import Conflict, simulate

from broker.client_session import ClientSession
from broker.delegate_queue import DelegateQueue
from broker.messages import Event
from broker.topics import EndedOfClient
from signers.formats.signable import Signable
from signers.marks.watermark import ADVANCE, Verdict
from workers.pipeline import Pipeline
from workers.signing_job import SigningJob

SEEDS = 50


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_conflict_is_signed_and_every_request_has_one_end(seed: int) -> None:
    world = simulate(seed)
    assert world.releases > 0


# -- that it would be found -----------------------------------------------------------------------


def permit_everything(mark: Signable | None, asked: Signable, holder: str) -> Verdict:
    return ADVANCE


def release_when_signed(pipeline: Pipeline, jobs: Sequence[SigningJob]) -> None:
    for job in jobs:
        if job.batch is not None:
            job.batch = None
            pipeline.released.append(job)


def drop(session: ClientSession, events: list[Event]) -> None:
    return None


def end_twice(group: EndedOfClient, event: Event, queue: DelegateQueue) -> None:
    for _ in range(2):
        group.events.append(event)
        group.queues.append(queue)


def end_silently(group: EndedOfClient, event: Event, queue: DelegateQueue) -> None:
    return None


def never_again(session: ClientSession) -> None:
    return None


@pytest.mark.parametrize(
    ("where", "name", "defect", "found"),
    [
        (simulation, "judge", permit_everything, "two digests were released"),
        (Pipeline, "signed", release_when_signed, "with the mark at"),
        (ClientSession, "_deliver", drop, "has 1 ends: .*outcome_unknown"),
        (EndedOfClient, "add", end_twice, "was published 2 times and asked for 1"),
        (EndedOfClient, "add", end_silently, "was taken and has no end"),
        (ClientSession, "push_all_again", never_again, "and there was a broker to take it"),
    ],
)
def test_a_defect_is_found_within_the_seeds_of_the_suite(
    monkeypatch: pytest.MonkeyPatch, where: object, name: str, defect: object, found: str
) -> None:
    def simulate_all() -> None:
        for seed in range(SEEDS):
            simulate(seed)

    monkeypatch.setattr(where, name, defect)
    with pytest.raises(Conflict, match=found):
        simulate_all()
