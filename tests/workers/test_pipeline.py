"""The pipeline alone: what goes to the store together, and what may leave it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from broker.messages import Outcome
from signers.marks.watermark import ADVANCE, CONFLICT, REPEAT, UNMARKED, Refusal, Verdict
from tests.workers.worker_script import A, a_job, a_vote
from workers.pipeline import (
    BATCH_JOBS_MAX,
    BATCHES_IN_STORE_MAX,
    Committed,
    Pipeline,
    SigningBatch,
)
from workers.signing_job import SigningJob

NOW = 100.0
REFUSED = Refusal(CONFLICT, "level 5 round 0")


def jobs(count: int, *, deadline: float = NOW + 60) -> list[SigningJob]:
    return [a_job(A, a_vote(), number=n, deadline=deadline) for n in range(1, count + 1)]


class PipelineScript:
    """A pipeline whose store and signer the test plays."""

    def __init__(self, waiting: Sequence[SigningJob]) -> None:
        self.pipeline = Pipeline()
        self.pipeline.waiting.extend(waiting)

    def next(self, now: float = NOW) -> SigningBatch:
        batch = self.pipeline.next_batch(now)
        assert batch is not None
        return batch

    def judged(self, batch: SigningBatch, *verdicts: Verdict) -> list[int]:
        verdicts = verdicts or (ADVANCE,) * len(batch.jobs)
        return [job.number for job in self.pipeline.judged(batch, verdicts)]

    def signed(self, *jobs: SigningJob) -> None:
        for job in jobs:
            job.signature = b"signature"
        self.pipeline.signed(jobs)

    def released(self) -> list[int]:
        released, self.pipeline.released = self.pipeline.released, []
        return [job.number for job in released]

    def ended(self) -> list[tuple[int, Outcome, str]]:
        ended, self.pipeline.ended = self.pipeline.ended, []
        return [(e.job.number, e.outcome, e.body[0]) for e in ended]


# -- batches --------------------------------------------------------------------------------------


def test_a_batch_takes_what_waits_up_to_its_bound_and_in_order() -> None:
    waiting = jobs(BATCH_JOBS_MAX + 1)
    script = PipelineScript(waiting)
    assert script.next().jobs == waiting[:-1]
    assert script.next().jobs == waiting[-1:]


def test_so_many_batches_are_in_the_store_at_once_and_no_more() -> None:
    script = PipelineScript(jobs(BATCHES_IN_STORE_MAX * BATCH_JOBS_MAX + 1))
    first, second = (script.next() for _ in range(BATCHES_IN_STORE_MAX))
    assert script.pipeline.next_batch(NOW) is None
    script.judged(first)
    assert script.pipeline.next_batch(NOW) is None, "judged is not committed"
    script.pipeline.committed(Committed(first))
    assert script.pipeline.next_batch(NOW) is not None
    script.pipeline.waiting.extend(jobs(1))
    script.pipeline.store_failed(second, "disk_full", "")
    assert script.pipeline.next_batch(NOW) is not None


def test_where_nothing_waits_there_is_no_batch() -> None:
    script = PipelineScript([])
    assert [script.pipeline.next_batch(NOW) for _ in range(5)] == [None] * 5
    script.pipeline.waiting.extend(jobs(1))
    assert script.pipeline.next_batch(NOW) is not None, "an empty one counts for nothing"


def test_whose_deadline_has_passed_is_in_no_batch() -> None:
    late, in_time = jobs(2, deadline=NOW), jobs(4, deadline=NOW + 0.001)[2:]
    script = PipelineScript([late[0], in_time[0], late[1], in_time[1]])
    assert script.next().jobs == in_time
    assert script.ended() == [(1, Outcome.EXPIRED, ""), (2, Outcome.EXPIRED, "")]


def test_a_batch_of_the_expired_is_none() -> None:
    script = PipelineScript(jobs(2, deadline=NOW))
    assert script.pipeline.next_batch(NOW) is None
    assert len(script.ended()) == 2


# -- the order ------------------------------------------------------------------------------------


def test_signed_and_on_disk_in_either_order_and_only_both_release() -> None:
    script = PipelineScript(jobs(2))
    batch = script.next()
    assert script.judged(batch) == [1, 2]
    script.signed(batch.jobs[0])
    assert script.released() == []
    script.pipeline.committed(Committed(batch))
    assert script.released() == [1]
    script.signed(batch.jobs[1])
    assert script.released() == [2]


def test_a_release_is_once() -> None:
    script = PipelineScript(jobs(1))
    batch = script.next()
    script.judged(batch)
    script.pipeline.committed(Committed(batch))
    script.signed(*batch.jobs)
    script.signed(*batch.jobs)
    assert script.released() == [1]


@pytest.mark.parametrize("permission", [ADVANCE, REPEAT, UNMARKED])
def test_whatever_is_permitted_waits_for_the_commit(permission: Verdict) -> None:
    script = PipelineScript(jobs(1))
    batch = script.next()
    assert script.judged(batch, permission) == [1]
    script.signed(*batch.jobs)
    assert script.released() == []
    script.pipeline.committed(Committed(batch))
    assert script.released() == [1]


def test_what_is_refused_is_not_signed() -> None:
    script = PipelineScript(jobs(3))
    batch = script.next()
    assert script.judged(batch, ADVANCE, REFUSED, REPEAT) == [1, 3]
    assert script.ended() == [(2, Outcome.REFUSED, CONFLICT)]
    script.signed(*batch.jobs)
    script.pipeline.committed(Committed(batch))
    assert script.released() == [1, 3]


def test_one_batchs_commit_releases_no_other_batch() -> None:
    script = PipelineScript(jobs(BATCH_JOBS_MAX + 1))
    first, second = script.next(), script.next()
    script.judged(first)
    script.judged(second)
    script.signed(*first.jobs, *second.jobs)
    script.pipeline.committed(Committed(first))
    assert script.released() == [job.number for job in first.jobs]
    script.pipeline.committed(Committed(second))
    assert script.released() == [job.number for job in second.jobs]


# -- failures -------------------------------------------------------------------------------------


def test_a_batch_that_was_not_judged_fails_as_a_whole() -> None:
    script = PipelineScript(jobs(2))
    script.pipeline.store_failed(script.next(), "store_stalled", "")
    assert script.ended() == [
        (1, Outcome.FAILED, "store_stalled"),
        (2, Outcome.FAILED, "store_stalled"),
    ]


@pytest.mark.parametrize("signed_before", [True, False])
def test_nothing_of_a_batch_whose_commit_failed_leaves(signed_before: bool) -> None:
    script = PipelineScript(jobs(3))
    batch = script.next()
    script.judged(batch, ADVANCE, REFUSED, ADVANCE)
    script.ended()
    if signed_before:
        script.signed(*batch.permitted)
    script.pipeline.store_failed(batch, "disk_full", "")
    assert script.ended() == [(1, Outcome.FAILED, "disk_full"), (3, Outcome.FAILED, "disk_full")]
    if not signed_before:
        script.signed(*batch.permitted)
    assert script.released() == []
    assert not signed_before or [job.signature for job in batch.jobs] == [None] * 3


def test_who_ended_before_the_commit_failed_does_not_end_again() -> None:
    script = PipelineScript(jobs(2))
    batch = script.next()
    script.judged(batch)
    script.pipeline.signer_failed(batch.jobs[0], "signer_failed", "")
    script.pipeline.store_failed(batch, "disk_full", "")
    assert script.ended() == [
        (1, Outcome.FAILED, "signer_failed"),
        (2, Outcome.FAILED, "disk_full"),
    ]


def test_a_signer_that_fails_ends_its_job_once_and_nothing_of_it_leaves() -> None:
    script = PipelineScript(jobs(2))
    batch = script.next()
    script.judged(batch)
    for _ in range(2):
        script.pipeline.signer_failed(batch.jobs[0], "signer_failed", "")
    assert script.ended() == [(1, Outcome.FAILED, "signer_failed")]
    script.signed(*batch.jobs)
    script.pipeline.committed(Committed(batch))
    assert script.released() == [2]
