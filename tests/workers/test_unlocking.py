"""Encrypted keys are opened in threads, and the jobs that waited come back to be signed."""

from __future__ import annotations

import select
from threading import Barrier

from signers.keyring.passwords import WrongPassword
from tests.workers.worker_script import A, B, a_job, a_vote
from workers.unlocking import Unlocked, Unlocking

ANSWER_MS = 10_000


def receive(unlocking: Unlocking, count: int) -> list[Unlocked]:
    poll = select.poll()
    poll.register(unlocking.fileno(), select.POLLIN)
    answers: list[Unlocked] = []
    while len(answers) < count:
        assert poll.poll(ANSWER_MS)
        answers += unlocking.receive()
    return answers


def test_a_job_comes_back_when_its_key_is_open() -> None:
    opened: list[str] = []
    unlocking = Unlocking(opened.append)
    assert unlocking.receive() == []
    job = a_job(A, a_vote())
    unlocking.submit(job)
    assert unlocking.waiting == 1
    assert receive(unlocking, 1) == [Unlocked(job)]
    assert opened == [A]
    assert (unlocking.waiting, unlocking.opened) == (0, 1)


def test_as_many_keys_as_there_are_threads_are_opened_at_once() -> None:
    all_at_once = Barrier(2, timeout=ANSWER_MS / 1000)

    def open_together(key: str) -> None:
        all_at_once.wait()

    unlocking = Unlocking(open_together, threads=2)
    jobs = [a_job(key, a_vote(number)) for number, key in enumerate((A, B, A, B), 1)]
    for job in jobs:
        unlocking.submit(job)
    answers = receive(unlocking, 4)
    assert {answer.task.number for answer in answers} == {job.number for job in jobs}
    assert not any(answer.problem for answer in answers)


def test_a_key_that_does_not_open_ends_its_own_job() -> None:
    def open_one(key: str) -> None:
        if key == A:
            raise WrongPassword("no password opens it")
        if key == B:
            raise ZeroDivisionError

    unlocking = Unlocking(open_one, threads=1)
    wrong, broken, good = a_job(A, a_vote(1)), a_job(B, a_vote(2)), a_job("other", a_vote(3))
    for job in (wrong, broken, good):
        unlocking.submit(job)
    answers = receive(unlocking, 3)
    assert answers[0] == Unlocked(wrong, "no password opens it", "wrong_password")
    assert (answers[1].task, answers[1].code) == (broken, "signer_failed")
    assert answers[2] == Unlocked(good)
    assert unlocking.opened == 1
