"""What a processor tells the broker of the on-chain controller; the node is played."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from broker.config import TaskSettings
from broker.messages import ApplicationsFound
from tests.offchain.processor_script import CHAIN, A, B
from workers.offchain.application import Application
from workers.offchain.controller.followed_controller import FollowedController
from workers.offchain.node_service.node_replies import (
    ChainDescription,
    LocalWorker,
    LocalWorkerState,
)
from workers.offchain.stimuli import Share

CONTROLLER = Application(CHAIN, "cc" * 32)


class PlayedNode:
    """Its controller has given two applications to us; its stream is silent."""

    async def local_worker_state(self, _: Application, __: float | None) -> LocalWorkerState:
        services = [ChainDescription(each.application_id, each.chain_id) for each in (A, B)]
        return LocalWorkerState(services, LocalWorker("0xaa"))

    def watch(self, chain_id: str) -> None: ...

    def unwatch(self, chain_id: str) -> None: ...


def test_what_was_found_is_said_again_whenever_the_broker_gives_us_the_controller() -> None:
    """A broker that has lost its list goes by no word that came before it knew whose it is."""
    asyncio.run(_give_it_twice())


async def _give_it_twice() -> None:
    said: list[ApplicationsFound] = []
    was_said = asyncio.Event()

    def say(found: ApplicationsFound) -> None:
        said.append(found)
        was_said.set()

    node = cast(Any, PlayedNode())
    settings = TaskSettings(controller=f"{CHAIN}/{CONTROLLER.application_id}")
    followed = FollowedController(settings, node, node, say, lambda: 0.5)
    followed.update(Share(CONTROLLER, 1))
    async with asyncio.timeout(30):
        await was_said.wait()
    followed.update(Share(CONTROLLER, 1))
    followed.update(Share(CONTROLLER, 7))
    assert [each.epoch for each in said] == [1, 1, 7]
    assert all([w.key for w in each.applications] == [A.key, B.key] for each in said)

    followed.update(None)
    followed.say_again()
    assert len(said) == 3, "it is another's now"
