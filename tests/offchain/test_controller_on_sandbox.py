"""Two workers follow the sandbox's controller over real sockets, and a service moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec

from tests.offchain.served_applications import Served, served, until
from workers.offchain.application import Application
from workers.offchain.controller.controller import Controller
from workers.offchain.controller.controller_follower import ControllerFollower
from workers.offchain.ends import SubmitEnd
from workers.offchain.node_service.notification_stream import NotificationStream
from workers.sandbox_apps.controller_application import ControllerApplication, ManagedService
from workers.sandbox_apps.faults import FaultKind


class Worker:
    """A worker's follower, and the lists of applications that it was given."""

    def __init__(self, each: Served, number: int) -> None:
        self.chain, self.owner = each.plan.workers[number]
        controller = Application(self.chain, each.plan.controller)
        self.lists: list[tuple[Application, ...]] = []
        stream = NotificationStream(each.url, self._hear, lambda: 0.0, reconnect_first_s=0.001)
        self.follower = ControllerFollower(
            # As whom it registers, it asks its chain.
            Controller(controller, "", ["ls", "echo"], lambda: 0.0),
            controller,
            each.node,
            stream,
            self.lists.append,
        )
        self._running = [stream.run(), self.follower.run()]

    def _hear(self, news: object) -> None:
        self.follower.hear(news)

    async def run(self) -> None:
        await asyncio.gather(*self._running)

    def has(self, *applications: Application) -> bool:
        return bool(self.lists) and self.lists[-1] == applications


@asynccontextmanager
async def working(each: Served, count: int) -> AsyncIterator[list[Worker]]:
    workers = [Worker(each, number) for number in range(count)]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield workers
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def scenario(steps: Callable[[Served], Awaitable[None]], workers: int) -> None:
    async def run() -> None:
        async with served(workers=workers, chains=2) as each:
            await steps(each)

    asyncio.run(run())


def controller(each: Served) -> ControllerApplication:
    application = each.host.network.applications[each.plan.controller]
    assert isinstance(application, ControllerApplication)
    return application


def is_registered(each: Served, worker: Worker) -> bool:
    return controller(each).summary(worker.chain)["local_worker"] is not None


def add_service(each: Served, chain: int = 0) -> tuple[str, Application]:
    """Describe a service; return its id and the application that it is about."""
    where = Application(each.plan.chains[chain], each.plan.applications[0])
    service = ManagedService(where.application_id, f"service {chain}", where.chain_id)
    return controller(each).add_service(service), where


async def assign(each: Served, service_id: str, worker: Worker) -> None:
    command = {"UpdateService": {"service_id": service_id, "workers": [worker.chain]}}
    body = {
        "query": "mutation($command: ControllerCommand!) "
        '{ executeControllerCommand(admin: "0x00", command: $command) }',
        "variables": {"command": command},
    }
    where = Application(each.plan.controller_chain, each.plan.controller)
    result = await each.node.submit(where, msgspec.json.encode(body), 10.0)
    assert result.end is SubmitEnd.COMMITTED, result.text


def test_a_worker_registers_itself_once_with_the_names_of_its_operators() -> None:
    async def steps(each: Served) -> None:
        each.fault(FaultKind.DELAY, field="executeWorkerCommand", seconds=0.05)
        async with working(each, 1) as [worker]:
            await until(lambda: each.host.requests.asking("executeWorkerCommand"))
            each.host.add_blocks(worker.chain, 5)
            await until(lambda: is_registered(each, worker))
            each.host.add_blocks(worker.chain, 5)
            asked = len(each.host.requests.asking("localWorkerState"))
            await until(lambda: len(each.host.requests.asking("localWorkerState")) > asked)
        [registration] = each.host.requests.asking("executeWorkerCommand")
        assert registration.variables == {
            "owner": worker.owner,
            "command": {"RegisterWorker": {"capabilities": ["echo", "ls"]}},
        }
        assert controller(each).registrations(worker.chain) == 1

    scenario(steps, workers=1)


def test_a_service_moves_when_its_chain_has_reached_the_height_and_not_before() -> None:
    async def steps(each: Served) -> None:
        controller(each).start_after = 3
        async with working(each, 2) as [first, second]:
            await until(lambda: is_registered(each, first) and is_registered(each, second))
            service_id, application = add_service(each)
            await assign(each, service_id, first)
            await until(lambda: first.has(application))
            each.host.add_blocks(application.chain_id, 4)
            await assign(each, service_id, second)
            await until(lambda: first.has())
            assert not second.has(application)
            await until(lambda: each.host.requests.asking("nextBlockHeight"))
            height = each.host.network.chains[application.chain_id].next_height
            assert height == 5, "the owners were added in the block at height 4"
            each.host.add_blocks(application.chain_id, 2)  # at heights 5 and 6
            asked = len(each.host.requests.asking("localWorkerState"))
            each.host.add_blocks(second.chain)
            await until(lambda: len(each.host.requests.asking("localWorkerState")) > asked)
            assert each.host.requests.asking("startLocalService") == []
            each.host.add_blocks(application.chain_id)  # at height 7 = 4 + 3
            await until(lambda: second.has(application))
            assert first.has()
        assert len(each.host.requests.asking("startLocalService")) == 1

    scenario(steps, workers=2)


def test_two_services_of_one_chain_start_although_their_height_has_passed() -> None:
    async def steps(each: Served) -> None:
        async with working(each, 2) as [first, second]:
            await until(lambda: is_registered(each, first) and is_registered(each, second))
            service_id, application = add_service(each)
            other = ManagedService(each.plan.controller, "another", application.chain_id)
            other_id = controller(each).add_service(other)
            both = tuple(
                sorted([application, Application(application.chain_id, each.plan.controller)])
            )
            for each_id in (service_id, other_id):
                await assign(each, each_id, first)
            await until(lambda: first.has(*both))
            # The first attempt fails; no block of the services' chain comes to remind of it.
            each.fault(FaultKind.ERROR, field="startLocalService")
            for each_id in (service_id, other_id):
                await assign(each, each_id, second)
            await until(lambda: second.has(*both) and first.has())

    scenario(steps, workers=2)


def test_a_controller_that_cannot_be_read_for_a_while_is_followed_all_the_same() -> None:
    async def steps(each: Served) -> None:
        each.fault(FaultKind.REFUSE, field="localWorkerState")
        async with working(each, 1) as [worker]:
            await until(lambda: is_registered(each, worker))
            service_id, application = add_service(each, chain=1)
            await assign(each, service_id, worker)
            await until(lambda: worker.has(application))

    scenario(steps, workers=1)
