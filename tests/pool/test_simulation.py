"""The seeded simulation, short; scripts/simulate runs it for as many seeds as one likes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from sqlite3 import Connection

import pytest
from simulation import Conflict, simulate

from broker.client_session import ClientSession
from broker.delegate_queue import DelegateQueue
from broker.messages import Event
from broker.topics import EndedOfClient
from signers.formats.signable import Signable
from signers.marks import kept_signatures, mark_table
from signers.marks.watermark import ADVANCE, REPEAT, Verdict
from workers.pipeline import Pipeline
from workers.signing_job import SigningJob
from workers.worker import Worker

SEEDS = 50


@pytest.mark.parametrize("seed", range(SEEDS))
def test_no_conflict_is_signed_and_every_request_has_one_end(seed: int) -> None:
    world = simulate(seed)
    assert world.releases > 0


# -- that it would be found -----------------------------------------------------------------------


def permit_everything(mark: Signable | None, asked: Signable, holder: str) -> Verdict:
    return REPEAT if mark is not None and mark.digest == asked.digest else ADVANCE


def release_when_signed(pipeline: Pipeline, jobs: Sequence[SigningJob]) -> None:
    for job in jobs:
        if job.batch is not None:
            job.batch = None
            pipeline.released.append(job)


def believe_that_nobody_has_signed(
    signer_failed: Callable[..., None] = Worker.signer_failed,
) -> Callable[..., None]:
    def told(worker: Worker, job: SigningJob, *why: str, may_have_signed: bool = True) -> None:
        signer_failed(worker, job, *why, may_have_signed=False)

    return told


def expect_new_marks_alone(
    expect: Callable[..., None] = kept_signatures.expect,
) -> Callable[..., None]:
    """What was withdrawn stays so, while its signer is asked again."""

    def expected(connection: Connection, key: int, asked: Signable, *others: int) -> None:
        if kept_signatures.recall(connection, key, asked, 0) is not kept_signatures.WITHDRAWN:
            expect(connection, key, asked, *others)

    return expected


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
    ("where", "name", "defect", "found", "first"),
    [
        (mark_table, "judge", permit_everything, "two digests were released", 0),
        # It takes a signer that signed and then failed, which the seeds before have not.
        (Worker, "signer_failed", believe_that_nobody_has_signed(), "a device signed twice", 27),
        # It takes two repeats at once of what was withdrawn, which the seeds before have not.
        (kept_signatures, "expect", expect_new_marks_alone(), "a device signed twice", 10),
        (Pipeline, "signed", release_when_signed, "with the mark at", 0),
        (ClientSession, "_deliver", drop, "has 1 ends: .*outcome_unknown", 0),
        (EndedOfClient, "add", end_twice, "was published 2 times and asked for 1", 0),
        (EndedOfClient, "add", end_silently, "was taken and has no end", 0),
        (ClientSession, "push_all_again", never_again, "and there was a broker to take it", 0),
    ],
)
def test_a_defect_is_found_within_the_seeds_of_the_suite(
    monkeypatch: pytest.MonkeyPatch,
    where: object,
    name: str,
    defect: object,
    found: str,
    first: int,
) -> None:
    def simulate_all() -> None:
        for seed in range(first, SEEDS):
            simulate(seed)

    monkeypatch.setattr(where, name, defect)
    with pytest.raises(Conflict, match=found):
        simulate_all()
