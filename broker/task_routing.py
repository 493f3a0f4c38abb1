"""The broker's part in off-chain tasks: messages in, lists and answers out.

It joins what is watched (`watch_list.py`), who owns it (`assignments.py`) and what the workers tell
of tasks; it runs no task and knows no application. Pure, a part of the dispatcher.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from broker.applications import OFFCHAIN_CLIENT, ApplicationInPool, Watched
from broker.assignments import Assignments
from broker.errors import UnreadableWatchList
from broker.known_events import KnownEvents
from broker.membership import Membership, Worker
from broker.messages import (
    ApplicationList,
    ApplicationsFound,
    ApplicationsHeld,
    ApplicationsWanted,
    BrokerMessage,
    Done,
    Event,
    LookAgain,
    Problem,
    ReplyMessage,
    TaskEvents,
    TaskNumbers,
    TasksChanged,
    UnwatchApplications,
    WatchApplications,
)
from broker.watch_list import KeptList, WatchList

# `status` is asked for twice a second; who wants all applications asks for the list.
APPLICATIONS_IN_STATUS_MAX = 64

NAMED_BY_SETTINGS = "named_by_settings"  # code of an error
ERROR_LETTERS_MAX = 1000  # a table of operators may be long; who reads it needs a few lines

NO_JOURNAL = (
    "the pool runs in compat mode, which keeps no journal and stops nothing: what fails is tried "
    "again there by itself"
)
RESERVED_NAME = f"the name {OFFCHAIN_CLIENT!r} is the pool's own; push under another"

Peer = Any  # whom to answer: opaque here
TaskAdminMessage = WatchApplications | UnwatchApplications | ApplicationsWanted | TasksChanged


@dataclass(frozen=True, slots=True)
class TaskPlan:
    """What the settings say of off-chain tasks, and what is left of the broker before."""

    configured: tuple[Watched, ...] = ()  # applications that the settings name
    controller: str = ""  # key of the one that is believed; empty: none is
    submit_limit_s: float = 120.0
    kept: KeptList = KeptList()  # noqa: RUF009  (a frozen value)
    unreadable: str = ""  # why nobody knows what was kept: nothing changes hands, nothing is kept
    operators: frozenset[str] | None = None  # names of the settings' operators; None: not known
    keeps_no_journal: bool = False  # as in compat mode


class TaskRouting:
    """See the module's text."""

    def __init__(self, broker_epoch: str, plan: TaskPlan, now: float) -> None:
        self._broker_epoch = broker_epoch
        self._controller = plan.controller
        self._unreadable = plan.unreadable
        self._operators = plan.operators
        self._keeps_no_journal = plan.keeps_no_journal
        self.watched = WatchList(plan.kept, plan.configured, plan.controller)
        self.assignments = Assignments(
            broker_epoch,
            self.watched,
            now,
            submit_limit_s=plan.submit_limit_s,
            settled=plan.kept.settled,
        )
        self._numbers: dict[Worker, TaskNumbers] = {}
        self.known_events = KnownEvents()
        self.repeated_events = 0
        # For the caller to take.
        self.to_workers: list[tuple[Peer, BrokerMessage]] = []
        self.replies: list[tuple[Peer, ReplyMessage]] = []
        self.notes: list[str] = []
        self.to_keep: KeptList | None = None

    # -- operators of the pool --------------------------------------------------------------------

    def admin_message(self, peer: Peer, message: TaskAdminMessage, now: float) -> None:
        match message:
            case WatchApplications() | UnwatchApplications() if self._unreadable:
                self.replies.append((peer, Problem(UnreadableWatchList.code, self._unreadable)))
            case WatchApplications():
                named = message.applications
                if refusal := self._refusal(named):
                    self.replies.append((peer, refusal))
                elif problem := self.watched.watch(peer, named, replace=message.replace):
                    self.replies.append((peer, Problem("too_many", problem)))
            case UnwatchApplications():
                fixed = ", ".join(self.watched.named_by_settings(message.keys))
                if fixed:
                    text = f"the settings of the broker name {fixed}: change them"
                    self.replies.append((peer, Problem(NAMED_BY_SETTINGS, text)))
                else:
                    self.watched.unwatch(peer, message.keys)
            case ApplicationsWanted():
                listed = self._look(now)
                self.replies.append((peer, ApplicationList(self._broker_epoch, listed)))
            case TasksChanged() if self._keeps_no_journal:
                self.replies.append((peer, Problem("no_journal", NO_JOURNAL)))
            case TasksChanged():
                self._look_again(message.keys)
                self.replies.append((peer, Done(self._broker_epoch)))

    def _refusal(self, named: Sequence[Watched]) -> Problem | None:
        """Why these are not for an operator of the pool to name."""
        if self._controller:
            text = "the controller on the chain says which applications are ours: assign it there"
            return Problem("named_by_controller", text)
        fixed = ", ".join(self.watched.named_by_settings(each.key for each in named))
        if fixed:
            text = f"the settings of the broker name {fixed}: change them, and restart the pool"
            return Problem(NAMED_BY_SETTINGS, text)
        if self._operators is None:
            return None
        used = dict.fromkeys(name for each in named for name in each.operators or ())
        if unknown := [name for name in used if name not in self._operators]:
            there_are = ", ".join(sorted(self._operators)) or "none"
            text = f"the pool has no operator {unknown[0]!r}; there are: {there_are}"
            return Problem("unknown_operator", text[:ERROR_LETTERS_MAX])
        return None

    def _look_again(self, keys: Iterable[str]) -> None:
        """Tell the owners; who becomes one later reads the journal anyway."""
        by_owner: dict[Worker, list[str]] = {}
        for key in dict.fromkeys(keys):
            if (owned := self.assignments.owned.get(key)) is not None:
                by_owner.setdefault(owned.worker, []).append(key)
        self.to_workers += [(w.peer, LookAgain(each)) for w, each in by_owner.items()]

    # -- workers ----------------------------------------------------------------------------------

    def joined(self, worker: Worker) -> None:
        self.assignments.joined(worker)

    def leaves(self) -> None:
        self.assignments.leaves()

    def lost(self, worker: Worker) -> None:
        self.assignments.lost(worker)
        self._numbers.pop(worker, None)

    def ended(self, worker: Worker) -> None:
        self.assignments.ended(worker)
        self._numbers.pop(worker, None)

    def held(self, worker: Worker, message: ApplicationsHeld) -> None:
        for fenced in message.fenced:
            self.notes.append(
                f"application_fenced key={fenced.key} epoch={fenced.epoch} by={worker.name}"
            )
        self.assignments.told(worker, message)

    def numbers(self, worker: Worker, message: TaskNumbers) -> None:
        self._numbers[worker] = message

    def found(self, worker: Worker, message: ApplicationsFound) -> None:
        """What a controller has given to us, if it is ours and its owner says so."""
        owned = self.assignments.owned.get(message.controller)
        if (
            self._unreadable
            or message.controller != self._controller
            or owned is None
            or (owned.worker, owned.epoch) != (worker, message.epoch)
        ):
            return
        if problem := self.watched.found(message.applications):
            self.notes.append(f"applications_found_ignored why={problem!r}")

    def new_events(self, message: TaskEvents) -> list[Event]:
        """Those of the events that are not in the log yet."""
        new = [each for each in message.events if self.known_events.is_new(each.id)]
        self.repeated_events += len(message.events) - len(new)
        return [Event(e.id, e.key, e.event, e.body, e.code, e.text) for e in new]

    # -- the disk ---------------------------------------------------------------------------------

    def kept(self, problem: str, now: float) -> None:
        """What was to be kept is on the disk, or (with a problem) is not."""
        if problem:
            self.notes.append(f"watch_list_not_kept why={problem!r}")
            self.watched.not_kept(problem, now)
        elif self.watched.kept():
            self.assignments.watched_changed()

    # -- the turn ---------------------------------------------------------------------------------

    def step(self, members: Membership, now: float, *, awaiting: bool, draining: bool) -> None:
        """Do what is due. While the start awaits workers, what is unowned may be held by them."""
        if self._unreadable:
            if draining:  # everybody keeps what he has until then
                self._send_lists(members, now, draining=True)
            return
        if draining and not self.in_hand():
            self.watched.settle()
        else:
            self.watched.reserve_epochs()
        self.to_keep = self.watched.to_keep(now)
        for peer, problem in self.watched.answers:
            answer = Problem("not_kept", problem) if problem else Done(self._broker_epoch)
            self.replies.append((peer, answer))
        self.watched.answers.clear()
        if not awaiting:
            self._send_lists(members, now, draining=draining)

    def _send_lists(self, members: Membership, now: float, *, draining: bool) -> None:
        lists = self.assignments.step(now, members.ring, draining=draining)
        self.to_workers += [(worker.peer, each) for worker, each in lists]

    def in_hand(self) -> bool:
        """Whether a worker may still have an application."""
        return self.assignments.in_hand()

    def has_ended(self) -> bool:
        """Whether a drain need not wait for us."""
        return not self.in_hand() and not self.watched.is_writing

    def deadline(self) -> float:
        return min(self.assignments.deadline(), self.watched.deadline())

    # -- people -----------------------------------------------------------------------------------

    def _look(self, now: float, most: int | None = None) -> list[ApplicationInPool]:
        """How the watched applications are, with what their owners say of them."""
        listed = self.assignments.look(now, most)
        for each in listed:
            owned = self.assignments.owned.get(each.key)
            told = None if owned is None else self._numbers.get(owned.worker)
            each.trouble = "" if told is None else told.troubles.get(each.key, "")
        return listed

    def status(self, now: float) -> dict[str, object]:
        """How applications and their tasks are, for people and for `--json`."""
        listed = self._look(now, APPLICATIONS_IN_STATUS_MAX)
        told = self._numbers.values()
        return {
            "watched": len(self.watched.entries),
            "unreadable": self._unreadable,
            **self.assignments.counts(),
            "running": sum(each.running for each in told),
            "waiting": sum(each.waiting for each in told),
            "dead": sum(each.dead for each in told),
            "oldest_ms": max((each.oldest_ms for each in told), default=0),
            "repeated_events": self.repeated_events,
            "applications": [
                {"key": each.key, "state": each.state, "owner": each.owner, "epoch": each.epoch,
                 "since_ms": each.since_ms, "wait_ms": each.wait_ms, "awaited": each.awaited,
                 "trouble": each.trouble}
                for each in listed
            ],
        }  # fmt: skip

    def worker_status(self, worker: Worker) -> dict[str, int] | None:
        """The same of one worker; None: it processes no applications."""
        if not worker.hello.runs_tasks:
            return None
        told = self._numbers.get(worker, TaskNumbers(0, 0, 0))
        return {
            "applications": len(self.assignments.owned_by(worker)),
            "running": told.running,
            "waiting": told.waiting,
            "dead": told.dead,
        }


def task_lines(status: object) -> list[str]:
    """Say for people what `status` has of off-chain tasks; nothing when nothing is watched."""
    if not isinstance(status, dict):
        return []
    if status["unreadable"]:
        return [f"{'applications':14} nothing changes hands: {status['unreadable']}"]
    if not status["watched"]:
        return []
    numbers = ("owned", "handing_over", "unowned", "running", "waiting", "dead")
    told = " ".join(f"{name}={status[name]}" for name in numbers)
    oldest = f" oldest={status['oldest_ms'] / 1000:.0f}s" if status["waiting"] else ""
    lines = [f"{'applications':14} {status['watched']} {told}{oldest}"]
    for each in status["applications"]:
        where = each["owner"] or ", ".join(each["awaited"]) or "nobody"
        wait = f" submits within {each['wait_ms'] / 1000:.0f} s" if each["wait_ms"] else ""
        key = each["key"]
        lines.append(
            f"application {key[:8]}…/{key[64:72]}… {each['state']:12} {where:8} "
            f"epoch {each['epoch']}{wait}"
        )
        if each["trouble"]:
            lines.append(f"  does not go on: {each['trouble']}")
    if (more := status["watched"] - len(status["applications"])) > 0:
        lines.append(f"  and {more} more: forgepool tasks applications")
    return lines
