"""Real task processors with real operators, sandbox applications on real sockets, and SIGKILL.

The numbers are those of the scenarios that the whole must hold (docs/offchain.md).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from broker.config import OperatorSettings
from broker.messages import Applications, TaskNumbers
from tests.offchain.processor_at_work import CAT, Pool, Processor, pool, script, waits_for
from tests.offchain.served_applications import until
from tests.offchain.test_journal import HOLDER, OTHER
from workers.offchain.journal.journal_reports import KnownTask, known_tasks, leave_wishes
from workers.offchain.journal.journal_tables import JOURNAL_NAME, open_to_read
from workers.offchain.records import TaskState
from workers.offchain.stimuli import Wish
from workers.sandbox_apps.faults import FaultKind

pytestmark = pytest.mark.process

OUTCOME = "processTaskOutcome"


def played(play: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test whose one loop serves the applications and attends to the processors."""

    @wraps(play)
    def test(**fixtures: object) -> None:
        asyncio.run(play(**fixtures))

    return test


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def noted(notes: Path) -> list[int]:
    """The processes that operators have noted."""
    return [int(line) for line in notes.read_text().split()] if notes.exists() else []


def journal(tmp_path: Path) -> list[KnownTask]:
    return list(known_tasks(tmp_path / JOURNAL_NAME))


def outbox(tmp_path: Path) -> int:
    with closing(open_to_read(tmp_path / JOURNAL_NAME)) as db:
        (count,) = db.execute("SELECT COUNT(*) FROM outbox").fetchone()
        return int(count)


def submissions(p: Pool) -> int:
    return len(p.served.host.requests.asking(OUTCOME))


async def outcomes(one: Processor, count: int) -> None:
    await until(lambda: one.names().count("task_outcome") == count)


@played
async def test_outcomes_come_in_the_order_of_the_requests(tmp_path: Path) -> None:
    """T1, T2, T5, T30: pending at the start; the slow one first; every byte as it was."""
    gate, odd = tmp_path / "gate", '\x1b\0\x7f\u2028 "\\ \U0001f980\n'
    slow = script(tmp_path, "slow", waits_for(gate))
    async with pool(tmp_path, {"slow": slow, "cat": CAT}, ids=False) as p:
        p.served.request_task("slow", "first")
        p.served.request_task("cat", odd)
        one = p.processor()
        one.give(p.share())
        await until(lambda: one.names().count("task_started") == 2)
        assert p.served.results == []
        gate.touch()
        await outcomes(one, 2)
        assert p.served.results == ["first", odd]
        p.served.request_task("cat", "third")  # told by a notification
        await outcomes(one, 3)
        assert p.served.results[2:] == ["third"]
        assert submissions(p) == 3
        await until(lambda: outbox(tmp_path) == 0)  # what is confirmed is said no more


@played
async def test_a_failing_task_holds_up_its_own_group_alone(tmp_path: Path) -> None:
    """T8, T37: dead after its attempts; a person has it tried again."""
    mended = tmp_path / "mended"
    fails = script(tmp_path, "fails", f'echo "no luck" >&2; [ -e {mended} ] && exec cat; exit 3')
    settings = {"max_attempts": 2, "retry_delay_s": 0.01, "retry_max_s": 0.01}
    async with pool(tmp_path, {"fails": fails, "cat": CAT}, **settings) as p:
        p.served.request_task("fails", "a")
        p.served.request_task("cat", "b")
        one = p.processor()
        one.give(p.share())
        await until(lambda: "task_dead" in one.names())
        await until(lambda: p.served.results == ["b"])
        await until(lambda: len(journal(tmp_path)) == 1)  # it has heard that the other is committed
        (dead,) = journal(tmp_path)
        assert (dead.task.state, dead.task.attempts) == (TaskState.DEAD, 2)
        assert dead.task.stderr == "no luck\n"
        assert one.codes("task_retry") == ["exit"]

        mended.touch()
        leave_wishes(tmp_path / JOURNAL_NAME, [dead], Wish.RETRY)
        one.look_again(p.application())
        await until(lambda: p.served.results == ["b", "a"])
        await until(lambda: journal(tmp_path) == [])


@played
async def test_a_processor_that_cannot_work_says_why(tmp_path: Path) -> None:
    """A damaged journal; as soon as it is moved away, the next one works."""
    damaged = tmp_path / JOURNAL_NAME
    damaged.write_bytes(b"no database" * 1000)
    async with pool(tmp_path, {"cat": CAT}) as p:
        p.served.request_task("cat", "x")
        one = p.processor()
        one.give(p.share())
        await until(lambda: "journal_unusable" in one.inner.trouble)
        assert "is damaged" in one.inner.trouble
        damaged.rename(tmp_path / "moved away")
        await outcomes(one, 1)
        assert one.inner.trouble == ""


@played
async def test_a_place_of_a_processor_without_a_successor_is_free_again(tmp_path: Path) -> None:
    """Killed with its worker, and its application was not watched any more after that."""
    async with pool(tmp_path, {"cat": CAT}, concurrency=1) as p:
        one = p.processor()
        one.numbers = TaskNumbers(3, 2, 1)  # of the one before, as the broker knows them
        one.give(p.share())
        await until(lambda: bool(one.held) and one.numbers == TaskNumbers(0, 0, 0))
        gone = [
            sys.executable,
            "-c",
            HOLDER,
            str(tmp_path / JOURNAL_NAME),
            OTHER.key,
            "1",
            "running",
        ]
        with subprocess.Popen(gone, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline(), "it has the only place"
            holder.kill()
        p.served.request_task("cat", "x")
        await outcomes(one, 1)


@played
async def test_an_application_that_does_not_go_on_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with pool(tmp_path, {"cat": CAT}) as p:
        p.served.fault(FaultKind.READ_ONLY, field=OUTCOME)
        p.served.request_task("cat", "x")
        one = p.processor()
        one.give(p.share())
        await until(lambda: "applications_wait: 1 of 1" in one.inner.trouble)
        assert "read-only mode" in one.inner.trouble
        assert "forgepool tasks resume" in one.inner.trouble
        await until(lambda: p.application().key in one.numbers.troubles)
        [known] = journal(tmp_path)
        assert known.task.state is TaskState.COMPUTED
        assert "read-only mode" in known.task.why
        one.look_again(p.application())
        await outcomes(one, 1)
        await until(lambda: one.inner.trouble == "")

        p.served.fault(FaultKind.DROP, field="nextActions", times=0)
        p.served.request_task("cat", "y")
        away = f"node_service_away: POST {p.served.url}/chains/"
        await until(lambda: away in one.inner.trouble)
        p.served.host.faults.clear()
        await outcomes(one, 2)
        await until(lambda: one.inner.trouble == "")
        assert " ERROR w1/tasks application_stopped " in capfd.readouterr().err


@played
async def test_an_outcome_without_effect_is_no_success(tmp_path: Path) -> None:
    """T38: it backs off and dies, where the source runs the operator for ever."""
    settings = {"max_attempts": 3, "retry_delay_s": 0.01, "retry_max_s": 0.01}
    async with pool(tmp_path, {"cat": CAT}, **settings) as p:
        p.served.fault(FaultKind.NO_EFFECT, field=OUTCOME, times=0)
        p.served.request_task("cat", "x")
        one = p.processor()
        one.give(p.share())
        await until(lambda: "task_dead" in one.names())
        assert one.names().count("task_started") == 1
        assert submissions(p) == 3
        assert one.codes("task_dead") == ["no_effect"]


@played
async def test_a_commit_whose_answer_is_lost_is_not_repeated(tmp_path: Path) -> None:
    """T11, T39: the application is asked first, and what was computed is used again."""
    async with pool(tmp_path, {"cat": CAT}) as p:
        p.served.fault(FaultKind.CONFLICT, field=OUTCOME)
        p.served.request_task("cat", "x")
        one = p.processor()
        one.give(p.share())
        await outcomes(one, 1)
        assert one.names().count("task_started") == 1
        assert submissions(p) == 2

        p.served.fault(FaultKind.COMMIT_AND_DROP, field=OUTCOME)
        p.served.request_task("cat", "y")
        await until(lambda: p.served.results == ["x", "y"] and journal(tmp_path) == [])
        assert submissions(p) == 3
        assert one.names().count("task_started") == 2


@played
async def test_a_processor_killed_before_its_outcome_left_loses_nothing(tmp_path: Path) -> None:
    """T40: one result, and the operator that it left behind is ended."""
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    slow = script(tmp_path, "slow", waits_for(gate, notes=notes))
    async with pool(tmp_path, {"slow": slow, "cat": CAT}) as p:
        p.served.fault(FaultKind.HANG, field=OUTCOME, times=0)
        p.served.request_task("cat", "x")
        p.served.request_task("slow", "y")
        one = p.processor()
        one.give(p.share())
        await until(lambda: submissions(p) == 1 and noted(notes))
        (orphan,) = noted(notes)
        killed = one.pid
        one.signal(signal.SIGKILL)
        gate.touch()
        p.served.host.faults.clear()
        await until(lambda: sorted(p.served.results) == ["x", "y"])
        assert one.pid != killed
        await until(lambda: not alive(orphan))
        await until(lambda: journal(tmp_path) == [])
        assert p.served.pending == []


@played
async def test_a_killed_worker_leaves_no_operator(tmp_path: Path) -> None:
    """T26: its processor sees that it is gone, and ends what runs with all its children."""
    notes = tmp_path / "notes"
    family = script(
        tmp_path, "family", f"sleep 1000 & echo $! >> {notes}; echo $$ >> {notes}; wait"
    )
    async with pool(tmp_path, {"family": family}) as p:
        p.served.request_task("family", "x")
        one = p.processor()
        one.give(p.share())
        await until(lambda: len(noted(notes)) == 2)
        processor = one.pid
        await p.forget(one)  # its worker is gone: the channel closes
        await until(lambda: not any(map(alive, [processor, *noted(notes)])))
        assert submissions(p) == 0


@played
async def test_a_processor_that_is_killed_while_it_ends_leaves_no_operator(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    slow = script(tmp_path, "slow", waits_for(tmp_path / "never", notes=notes))
    async with pool(tmp_path, {"slow": slow}) as p:
        p.served.request_task("slow", "x")
        one = p.processor()
        one.give(p.share())
        await until(lambda: len(noted(notes)) == 1)
        one.signal(signal.SIGSTOP)
        one.inner.finish(time.monotonic())
        one.signal(signal.SIGKILL)
        await until(lambda: not one.inner.holds)
        await until(lambda: not alive(noted(notes)[0]))
        assert submissions(p) == 0


@played
async def test_an_end_does_not_wait_for_a_submission_that_hangs(tmp_path: Path) -> None:
    """Until its worker has ended no other one signs in its place."""
    async with pool(tmp_path, {"cat": CAT}, drain_s=0.5) as p:
        p.served.fault(FaultKind.COMMIT_AND_HANG, field=OUTCOME, times=1)
        p.served.request_task("cat", "x")
        one = p.processor()
        one.give(p.share())
        await until(lambda: submissions(p) == 1)
        pid = one.pid
        one.inner.finish(time.monotonic())
        await until(lambda: not one.inner.holds)
        await p.forget(one)
        assert not alive(pid)
        p.served.request_task("cat", "y")
        other = p.processor()
        other.give(p.share(2))
        await until(lambda: p.served.results == ["x", "y"])


@played
async def test_a_wait_that_is_over_does_not_begin_again_with_the_next_processor(
    tmp_path: Path,
) -> None:
    async with pool(tmp_path, {"cat": CAT}) as p:
        p.served.request_task("cat", "x")
        one = p.processor()
        two_minutes_ago = time.monotonic() - 120
        one.inner.take(Applications("epoch", 1, [p.share(wait_ms=60_000)]), two_minutes_ago)
        one.signal(signal.SIGKILL)
        await outcomes(one, 1)


@played
async def test_what_was_taken_away_is_not_submitted_and_runs_anew_elsewhere(
    tmp_path: Path,
) -> None:
    """T22, T23: one outcome for each task, of the owner that there is."""
    notes, gate = tmp_path / "notes", tmp_path / "gate"
    slow = script(tmp_path, "slow", waits_for(gate, notes=notes))
    async with pool(tmp_path, {"slow": slow}) as p:
        p.served.request_task("slow", "x")
        one, other = p.processor(), p.processor()
        one.give(p.share(1))
        await until(lambda: len(noted(notes)) == 1)
        one.give()
        await until(lambda: one.seen == 2 and not one.held)
        assert not alive(noted(notes)[0])
        other.give(p.share(2))
        await until(lambda: len(noted(notes)) == 2)
        gate.touch()
        await outcomes(other, 1)
        assert p.served.results == ["x"]
        assert submissions(p) == 1


@played
async def test_an_owner_that_comes_back_late_finds_the_door_closed(tmp_path: Path) -> None:
    """T48: stopped before it could submit; another one has done the work by then."""
    gate = tmp_path / "gate"
    slow = script(tmp_path, "slow", waits_for(gate))
    async with pool(tmp_path, {"slow": slow}) as p:
        p.served.request_task("slow", "x")
        one, other = p.processor(), p.processor()
        one.give(p.share(1))
        await until(lambda: "task_started" in one.names())
        one.signal(signal.SIGSTOP)
        gate.touch()  # its operator ends, and nobody takes the outcome
        other.give(p.share(2))
        await outcomes(other, 1)
        one.signal(signal.SIGCONT)
        await until(lambda: one.fenced == {p.application().key: 2})
        assert p.served.results == ["x"]
        assert submissions(p) == 1


@played
async def test_many_tasks_keep_their_order_and_the_caps_of_the_host(tmp_path: Path) -> None:
    """T42, with two processors of one host."""
    running = tmp_path / "running"
    running.mkdir()
    # Each notes itself, looks how many there are, and says that behind its input.
    counts = script(
        tmp_path,
        "counts",
        f": > {running}/$$; read -r input; set -- {running}/*; echo $input $#; rm {running}/$$",
    )
    async with pool(tmp_path, {"counts": counts}, ids=False, applications=2, concurrency=3) as p:
        for number in range(30):
            p.served.request_task("counts", str(number), number % 2)
        one, other = p.processor(), p.processor()
        one.give(p.share(application=0))
        other.give(p.share(application=1))
        await outcomes(one, 15)
        await outcomes(other, 15)
        sent = [r.variables["outcome"]["output"] for r in p.served.host.requests.asking(OUTCOME)]
        numbers, counted = zip(
            *((int(word) for word in each.split()) for each in sent), strict=True
        )
        assert max(counted) <= 3
        for application in range(2):
            of_it = [number for number in numbers if number % 2 == application]
            assert of_it == list(range(application, 30, 2))


@played
async def test_notifications_that_break_cost_a_poll_and_no_task(tmp_path: Path) -> None:
    """T41."""
    async with pool(tmp_path, {"cat": CAT}) as p:
        one = p.processor()
        one.give(p.share())
        await until(lambda: p.served.host.requests.asking("nextActions"))
        p.served.host.switches.refuse_streams = True
        await until(p.served.server.drop_streams)
        for text in ("a", "b", "c"):
            p.served.request_task("cat", text)
        p.served.host.switches.refuse_streams = False
        await outcomes(one, 3)
        assert sorted(p.served.results) == ["a", "b", "c"]


@played
async def test_no_block_has_a_failed_task_run_before_its_time(tmp_path: Path) -> None:
    """T7, T36: what is before it is committed, what is behind it waits, and blocks go on."""
    fails = script(tmp_path, "fails", "exit 1")
    operators = {"fails": fails, "cat": CAT}
    async with pool(
        tmp_path, operators, ids=False, applications=2, retry_delay_s=300.0, retry_max_s=300.0
    ) as p:
        for operator, text in (("cat", "a"), ("fails", "b"), ("cat", "c")):
            p.served.request_task(operator, text)
        one = p.processor()
        one.give(p.share())
        await outcomes(one, 1)
        await until(lambda: "task_retry" in one.names())
        for _ in range(10):
            asked = len(p.served.host.requests.asking("nextActions"))
            p.served.request_task("cat", "of another", application=1)  # a block of the same chain
            await until(lambda: len(p.served.host.requests.asking("nextActions")) > asked)  # noqa: B023
        assert one.names().count("task_started") == 3
        assert p.served.results == ["a"]
        assert submissions(p) == 1


@played
async def test_after_an_error_it_asks_again_and_when_it_is_called_back(tmp_path: Path) -> None:
    """T12, T13: there is no block, so nothing but the clock has it ask."""
    call_at = time.time_ns() // 1000 + 2_000_000
    answer = {"data": {"nextActions": {"execute_tasks": [], "request_callback": call_at}}}
    async with pool(tmp_path, {"cat": CAT}) as p:
        p.served.request_task("cat", "x")
        p.served.fault(FaultKind.ERROR, field="nextActions")
        p.served.fault(FaultKind.ANSWER, field="nextActions", text=json.dumps(answer), times=0)
        one = p.processor()
        one.give(p.share())

        def asked() -> list[int]:
            return [r.variables["now"] for r in p.served.host.requests.asking("nextActions")]

        await until(lambda: max(asked(), default=0) >= call_at)
        assert one.names() == []
        p.served.host.faults.clear()
        await outcomes(one, 1)
        assert len([now for now in asked() if now < call_at]) <= 4, "start, stream, error, answer"


@played
async def test_an_application_uses_the_operators_of_its_entry_alone(tmp_path: Path) -> None:
    async with pool(tmp_path, {"cat": CAT, "other": CAT}) as p:
        p.served.request_task("other", "x")
        p.served.request_task("cat", "y")
        p.served.request_task("unknown", "z")
        one = p.processor()
        one.give(p.share(operators=["cat", "unknown"]))
        await outcomes(one, 1)
        await until(lambda: len(one.codes("task_dead")) == 2)
        assert sorted(one.codes("task_dead")) == ["not_allowed", "unknown_operator"]
        assert p.served.results == ["y"]


@played
async def test_compat_submits_what_was_taken_away(tmp_path: Path) -> None:
    """T5, T22 of the first version; paths are seen from the state directory in this mode too."""
    gate = tmp_path / "gate"
    script(tmp_path, "slow", waits_for(gate))
    slow = OperatorSettings("./slow")
    async with pool(tmp_path, {"slow": slow, "cat": CAT}, ids=False, mode="compat") as p:
        p.served.request_task("slow", "x")
        p.served.request_task("cat", "y")
        one = p.processor()
        one.give(p.share())
        await until(lambda: one.names().count("task_started") == 2)
        one.give()
        await until(lambda: one.seen == 2)
        gate.touch()
        await until(lambda: p.served.results == ["x", "y"])
        assert not (tmp_path / JOURNAL_NAME).exists()


@played
async def test_compat_ends_in_the_middle_of_a_question(tmp_path: Path) -> None:
    """T26: its loop would wait for the answer for ever, and the pool's drain with it."""
    async with pool(tmp_path, {"cat": CAT}, mode="compat") as p:
        p.served.fault(FaultKind.HANG, field="nextActions", times=0)
        one = p.processor()
        one.give(p.share())
        await until(lambda: bool(p.served.host.requests.asking("nextActions")))
        one.inner.finish(time.monotonic())
        await until(lambda: not one.inner.holds)
