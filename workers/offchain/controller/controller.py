"""The on-chain controller followed: what it has assigned to our worker, and what we owe it.

The worker has a chain of its own, on which the controller application keeps what the worker is to
do. We read that state at each of the chain's blocks, and

* register the worker while it is not registered, with the sorted names of its operators;
* take over each pending service once its chain has reached the height from which on it is ours,
  also when it had reached it long before, and however many services of one chain are pending;
* tell which applications are ours whenever their list has changed.

What fails is done again after a growing pause, not first at the next block. One operation is on
its way at a time, for all of them make blocks of the same chain. Which chains the node service
listens to, and whose messages it takes, is its own configuration.

Source: Linera, `linera-service/src/controller.rs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf

from broker.applications import APPLICATIONS_MAX, checked_id
from broker.errors import Misconfigured
from workers.offchain.application import Application
from workers.offchain.commands import Note, WatchChain
from workers.offchain.controller.attempts import Attempts
from workers.offchain.controller.controller_words import (
    AskOwners,
    AskState,
    Began,
    ControllerCommand,
    ControllerStimulus,
    Found,
    OperationEnded,
    OwnersKnown,
    OwnersUnknown,
    RegisterWorker,
    StartLocalService,
    StateKnown,
    StateUnknown,
    TipKnown,
    TipUnknown,
)
from workers.offchain.controller.pending_services import PendingServices, Start
from workers.offchain.ends import SubmitEnd, SubmitResult
from workers.offchain.node_service.node_replies import LocalWorkerState
from workers.offchain.node_service.notifications import NEW_BLOCK
from workers.offchain.stimuli import Notified, StreamOpened

# Without any news the state is read so often, in case that news were lost.
SAFETY_S = 60.0
# What a pool watches, besides the controller: the rest is told of and left alone.
SERVICES_MAX = APPLICATIONS_MAX - 1

_REGISTRATION = ""  # in place of a service's id


class Controller:
    """Follows the controller application, at our worker's chain.

    `owner` is the owner of that chain that the node service signs for. Empty: whoever is registered
    is taken for us, and we register as the chain's only owner. `operators` is what we can run;
    `chance` gives numbers from 0 up to 1.
    """

    def __init__(
        self,
        controller: Application,
        owner: str,
        operators: Iterable[str],
        chance: Callable[[], float],
    ) -> None:
        self._chain_id = controller.chain_id
        self._owner = owner
        self._operators = tuple(sorted(set(operators)))
        self._is_asked = False
        self._is_stale = True  # the state has to be read
        self._safety_at = inf
        self._reading = Attempts(chance)
        self._is_missing = False  # our registration
        self._registering = Attempts(chance)
        self._pending = PendingServices(chance)
        self._under_way: str | None = None  # the operation: a service's id, or our registration
        self._found: tuple[Application, ...] | None = None
        self._complaint = ""

    def handle(self, stimulus: ControllerStimulus, now: float) -> list[ControllerCommand]:
        """What follows from what has happened."""
        commands: list[ControllerCommand] = []
        match stimulus:
            case Began():
                commands = [WatchChain(self._chain_id)]
            case Notified():
                if stimulus.reason == NEW_BLOCK:
                    self._is_stale |= stimulus.chain_id == self._chain_id
                    self._pending.block_made(stimulus.chain_id, stimulus.height)
            case StreamOpened():
                self._is_stale |= stimulus.chain_id == self._chain_id
                self._pending.ask_again(stimulus.chain_id)
            case StateKnown():
                commands = self._read(stimulus.state, now)
            case StateUnknown():
                self._is_asked, self._is_stale = False, True
                if self._reading.failed(now, stimulus.text):
                    commands = [Note("warning", f"controller_unread reason={stimulus.text}")]
            case TipKnown():
                self._pending.tip_known(stimulus.chain_id, stimulus.next_height)
            case TipUnknown():
                commands = self._pending.tip_unknown(stimulus.chain_id, stimulus.text, now)
            case OwnersKnown():
                commands = self._owners_known(stimulus.owners, now)
            case OwnersUnknown():
                self._under_way = None
                commands = self._not_registered(f"owners_unknown reason={stimulus.text}", now)
            case OperationEnded():
                commands = self._ended(stimulus.result, now)
        return commands + self._next(now)

    def deadline(self) -> float:
        """When `tick` is due."""
        due = [self._pending.next_question_at()]
        if not self._is_asked:
            due.append(self._reading.due_at if self._is_stale else self._safety_at)
        if self._under_way is None:
            due.append(self._pending.next_due_at())
            due.append(self._registering.due_at if self._is_missing else inf)
        return min(due)

    def tick(self, now: float) -> list[ControllerCommand]:
        """What follows from time alone."""
        if now >= self._safety_at:
            self._safety_at = inf
            self._is_stale = True
            self._pending.ask_again()
        return self._next(now)

    def _read(self, state: LocalWorkerState, now: float) -> list[ControllerCommand]:
        self._is_asked = False
        self._safety_at = now + SAFETY_S
        self._reading.succeeded()
        self._is_missing = state.local_worker is None
        if state.local_worker is None:
            return self._pending.follow({}) + self._tell_found(())
        self._registering.succeeded()
        if self._owner not in ("", state.local_worker.owner):
            complaint = (
                f"controller_owner_differs registered={state.local_worker.owner} ours={self._owner}"
            )
            return self._complain(complaint) + self._pending.follow({}) + self._tell_found(())
        complaints: list[str] = []
        pending = _pending_services(state, complaints)
        services = _services(state, complaints)
        return (
            self._complain("; ".join(complaints))
            + self._pending.follow(pending)
            + self._tell_found(services)
        )

    def _owners_known(self, owners: Sequence[str], now: float) -> list[ControllerCommand]:
        self._under_way = None
        if len(owners) == 1:
            [self._owner] = owners
            return []
        many = f"chain_has_not_one_owner owners={','.join(owners[:10])} advice=say which is ours"
        return self._not_registered(many, now)

    def _not_registered(self, reason: str, now: float) -> list[ControllerCommand]:
        return [Note("warning", reason)] if self._registering.failed(now, reason) else []

    def _ended(self, result: SubmitResult, now: float) -> list[ControllerCommand]:
        service_id, self._under_way = self._under_way, None
        self._is_stale = True  # whatever has become of it, the state says so
        if not service_id:
            what, attempts = "registration", self._registering
        else:
            what = f"service={service_id}"
            of_service = self._pending.attempts(service_id)
            if of_service is None:  # the service was taken from us meanwhile
                return []
            attempts = of_service
        if result.end is SubmitEnd.COMMITTED:
            # The state will say so; the pause is for the case that it does not.
            attempts.failed(now, "")
            return [Note("info", f"controller_told {what} certificate={result.certificate}")]
        reason = f"code={result.end} reason={result.text}"
        if not attempts.failed(now, reason):
            return []
        return [Note("warning", f"controller_not_told {what} {reason}")]

    def _complain(self, text: str) -> list[ControllerCommand]:
        """Tell of what is wrong with the state, once for each wrong."""
        if text == self._complaint:
            return []
        self._complaint = text
        return [Note("error", text)] if text else []

    def _tell_found(self, applications: tuple[Application, ...]) -> list[ControllerCommand]:
        if applications == self._found:
            return []
        self._found = applications
        return [Found(applications)]

    def _next(self, now: float) -> list[ControllerCommand]:
        commands: list[ControllerCommand] = []
        if self._is_stale and not self._is_asked and now >= self._reading.due_at:
            self._is_stale, self._is_asked = False, True
            commands.append(AskState())
        commands += self._pending.questions(now)
        if self._under_way is not None:
            return commands
        if self._is_missing and now >= self._registering.due_at:
            self._under_way = _REGISTRATION
            if not self._owner:
                return [*commands, AskOwners()]
            return [*commands, RegisterWorker(self._owner, self._operators)]
        due = self._pending.due(now)
        if due is not None:
            self._under_way = due
            commands.append(StartLocalService(due))
        return commands


def _pending_services(state: LocalWorkerState, complaints: list[str]) -> dict[str, Start]:
    """The pending services by their ids, without those whose chain has no id."""
    starts: dict[str, Start] = {}
    for service_id, (chain_id, pending) in state.local_pending_services[:SERVICES_MAX]:
        try:
            starts[service_id] = Start(checked_id(chain_id, "chain"), pending.start_block_height)
        except Misconfigured as error:
            complaints.append(f"controller_service_skipped reason={error}")
    return starts


def _services(state: LocalWorkerState, complaints: list[str]) -> tuple[Application, ...]:
    """The applications of the services, in order and each once; a bad one spoils no other."""
    services: set[Application] = set()
    for each in state.local_services[:SERVICES_MAX]:
        try:
            chain_id = checked_id(each.chain_id, "chain")
            services.add(Application(chain_id, checked_id(each.application_id, "application")))
        except Misconfigured as error:
            complaints.append(f"controller_service_skipped reason={error}")
    left_alone = len(state.local_services) - SERVICES_MAX
    if left_alone > 0:
        complaints.append(f"controller_services_left_alone count={left_alone}")
    return tuple(sorted(services))
