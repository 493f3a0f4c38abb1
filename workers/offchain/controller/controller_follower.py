"""The on-chain controller followed over a real node service: a thin loop around `controller`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from math import inf
from typing import Any

from workers.offchain.application import Application
from workers.offchain.commands import Note, UnwatchChain, WatchChain
from workers.offchain.controller.controller import Controller
from workers.offchain.controller.controller_words import (
    AskOwners,
    AskState,
    AskTip,
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
from workers.offchain.ends import SubmitEnd, SubmitResult
from workers.offchain.node_service import node_queries
from workers.offchain.node_service.node_service import NodeService
from workers.offchain.node_service.notification_stream import News, NotificationStream
from workers.offchain.offchain_errors import OffchainError

log = logging.getLogger("forgepool.tasks")

# A question is answered from what the node service has; a block may have to wait for its round.
QUESTION_S_MAX = 30.0
OPERATION_S_MAX = 120.0


class ControllerFollower:
    """Carries out what `core` wants; `found` is called with each new list of our applications.

    `hear` must be called with the news of `stream`, whoever else they are for.
    """

    def __init__(
        self,
        core: Controller,
        controller: Application,
        node: NodeService,
        stream: NotificationStream,
        found: Callable[[tuple[Application, ...]], None],
    ) -> None:
        self._core = core
        self._controller = controller
        self._node = node
        self._stream = stream
        self._found = found
        self._stimuli: asyncio.Queue[ControllerStimulus] = asyncio.Queue()
        self._calls: set[asyncio.Task[None]] = set()
        self._watched: set[str] = set()

    def hear(self, news: News) -> None:
        """Something has happened on a chain, ours or another."""
        if news.chain_id in self._watched:
            self._stimuli.put_nowait(news)

    async def run(self) -> None:
        """Follow the controller until cancelled."""
        self._stimuli.put_nowait(Began())
        try:
            while True:
                stimulus = await self._next_stimulus()
                now = asyncio.get_running_loop().time()
                if stimulus is None:
                    self._perform(self._core.tick(now))
                else:
                    self._perform(self._core.handle(stimulus, now))
        finally:
            for call in self._calls:
                call.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)
            for chain_id in self._watched:
                self._stream.unwatch(chain_id)

    async def _next_stimulus(self) -> ControllerStimulus | None:
        """What happens next; None when the core's deadline comes first."""
        deadline = self._core.deadline()
        try:
            async with asyncio.timeout_at(None if deadline == inf else deadline):
                return await self._stimuli.get()
        except TimeoutError:
            return None

    def _perform(self, commands: list[ControllerCommand]) -> None:
        for command in commands:
            match command:
                case AskState():
                    self._call(self._ask_state())
                case AskTip():
                    self._call(self._ask_tip(command.chain_id))
                case AskOwners():
                    self._call(self._ask_owners())
                case RegisterWorker():
                    body = node_queries.register_worker(command.owner, command.capabilities)
                    self._call(self._submit(body))
                case StartLocalService():
                    self._call(self._submit(node_queries.start_local_service(command.service_id)))
                case Found():
                    self._found(command.applications)
                case WatchChain():
                    self._watched.add(command.chain_id)
                    self._stream.watch(command.chain_id)
                case UnwatchChain():
                    self._watched.discard(command.chain_id)
                    self._stream.unwatch(command.chain_id)
                case Note():
                    log.log(logging.getLevelNamesMapping()[command.level.upper()], command.text)

    def _call(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _ask_state(self) -> None:
        try:
            state = await self._node.local_worker_state(self._controller, QUESTION_S_MAX)
            self._stimuli.put_nowait(StateKnown(state))
        except Exception as error:
            self._stimuli.put_nowait(StateUnknown(_why(error)))

    async def _ask_tip(self, chain_id: str) -> None:
        try:
            tip = await self._node.chain_tip(chain_id, QUESTION_S_MAX)
            self._stimuli.put_nowait(TipKnown(chain_id, tip))
        except Exception as error:
            self._stimuli.put_nowait(TipUnknown(chain_id, _why(error)))

    async def _ask_owners(self) -> None:
        try:
            owners = await self._node.chain_owners(self._controller.chain_id, QUESTION_S_MAX)
            self._stimuli.put_nowait(OwnersKnown(owners))
        except Exception as error:
            self._stimuli.put_nowait(OwnersUnknown(_why(error)))

    async def _submit(self, body: bytes) -> None:
        try:
            result = await self._node.submit(self._controller, body, OPERATION_S_MAX)
        except Exception as error:
            result = SubmitResult(SubmitEnd.AMBIGUOUS, text=_why(error))
        self._stimuli.put_nowait(OperationEnded(result))


def _why(error: Exception) -> str:
    """Why a call has failed; who waits for its end must hear of what nobody has foreseen, too."""
    if isinstance(error, OffchainError):
        return f"{error.code} {error}"
    log.error("controller_call_failed", exc_info=error)
    return repr(error)
