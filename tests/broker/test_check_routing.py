"""Which worker checks what, as transcripts of the dispatcher."""

from __future__ import annotations

from pool_script import PlayedWorker, PoolScript, votes

from broker.check_routing import SLICES_PER_WORKER_MAX
from broker.messages import (
    CheckAsked,
    Checked,
    CheckSlices,
    Leaving,
    SlicesChecked,
    WorkerEnded,
)
from broker.verification import CheckAnswer, CheckSlice


class Checks:
    """An asker on the request socket."""

    def __init__(self, pool: PoolScript) -> None:
        self.pool = pool
        self._read = 0

    def send(self, *slices: CheckSlice) -> None:
        self.pool.core.client_message(b"q", CheckAsked(list(slices)), self.pool.now, self.pool.unix)

    def ask(self, *slices: CheckSlice) -> list[Checked]:
        self.send(*slices)
        return self.replies()

    def replies(self) -> list[Checked]:
        """What it is answered in this turn, and was since it last looked."""
        self.pool.turn()
        new = self.pool.replies[self._read :]
        self._read = len(self.pool.replies)
        return [message for message in new if isinstance(message, Checked)]


def a_slice(number: int, cost_us: int = 1000, hint: str = "") -> CheckSlice:
    return CheckSlice(number, cost_us, b"body %d" % number, 5000, hint)


def taken(worker: PlayedWorker) -> list[CheckSlice]:
    """What a worker was given to check, in order."""
    return [s for m in worker.heard if isinstance(m, CheckSlices) for s in m.slices]


def problems(replies: list[Checked]) -> list[tuple[int, str]]:
    return [(answer.number, answer.problem) for reply in replies for answer in reply.answers]


def answer(pool: PoolScript, worker: PlayedWorker, *answers: CheckAnswer) -> None:
    pool.core.worker_message(worker.peer, SlicesChecked(list(answers)), pool.now)


def test_a_slice_is_answered_under_the_number_of_who_asked() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    checks = Checks(pool)
    assert checks.ask(a_slice(77)) == []
    [given] = taken(w)
    assert (given.body, given.ttl_ms) == (b"body 77", 5000)
    answer(pool, w, CheckAnswer(given.number, b"verdicts"))
    [reply] = checks.replies()
    assert reply.answers == [CheckAnswer(77, b"verdicts")]
    assert reply.room == SLICES_PER_WORKER_MAX
    answer(pool, w, CheckAnswer(given.number, b"once more"))
    assert checks.replies() == []


def test_a_worker_has_some_slices_in_hand_in_one_message_and_the_next_is_refused() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    checks = Checks(pool)
    some, one_more = range(SLICES_PER_WORKER_MAX), SLICES_PER_WORKER_MAX
    asked = [a_slice(n) for n in (*some, one_more)]
    assert problems(checks.ask(*asked)) == [(one_more, "busy")]
    [message] = [message for message in w.heard if isinstance(message, CheckSlices)]
    assert [s.body for s in message.slices] == [b"body %d" % n for n in some]
    answer(pool, w, CheckAnswer(taken(w)[0].number, b"v"))
    assert problems(checks.replies()) == [(0, "")]
    assert checks.ask(a_slice(one_more)) == []


def test_the_owner_of_the_hint_then_whoever_has_the_least_to_check() -> None:
    pool = PoolScript()
    workers = {name: pool.worker(name) for name in ("w0", "w1", "w2")}
    owner = pool.core.members.owner_of_key("mv1a")
    assert owner is not None
    checks = Checks(pool)
    checks.ask(*[a_slice(n, 10, "mv1a") for n in range(SLICES_PER_WORKER_MAX)])
    assert [s.hint for s in taken(workers[owner.name])] == ["mv1a"] * SLICES_PER_WORKER_MAX
    others = [w for name, w in workers.items() if name != owner.name]
    checks.ask(a_slice(13, 900, "mv1a"), a_slice(14, 10))
    checks.ask(a_slice(15, 1000), a_slice(16, 10))
    assert sorted([s.cost_us for s in taken(w)] for w in others) == [[10, 1000], [900, 10]]


def test_checks_take_no_delegates_turn_and_come_behind_duties() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    checks = Checks(pool)
    checks.send(a_slice(1, hint="mv1a"))
    pool.push("baker", votes("mv1a"))
    assert w.takes() == ["mv1a"]
    assert len(taken(w)) == 1
    assert type(w.heard[-1]) is CheckSlices
    w.answer_all()
    assert checks.ask(a_slice(2)) == []


def test_a_worker_that_is_lost_or_has_ended_is_told_at_once() -> None:
    pool = PoolScript()
    first, second = pool.worker("w0"), pool.worker("w1")
    checks = Checks(pool)
    checks.ask(*[a_slice(n) for n in range(4)])
    ended = WorkerEnded(first.hello.pid, "killed by signal 9")
    pool.core.client_message(b"s", ended, pool.now, pool.unix)
    lost = problems(checks.replies())
    assert [problem for _, problem in lost] == ["worker_lost"] * 2
    pool.wait(2.0, beating=[])  # the other one says nothing for a lease
    lost += problems(checks.replies())
    assert sorted(lost) == [(n, "worker_lost") for n in range(4)]
    answer(pool, second, *[CheckAnswer(s.number, b"late") for s in taken(second)])
    assert checks.replies() == [], "it was given up"
    assert pool.core.checks.counts["worker_lost"] == 4


def test_a_connection_made_anew_has_lost_what_was_on_its_way() -> None:
    pool = PoolScript()
    w = pool.worker("w0")
    checks = Checks(pool)
    checks.ask(a_slice(1))
    w.hello_again([])
    assert problems(checks.replies()) == [(1, "worker_lost")]
    assert checks.ask(a_slice(1)) == []


def test_nobody_checks_for_a_pool_without_workers_or_one_that_drains() -> None:
    pool = PoolScript()
    checks = Checks(pool)
    assert problems(checks.ask(a_slice(1))) == [(1, "no_worker")]
    w = pool.worker("w0")
    pool.core.worker_message(w.peer, Leaving("it drains"), pool.now)
    assert problems(checks.ask(a_slice(2))) == [(2, "no_worker")]
    pool.worker("w1")
    pool.core.shut_down()
    assert problems(checks.ask(a_slice(3))) == [(3, "no_worker")]


def test_a_worker_that_may_not_sign_may_check() -> None:
    pool = PoolScript()
    pool.worker("w0")
    far = pool.worker("far", store="another store")
    assert Checks(pool).ask(*[a_slice(n) for n in range(2 * SLICES_PER_WORKER_MAX)]) == []
    assert len(taken(far)) == SLICES_PER_WORKER_MAX


def test_asking_for_nothing_tells_the_room() -> None:
    pool = PoolScript()
    pool.worker("w0")
    pool.worker("w1")
    checks = Checks(pool)
    room = 2 * SLICES_PER_WORKER_MAX
    assert [reply.room for reply in checks.ask()] == [room]
    checks.ask(a_slice(1))
    assert [reply.room for reply in checks.ask()] == [room - 1]
    status = pool.core.status(pool.now)
    assert isinstance(status["workers"], list)
    assert sorted(worker["checking"] for worker in status["workers"]) == [0, 1]


def test_a_worker_that_has_lost_slices_is_asked_last_until_it_answers_one() -> None:
    pool = PoolScript()
    broken, fine = pool.worker("w0"), pool.worker("w1")
    checks = Checks(pool)
    checks.ask(a_slice(1), a_slice(2))
    for lost in taken(broken):
        answer(pool, broken, CheckAnswer(lost.number, problem="worker_lost"))
    before = len(taken(broken))
    for number in range(SLICES_PER_WORKER_MAX - len(taken(fine))):
        checks.ask(a_slice(10 + number))
    assert len(taken(broken)) == before, "the other one has had places"
    checks.ask(a_slice(30))
    [*_, given] = taken(broken)
    assert given.body == b"body 30"
    answer(pool, broken, CheckAnswer(given.number, b"verdicts"))
    checks.ask(a_slice(31))
    assert taken(broken)[-1].body == b"body 31"
