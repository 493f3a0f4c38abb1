"""Sandbox applications on a real socket in the test's own loop, and a client of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from workers.offchain.application import Application
from workers.offchain.node_service.node_service import NodeService
from workers.sandbox_apps.application_host import ApplicationHost
from workers.sandbox_apps.faults import Fault, FaultKind
from workers.sandbox_apps.host_server import HostServer
from workers.sandbox_apps.plan import Plan

LOOPBACK = "127.0.0.1"
# Only a test that has gone wrong waits so long.
PATIENCE_S = 20.0
NOW_US = 1787088540000000


class Served(NamedTuple):
    """A host, its server, where it is, and a client."""

    plan: Plan
    host: ApplicationHost
    server: HostServer
    url: str
    node: NodeService

    @property
    def chain(self) -> str:
        return self.plan.chains[0]

    @property
    def application(self) -> Application:
        return Application(self.plan.chains[0], self.plan.applications[0])

    def fault(self, kind: FaultKind, **details: object) -> None:
        """Let something go wrong."""
        self.host.faults.add(Fault(kind, **details))

    def request_task(self, operator: str, input: str, application: int = 0) -> None:
        """Let an application ask for a task."""
        where = self.plan.chains[0], self.plan.applications[application]
        answer = self.host.network.query(
            *where,
            "mutation($o: String!, $i: String!) { requestTask(operator: $o, input: $i) }",
            {"o": operator, "i": input},
            None,
        )
        self.host.network.execute(*where, answer.operations)
        self.host.tell_news()

    @property
    def results(self) -> list[str]:
        return self.host.network.applications[self.plan.applications[0]].summary(self.chain)[
            "results"
        ]

    @property
    def pending(self) -> list[dict[str, object]]:
        return self.host.network.applications[self.plan.applications[0]].summary(self.chain)[
            "pending"
        ]


@asynccontextmanager
async def served(
    *,
    ids: bool = True,
    seed_text: bool = False,
    read_only: bool = False,
    port: int = 0,
    **plan: int,
) -> AsyncIterator[Served]:
    """Serve what a plan says, for as long as the block lasts."""
    planned = Plan.of(**plan)
    host = planned.host(ids=ids, read_only=read_only)
    server = HostServer(host)
    url = f"http://{LOOPBACK}:{await server.start(LOOPBACK, port)}"
    node = NodeService(url, seed_text=seed_text)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield Served(planned, host, server, url, node)
    finally:
        await node.aclose()
        await server.stop()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that other tasks of the loop bring about."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.002)
