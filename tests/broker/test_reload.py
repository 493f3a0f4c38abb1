"""A reload over all workers: all read first, then all go by it, or nobody changes.

pool = ReloadScript("w0", "w1")
pool.reload()
pool.reads("w0", "w1")
assert pool.asked("w0") == [READ, TAKE]
pool.takes("w0", "w1")
assert pool.result().taken
"""

from __future__ import annotations

import pytest
from pool_script import PoolScript

from broker.messages import (
    Leaving,
    Problem,
    Reload,
    ReloadAnswer,
    ReloadAsked,
    Reloaded,
    ReloadedWorker,
    ReloadStep,
    WorkerEnded,
)
from broker.reload import STEP_S, reload_lines

READ, TAKE, DROP = ReloadStep


class ReloadScript(PoolScript):
    """A pool of some workers, whose reloads the test plays."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.played = {name: self.worker(name, pid=i) for i, name in enumerate(names, start=1)}

    def reload(self, *, dry_run: bool = False, peer: str = "admin") -> None:
        self.core.client_message(peer, Reload(dry_run), self.now, self.unix)
        self.turn()

    def asked(self, name: str) -> list[int]:
        """The steps that a worker was asked for."""
        heard = self.played[name].heard
        return [message.step for message in heard if isinstance(message, ReloadAsked)]

    def reads(self, *names: str, version: str = "v1", problem: str = "",
              changes: tuple[str, ...] = ()) -> None:  # fmt: skip
        for name in names:
            self._answer(name, READ, version, changes, problem)

    def takes(self, *names: str) -> None:
        for name in names:
            self._answer(name, TAKE)

    def _answer(self, name: str, step: ReloadStep, version: str = "",
                changes: tuple[str, ...] = (), problem: str = "") -> None:  # fmt: skip
        worker = self.played[name]
        (number,) = {m.number for m in worker.heard[-1:] if isinstance(m, ReloadAsked)} or {0}
        answer = ReloadAnswer(number, int(step), version, list(changes), problem)
        self.core.worker_message(worker.peer, answer, self.now)
        self.turn()

    def result(self) -> Reloaded:
        """The end of the reload, which there must be."""
        results = [reply for reply in self.replies if isinstance(reply, Reloaded)]
        assert results, "it has not ended"
        return results[-1]

    def is_over(self) -> bool:
        return any(isinstance(reply, Reloaded) for reply in self.replies)


@pytest.fixture
def pool() -> ReloadScript:
    return ReloadScript("w0", "w1")


def test_nobody_takes_it_before_all_have_read(pool: ReloadScript) -> None:
    pool.reload()
    pool.reads("w0")
    assert (pool.asked("w0"), pool.asked("w1")) == ([READ], [READ])
    pool.reads("w1")
    assert (pool.asked("w0"), pool.asked("w1")) == ([READ, TAKE], [READ, TAKE])
    pool.takes("w0")
    assert not pool.is_over()
    pool.takes("w1")
    done = pool.result()
    assert (done.taken, done.problem) == (True, "")
    assert [(w.name, w.taken, w.problem) for w in done.workers] == [
        ("w0", True, ""),
        ("w1", True, ""),
    ]


def test_the_changes_are_told_once(pool: ReloadScript) -> None:
    pool.reload()
    pool.reads("w0", changes=("one", "two"))
    pool.reads("w1", changes=("two", "three"))
    pool.takes("w0", "w1")
    assert pool.result().changes == ["one", "two", "three"]


def test_a_dry_run_ends_after_reading(pool: ReloadScript) -> None:
    pool.reload(dry_run=True)
    pool.reads("w0", "w1", changes=("one",))
    assert pool.asked("w0") == [READ, DROP]
    done = pool.result()
    assert (done.taken, done.problem, done.changes) == (False, "", ["one"])


def test_nobody_takes_what_one_cannot_read(pool: ReloadScript) -> None:
    pool.reload()
    pool.reads("w0", problem="line 3: unknown 'blok'")
    pool.reads("w1")
    assert (pool.asked("w0"), pool.asked("w1")) == ([READ, DROP], [READ, DROP])
    done = pool.result()
    assert not done.taken
    assert "nothing has changed" in done.problem
    assert [w.problem for w in done.workers] == ["line 3: unknown 'blok'", ""]


def test_nobody_takes_what_others_have_read_differently(pool: ReloadScript) -> None:
    pool.reload()
    pool.reads("w0", version="v1")
    pool.reads("w1", version="v2")
    assert pool.asked("w0") == [READ, DROP]
    assert "different policies" in pool.result().problem


def test_a_worker_that_does_not_answer_ends_it(pool: ReloadScript) -> None:
    pool.reload()
    pool.reads("w0")
    pool.wait(STEP_S - 0.2)
    assert not pool.is_over()
    pool.wait(0.3)
    done = pool.result()
    assert not done.taken
    assert pool.asked("w0") == [READ, DROP]
    assert [w.problem for w in done.workers] == ["", "it has not answered in 10 s"]


def test_a_worker_that_does_not_confirm_is_told(pool: ReloadScript) -> None:
    pool.reload()
    pool.reads("w0", "w1")
    pool.takes("w0")
    pool.wait(STEP_S + 0.1)
    done = pool.result()
    assert not done.taken
    assert "confirmed" in done.problem
    assert [(w.taken, w.problem != "") for w in done.workers] == [(True, False), (False, True)]


@pytest.mark.parametrize("step", [READ, TAKE])
def test_a_worker_that_ends_is_not_waited_for(pool: ReloadScript, step: ReloadStep) -> None:
    pool.reload()
    pool.reads("w0")
    if step is TAKE:
        pool.reads("w1")
        pool.takes("w0")
    pool.core.client_message("admin", WorkerEnded(2, "killed"), pool.now, pool.unix)
    pool.turn()
    if step is READ:
        pool.takes("w0")
    assert pool.result().taken
    assert [w.name for w in pool.result().workers] == ["w0"]


def test_the_last_worker_may_end_in_it() -> None:
    pool = ReloadScript("w0")
    pool.reload()
    pool.core.client_message("admin", WorkerEnded(1, "killed"), pool.now, pool.unix)
    pool.turn()
    assert (pool.result().taken, pool.result().problem) == (False, "there is no worker any more")


def test_without_workers_there_is_nobody_to_ask() -> None:
    pool = ReloadScript()
    pool.reload()
    assert pool.result().problem == "there is no worker to ask"


def test_a_worker_that_is_lost_may_come_back_with_the_old_policy(pool: ReloadScript) -> None:
    pool.wait(3.0, beating=[pool.played["w0"]])
    pool.reload()
    done = pool.result()
    assert not done.taken
    assert "no sign of life" in done.workers[1].problem
    assert pool.asked("w0") == []


def test_a_worker_that_leaves_is_not_asked(pool: ReloadScript) -> None:
    pool.core.worker_message(pool.played["w1"].peer, Leaving("SIGTERM"), pool.now)
    pool.turn()
    pool.reload()
    pool.reads("w0")
    pool.takes("w0")
    assert pool.result().taken
    assert pool.asked("w1") == []


def test_only_one_reload_at_a_time(pool: ReloadScript) -> None:
    pool.reload()
    pool.reload(peer="another")
    assert [reply.code for reply in pool.replies if isinstance(reply, Problem)] == ["busy"]
    pool.reads("w0", "w1")
    pool.takes("w0", "w1")
    pool.reload()
    assert pool.asked("w0") == [READ, TAKE, READ]


def test_late_answers_of_an_earlier_reload_mean_nothing(pool: ReloadScript) -> None:
    pool.reload(dry_run=True)
    first = pool.played["w0"].heard[-1]
    assert isinstance(first, ReloadAsked)
    pool.reads("w0", "w1")
    pool.reload()
    late = ReloadAnswer(first.number, int(READ), "old", ["late"])
    pool.core.worker_message(pool.played["w0"].peer, late, pool.now)
    pool.reads("w0", "w1")
    pool.takes("w0", "w1")
    assert (pool.result().taken, pool.result().changes) == (True, [])


# -- what the operator reads ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "dry_run", "outcome", "of_the_worker"),
    [
        (Reloaded("e", True, ["rule added"], [ReloadedWorker("w0", 1, True)], ""), False,
         "changed:", "has taken it"),
        (Reloaded("e", False, ["rule added"], [ReloadedWorker("w0", 1)], ""), True,
         "would change:", "could take it"),
        (Reloaded("e", True, [], [ReloadedWorker("w0", 1, True)], ""), False,
         "nothing changes: what is on the disk is in force", "has taken it"),
        (Reloaded("e", False, ["rule added"], [ReloadedWorker("w0", 1)], "w1 could not"), False,
         "FAILED: w1 could not", "has not taken it"),
        (Reloaded("e", False, [], [ReloadedWorker("w0", 1, problem="line 3")], "no"), False,
         "FAILED: no", "line 3"),
    ],
)  # fmt: skip
def test_the_outcome_comes_first_and_a_failure_never_reads_like_a_success(
    done: Reloaded, dry_run: bool, outcome: str, of_the_worker: str
) -> None:
    first, *rest = reload_lines(done, dry_run=dry_run)
    assert first == outcome
    assert [line.strip() for line in rest if line.startswith("  ")] == done.changes
    assert rest[-1].endswith(of_the_worker)


@pytest.mark.parametrize(
    ("dry_run", "problem", "line"),
    [
        (False, "", "reloaded changes=1 workers=2"),
        (True, "", "reload_tried, nothing was taken over changes=1 workers=2"),
        (False, "line 3", "reload_failed changes=1 workers=2 taken_by=0 problem="),
    ],
)
def test_the_log_tells_a_trial_from_a_failure(
    pool: ReloadScript, dry_run: bool, problem: str, line: str
) -> None:
    pool.reload(dry_run=dry_run)
    pool.reads("w0", changes=("one",))
    pool.reads("w1", problem=problem)
    pool.takes("w0", "w1")
    assert any(note.startswith(line) for note in pool.notes), pool.notes
