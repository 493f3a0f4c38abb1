"""The store's thread with a real store: what it answers, and what is on disk when it says so."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from broker.messages import Outcome
from signers.formats.signable import read_signable
from signers.marks.watermark import ADVANCE, CONFLICT, FRESH, REPEAT, SIGNATURE_LOST, Refusal
from signers.marks.watermark_store import Judgement, WatermarkStore
from tests.workers.worker_script import (
    CHAIN,
    KEYS,
    P256,
    PREDECESSOR,
    TZ4,
    A,
    B,
    a_draft,
    a_header,
    a_job,
    a_task,
    a_vote,
)
from workers.pipeline import Committed, Ended, SigningBatch
from workers.signing_job import SigningJob
from workers.store_thread import (
    JOBS_SIGNED_MEANWHILE,
    Answer,
    DraftAnswer,
    Judged,
    Kept,
    Late,
    NotKept,
    StoreAvailable,
    StoreFailed,
    StoreThread,
    Withdrawn,
)
from workers.worker import FindDraft, KeepSignatures, WithdrawExpectations

ANSWER_MS = 10_000


class ThreadScript:
    """A store's thread, and another process's view of the same store."""

    def __init__(self, path: Path) -> None:
        self.path = path
        WatermarkStore.create(path, network="mavryk", chain_id=CHAIN)
        self.other = WatermarkStore.open(path, wal_bytes=0)
        with self.other.begin() as transaction:
            for key in KEYS:
                transaction.enable(key, key, floor=FRESH)
            transaction.commit()
        self.thread = StoreThread(WatermarkStore.open(path, wal_bytes=0))
        self._poll = select.poll()
        self._poll.register(self.thread.fileno(), select.POLLIN)
        self._heard: list[Answer] = []

    def close(self) -> None:
        self.thread.close()
        self.other.close()

    def hears(self, kind: type[Answer]) -> list[Answer]:
        """Everything up to the first answer of this kind."""
        while not any(isinstance(answer, kind) for answer in self._heard):
            assert self._poll.poll(ANSWER_MS), f"no {kind.__name__} in {ANSWER_MS} ms"
            self._heard += self.thread.receive()
        end = next(i for i, answer in enumerate(self._heard) if isinstance(answer, kind)) + 1
        heard, self._heard = self._heard[:end], self._heard[end:]
        return heard

    def waited_ms(self) -> int:
        return self.thread.wait_ms(time.monotonic())

    def wait_until(self, condition: Callable[[], bool]) -> None:
        end = time.monotonic() + ANSWER_MS / 1000
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.001)

    def others_verdict(self, key: str, unsigned: bytes) -> object:
        """What another process that shares the store may sign."""
        with self.other.begin() as transaction:
            [verdict] = transaction.judge([(key, read_signable(unsigned))])
        return verdict


@pytest.fixture
def script(tmp_path: Path) -> Iterator[ThreadScript]:
    script = ThreadScript(tmp_path / "watermarks.db")
    yield script
    script.close()


# -- judge, commit --------------------------------------------------------------------------------


def test_what_expires_while_the_store_is_waited_for_touches_no_mark(script: ThreadScript) -> None:
    now = time.monotonic()
    late, lasting = a_job(A, a_vote()), a_job(B, a_vote())
    late.deadline, lasting.deadline = now, now + 1000
    batch = SigningBatch([late, lasting], formed_at=now - 1)
    script.thread.submit(batch)
    heard = [Late([late]), Judged(batch, [ADVANCE]), Committed(batch)]
    assert script.hears(Committed) == heard
    assert batch.jobs == [lasting]
    assert script.others_verdict(A, a_vote(payload=8)) is ADVANCE
    alone = SigningBatch([late], formed_at=now - 1)
    script.thread.submit(alone)
    assert script.hears(Committed) == [Late([late]), Judged(alone, []), Committed(alone)]


def test_committed_means_that_every_process_sees_the_mark(script: ThreadScript) -> None:
    batch = SigningBatch([a_job(A, a_vote()), a_job(B, a_vote())])
    script.thread.submit(batch)
    assert script.hears(Committed) == [Judged(batch, [ADVANCE, ADVANCE]), Committed(batch)]
    conflict = script.others_verdict(A, a_vote(payload=8))
    assert isinstance(conflict, Refusal)
    assert conflict.code == CONFLICT
    assert script.others_verdict(B, a_vote()) is REPEAT


def test_verdicts_come_in_the_order_of_the_jobs(script: ThreadScript) -> None:
    jobs = [a_job(A, a_vote(5)), a_job(A, a_vote(4)), a_job(B, a_vote()), a_job(A, a_vote(5))]
    batch = SigningBatch(jobs)
    script.thread.submit(batch)
    [judged, _] = script.hears(Committed)
    assert isinstance(judged, Judged)
    assert [getattr(v, "code", v) for v in judged.verdicts] == [
        ADVANCE, "watermark_below", ADVANCE, REPEAT,
    ]  # fmt: skip


# -- blocks ---------------------------------------------------------------------------------------


def a_block(content: int, level: int = 5, *, key: str = A) -> SigningJob:
    header = a_header(content=content, level=level)
    return a_job(key, b"\x11" + CHAIN + header, a_draft(content=content, level=level))


def find(level: int) -> FindDraft:
    return FindDraft(a_task(A), CHAIN, PREDECESSOR, level, 0)


def test_a_block_is_kept_with_its_mark_and_found_again(script: ThreadScript) -> None:
    script.thread.submit(SigningBatch([a_block(1)]))
    script.thread.submit(SigningBatch([a_block(2)]))
    asked = find(5)
    script.thread.submit(asked)
    *_, answer = script.hears(DraftAnswer)
    assert answer == DraftAnswer(asked, a_draft(content=1)), "what was refused is not kept"


def test_a_block_that_nobody_has_begun_is_not_found(script: ThreadScript) -> None:
    asked = find(5)
    script.thread.submit(asked)
    assert script.hears(DraftAnswer) == [DraftAnswer(asked, None)]


def test_of_two_blocks_of_a_key_in_one_batch_the_higher_is_kept(script: ThreadScript) -> None:
    script.thread.submit(SigningBatch([a_block(1, level=5), a_block(2, level=6)]))
    for level, draft in ((5, None), (6, a_draft(content=2, level=6))):
        script.thread.submit(find(level))
        *_, answer = script.hears(DraftAnswer)
        assert isinstance(answer, DraftAnswer)
        assert answer.draft == draft


# -- signatures from elsewhere --------------------------------------------------------------------


def elsewhere(job: SigningJob) -> SigningJob:
    job.is_elsewhere = True
    return job


def verdict(script: ThreadScript, job: SigningJob) -> object:
    """What the store says to one job; committed."""
    script.thread.submit(SigningBatch([job]))
    judged = next(a for a in script.hears(Committed) if isinstance(a, Judged))
    return getattr(judged.verdicts[0], "code", judged.verdicts[0])


def test_a_kept_signature_is_on_disk_and_a_repeat_has_it(script: ThreadScript) -> None:
    job, signature = elsewhere(a_block(1)), bytes([7]) * 64
    assert verdict(script, job) is ADVANCE
    script.thread.submit(KeepSignatures([(job, signature)]))
    assert script.hears(Kept) == [Kept([(job, signature)])]
    with script.other.begin() as transaction:
        judged = transaction.judge_and_recall(A, job.signable, 0, may_differ=True)
    assert judged == Judgement(REPEAT, signature)
    again = elsewhere(a_block(1))
    assert verdict(script, again) is REPEAT
    assert again.signature == signature


@pytest.mark.parametrize("signer_was_elsewhere", [True, False])
@pytest.mark.parametrize("is_elsewhere", [True, False])
def test_an_ecdsa_block_without_its_signature_is_signed_again_by_our_keys_alone(
    script: ThreadScript, signer_was_elsewhere: bool, is_elsewhere: bool
) -> None:
    first, again = a_block(1, key=P256), a_block(1, key=P256)
    first.is_elsewhere, again.is_elsewhere = signer_was_elsewhere, is_elsewhere
    assert verdict(script, first) is ADVANCE
    assert (first.expectation is not None) == signer_was_elsewhere
    ours = not signer_was_elsewhere and not is_elsewhere
    assert verdict(script, again) == (REPEAT if ours else SIGNATURE_LOST)
    assert (again.signature, again.expectation) == (None, None)


@pytest.mark.parametrize("key", [A, TZ4])
def test_a_block_of_a_deterministic_key_is_signed_again_wherever_it_is(
    script: ThreadScript, key: str
) -> None:
    for expected in (ADVANCE, REPEAT):
        job = elsewhere(a_block(1, key=key))
        assert verdict(script, job) is expected
        assert job.expectation is None


def test_a_block_that_surely_nobody_has_signed_is_asked_for_by_the_next_attempt_alone(
    script: ThreadScript,
) -> None:
    first, again, third = (elsewhere(a_block(1, key=P256)) for _ in range(3))
    assert verdict(script, first) is ADVANCE
    asked = WithdrawExpectations([Ended(first, Outcome.FAILED, ("signer_unavailable", "refused"))])
    script.thread.submit(asked)
    assert script.hears(Withdrawn) == [Withdrawn(asked)]
    assert verdict(script, again) is REPEAT
    assert again.expectation not in (None, first.expectation)
    script.thread.submit(asked)
    assert script.hears(Withdrawn) == [Withdrawn(asked)]
    assert verdict(script, third) == SIGNATURE_LOST, "the first attempt cannot speak for the second"


def test_two_new_blocks_of_a_key_elsewhere_in_one_batch_are_judged_one_after_the_other(
    script: ThreadScript,
) -> None:
    jobs = [
        elsewhere(a_block(content, level, key=P256))
        for content, level in ((1, 5), (1, 5), (2, 6), (3, 6))
    ]
    script.thread.submit(SigningBatch([*jobs, a_job(A, a_vote())]))
    [judged, _] = script.hears(Committed)
    assert isinstance(judged, Judged)
    assert [getattr(v, "code", v) for v in judged.verdicts] == [
        ADVANCE, SIGNATURE_LOST, ADVANCE, CONFLICT, ADVANCE,
    ]  # fmt: skip
    assert verdict(script, elsewhere(a_block(2, 6, key=P256))) == SIGNATURE_LOST


def test_a_vote_without_its_signature_is_signed_again(script: ThreadScript) -> None:
    for expected in (ADVANCE, REPEAT):
        assert verdict(script, elsewhere(a_job(A, a_vote()))) is expected


def test_signatures_that_cannot_be_kept_come_back(script: ThreadScript) -> None:
    job = elsewhere(a_block(1))
    verdict(script, job)
    os.rename(script.path, script.path.with_name("moved.db"))
    asked = KeepSignatures([(job, bytes(64))])
    script.thread.submit(asked)
    *_, failed = script.hears(NotKept)
    assert isinstance(failed, NotKept)
    assert (failed.asked, failed.code) == (asked, "store_replaced")


def test_what_cannot_be_withdrawn_ends_all_the_same_and_stays_lost(script: ThreadScript) -> None:
    job = elsewhere(a_block(1, key=P256))
    verdict(script, job)
    os.rename(script.path, script.path.with_name("moved.db"))
    asked = WithdrawExpectations([Ended(job, Outcome.FAILED, ("signer_unavailable", "refused"))])
    script.thread.submit(asked)
    failed, withdrawn = script.hears(Withdrawn)
    assert isinstance(failed, StoreFailed)
    assert (failed.batch, failed.code) == (None, "store_replaced")
    assert withdrawn == Withdrawn(asked)


# -- trouble --------------------------------------------------------------------------------------


def test_a_store_that_was_replaced_fails_the_batch_for_good(script: ThreadScript) -> None:
    os.rename(script.path, script.path.with_name("moved.db"))
    batch = SigningBatch([a_job(A, a_vote())])
    script.thread.submit(batch)
    [failed] = script.hears(StoreFailed)
    assert isinstance(failed, StoreFailed)
    assert failed.batch is batch
    assert failed.fatal
    assert failed.code == "store_replaced"


def test_a_batch_that_is_signed_meanwhile_is_not_committed_when_its_commit_fails(
    script: ThreadScript,
) -> None:
    os.rename(script.path, script.path.with_name("moved.db"))
    batch = SigningBatch([a_job(A, a_vote(level)) for level in range(5, 5 + JOBS_SIGNED_MEANWHILE)])
    script.thread.submit(batch)
    judged, failed = script.hears(StoreFailed)
    assert isinstance(judged, Judged), "the loop signs while the disk works"
    assert isinstance(failed, StoreFailed)
    assert (failed.batch, failed.code) == (batch, "store_replaced")
    script.thread.submit(find(5))
    assert not [a for a in script.hears(DraftAnswer) if isinstance(a, Committed)]


def test_a_block_is_not_waited_for_when_the_store_has_failed(script: ThreadScript) -> None:
    os.rename(script.path, script.path.with_name("moved.db"))
    script.thread.submit(SigningBatch([a_job(A, a_vote())]))
    script.hears(StoreFailed)
    asked = find(5)
    script.thread.submit(asked)
    assert script.hears(DraftAnswer)[-1] == DraftAnswer(asked, None)


def test_a_defect_of_ours_fails_the_batch_for_good(script: ThreadScript) -> None:
    job = a_job(A, a_vote())
    batch = SigningBatch([job])
    job.signable = None  # type: ignore[assignment]
    script.thread.submit(batch)
    [failed] = script.hears(StoreFailed)
    assert isinstance(failed, StoreFailed)
    assert (failed.batch, failed.code, failed.fatal) == (batch, "store_defect", True)


def test_a_probe_says_that_the_store_is_there(script: ThreadScript) -> None:
    script.thread.probe()
    assert script.hears(StoreAvailable) == [StoreAvailable()]


def test_it_is_told_for_how_long_the_store_has_been_waited_for(script: ThreadScript) -> None:
    script.thread.probe()
    script.hears(StoreAvailable)
    script.wait_until(lambda: script.waited_ms() == 0)
    with script.other.begin():  # another process has its turn
        script.thread.probe()
        script.wait_until(lambda: script.waited_ms() > 1)
        assert script.thread.receive() == []
    script.hears(StoreAvailable)
    script.wait_until(lambda: script.waited_ms() == 0)
