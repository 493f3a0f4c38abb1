"""Signers that answer later: each key has its own thread, and whatever happens there is told."""

from __future__ import annotations

import select
from threading import Event

import pytest

from tests.workers.worker_script import KEYS, A, B, a_job, a_vote
from workers.signing_job import SigningJob
from workers.slow_signers import Signed, SlowSigners, delays_from_environment

ANSWER_MS = 10_000


def receive(signers: SlowSigners, count: int) -> list[Signed]:
    poll = select.poll()
    poll.register(signers.fileno(), select.POLLIN)
    answers: list[Signed] = []
    while len(answers) < count:
        assert poll.poll(ANSWER_MS)
        answers += signers.receive()
    return answers


def sign(job: SigningJob) -> bytes:
    return KEYS[job.delegate].sign(job.unsigned, job.signable.digest)


def test_a_signature_comes_back_with_its_job() -> None:
    signers = SlowSigners(sign, {A: 0})
    assert signers.keys == {A}
    assert signers.receive() == []
    job = a_job(A, a_vote())
    signers.submit(job)
    assert receive(signers, 1) == [Signed(job, sign(job))]


def test_a_signer_that_hangs_holds_up_its_own_key_alone() -> None:
    answered = Event()

    def sign_when_told(job: SigningJob) -> bytes:
        if job.delegate == A:
            assert answered.wait(ANSWER_MS / 1000)
        return sign(job)

    signers = SlowSigners(sign_when_told, {A: 0, B: 0})
    first, second, other = (a_job(key, a_vote(n)) for n, key in enumerate((A, A, B), 1))
    for job in (first, second, other):
        signers.submit(job)
    assert [answer.job for answer in receive(signers, 1)] == [other]
    answered.set()
    assert [answer.job for answer in receive(signers, 2)] == [first, second]


def test_whatever_a_signer_throws_ends_its_job_and_not_its_thread() -> None:
    def sign_but_once(job: SigningJob) -> bytes:
        if job.signable.level == 1:
            raise ZeroDivisionError("the device is out of its mind")
        return sign(job)

    signers = SlowSigners(sign_but_once, {A: 0})
    first, second = (a_job(A, a_vote(level)) for level in (1, 2))
    signers.submit(first)
    signers.submit(second)
    assert receive(signers, 2) == [
        Signed(first, None, "ZeroDivisionError: the device is out of its mind"),
        Signed(second, sign(second)),
    ]


def test_delays_are_read_from_text() -> None:
    assert delays_from_environment("") == {}
    assert delays_from_environment(f"{A}=50, {B}=1000,") == {A: 50, B: 1000}


@pytest.mark.parametrize("text", [A, f"{A}=", f"{A}=soon"])
def test_a_delay_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="int"):
        delays_from_environment(text)
