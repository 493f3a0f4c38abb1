"""The sandbox's own paths, which no node service has: faults, blocks, what it was asked.

| path | |
|---|---|
| `GET /sandbox/state` | chains with their heights, pending tasks and results, faults, switches |
| `GET /sandbox/requests?since=N` | the requests after the Nth, with their times |
| `POST /sandbox/faults` | a list of faults to meet, in this order; `DELETE` takes all away |
| `POST /sandbox/switches` | change some switches |
| `POST /sandbox/blocks` | `{"chain_id", "count"}`: make empty blocks |
| `POST /sandbox/notifications` | `{"chain_id", "reasons"}`: tell of what has not happened |
| `DELETE /sandbox/streams` | cut every listener's connection |
| `POST /sandbox/answers` | `{"application_id", "next", "every"}`: what `nextActions` says |
| `POST /sandbox/services` | a service for the controller; gives its id |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from workers.sandbox_apps.application_host import ApplicationHost
from workers.sandbox_apps.controller_application import ControllerApplication, ManagedService
from workers.sandbox_apps.faults import Fault, Switches
from workers.sandbox_apps.task_application import TaskApplication

T = TypeVar("T")

# Blocks that one request may make: each is told to every listener.
BLOCKS_MAX = 10_000


class _Blocks(Struct, forbid_unknown_fields=True):
    chain_id: str
    count: Annotated[int, Meta(ge=1, le=BLOCKS_MAX)] = 1


class _Notifications(Struct, forbid_unknown_fields=True):
    chain_id: str
    reasons: list[dict[str, Any]]


class _Answers(Struct, forbid_unknown_fields=True):
    application_id: str
    next: list[dict[str, Any]] = []
    every: dict[str, Any] | None = None


class _BadControl(Exception):
    """A control that cannot be obeyed."""


class HostControls:
    """Carries the controls out."""

    def __init__(self, host: ApplicationHost, drop_streams: Callable[[], int]) -> None:
        self._host = host
        self._drop_streams = drop_streams

    def routes(self) -> list[web.RouteDef]:
        """The paths, for a server's router."""
        return [
            web.get("/sandbox/state", self._state),
            web.get("/sandbox/requests", self._requests),
            web.get("/sandbox/faults", self._faults),
            web.delete("/sandbox/faults", self._clear_faults),
            web.delete("/sandbox/streams", self._streams),
            *(
                web.post(f"/sandbox/{name}", _obeying(control))
                for name, control in (
                    ("faults", self._add_faults),
                    ("switches", self._switch),
                    ("blocks", self._blocks),
                    ("notifications", self._notify),
                    ("answers", self._answers),
                    ("services", self._add_service),
                )
            ),
        ]

    async def _state(self, _: web.Request) -> web.Response:
        return _json(self._host.state())

    async def _requests(self, request: web.Request) -> web.Response:
        since = request.query.get("since", "0")
        if not (since.isascii() and since.isdecimal()):
            return _json({"error": "since is a number"}, status=400)
        return _json(self._host.requests.since(int(since)))

    async def _faults(self, _: web.Request) -> web.Response:
        return _json(self._host.faults.due())

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self._host.faults.clear()
        return _json([])

    async def _streams(self, _: web.Request) -> web.Response:
        return _json({"dropped": self._drop_streams()})

    def _add_faults(self, body: bytes) -> Any:
        for fault in _read(body, list[Fault]):
            self._host.faults.add(fault)
        return self._host.faults.due()

    def _switch(self, body: bytes) -> Any:
        changes = _read(body, dict[str, Any])
        unknown = set(changes) - set(Switches.__struct_fields__)
        if unknown:
            raise _BadControl(f"there is no switch {min(unknown)}")
        now = msgspec.structs.asdict(self._host.switches) | changes
        self._host.switches = _read(msgspec.json.encode(now), Switches)
        return self._host.switches

    def _blocks(self, body: bytes) -> Any:
        wanted = _read(body, _Blocks)
        self._check_chain(wanted.chain_id)
        self._host.add_blocks(wanted.chain_id, wanted.count)
        return {"next_height": self._host.network.chains[wanted.chain_id].next_height}

    def _notify(self, body: bytes) -> Any:
        wanted = _read(body, _Notifications)
        self._check_chain(wanted.chain_id)
        self._host.notify(wanted.chain_id, wanted.reasons)
        return {"told": len(wanted.reasons)}

    def _answers(self, body: bytes) -> Any:
        wanted = _read(body, _Answers)
        application = self._host.network.applications.get(wanted.application_id)
        if not isinstance(application, TaskApplication):
            raise _BadControl(f"application {wanted.application_id} asks for no tasks")
        application.answers.extend(wanted.next)
        if wanted.every is not None:
            application.every_answer = wanted.every
        return {"waiting": len(application.answers)}

    def _add_service(self, body: bytes) -> Any:
        service = _read(body, ManagedService)
        self._check_chain(service.chain_id)
        for application in self._host.network.applications.values():
            if isinstance(application, ControllerApplication):
                return {"service_id": application.add_service(service)}
        raise _BadControl("this sandbox has no controller; start it with --workers")

    def _check_chain(self, chain_id: str) -> None:
        if chain_id not in self._host.network.chains:
            raise _BadControl(f"there is no chain {chain_id}")


def _obeying(control: Callable[[bytes], Any]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A handler that obeys a control, or says what is wrong with it."""

    async def handle(request: web.Request) -> web.Response:
        try:
            return _json(control(await request.read()))
        except (_BadControl, ValueError) as error:
            return _json({"error": str(error)}, status=400)

    return handle


def _read(body: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _BadControl(str(error)) from None


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value) + b"\n", status=status, content_type="application/json"
    )
