"""The task processor, hardened: what to do when something happens to the applications in our hands.

Theory of operation. An application is asked `nextActions` when it comes to us, when its chain has a
new block, when it wants to be called back, when a gate opens, and at least once a minute. What it
lists is run by operators, several at once, and the outcomes of each group go back in the order of
the list, one submission at a time for each chain. Everything that must outlive this process is an
entry for the journal in the same turn as what follows from it, and is on disk before.

The application is the truth: it lists a task until an outcome is committed. What is known here
only keeps work from being done twice, and keeps what always fails from being done for ever.

Nothing here reads a clock. `now` is monotonic and measures every pause; the wall clock only tells
an application what time it is, and when it wanted to be called. A wall clock that is set moves
callbacks and nothing else, and is noticed with the next question at the latest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial
from math import inf
from typing import assert_never

from workers.offchain.application import Application
from workers.offchain.chance import Chance
from workers.offchain.commands import Command, Done, UnwatchChain, WatchChain
from workers.offchain.hardened.places import Places
from workers.offchain.hardened.processor_turn import ProcessorTurn
from workers.offchain.hardened.watched_application import Phase, WatchedApplication
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
    Share,
    Stimulus,
    StreamOpened,
    SubmitEnded,
    Updated,
    Wished,
)

NEW_BLOCK, NEW_ROUND = "NewBlock", "NewRound"  # the other reasons change nothing for a task


class Processor:
    """The applications of one worker."""

    def __init__(self, settings: ProcessorSettings, chance: Chance) -> None:
        self.settings = settings
        self._chance = chance
        self.applications: dict[Application, WatchedApplication] = {}
        self.returning: dict[Application, Share] = {}  # ours again, when what was ours is gone
        self.places = Places(settings.concurrency, settings.per_operator)
        self.asks: dict[int, WatchedApplication] = {}
        self.runs: dict[int, tuple[WatchedApplication, str]] = {}  # and the operator
        self.submitting: dict[str, WatchedApplication] = {}  # by chain
        self._watched_chains: set[str] = set()
        self._in_turn: deque[WatchedApplication] = deque()  # who starts and submits next
        self._last_ask = 0
        self._last_run = 0
        self._now, self._unix_us = 0.0, 0
        self._cancelled = self._done = False

    # -- the contract -----------------------------------------------------------------------------

    def handle(self, stimulus: Stimulus, now: float, unix_us: int) -> list[Command]:
        """Take what has happened. Returns what is to be done, in this order."""
        return self.handle_all((stimulus,), now, unix_us)

    def handle_all(self, stimuli: Iterable[Stimulus], now: float, unix_us: int) -> list[Command]:
        """Take all that has happened, then look once at what is to be done.

        That look is at every application: with thousands of them, one for each stimulus would be
        slower than they come in.
        """
        turn = ProcessorTurn(now, unix_us)
        for stimulus in stimuli:
            self._take(stimulus, turn)
        return self._end(turn)

    def tick(self, now: float, unix_us: int) -> list[Command]:
        """Do what is due; to be called at `deadline`, and harmless at any time."""
        return self._end(ProcessorTurn(now, unix_us))

    def deadline(self) -> float:
        """When `tick` has something to do if nothing happens before."""
        if self._cancelled:
            return inf
        asks = (w.ask_at(self._now, self._unix_us) for w in self.applications.values())
        return min(self.places.next_look(self._now), min(asks, default=inf))

    def held(self) -> list[tuple[Application, int]]:
        """What is in our hands, with its epoch; also what we are about to let go."""
        return [(w.application, w.epoch) for w in self.applications.values()]

    def standings(self, now: float) -> list[Standing]:
        return [
            Standing(w.application, w.epoch, w.phase, *w.tasks.numbers(now), w.trouble)
            for w in self.applications.values()
        ]

    # -- what happens -----------------------------------------------------------------------------

    def _take(self, stimulus: Stimulus, turn: ProcessorTurn) -> None:
        match stimulus:
            case Updated():
                self._updated(stimulus, turn)
            case EpochTaken():
                watched = self._of_epoch(stimulus.application, stimulus.epoch)
                if watched is not None and watched.phase is Phase.TAKING:
                    watched.taken(stimulus, turn)
            case EpochRefused():
                watched = self._of_epoch(stimulus.application, stimulus.epoch)
                if watched is not None:
                    self._forget_question(watched)
                    watched.leave(turn, kill=True, fenced=True)
            case Notified(reason=reason) if reason in (NEW_BLOCK, NEW_ROUND):
                for watched in self._on(stimulus.chain_id):
                    watched.chain_went_on(turn, new_block=reason == NEW_BLOCK)
            case Notified():
                pass
            case StreamOpened():
                for watched in self._on(stimulus.chain_id):
                    watched.stream_opened(turn)
            case Answered():
                if (watched := self.asks.pop(stimulus.ask, None)) is not None:
                    watched.answered(stimulus.ask, stimulus.actions, turn)
            case NotAnswered():
                if (watched := self.asks.pop(stimulus.ask, None)) is not None:
                    watched.not_answered(stimulus.text, turn)
            case RunEnded():
                if stimulus.run in self.runs:
                    watched, operator = self.runs.pop(stimulus.run)
                    self.places.leave(operator)
                    watched.run_ended(stimulus.run, stimulus.result, turn)
            case PlaceRefused():
                if stimulus.run in self.runs:
                    watched, operator = self.runs.pop(stimulus.run)
                    self.places.refuse(operator, turn.now, self._chance)
                    watched.place_refused(stimulus.run, turn)
            case RunIsSlow():
                if stimulus.run in self.runs:
                    self.runs[stimulus.run][0].run_is_slow(stimulus.run, stimulus.seconds, turn)
            case SubmitEnded():
                self._submit_ended(stimulus, turn)
            case Wished():
                watched = self.applications.get(stimulus.application)
                if watched is not None and watched.phase is Phase.WATCHED:
                    watched.wished(stimulus.serial, stimulus.wish, turn)
            case Resumed():
                if (watched := self.applications.get(stimulus.application)) is not None:
                    watched.resume(turn)
            case Cancelled():
                self._cancelled = True
                self.returning.clear()
                for watched in self.applications.values():
                    self._leave(watched, turn, kill=self.settings.unassign == "kill")
            case _:
                assert_never(stimulus)

    def _of_epoch(self, application: Application, epoch: int) -> WatchedApplication | None:
        watched = self.applications.get(application)
        return watched if watched is not None and watched.epoch == epoch else None

    def _on(self, chain_id: str) -> list[WatchedApplication]:
        return [w for a, w in self.applications.items() if a.chain_id == chain_id]

    def _submit_ended(self, ended: SubmitEnded, turn: ProcessorTurn) -> None:
        watched = self.submitting.get(ended.application.chain_id)
        if watched is None or watched.application != ended.application:
            return
        task = watched.submitting
        if task is not None and task.serial == ended.serial:
            del self.submitting[ended.application.chain_id]
            watched.submit_ended(ended.result, self._last_ask, turn)

    # -- what is ours -----------------------------------------------------------------------------

    def _updated(self, update: Updated, turn: ProcessorTurn) -> None:
        if self._cancelled:
            return
        shares = {share.application: share for share in update.shares}
        self.returning.clear()
        for watched in list(self.applications.values()):
            share = shares.pop(watched.application, None)
            stays = share is not None and share.epoch == watched.epoch
            if share is not None and stays and watched.phase is not Phase.LEAVING:
                watched.updated(share, turn)
                continue
            # Operators of an epoch that is over are not waited for when the next one waits.
            kill = self.settings.unassign == "kill" or share is not None
            self._leave(watched, turn, kill=kill)
            if share is not None:
                self.returning[share.application] = share
        for share in shares.values():
            self._begin(share, turn)

    def _begin(self, share: Share, turn: ProcessorTurn) -> None:
        chain_id = share.application.chain_id
        if chain_id not in self._watched_chains:
            self._watched_chains.add(chain_id)
            turn.do(WatchChain(chain_id))
        watched = WatchedApplication(share, self.settings, self._chance, turn)
        self.applications[share.application] = watched
        self._in_turn.append(watched)

    def _leave(self, watched: WatchedApplication, turn: ProcessorTurn, *, kill: bool) -> None:
        self._forget_question(watched)
        watched.leave(turn, kill=kill)

    def _forget_question(self, watched: WatchedApplication) -> None:
        if watched.asking.open is not None:
            self.asks.pop(watched.asking.open, None)

    def _let_go(self, turn: ProcessorTurn) -> None:
        """Part with applications that nothing of ours works for any more."""
        for watched in [w for w in self.applications.values() if w.is_gone]:
            application = watched.application
            del self.applications[application]
            self._in_turn.remove(watched)
            watched.released(turn)
            share = self.returning.pop(application, None)
            if share is not None:
                self._begin(share, turn)
            elif not self._on(application.chain_id):
                self._watched_chains.remove(application.chain_id)
                turn.do(UnwatchChain(application.chain_id))
        if self._cancelled and not self.applications and not self._done:
            self._done = True
            turn.do(Done())

    # -- what is next -----------------------------------------------------------------------------

    def _end(self, turn: ProcessorTurn) -> list[Command]:
        self._now, self._unix_us = turn.now, turn.unix_us
        self._let_go(turn)
        if not self._cancelled:
            self._ask(turn)
            self._run(turn)
            self._submit(turn)
        return turn.commands()

    def _ask(self, turn: ProcessorTurn) -> None:
        for watched in self.applications.values():
            if watched.ask_at(turn.now, turn.unix_us) <= turn.now:
                self._last_ask += 1
                self.asks[self._last_ask] = watched
                watched.ask(self._last_ask, turn)

    def _run(self, turn: ProcessorTurn) -> None:
        """Start operators while there are places, one for each application in turn."""
        has_place = partial(self.places.is_free, now=turn.now)
        idle = 0
        while idle < len(self._in_turn) and self.places.total < self.places.total_max:
            watched = self._in_turn[0]
            self._in_turn.rotate(-1)
            task = watched.next_run(has_place, turn.now)
            if task is None:
                idle += 1
                continue
            idle = 0
            self._last_run += 1
            if watched.run(task, self._last_run, turn):
                self.places.take(task.record.operator)
                self.runs[self._last_run] = watched, task.record.operator

    def _submit(self, turn: ProcessorTurn) -> None:
        """Submit one outcome on each chain that is free, of each application in turn."""
        for watched in list(self._in_turn):
            chain_id = watched.application.chain_id
            if chain_id in self.submitting:
                continue
            task = watched.next_submission(turn.now)
            if task is not None:
                watched.submit(task, turn)
                self.submitting[chain_id] = watched
                self._in_turn.remove(watched)
                self._in_turn.append(watched)
