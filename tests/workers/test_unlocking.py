"""Encrypted keys are opened in threads: for the jobs that wait for them, and ahead of any job."""

from __future__ import annotations

import os
import select
import time
from threading import Barrier, Event, get_native_id

import pytest

from signers.keyring.keys import SecretKey
from signers.keyring.passwords import WrongPassword
from tests.workers.worker_script import KEYS, A, B, C, D, a_job, a_vote
from workers.unlocking import AHEAD_NICENESS, REST_S_MAX, Unlocked, Unlocking

ANSWER_S = 10


def receive(unlocking: Unlocking, count: int) -> list[Unlocked]:
    poll = select.poll()
    poll.register(unlocking.fileno(), select.POLLIN)
    answers: list[Unlocked] = []
    while len(answers) < count:
        assert poll.poll(ANSWER_S * 1000)
        answers += unlocking.receive()
    return answers


class Lock:
    """Keys that open when the test says so; it notes which were begun, and by how nice threads."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.niceness: list[int] = []
        self.has_begun, self.may_open = Event(), Event()

    def open(self, key: str) -> SecretKey:
        self.begun.append(key)
        self.niceness.append(os.getpriority(os.PRIO_PROCESS, get_native_id()))
        self.has_begun.set()
        assert self.may_open.wait(ANSWER_S)
        return KEYS[key]


def test_a_job_comes_back_when_its_key_is_open() -> None:
    lock = Lock()
    lock.may_open.set()
    unlocking = Unlocking(lock.open)
    assert unlocking.receive() == []
    job = a_job(A, a_vote())
    unlocking.submit(job)
    assert receive(unlocking, 1) == [Unlocked(A, job, KEYS[A])]
    assert (lock.begun, lock.niceness) == ([A], [os.getpriority(os.PRIO_PROCESS, 0)])


def test_as_many_keys_as_there_are_threads_are_opened_at_once() -> None:
    all_at_once = Barrier(2, timeout=ANSWER_S)

    def open_together(key: str) -> SecretKey:
        all_at_once.wait()
        return KEYS[key]

    unlocking = Unlocking(open_together, threads=2)
    jobs = [a_job(key, a_vote(number)) for number, key in enumerate((A, B, A, B), 1)]
    for job in jobs:
        unlocking.submit(job)
    answers = receive(unlocking, 4)
    assert {a.task.number for a in answers if a.task} == {job.number for job in jobs}
    assert not any(answer.problem for answer in answers)
    unlocking.open_ahead([A, B, C, D], 2)
    assert {answer.key_hash for answer in receive(unlocking, 4)} == {A, B, C, D}


def test_a_key_that_does_not_open_ends_its_own_job() -> None:
    def open_one(key: str) -> SecretKey:
        if key == A:
            raise WrongPassword("no password opens it")
        if key == B:
            raise ZeroDivisionError
        return KEYS[key]

    unlocking = Unlocking(open_one, threads=1)
    wrong, broken, good = a_job(A, a_vote(1)), a_job(B, a_vote(2)), a_job(C, a_vote(3))
    for job in (wrong, broken, good):
        unlocking.submit(job)
    answers = receive(unlocking, 3)
    assert answers[0] == Unlocked(A, wrong, None, "no password opens it", "wrong_password")
    assert (answers[1].task, answers[1].code) == (broken, "signer_failed")
    assert answers[2] == Unlocked(C, good, KEYS[C])
    unlocking.open_ahead([A, B, C], 1)
    codes = [(answer.task, answer.code) for answer in receive(unlocking, 3)]
    assert codes == [(None, "wrong_password"), (None, "signer_failed"), (None, "")]


def test_a_key_that_a_job_needs_overtakes_those_that_are_opened_ahead() -> None:
    lock = Lock()
    unlocking = Unlocking(lock.open, threads=1)
    unlocking.open_ahead([A, B, C], 1)
    assert lock.has_begun.wait(ANSWER_S)
    lock.has_begun.clear()
    job = a_job(C, a_vote())
    unlocking.submit(job)
    assert lock.has_begun.wait(ANSWER_S), "it does not wait for the one that is being opened"
    assert lock.begun == [A, C]
    assert lock.niceness[0] == min(19, lock.niceness[1] + AHEAD_NICENESS)
    lock.may_open.set()
    answers = receive(unlocking, 3)
    assert sorted(answer.key_hash for answer in answers) == sorted([A, B, C]), "each of them once"
    assert [answer.task for answer in answers if answer.task] == [job]


def test_what_is_opened_ahead_rests_while_the_loop_has_work_but_not_for_ever() -> None:
    """The clock of the rest is played: it passes when the test says so."""
    lock, rests = Lock(), []
    rests_now, may_go_on = Event(), Event()

    def sleep(seconds: float) -> None:
        rests.append(seconds)
        rests_now.set()
        assert may_go_on.wait(ANSWER_S)
        unlocking.loop_works(0.0)

    lock.may_open.set()
    unlocking = Unlocking(lock.open, sleep=sleep)
    unlocking.loop_works(time.monotonic() + 1000)
    unlocking.open_ahead([A], 1)
    assert rests_now.wait(ANSWER_S)
    job = a_job(B, a_vote())
    unlocking.submit(job)
    assert [answer.task for answer in receive(unlocking, 1)] == [job]
    assert lock.begun == [B], "only what nobody waits for rests"
    may_go_on.set()
    assert [answer.key_hash for answer in receive(unlocking, 1)] == [A]
    assert rests == [pytest.approx(REST_S_MAX)]


def test_other_keys_take_the_place_of_those_not_begun() -> None:
    lock = Lock()
    unlocking = Unlocking(lock.open)
    unlocking.open_ahead([A, B, C], 1)
    assert lock.has_begun.wait(ANSWER_S)
    unlocking.open_ahead([D, C], 1)
    lock.may_open.set()
    assert [answer.key_hash for answer in receive(unlocking, 3)] == [A, D, C]


def test_nothing_is_begun_after_the_end() -> None:
    lock = Lock()
    unlocking = Unlocking(lock.open)
    unlocking.open_ahead([A, B], 1)
    assert lock.has_begun.wait(ANSWER_S)
    unlocking.close()
    lock.may_open.set()
    assert [answer.key_hash for answer in receive(unlocking, 1)] == [A]
    unlocking.open_ahead([C], 1)
    assert [answer.key_hash for answer in receive(unlocking, 1)] == [C]
    assert lock.begun == [A, C], "B was not begun"
