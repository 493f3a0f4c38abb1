"""The on-chain controller, while it is ours to follow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from broker.applications import Watched
from broker.config import TaskSettings
from broker.messages import ApplicationsFound
from broker.task_options import controller_key
from workers.offchain.application import Application
from workers.offchain.controller.controller import Controller
from workers.offchain.controller.controller_follower import ControllerFollower
from workers.offchain.node_service.node_service import NodeService
from workers.offchain.node_service.notification_stream import News, NotificationStream
from workers.offchain.stimuli import Share


class FollowedController:
    """What it tells is the pool's list; it is a key on the ring, so one processor follows it."""

    def __init__(
        self,
        settings: TaskSettings,
        service: NodeService,
        stream: NotificationStream,
        found: Callable[[ApplicationsFound], None],
        chance: Callable[[], float],
    ) -> None:
        self.key = controller_key(settings)  # empty: there is none
        self.share: Share | None = None
        self._settings, self._service, self._stream = settings, service, stream
        self._say, self._chance = found, chance
        self._follower: ControllerFollower | None = None
        self._following: asyncio.Task[None] | None = None
        self._last_found: tuple[Application, ...] | None = None

    @property
    def held(self) -> list[tuple[Application, int]]:
        return [] if self.share is None else [(self.share.application, self.share.epoch)]

    def update(self, share: Share | None) -> None:
        """It is ours, or it is not any more."""
        if share is not None and self.share is not None:
            self.share = share
            self.say_again()
            return
        self.share, self._last_found = share, None
        if self._following is not None:
            self._following.cancel()
            self._follower = self._following = None
        if share is not None:
            self._follower = ControllerFollower(
                Controller(
                    share.application,
                    self._settings.controller_owner,
                    self._settings.operators,
                    self._chance,
                ),
                share.application,
                self._service,
                self._stream,
                self._found,
            )
            self._following = asyncio.create_task(self._follower.run())

    def hear(self, news: News) -> None:
        if self._follower is not None:
            self._follower.hear(news)

    def _found(self, applications: tuple[Application, ...]) -> None:
        self._last_found = applications
        self.say_again()

    def say_again(self) -> None:
        """Say what was found last: a broker goes by it only once the controller is ours."""
        if self.share is not None and self._last_found is not None:
            controller, epoch = self.share.application.key, self.share.epoch
            watched = [Watched(each.key) for each in self._last_found]
            self._say(ApplicationsFound(controller, epoch, watched))
