"""The compat mode for a whole worker: a processor of the source system for each chain.

Source: Linera, `linera-service/src/controller.rs`: a processor is begun with the first application
of its chain and stays, idle, when the last one is taken away. The numbers by which the rim answers
are made one for all here, and what happens is told to the event stream, which the source has not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from math import inf
from typing import NamedTuple

import msgspec

from broker.applications import TASK_OUTCOME, TASK_RETRY, TASK_STARTED
from workers.offchain.application import Application
from workers.offchain.chance import Chance
from workers.offchain.commands import Ask, Command, Done, Publish, Run, Submit
from workers.offchain.compat.seed_processor import SeedProcessor
from workers.offchain.ends import RunEnd, SubmitEnd
from workers.offchain.processor_settings import ProcessorSettings
from workers.offchain.standing import Standing
from workers.offchain.stimuli import (
    Answered,
    Cancelled,
    EpochRefused,
    EpochTaken,
    NotAnswered,
    Notified,
    PlaceRefused,
    Resumed,
    RunEnded,
    RunIsSlow,
    Stimulus,
    StreamOpened,
    SubmitEnded,
    Updated,
    Wished,
)


class _Inner(NamedTuple):
    """Whose number it is, and which one there."""

    core: SeedProcessor
    number: int


class SeedProcessors:
    """The same contract as `Processor` has."""

    def __init__(self, settings: ProcessorSettings, chance: Chance) -> None:
        self._settings, self._chance = settings, chance
        self._cores: dict[str, SeedProcessor] = {}  # by chain
        self._numbers = count(1)
        self._asks: dict[int, _Inner] = {}
        self._runs: dict[int, tuple[_Inner, Run]] = {}
        self._submits: dict[tuple[Application, int], Submit] = {}
        self._cancelled = False

    def deadline(self) -> float:
        return min((core.deadline() for core in self._cores.values()), default=inf)

    def held(self) -> list[tuple[Application, int]]:
        return [each for core in self._cores.values() for each in core.held()]

    def standings(self, now: float) -> list[Standing]:
        return [each for core in self._cores.values() for each in core.standings(now)]

    def tick(self, now: float, unix_us: int) -> list[Command]:
        return [
            command
            for core in self._cores.values()
            for command in self._translated(core, core.tick(now, unix_us))
        ]

    def handle_all(self, stimuli: Iterable[Stimulus], now: float, unix_us: int) -> list[Command]:
        commands = [c for stimulus in stimuli for c in self.handle(stimulus, now, unix_us)]
        if now >= self.deadline():
            commands += self.tick(now, unix_us)
        return commands

    def handle(self, stimulus: Stimulus, now: float, unix_us: int) -> list[Command]:
        commands: list[Command] = []

        def tell(core: SeedProcessor, told: Stimulus) -> None:
            commands.extend(self._translated(core, core.handle(told, now, unix_us)))

        match stimulus:
            case Updated():
                self._update(stimulus, tell)
            case Notified() | StreamOpened():
                if (core := self._cores.get(stimulus.chain_id)) is not None:
                    tell(core, stimulus)
            case Answered() | NotAnswered():
                if (asked := self._asks.pop(stimulus.ask, None)) is not None:
                    tell(asked.core, msgspec.structs.replace(stimulus, ask=asked.number))
            case RunEnded() | PlaceRefused() if stimulus.run in self._runs:
                inner, run = self._runs.pop(stimulus.run)
                if isinstance(stimulus, RunEnded) and stimulus.result.end is not RunEnd.OUTPUT:
                    result = stimulus.result
                    commands.append(_event(TASK_RETRY, run, code=result.end, text=result.text))
                tell(inner.core, msgspec.structs.replace(stimulus, run=inner.number))
            case RunIsSlow() if stimulus.run in self._runs:
                inner, _ = self._runs[stimulus.run]
                tell(inner.core, msgspec.structs.replace(stimulus, run=inner.number))
            case SubmitEnded():
                submit = self._submits.pop((stimulus.application, stimulus.serial), None)
                if submit is not None and stimulus.result.end is SubmitEnd.COMMITTED:
                    commands.append(_committed(submit, stimulus))
                tell(self._cores[stimulus.application.chain_id], stimulus)
            case Cancelled():
                for core in self._cores.values():
                    tell(core, stimulus)
                if not self._cancelled:
                    # The source's process ends wherever its loops are, also in a question.
                    commands.append(Done())
                self._cancelled = True
            case RunEnded() | PlaceRefused() | RunIsSlow():
                pass  # of nobody
            case EpochTaken() | EpochRefused() | Wished():
                pass  # of the journal, which this mode has not
            case Resumed():
                pass  # it stops nothing
        return commands

    def _update(self, update: Updated, tell: Callable[[SeedProcessor, Stimulus], None]) -> None:
        """Give each chain its part of the list, and an empty one to those that have none."""
        for chain_id in {share.application.chain_id for share in update.shares}:
            if chain_id not in self._cores and not self._cancelled:
                self._cores[chain_id] = SeedProcessor(chain_id, self._settings, self._chance)
        for chain_id, core in self._cores.items():
            mine = [s for s in update.shares if s.application.chain_id == chain_id]
            tell(core, Updated(mine))

    def _translated(self, core: SeedProcessor, commands: list[Command]) -> list[Command]:
        return [out for command in commands for out in self._translate(core, command)]

    def _translate(self, core: SeedProcessor, command: Command) -> list[Command]:
        match command:
            case Ask():
                number = next(self._numbers)
                self._asks[number] = _Inner(core, command.ask)
                return [msgspec.structs.replace(command, ask=number)]
            case Run():
                number = next(self._numbers)
                run = msgspec.structs.replace(command, run=number)
                self._runs[number] = _Inner(core, command.run), run
                return [_event(TASK_STARTED, run, input_bytes=len(run.input.encode())), run]
            case Submit():
                self._submits[command.application, command.serial] = command
                return [command]
            case Done():
                return []  # of one chain
            case _:
                return [command]


def _event(name: str, run: Run, *, code: str = "", text: str = "", input_bytes: int = 0) -> Publish:
    return Publish(
        run.application,
        name,
        run.serial,
        run.group,
        run.operator,
        run.attempt,
        code,
        text,
        input_bytes,
    )


def _committed(submit: Submit, ended: SubmitEnded) -> Publish:
    outcome = submit.outcome
    return Publish(
        submit.application,
        TASK_OUTCOME,
        submit.serial,
        outcome.id if isinstance(outcome.id, str) else None,
        outcome.operator,
        1,
        output_bytes=len(outcome.output.encode()),
        certificate=ended.result.certificate,
    )
