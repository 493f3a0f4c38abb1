"""The controller application: which worker runs which service, and how a service moves.

One application on three kinds of chain. The *controller chain* keeps who works where, a *worker
chain* what its worker has been told, and *service chains* hold the applications that are managed.
A service that has a worker is moved make-before-break:

    controller: UpdateService ─▶ old worker: stops ─▶ service chain: new owners at height h
    ─▶ old worker: service dropped ─▶ controller ─▶ new worker: pending from height h on
    new worker: StartLocalService ─▶ service chain: old owners removed

The messages between the chains arrive at once here. `start_after` puts the start so many blocks
after h, so that the new worker has something to wait for.

Source: Linera, `examples/controller`, `linera-sdk/src/abis/controller.rs`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from hashlib import blake2b
from typing import Any

import msgspec
from graphql import GraphQLError, GraphQLSchema, build_schema
from msgspec import Struct

from workers.sandbox_apps.application_kind import ApplicationTrapped, Message

_SCHEMA = """
    scalar AccountOwner
    scalar ChainId
    scalar ControllerCommand
    scalar DataBlobHash
    scalar LocalWorkerState
    scalar ManagedService
    scalar WorkerCommand
    type Workers { keys: [ChainId!]! }
    type Query {
        localWorkerState: LocalWorkerState!
        readService(serviceId: DataBlobHash!): ManagedService
        workers: Workers!
    }
    type Mutation {
        executeWorkerCommand(owner: AccountOwner!, command: WorkerCommand!): [Int!]!
        executeControllerCommand(admin: AccountOwner!, command: ControllerCommand!): [Int!]!
        startLocalService(serviceId: DataBlobHash!): [Int!]!
    }
"""


@cache
def _schema() -> GraphQLSchema:
    return build_schema(_SCHEMA)


class ManagedService(Struct, frozen=True):
    """An application that somebody is to work for."""

    application_id: str
    name: str
    chain_id: str
    requirements: list[str] = []

    @property
    def service_id(self) -> str:
        """Its name towards the controller."""
        return blake2b(msgspec.json.encode(self), digest_size=32).hexdigest()


class RegisterWorker(Struct, frozen=True):
    """Command of a worker: I work here."""

    capabilities: list[str]


class UpdateService(Struct, frozen=True):
    """Command of an admin: these worker chains run a service from now on."""

    service_id: str
    workers: list[str]


class _WorkerCommand(Struct, frozen=True, forbid_unknown_fields=True):
    RegisterWorker: RegisterWorker


class _ControllerCommand(Struct, frozen=True, forbid_unknown_fields=True):
    UpdateService: UpdateService


class ExecuteWorkerCommand(Struct, frozen=True):
    """Operation on a worker chain."""

    owner: str
    command: RegisterWorker


class ExecuteControllerCommand(Struct, frozen=True):
    """Operation on the controller chain."""

    admin: str
    command: UpdateService


class StartLocalService(Struct, frozen=True):
    """Operation on a worker chain: a pending service is taken over."""

    service_id: str


class _Registered(Struct, frozen=True):
    """Message to the controller chain."""

    worker_chain: str


class _Start(Struct, frozen=True):
    """Message to a new worker; without a height it begins at once."""

    service_id: str
    start_height: int | None
    owners_to_remove: list[str]


class _Stop(Struct, frozen=True):
    """Message to an old worker."""

    service_id: str


class _AddOwners(Struct, frozen=True):
    """Message to the service chain, on behalf of the worker that stops."""

    service_id: str


class _RemoveOwners(Struct, frozen=True):
    """Message to the service chain, on behalf of the worker that has started."""

    service_id: str


class _HandoffStarted(Struct, frozen=True):
    """Message to the controller chain: the service chain knows the new owners."""

    service_id: str
    height: int


class _Pending(Struct, frozen=True):
    start_block_height: int
    owners_to_remove: list[str]


class _Worker(Struct, frozen=True):
    owner: str
    capabilities: list[str]


class _WorkerChain:
    """What a worker chain keeps."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.worker: _Worker | None = None
        self.registrations = 0
        self.services: list[str] = []
        self.pending: dict[str, _Pending] = {}


class ControllerApplication:
    """The controller, with its own chain and the chains of the workers and their owners."""

    def __init__(self, controller_chain: str, owners: Mapping[str, str]) -> None:
        self.schema = _schema()
        self.start_after = 0
        self._controller_chain = controller_chain
        self._workers = {chain: _WorkerChain(owner) for chain, owner in owners.items()}
        self._services: dict[str, ManagedService] = {}
        self._known: list[str] = []  # worker chains, in the order of their registration
        self._assigned: dict[str, list[str]] = {}  # worker chains of a service
        self._leaving: dict[str, list[str]] = {}  # owners that a service is taken from

    def add_service(self, service: ManagedService) -> str:
        """Publish the description of a service; return its id."""
        self._services[service.service_id] = service
        return service.service_id

    def fields(
        self, chain_id: str, schedule: Callable[[Struct], None]
    ) -> Mapping[str, Callable[..., Any]]:
        def execute_worker_command(_: Any, owner: str, command: Any) -> list[int]:
            parsed = _parsed(command, _WorkerCommand, "WorkerCommand")
            schedule(ExecuteWorkerCommand(owner, parsed.RegisterWorker))
            return []

        def execute_controller_command(_: Any, admin: str, command: Any) -> list[int]:
            parsed = _parsed(command, _ControllerCommand, "ControllerCommand")
            schedule(ExecuteControllerCommand(admin, parsed.UpdateService))
            return []

        def start_local_service(_: Any, serviceId: str) -> list[int]:
            schedule(StartLocalService(serviceId))
            return []

        def read_service(_: Any, serviceId: str) -> Any:
            service = self._services.get(serviceId)
            return None if service is None else msgspec.to_builtins(service)

        return {
            "localWorkerState": lambda _: self.summary(chain_id),
            "readService": read_service,
            "workers": lambda _: {"keys": list(self._known)},
            "executeWorkerCommand": execute_worker_command,
            "executeControllerCommand": execute_controller_command,
            "startLocalService": start_local_service,
        }

    def summary(self, chain_id: str) -> dict[str, Any]:
        """The local state of a worker chain."""
        local = self._workers.get(chain_id, _WorkerChain(""))
        return {
            "local_worker": msgspec.to_builtins(local.worker),
            "local_services": [msgspec.to_builtins(self._services[s]) for s in local.services],
            "local_pending_services": [
                [service_id, [self._services[service_id].chain_id, msgspec.to_builtins(pending)]]
                for service_id, pending in local.pending.items()
            ],
            "local_chains": [],
            "local_message_policy": [],
        }

    def registrations(self, chain_id: str) -> int:
        """How often a worker has registered itself."""
        return self._workers[chain_id].registrations

    def execute(self, chain_id: str, operation: Any, height: int) -> list[Message]:
        match operation:
            case ExecuteWorkerCommand():
                return self._register(chain_id, operation)
            case ExecuteControllerCommand():
                return self._update(chain_id, operation.command)
            case StartLocalService():
                return self._start_local(chain_id, operation.service_id)
            case _Registered():
                if operation.worker_chain not in self._known:
                    self._known.append(operation.worker_chain)
            case _Start():
                self._start(chain_id, operation)
            case _Stop():
                service = self._services[operation.service_id]
                return [Message(service.chain_id, _AddOwners(operation.service_id))]
            case _AddOwners():
                return self._add_owners(operation.service_id, height)
            case _HandoffStarted():
                return self._hand_off(operation)
            case _RemoveOwners():
                pass  # every chain takes everybody's blocks here
            case _:
                raise ApplicationTrapped("not an operation of this application")
        return []

    def _register(self, chain_id: str, operation: ExecuteWorkerCommand) -> list[Message]:
        local = self._worker_chain(chain_id)
        if operation.owner != local.owner:
            raise ApplicationTrapped(f"{operation.owner} is not an owner of this chain")
        local.worker = _Worker(operation.owner, operation.command.capabilities)
        local.registrations += 1
        return [Message(self._controller_chain, _Registered(chain_id))]

    def _update(self, chain_id: str, command: UpdateService) -> list[Message]:
        if chain_id != self._controller_chain:
            raise ApplicationTrapped("controller commands belong on the controller chain")
        if command.service_id not in self._services:
            raise ApplicationTrapped(f"there is no blob {command.service_id}")
        strangers = [worker for worker in command.workers if worker not in self._known]
        if strangers:
            raise ApplicationTrapped(f"no worker has registered on {strangers[0]}")
        before = self._assigned.get(command.service_id, [])
        self._assigned[command.service_id] = command.workers
        if not before:
            start = _Start(command.service_id, None, [])
            return [Message(worker, start) for worker in command.workers]
        leaving = [worker for worker in before if worker not in command.workers]
        self._leaving[command.service_id] = [self._workers[each].owner for each in leaving]
        return [Message(worker, _Stop(command.service_id)) for worker in leaving]

    def _start(self, chain_id: str, start: _Start) -> None:
        local = self._worker_chain(chain_id)
        if start.start_height is None:
            local.services.append(start.service_id)
        else:
            local.pending[start.service_id] = _Pending(start.start_height, start.owners_to_remove)

    def _add_owners(self, service_id: str, height: int) -> list[Message]:
        for local in self._workers.values():
            if service_id in local.services:
                local.services.remove(service_id)
        return [Message(self._controller_chain, _HandoffStarted(service_id, height))]

    def _hand_off(self, handoff: _HandoffStarted) -> list[Message]:
        start_height = handoff.height + self.start_after
        start = _Start(handoff.service_id, start_height, self._leaving[handoff.service_id])
        return [Message(worker, start) for worker in self._assigned[handoff.service_id]]

    def _start_local(self, chain_id: str, service_id: str) -> list[Message]:
        local = self._worker_chain(chain_id)
        if local.pending.pop(service_id, None) is None:
            raise ApplicationTrapped(f"service {service_id} is not pending on this chain")
        local.services.append(service_id)
        return [Message(self._services[service_id].chain_id, _RemoveOwners(service_id))]

    def _worker_chain(self, chain_id: str) -> _WorkerChain:
        local = self._workers.get(chain_id)
        if local is None:
            raise ApplicationTrapped(f"chain {chain_id} is not a worker's")
        return local


def _parsed(value: Any, shape: Any, name: str) -> Any:
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise GraphQLError(f'Failed to parse "{name}": {error}') from None
