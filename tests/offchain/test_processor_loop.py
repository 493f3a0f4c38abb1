"""The loop around a core: what a turn comes to when the journal has a newer owner.

Core and journal are the real ones; the node is played, and no operator ever starts.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from signers.marks.store_lock import StoreLock
from tests.offchain.processor_script import A
from tests.offchain.test_journal import HOLDER
from workers.offchain.actions import ProcessorActions, Task
from workers.offchain.application import Application
from workers.offchain.commands import Run, TakeEpoch
from workers.offchain.ends import RunEnd, RunResult
from workers.offchain.hardened.processor import Processor
from workers.offchain.journal import journal_holder
from workers.offchain.journal.journal import Journal, Places
from workers.offchain.journal.journal_reports import KnownTask, known_tasks, leave_wishes
from workers.offchain.journal.journal_tables import JOURNAL_NAME, open_to_write
from workers.offchain.offchain_errors import JournalHeld
from workers.offchain.operators.operator_run import OnEnd, OnSlow
from workers.offchain.processor_loop import ProcessorLoop
from workers.offchain.processor_settings import ProcessorSettings
from workers.offchain.records import TaskRecord, TaskState
from workers.offchain.stimuli import Answered, Cancelled, Notified, Share, Stimulus, Updated, Wish


class PlayedNode:
    """Gives its answers when the test says so; its stream never opens."""

    def __init__(self) -> None:
        self.was_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.answers: list[ProcessorActions | Exception] = [ProcessorActions([Task("echo", "in")])]

    async def next_actions(
        self, application: Application, cursor: str | None, now_unix_us: int, limit_s: float | None
    ) -> ProcessorActions:
        del application, cursor, now_unix_us, limit_s
        self.was_asked.set()
        await self.may_answer.wait()
        match self.answers.pop(0):
            case Exception() as error:
                raise error
            case actions:
                return actions

    def watch(self, chain_id: str) -> None: ...

    def unwatch(self, chain_id: str) -> None: ...

    def close(self) -> None: ...


class PlayedLauncher:
    """Starts runs that go on until they are cancelled."""

    pid, started_at = 0, 0.0

    def __init__(self) -> None:
        self.was_started = asyncio.Event()
        self.cancelled = 0

    def launch(self, order: Run, token: str, on_end: OnEnd, on_slow: OnSlow) -> PlayedLauncher:
        del order, token, on_slow
        self._on_end = on_end
        self.was_started.set()
        return self

    def cancel(self, *, at_once: bool = False) -> None:
        del at_once
        self.cancelled += 1
        asyncio.get_running_loop().call_soon(self._on_end, RunResult(RunEnd.CANCELLED))

    def close(self) -> None: ...


def looped(
    core: Processor,
    journal: Journal,
    node: PlayedNode,
    on_turn: Callable[[Sequence[Stimulus]], None],
    on_stall: Callable[[Exception], None] = lambda _: None,
    launcher: PlayedLauncher | None = None,
) -> ProcessorLoop:
    return ProcessorLoop(
        core,
        journal,
        launcher or PlayedLauncher(),
        cast(Any, node),
        cast(Any, node),
        submit_limit_s=1.0,
        publish=lambda _: None,
        on_turn=on_turn,
        on_stall=on_stall,
    )


def test_what_a_lost_application_had_to_begin_ends_as_never_begun(tmp_path: Path) -> None:
    asyncio.run(_lose_an_application_while_it_answers(tmp_path / JOURNAL_NAME))


async def _lose_an_application_while_it_answers(path: Path) -> None:
    core = Processor(ProcessorSettings(), Random(1))
    node = PlayedNode()
    let_go = asyncio.Event()

    def on_turn(_: Sequence[Stimulus]) -> None:
        if not core.held():
            let_go.set()

    loop = looped(core, Journal(path, Places(8)), node, on_turn)
    running = asyncio.create_task(loop.run())
    loop.tell(Updated([Share(A, 1)]))
    await node.was_asked.wait()
    newer = Journal(path, Places(8))
    newer.commit([TakeEpoch(A, 2)])
    newer.close()
    node.may_answer.set()  # the run that follows is refused
    async with asyncio.timeout(30):
        await let_go.wait()
    assert core.places.total == 0, "its place is free again"
    loop.tell(Cancelled())
    await running


def test_a_question_that_fails_as_nobody_has_foreseen_is_asked_again(tmp_path: Path) -> None:
    asyncio.run(_ask_twice(tmp_path / JOURNAL_NAME))


async def _ask_twice(path: Path) -> None:
    core = Processor(ProcessorSettings(), Random(1))
    node = PlayedNode()
    node.answers = [RuntimeError("a bug"), ProcessorActions([])]
    node.may_answer.set()
    answered = asyncio.Event()

    def on_turn(stimuli: Sequence[Stimulus]) -> None:
        if any(isinstance(each, Answered) for each in stimuli):
            answered.set()

    loop = looped(core, Journal(path, Places(8)), node, on_turn)
    running = asyncio.create_task(loop.run())
    loop.tell(Updated([Share(A, 1)]))
    async with asyncio.timeout(30):
        await answered.wait()
    loop.tell(Cancelled())
    await running


def test_while_the_disk_is_full_nothing_is_lost_and_nothing_begun(tmp_path: Path) -> None:
    asyncio.run(_fill_the_disk(tmp_path / JOURNAL_NAME))


async def _fill_the_disk(path: Path) -> None:
    core, journal, node = (
        Processor(ProcessorSettings(), Random(1)),
        Journal(path, Places(8)),
        PlayedNode(),
    )
    cursor = "c" * 1_000_000
    node.answers = [ProcessorActions([], 0, cursor), ProcessorActions([])]
    asked, stalls = [], []

    async def next_actions(*arguments: Any) -> ProcessorActions:
        asked.append(arguments[1])
        return await PlayedNode.next_actions(node, *arguments)

    node.next_actions = next_actions  # type: ignore[method-assign]
    was_asked_again = asyncio.Event()

    def on_turn(_: Sequence[Stimulus]) -> None:
        if len(asked) == 2:
            was_asked_again.set()

    def on_stall(error: Exception) -> None:
        assert asked == [None], "nothing goes on"
        stalls.append(str(error))
        pages(1_000_000)  # somebody has made room

    def pages(most: int) -> None:
        journal._db.execute(f"PRAGMA max_page_count={most}")

    loop = looped(core, journal, node, on_turn, on_stall)
    running = asyncio.create_task(loop.run())
    loop.tell(Updated([Share(A, 1)]))
    await node.was_asked.wait()
    pages(1)  # no more than there are
    node.may_answer.set()
    async with asyncio.timeout(30):
        await was_asked_again.wait()
    assert stalls == ["database or disk is full"]
    assert asked == [None, cursor]
    loop.tell(Cancelled())
    await running


def test_a_full_disk_holds_up_no_end_of_an_operator(tmp_path: Path) -> None:
    asyncio.run(_fill_the_disk_while_one_runs(tmp_path / JOURNAL_NAME))


async def _fill_the_disk_while_one_runs(path: Path) -> None:
    core = Processor(ProcessorSettings(), Random(1))
    journal, node, launcher = Journal(path, Places(8)), PlayedNode(), PlayedLauncher()
    node.answers.append(ProcessorActions([], None, "c" * 1_000_000))  # wants it no more
    node.may_answer.set()
    stalls = []

    def on_stall(_: Exception) -> None:
        stalls.append(launcher.cancelled)
        journal._db.execute("PRAGMA max_page_count=1000000")  # somebody has made room

    loop = looped(core, journal, node, lambda _: None, on_stall, launcher)
    running = asyncio.create_task(loop.run())
    loop.tell(Updated([Share(A, 1)]))
    async with asyncio.timeout(30):
        await launcher.was_started.wait()
        journal._db.execute("PRAGMA max_page_count=1")
        loop.tell(Notified(A.chain_id, "NewBlock"))
        while not stalls:
            await asyncio.sleep(0.01)
    assert stalls == [1]
    loop.tell(Cancelled())
    await running


def test_a_wish_waits_until_its_application_can_hear_it(tmp_path: Path) -> None:
    asyncio.run(_wish_while_the_last_owner_submits(tmp_path / JOURNAL_NAME))


async def _wish_while_the_last_owner_submits(path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(path), A.key, "7", TaskState.SUBMITTING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as last_owner:
        assert last_owner.stdout is not None
        last_owner.stdout.readline()
        dead = TaskRecord(2, "id", "echo", "dead", TaskState.DEAD)
        with closing(open_to_write(path)) as db:
            db.execute(
                "INSERT INTO tasks SELECT key, 2, 'dead', group_id, operator, attempts, fruitless,"
                " not_before_us, why, stderr, 0, asked, changed_us FROM tasks"
            )
            db.execute("INSERT INTO inputs SELECT key, 2, 'dead' FROM inputs")
        leave_wishes(path, [KnownTask(A, dead, 0, None)], Wish.RETRY)
        core, node = Processor(ProcessorSettings(), Random(1)), PlayedNode()
        turns: list[Sequence[Stimulus]] = []
        loop = looped(core, Journal(path, Places(8)), node, turns.append)
        running = asyncio.create_task(loop.run())
        loop.tell(Updated([Share(A, 8)]))
        async with asyncio.timeout(30):
            while not turns:
                await asyncio.sleep(0.01)
            loop.look_again()
            while len(turns) < 2:
                await asyncio.sleep(0.01)
            last_owner.kill()
            await node.was_asked.wait()
            while any(each.wish for each in known_tasks(path)):
                await asyncio.sleep(0.01)
        assert {t.task.serial: str(t.task.state) for t in known_tasks(path)}[2] == "waiting"
        loop.tell(Cancelled())
        await running


def test_who_waits_for_the_journal_s_lock_says_for_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_holder, "LOOK_S", 0.01)
    asyncio.run(_hold_the_lock(tmp_path / JOURNAL_NAME))


async def _hold_the_lock(path: Path) -> None:
    node, stalls = PlayedNode(), []
    loop = looped(
        Processor(ProcessorSettings(), Random(1)), Journal(path, Places(8)), node,
        lambda _: None, stalls.append,
    )  # fmt: skip
    lock = StoreLock(path)
    lock.acquire()
    running = asyncio.create_task(loop.run())
    loop.tell(Updated([Share(A, 1)]))
    async with asyncio.timeout(30):
        while not stalls:
            await asyncio.sleep(0.01)
        lock.release()
        await node.was_asked.wait()
    assert isinstance(stalls[0], JournalHeld)
    assert f"process {os.getpid()} has held" in str(stalls[0])
    lock.close()
    loop.tell(Cancelled())
    await running
