"""The loop around a core: what a turn comes to when the journal has a newer owner.

Core and journal are the real ones; the node is played, and no operator ever starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, cast

from tests.offchain.processor_script import A
from workers.offchain.actions import ProcessorActions, Task
from workers.offchain.application import Application
from workers.offchain.commands import TakeEpoch
from workers.offchain.hardened.processor import Processor
from workers.offchain.journal.journal import Journal, Places
from workers.offchain.journal.journal_tables import JOURNAL_NAME
from workers.offchain.processor_loop import ProcessorLoop
from workers.offchain.processor_settings import ProcessorSettings
from workers.offchain.stimuli import Answered, Cancelled, Share, Stimulus, Updated


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


def looped(
    core: Processor,
    journal: Journal,
    node: PlayedNode,
    on_turn: Callable[[Sequence[Stimulus]], None],
    on_stall: Callable[[Exception], None] = lambda _: None,
) -> ProcessorLoop:
    return ProcessorLoop(
        core,
        journal,
        cast(Any, node),
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
