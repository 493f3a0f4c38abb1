"""Who owns an application: workers join, leave, die, fall silent and come back; the broker too."""

from __future__ import annotations

import random

import pytest
from task_script import SUBMIT_LIMIT_S, A, B, C, TaskScript, TaskWorker, key

from broker import watch_list
from broker.applications import (
    APPLICATIONS_MAX,
    ApplicationInPool,
    ApplicationShare,
    Watched,
)
from broker.membership import LEASE_S
from broker.messages import (
    ApplicationList,
    Applications,
    ApplicationsFound,
    ApplicationsHeld,
    ApplicationsWanted,
    AwaitWorkers,
    Done,
    Drain,
    LookAgain,
    Problem,
    Shutdown,
    TaskNumbers,
    TasksChanged,
    UnwatchApplications,
    WatchApplications,
)
from broker.ring import Ring
from broker.task_routing import task_lines
from broker.watch_list import EPOCHS_RESERVED, KeptList

# Goes from w0 to w1 when that joins.
MOVING = next(k for k in map(key, range(5, 100)) if Ring(["w0", "w1"]).owner(k) == "w1")
MANY = [key(number) for number in range(100, 160)]


def lists(worker: TaskWorker) -> list[Applications]:
    return [message for message in worker.heard if isinstance(message, Applications)]


def look(pool: TaskScript, application: str) -> ApplicationInPool:
    [answer] = pool.admin(ApplicationsWanted())
    assert isinstance(answer, ApplicationList)
    [found] = [each for each in answer.applications if each.key == application]
    return found


def two_of(pool: TaskScript, application: str = A) -> tuple[TaskWorker, TaskWorker]:
    """Two slow workers: the one that has the application, and the other."""
    workers = pool.workers_with_tasks(2, quick=False)
    pool.step()
    for worker in workers:
        worker.lets_go()
    owner = pool.owner(application)
    return (workers[0], workers[1]) if owner == "w0" else (workers[1], workers[0])


# -- giving ---------------------------------------------------------------------------------------


def test_a_worker_is_given_what_is_watched() -> None:
    pool = TaskScript(A, B)
    worker = pool.worker_with_tasks("w0")
    assert worker.has == {A: 1, B: 2} or worker.has == {A: 2, B: 1}
    assert [share.wait_ms for share in worker.shares.values()] == [0, 0]


def test_a_worker_that_runs_no_tasks_is_given_none() -> None:
    pool = TaskScript(A)
    signer = pool.worker("w0")
    assert not any(isinstance(message, Applications) for message in signer.heard)
    assert look(pool, A).state == "unowned"


def test_without_applications_nothing_is_said_and_nothing_is_written() -> None:
    pool = TaskScript()
    worker = pool.worker_with_tasks("w0")
    pool.beat(1)
    assert lists(worker) == []
    assert pool.kept == KeptList()


def test_what_is_watched_later_is_given_at_once() -> None:
    pool = TaskScript()
    worker = pool.worker_with_tasks("w0")
    assert pool.admin(WatchApplications([Watched(A, ["echo"])])) == [Done("e1")]
    assert worker.has == {A: 1}
    assert worker.shares[A].operators == ["echo"]


def test_other_operators_are_told_under_the_same_epoch() -> None:
    pool = TaskScript(A)
    worker = pool.worker_with_tasks("w0")
    pool.admin(WatchApplications([Watched(A, ["echo"])]))
    assert worker.has == {A: 1}
    assert worker.shares[A].operators == ["echo"]


def test_what_is_not_watched_any_more_is_let_go_of() -> None:
    pool = TaskScript(A, B)
    worker = pool.worker_with_tasks("w0")
    assert pool.admin(UnwatchApplications([A])) == [Done("e1")]
    assert worker.has.keys() == {B}
    pool.watch(C, replace=True)
    assert worker.has.keys() == {C}


def test_an_empty_list_and_the_same_again_is_another_epoch() -> None:
    """T25: the list is emptied and filled again."""
    pool = TaskScript(A)
    worker = pool.worker_with_tasks("w0")
    pool.admin(UnwatchApplications([A]))
    assert lists(worker)[-1].shares == []
    pool.watch(A)
    assert worker.has == {A: 2}


def test_what_stays_is_in_the_next_list_under_its_epoch() -> None:
    """T24: an update that keeps A, adds B and takes C away."""
    pool = TaskScript(A, C)
    worker = pool.worker_with_tasks("w0")
    epoch = worker.has[A]
    pool.watch(A, B, replace=True)
    assert worker.has == {A: epoch, B: 3}


def test_what_was_taken_and_given_back_while_it_was_let_go_of_has_a_new_epoch() -> None:
    """T23, from here: results of the old epoch are not those of the new one."""
    pool = TaskScript(A)
    worker = pool.worker_with_tasks("w0", quick=False)
    pool.admin(UnwatchApplications([A]))
    assert worker.letting_go == {A: 1}
    pool.watch(A)
    assert worker.has == {A: 2}


# -- handing over ---------------------------------------------------------------------------------


def test_a_worker_that_joins_gets_its_part_when_it_is_let_go_of() -> None:
    pool = TaskScript(*MANY)
    first = pool.worker_with_tasks("w0", quick=False)
    before = first.has
    second = pool.worker_with_tasks("w1", quick=False)
    moving = set(first.letting_go)
    assert 0 < len(moving) < len(MANY), "only what must move moves"
    assert second.has == {}
    one = min(moving)
    found = look(pool, one)
    assert (found.state, found.owner, found.awaited) == ("handing_over", "", ["w0"])
    first.lets_go(one)
    assert second.has.keys() == {one}
    assert second.has[one] > max(before.values())
    first.lets_go()
    assert second.has.keys() == moving
    assert first.has == {each: epoch for each, epoch in before.items() if each not in moving}
    assert all(share.wait_ms == 0 for share in second.shares.values())


def test_a_worker_that_leaves_gives_back_before_it_ends() -> None:
    pool = TaskScript(A)
    owner, other = two_of(pool)
    owner.leaves()
    assert owner.letting_go
    assert other.has == {}
    owner.lets_go()
    assert other.has.keys() == {A}
    assert other.wait_s(A) == 0
    owner.leaves(done=True)
    assert other.has.keys() == {A}


def test_the_last_worker_that_leaves_leaves_nobody() -> None:
    pool = TaskScript(A)
    worker = pool.worker_with_tasks("w0")
    worker.leaves()
    assert worker.has == {}
    assert look(pool, A).state == "unowned"


@pytest.mark.parametrize(("epoch", "number"), [("", 0), ("e1", 0), ("e0", 99)])
def test_an_answer_from_before_a_list_says_nothing_about_it(epoch: str, number: int) -> None:
    """That it holds nothing was on its way when the application was given, and taken back."""
    pool = TaskScript()
    first = pool.worker_with_tasks("w0", quick=False)
    first.stops()  # it hears nothing for a moment; its lease goes on
    pool.watch(MOVING)
    second = pool.worker_with_tasks("w1")
    first.says(ApplicationsHeld(epoch, number, []))
    pool.step()
    assert second.has == {}
    first.goes_on()
    assert first.letting_go.keys() == {MOVING}
    first.lets_go()
    assert second.has == {MOVING: 2}


def test_a_worker_that_joins_gets_nothing_before_it_has_told_what_it_holds() -> None:
    pool = TaskScript(MOVING)
    first = pool.worker_with_tasks("w0")
    second = TaskWorker(pool, "w1", 1, quick=True)
    tells, second.tells = second.tells, lambda *fenced: None  # type: ignore[method-assign]
    second.joins()
    assert first.has == {MOVING: 1}
    assert lists(second) == []
    second.tells = tells  # type: ignore[method-assign]
    second.tells()
    pool.step()
    assert second.has == {MOVING: 2}


# -- ends -----------------------------------------------------------------------------------------


def test_the_applications_of_a_worker_that_died_go_to_another_at_once() -> None:
    pool = TaskScript(A)
    owner, other = two_of(pool)
    epoch = owner.has[A]
    owner.dies()
    assert other.has[A] > epoch
    assert other.wait_s(A) == 0


def test_what_a_dead_worker_was_letting_go_of_moves_on() -> None:
    pool = TaskScript(*MANY)
    first = pool.worker_with_tasks("w0", quick=False)
    second = pool.worker_with_tasks("w1", quick=False)
    assert first.letting_go
    first.dies()
    assert second.has.keys() == set(MANY)


def test_the_next_owner_of_a_silent_worker_waits_for_what_may_be_on_its_way() -> None:
    """T48: the lease is over, the old owner may still run."""
    pool = TaskScript(A)
    owner, other = two_of(pool)
    epoch = owner.has[A]
    pool.lose(owner)
    assert other.has[A] > epoch
    assert other.shares[A].before == epoch  # by which a journal may know that it has ended
    assert SUBMIT_LIMIT_S - 1 < other.wait_s(A) <= SUBMIT_LIMIT_S
    assert look(pool, A).wait_ms > 0
    pool.beat(SUBMIT_LIMIT_S)
    assert look(pool, A).wait_ms == 0


def test_and_no_longer_when_its_process_has_ended() -> None:
    pool = TaskScript(A)
    owner, other = two_of(pool)
    pool.lose(owner)
    epoch = other.has[A]
    owner.dies()
    assert other.has == {A: epoch}
    assert other.wait_s(A) == 0


def test_the_end_of_the_last_owner_says_nothing_of_a_lost_one_before_it() -> None:
    pool = TaskScript(A)
    silent, last = two_of(pool)
    pool.lose(silent)
    third = pool.worker_with_tasks("w9")
    last.dies()
    assert third.shares[A].before == 0  # else it would go by the end of the last one alone
    assert third.wait_s(A) > SUBMIT_LIMIT_S - 1
    silent.dies()
    assert third.wait_s(A) == 0


def test_a_silent_worker_that_comes_back_loses_what_it_has_first() -> None:
    """T48: what it still believes to own is fenced by the higher epoch, and let go of."""
    pool = TaskScript(A)
    owner, other = two_of(pool)
    old = owner.has[A]
    pool.lose(owner)
    between = other.has[A]
    owner.goes_on()
    # The ring wants it back at its first place, under a new epoch: the other lets go first.
    assert other.letting_go == {A: between}
    assert A not in owner.has or owner.has[A] > between > old
    other.lets_go()
    assert owner.has[A] > between > old
    assert other.has == {}


def test_a_silent_worker_that_comes_back_with_nothing_need_not_be_waited_for() -> None:
    pool = TaskScript(A)
    owner, other = two_of(pool)
    pool.lose(owner)
    owner.shares = {}
    other.quick = False
    owner.goes_on()
    assert look(pool, A).wait_ms == 0


def test_a_silent_worker_that_comes_back_is_waited_for_until_it_has_let_go() -> None:
    pool = TaskScript(A)
    owner, _ = two_of(pool)
    pool.lose(owner)
    owner.goes_on()
    assert A in owner.letting_go, "its submission may be on its way"
    assert look(pool, A).wait_ms > 0
    owner.lets_go()
    assert look(pool, A).wait_ms == 0


def test_a_restarted_worker_of_the_same_name_begins_with_nothing() -> None:
    pool = TaskScript(A)
    first = pool.worker_with_tasks("w0")
    first.stops()  # it hangs; its successor is there before anybody knows
    again = pool.worker_with_tasks("w0", 2)
    assert again.has[A] > first.has[A]
    assert again.wait_s(A) > SUBMIT_LIMIT_S - 1
    first.dies()
    assert again.wait_s(A) == 0


def test_a_connection_that_was_made_anew_moves_nothing_and_brings_the_list_again() -> None:
    pool = TaskScript(A, B)
    worker = pool.worker_with_tasks("w0")
    before = worker.has
    told = len(lists(worker))
    worker.joins()
    assert worker.has == before
    assert len(lists(worker)) == told + 1


# -- restarts of the broker -----------------------------------------------------------------------


def test_a_restarted_broker_lets_the_workers_go_on() -> None:
    pool = TaskScript(*MANY)
    workers = pool.workers_with_tasks(3)
    before = [worker.has for worker in workers]
    again = pool.restarted(*workers)
    assert [worker.has for worker in workers] == before
    assert {again.owner(each) for each in MANY} == {"w0", "w1", "w2"}
    again.watch(A)
    [owner] = [worker for worker in workers if A in worker.has]
    assert owner.has[A] > EPOCHS_RESERVED, "no epoch of the broker before is given out again"


def test_nothing_is_given_before_the_supervisors_workers_have_said_what_they_hold() -> None:
    pool = TaskScript(*MANY)
    first, second = pool.workers_with_tasks(2)
    before = second.has
    again = TaskScript(epoch="e2", kept=pool.kept, started=False, now=pool.now)
    again.given, again.pids = pool.given, pool.pids
    again.admin(AwaitWorkers([first.pid, second.pid]))
    first.pool = second.pool = again
    first.joins()
    again.beat(1)
    assert first.has.keys().isdisjoint(before)
    second.joins()
    assert second.has == before
    assert first.has.keys() | second.has.keys() == set(MANY)


def test_a_worker_that_does_not_say_what_it_holds_does_not_keep_the_others_waiting() -> None:
    pool = TaskScript(A, started=False)
    silent = TaskWorker(pool, "w0", 1, quick=True)
    silent.tells = lambda *fenced: None  # type: ignore[method-assign]
    silent.joins()
    other = pool.worker_with_tasks("w1")
    pool.beat(1)
    assert other.has == {}
    pool.beat(2)
    assert other.has == {A: 1}
    assert lists(silent) == []


def test_what_nobody_claims_after_a_crash_may_still_be_with_somebody_silent() -> None:
    pool = TaskScript(A)
    pool.worker_with_tasks("w0")
    again = pool.restarted()
    worker = again.worker_with_tasks("w1")
    assert worker.has[A] > EPOCHS_RESERVED
    assert SUBMIT_LIMIT_S - 2 < worker.wait_s(A) <= SUBMIT_LIMIT_S


def test_and_after_a_drain_with_nobody() -> None:
    pool = TaskScript(A)
    worker = pool.worker_with_tasks("w0")
    pool.admin(Shutdown())
    worker.leaves(done=True)
    assert pool.last.stop
    assert pool.kept.settled
    again = pool.restarted()
    worker = again.worker_with_tasks("w0", 2)
    assert worker.has[A] > 1
    assert worker.wait_s(A) == 0


def test_two_that_claim_one_application_both_let_go_of_it_and_one_gets_it_anew() -> None:
    """The one that was silent through the broker's restart has the older epoch."""
    pool = TaskScript(A)
    owner, other = two_of(pool)
    pool.lose(owner)
    between = other.has[A]
    owner.deaf, owner.inbox = False, []
    again = pool.restarted(owner, other)
    assert again.owner(A) == ""
    owner.lets_go()
    other.lets_go()
    assert owner.has[A] > between


def test_what_a_worker_was_told_to_let_go_of_it_gets_back_under_a_new_epoch_only() -> None:
    pool = TaskScript(MOVING)
    first = pool.worker_with_tasks("w0", quick=False)
    again = pool.restarted(first, TaskWorker(pool, "w1", 1, quick=False))
    assert first.letting_go == {MOVING: 1}
    [second] = [worker for worker in again.task_workers.values() if worker is not first]
    second.dies()
    assert first.has[MOVING] > 1


def test_a_claim_from_before_another_owner_is_not_believed_however_long_ago() -> None:
    pool = TaskScript(A)
    owner, other = two_of(pool)
    pool.lose(owner)
    between = other.has[A]
    other.dies()
    again = pool.restarted()
    owner.pool, owner.deaf, owner.inbox = again, False, []
    owner.joins()
    assert owner.has[A] > between


def test_a_worker_that_comes_late_with_what_another_has_by_now_lets_go_of_it() -> None:
    pool = TaskScript(A)
    owner, other = two_of(pool)
    again = pool.restarted(other)
    again.beat(1)
    assert other.has[A] > EPOCHS_RESERVED
    other.quick = True
    owner.pool = again
    owner.stale = {A}
    owner.joins()
    owner.lets_go(*owner.letting_go)
    assert [worker.has for worker in (owner, other) if worker.has] == [
        {A: 2 * EPOCHS_RESERVED}
    ] or (len(owner.has | other.has) == 1)


def test_a_lost_watch_list_is_caught_up_with_the_journal() -> None:
    """The file was moved away: its epochs begin again, and the journal refuses them."""
    pool = TaskScript(A)
    worker = TaskWorker(pool, "w0", 1, quick=True)
    worker.fenced_below = 5_000
    worker.joins()
    assert worker.has == {A: 5_001}
    assert any("application_fenced" in note for note in pool.notes)


def test_what_a_worker_holds_of_a_lost_watch_list_it_goes_on_with() -> None:
    pool = TaskScript(A, started=False)
    worker = TaskWorker(pool, "w0", 1, quick=True)
    worker.shares, worker.list = {A: ApplicationShare(A, 5_000, 0, None)}, ("e0", 7)
    worker.joins()
    pool.beat(1)
    assert worker.has == {A: 5_000}
    pool.watch(B)
    assert worker.has == {A: 5_000, B: 5_001}


# -- the disk -------------------------------------------------------------------------------------


def test_nothing_is_watched_that_is_not_on_the_disk() -> None:
    pool = TaskScript()
    worker = pool.worker_with_tasks("w0")
    pool.disk_works = False
    [answer] = pool.admin(WatchApplications([Watched(A)]))
    assert answer == Problem("not_kept", "no space")
    assert worker.has == {}
    pool.disk_works = True
    pool.beat(2)
    assert worker.has == {}
    assert pool.admin(WatchApplications([Watched(A)])) == [Done("e1")]
    assert worker.has == {A: 1}


def test_epochs_are_given_while_some_are_reserved_and_again_when_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch_list, "EPOCHS_RESERVED", 4)
    pool = TaskScript(A)
    worker = pool.worker_with_tasks("w0")
    pool.disk_works = False
    had = []
    for incarnation in range(2, 6):
        had.append(worker.has)
        worker.dies()
        worker = pool.worker_with_tasks("w0", incarnation)
    assert had == [{A: 1}, {A: 2}, {A: 3}, {A: 4}]
    assert worker.has == {}
    pool.disk_works = True
    pool.beat(1.5)
    assert worker.has == {A: 5}


def test_two_changes_while_the_first_is_being_written_are_both_answered() -> None:
    pool = TaskScript()
    pool.core.client_message("one", WatchApplications([Watched(A)]), pool.now, pool.unix)
    first = pool.core.end_turn(pool.now, pool.unix)
    assert first.keep is not None
    for peer in ("two", "three"):
        pool.core.client_message(peer, WatchApplications([Watched(B)]), pool.now, pool.unix)
    assert pool.core.end_turn(pool.now, pool.unix).keep is None
    pool.core.watch_list_kept("", pool.now)
    second = pool.core.end_turn(pool.now, pool.unix)
    assert second.replies == [("one", Done("e1"))]
    assert second.keep is not None
    assert second.keep.watched == {A: None, B: None}
    pool.core.watch_list_kept("", pool.now)
    third = pool.core.end_turn(pool.now, pool.unix)
    assert third.replies == [("two", Done("e1")), ("three", Done("e1"))]


def test_what_is_watched_already_is_done_at_once() -> None:
    pool = TaskScript(A)
    pool.worker_with_tasks("w0")
    assert pool.admin(WatchApplications([Watched(A)])) == [Done("e1")]
    assert pool.admin(UnwatchApplications([B])) == [Done("e1")]


# -- who names applications -----------------------------------------------------------------------


def test_what_the_settings_name_only_they_change() -> None:
    pool = TaskScript(A, B, configured=(Watched(A, ["echo"]),))
    worker = pool.worker_with_tasks("w0")
    [answer] = pool.admin(WatchApplications([Watched(A, ["other"]), Watched(C)]))
    assert isinstance(answer, Problem)
    assert answer.code == "named_by_settings"
    assert A in answer.text
    assert worker.has.keys() == {A, B}, "all or nothing"
    assert worker.shares[A].operators == ["echo"]
    assert look(pool, A).named_by == ["settings", "operator"]
    [answer] = pool.admin(UnwatchApplications([B, A]))
    assert isinstance(answer, Problem)
    assert answer.code == "named_by_settings"
    assert A in answer.text
    assert worker.has.keys() == {A, B}, "all or nothing"


def test_an_application_is_not_watched_with_an_operator_that_the_pool_does_not_have() -> None:
    pool = TaskScript(operators=frozenset({"echo", "price"}))
    worker = pool.worker_with_tasks("w0")
    [answer] = pool.admin(WatchApplications([Watched(B), Watched(A, ["echo", "nosuch"])]))
    assert isinstance(answer, Problem)
    assert answer.code == "unknown_operator"
    assert "'nosuch'" in answer.text
    assert "echo, price" in answer.text
    assert worker.has == {}, "all or nothing"
    pool.admin(WatchApplications([Watched(B), Watched(A, ["echo"])]))
    assert worker.has.keys() == {A, B}


def test_where_a_controller_decides_nobody_else_names_applications() -> None:
    pool = TaskScript(configured=(Watched(A),), controller=A)
    worker = pool.worker_with_tasks("w0")
    [answer] = pool.admin(WatchApplications([Watched(B)]))
    assert isinstance(answer, Problem)
    assert answer.code == "named_by_controller"
    assert worker.has.keys() == {A}


def test_more_than_fits_is_refused_and_nothing_changes() -> None:
    pool = TaskScript(A)
    worker = pool.worker_with_tasks("w0")
    full = [Watched(key(number)) for number in range(10, 10 + APPLICATIONS_MAX)]
    [answer] = pool.admin(WatchApplications(full))
    assert isinstance(answer, Problem)
    assert answer.code == "too_many"
    long = [Watched(each.key, ["x" * 100] * 64) for each in full[:1000]]
    [answer] = pool.admin(WatchApplications(long))
    assert isinstance(answer, Problem)
    assert worker.has == {A: 1}


def test_only_the_owner_of_our_controller_says_what_it_has_found() -> None:
    pool = TaskScript(configured=(Watched(A),), controller=A)
    worker = pool.worker_with_tasks("w0")
    for controller, epoch in ((B, 1), (A, 2), (B, 2)):
        worker.says(ApplicationsFound(controller, epoch, [Watched(C)]))
        pool.step()
        assert worker.has == {A: 1}
    worker.says(ApplicationsFound(A, 1, [Watched(B, ["echo"]), Watched(C)]))
    pool.step()
    assert worker.has.keys() == {A, B, C}
    assert look(pool, C).named_by == ["controller"]
    worker.says(ApplicationsFound(A, 1, [Watched(C)]))
    pool.step()
    assert worker.has.keys() == {A, C}
    again = pool.restarted(worker, configured=(Watched(A),), controller=A)
    assert again.owner(C) == "w0", "what was found is remembered"
    other = again.restarted(worker, epoch="e3", configured=(Watched(B),), controller=B)
    assert other.owner(C) == ""
    assert worker.has.keys() == {B}


def test_the_owner_hears_that_somebody_has_written_into_the_journal() -> None:
    pool = TaskScript(A, B)
    owner, other = two_of(pool)
    assert pool.admin(TasksChanged([A, C])) == [Done("e1")]
    assert [m for m in owner.heard if isinstance(m, LookAgain)] == [LookAgain([A])]
    assert not any(m == LookAgain([A]) for m in other.heard)


def test_in_compat_mode_there_is_no_journal_to_look_into() -> None:
    pool = TaskScript(A, keeps_no_journal=True)
    (answer,) = pool.admin(TasksChanged([A]))
    assert isinstance(answer, Problem)
    assert answer.code == "no_journal"


# -- the end of the pool --------------------------------------------------------------------------


def test_a_drain_waits_until_every_application_is_let_go_of() -> None:
    pool = TaskScript(A)
    worker = pool.worker_with_tasks("w0", quick=False)
    pool.admin(Shutdown())
    assert any(isinstance(message, Drain) for message in worker.heard)
    assert not pool.last.stop
    worker.leaves()
    assert not pool.last.stop
    worker.lets_go()
    assert pool.last.stop
    assert pool.kept.settled


def test_a_drain_does_not_wait_for_a_disk_that_cannot_be_written() -> None:
    pool = TaskScript(A)
    worker = pool.worker_with_tasks("w0")
    pool.disk_works = False
    pool.admin(Shutdown())
    pool.step()
    assert worker.has == {}
    assert pool.last.stop
    assert not pool.kept.settled


# -- people ---------------------------------------------------------------------------------------


def test_the_status_tells_of_applications_and_tasks() -> None:
    pool = TaskScript(*MANY, A, B)
    first, second = pool.workers_with_tasks(2)
    first.says(TaskNumbers(2, 3, 1, 9_000))
    second.says(TaskNumbers(1, 0, 1))
    status = pool.core.status(pool.now)
    tasks = status["tasks"]
    assert isinstance(tasks, dict)
    assert (tasks["watched"], tasks["owned"]) == (62, 62)
    assert (tasks["running"], tasks["waiting"], tasks["dead"]) == (3, 3, 2)
    lines = task_lines(tasks)
    assert "62 owned=62" in lines[0]
    assert "oldest=9s" in lines[0]
    assert any("w0" in line and "owned" in line for line in lines[1:])
    workers = {w["name"]: w["tasks"] for w in status["workers"]}  # type: ignore[attr-defined]
    assert workers["w0"]["applications"] + workers["w1"]["applications"] == 62
    assert workers["w1"]["running"] == 1
    first.dies()
    assert pool.core.status(pool.now)["tasks"]["running"] == 1  # type: ignore[index]


def test_an_application_that_does_not_go_on_has_its_owners_words() -> None:
    pool = TaskScript(A)
    owner, other = two_of(pool)
    owner.says(TaskNumbers(0, 1, 0, 0, {A: "read-only"}))
    other.says(TaskNumbers(0, 0, 0, 0, {A: "of another time"}))
    assert look(pool, A).trouble == "read-only"
    assert task_lines(pool.core.status(pool.now)["tasks"])[-1] == "  does not go on: read-only"
    owner.says(TaskNumbers(0, 0, 0))
    assert look(pool, A).trouble == ""


def test_a_pool_without_applications_says_nothing_of_them() -> None:
    assert task_lines(TaskScript().core.status(1000.0)["tasks"]) == []


# -- storms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_no_application_has_two_owners(seed: int) -> None:
    """Workers and the broker come and go; `TaskScript.check` looks on after each turn."""
    chance = random.Random(seed)
    pool = TaskScript(*MANY[:12])
    workers = {f"w{i}": pool.worker_with_tasks(f"w{i}", quick=False) for i in range(4)}
    incarnation, brokers = 1, 1
    for _ in range(100):
        name = chance.choice(list(workers))
        worker = workers[name]
        match chance.randrange(9):
            case 0:
                worker.dies()
                incarnation += 1
                workers[name] = pool.worker_with_tasks(name, incarnation, quick=False)
            case 1 if not worker.deaf:
                worker.stops()
            case 2 if worker.deaf:
                worker.goes_on()
            case 3 | 4 if worker.letting_go and not worker.deaf:
                worker.lets_go(chance.choice(list(worker.letting_go)))
            case 5:
                each = chance.choice(MANY[:12])
                watched = each in pool.core.tasks.watched.entries
                pool.admin(
                    UnwatchApplications([each]) if watched else WatchApplications([Watched(each)])
                )
            case 6:
                brokers += 1
                running = [w for w in workers.values() if not w.deaf]
                silent = [w for w in workers.values() if w.deaf]
                pool = pool.restarted(*running, epoch=f"e{brokers}")
                for each_worker in silent:
                    each_worker.pool = pool
                    each_worker.inbox = []
                    pool.task_workers[each_worker.peer] = each_worker
            case 7 if not worker.deaf and worker.peer in pool.core.members.by_peer:
                worker.joins()
            case _:
                pool.beat(chance.random() * LEASE_S)
    pool.watch(*MANY[:12])
    for worker in workers.values():
        worker.quick = True
        if worker.deaf:
            worker.goes_on()
    pool.beat(1)
    for worker in workers.values():
        worker.lets_go()
    pool.beat(5)
    owners = [worker for each in MANY[:12] for worker in workers.values() if each in worker.has]
    assert len(owners) == 12, "the storm is over, and every application has its owner"
    for worker in workers.values():
        for each, epoch in worker.has.items():
            assert pool.owner(each) == worker.name
            assert epoch == max(e for k, e in pool.given if k == each), "and the highest epoch"
