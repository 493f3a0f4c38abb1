"""What a child has not answered: each job ends once, and silence has an end."""

from __future__ import annotations

from math import inf

from workers.open_jobs import OpenJobs


def jobs() -> OpenJobs:
    return OpenJobs(grace_s=1.0, silence_s=10.0)


def test_a_job_is_late_after_the_grace_and_ends_once() -> None:
    open_ = jobs()
    open_.open(1, 5.0)
    open_.open(2, 7.0)
    assert open_.deadline() == 6.0
    assert open_.late(5.9, child_runs=True) == []
    assert open_.left_s(1, 4.0) == 1.0
    assert open_.late(6.0, child_runs=True) == [1]
    assert 1 not in open_
    assert not open_.close(1)
    assert open_.close(2)
    assert not open_.close(2)
    assert len(open_) == 0


def test_silence_begins_with_the_first_late_job_and_ends_with_a_word() -> None:
    open_ = jobs()
    for job, deadline in ((1, 0.0), (2, 5.0), (3, 100.0)):
        open_.open(job, deadline)
    assert not open_.stands_still(99.0), "nothing is late that anybody has looked for"
    open_.late(1.0, child_runs=True)
    open_.late(6.0, child_runs=True)
    assert open_.deadline() == 11.0, "of the silence, before the third job's"
    assert not open_.stands_still(10.9)
    assert open_.stands_still(11.0)
    open_.heard()
    assert not open_.stands_still(1000.0)
    assert open_.deadline() == 101.0


def test_nobody_is_silent_while_no_child_runs() -> None:
    open_ = jobs()
    open_.open(1, 0.0)
    assert open_.late(1.0, child_runs=False) == [1]
    assert open_.deadline() == inf
    assert not open_.stands_still(inf), "the child that comes is not to blame"


def test_nothing_is_expected_of_a_child_that_is_gone() -> None:
    open_ = jobs()
    for job in range(3):
        open_.open(job, float(job))
    open_.late(1.0, child_runs=True)
    assert open_.close_all() == [1, 2]
    assert not open_.stands_still(inf)
    assert open_.deadline() == inf
