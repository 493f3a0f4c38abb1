"""A node of tests: a real HTTP server that knows one predecessor and can be told to misbehave.

It runs in a thread of its own, so that it answers while the test waits for another process.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable
from typing import Any, Self

from aiohttp import web

from signers.formats import base58
from signers.formats.hashes import operations_hash
from tests.workers.preparation.views import VIEW
from tests.workers.preparation.wallet import Wallet, as_pending
from workers.preparation.chain_view import ChainView

PREDECESSOR = base58.encode(base58.BLOCK_HASH, VIEW.predecessor)
CHAIN = base58.encode(base58.CHAIN_ID, VIEW.chain_id)
_BLOCK = f"/chains/{CHAIN}/blocks/{PREDECESSOR}"
# Transports that were closed close their sockets in the loop's next rounds.
SOCKETS_CLOSE_S = 0.05
Answer = Any | Callable[[Any], Any]


class ScriptedNode:
    """Serves what `view` says about one predecessor; `answers` maps paths to JSON.

    An answer may also be a function of the request's body. Paths that hold a text of `hanging`
    never answer, those in `broken` answer with status 500.
    """

    def __init__(self, view: ChainView = VIEW) -> None:
        self.view = view
        self.pending: list[bytes] = []
        self.accounts: dict[str, tuple[int, int, str | None]] = {}  # balance, counter, key
        self.hanging: set[str] = set()
        self.broken: set[str] = set()
        self.asked: list[str] = []
        self.answers: dict[str, Answer] = {
            f"{_BLOCK}/header": self._header,
            f"{_BLOCK}/protocols": lambda _: {
                "protocol": self.view.protocol,
                "next_protocol": self.view.protocol
                if not self.view.protocol_changes
                else "PsNextProtocol",
            },
            f"{_BLOCK}/helpers/current_level": lambda _: {
                "level": self.view.level + 1,
                "cycle": self.view.cycle,
                "expected_commitment": self.view.expected_commitment,
            },
            f"{_BLOCK}/resulting_context_hash": lambda _: base58.encode(
                base58.CONTEXT_HASH, self.view.resulting_context
            ),
            f"{_BLOCK}/live_blocks": lambda _: [
                base58.encode(base58.BLOCK_HASH, each) for each in self.view.live_blocks
            ],
            f"{_BLOCK}/context/constants": self._constants,
            f"/chains/{CHAIN}/mempool/pending_operations": lambda _: {
                "validated": [as_pending(each) for each in self.pending]
            },
        }

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        # What connected while the server ended was accepted by nobody. It is collected here and
        # quietly; later it would fail a test that has nothing to do with it.
        del self._runner
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    def account(self, wallet: Wallet, *, balance: int = 10**9, counter: int = 0) -> None:
        """Let `wallet` have a revealed account."""
        self.accounts[wallet.address] = (balance, counter, wallet.public_key_text)

    def path(self, suffix: str) -> str:
        """The whole path of something about the predecessor."""
        return f"{_BLOCK}/{suffix}"

    async def _start(self) -> None:
        self._released = asyncio.Event()
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        self._released.set()
        await self._runner.cleanup()
        await asyncio.sleep(SOCKETS_CLOSE_S)

    async def _serve(self, request: web.Request) -> web.Response:
        path = request.path
        self.asked.append(path)
        if any(part in path for part in self.hanging):
            await self._released.wait()
        if path in self.broken:
            return web.json_response([{"kind": "temporary", "id": "failure"}], status=500)
        body = await request.json() if request.can_read_body else None
        if path in self.answers:
            answer = self.answers[path]
            return web.json_response(answer(body) if callable(answer) else answer)
        return self._contract(path)

    def _contract(self, path: str) -> web.Response:
        name = path.removeprefix(f"{_BLOCK}/context/contracts/")
        address = name.removesuffix("/manager_key")
        if name == path or address not in self.accounts:
            return web.Response(status=404)
        balance, counter, key = self.accounts[address]
        if name.endswith("/manager_key"):
            return web.json_response(key)
        return web.json_response({"balance": str(balance), "counter": str(counter)})

    def _header(self, _: Any) -> dict[str, Any]:
        view = self.view
        return {
            "protocol": view.protocol,
            "chain_id": CHAIN,
            "hash": PREDECESSOR,
            "level": view.level,
            "proto": view.proto,
            "predecessor": base58.encode(base58.BLOCK_HASH, bytes([6]) * 32),
            "timestamp": "2023-11-14T22:13:20Z",
            "validation_pass": 4,
            "operations_hash": base58.encode(base58.OPERATIONS_HASH, operations_hash([[]] * 4)),
            "fitness": ["02", view.level.to_bytes(4).hex(), "", "ffffffff", f"{view.round:08x}"],
            "context": base58.encode(base58.CONTEXT_HASH, bytes(32)),
            "payload_hash": base58.encode(base58.PAYLOAD_HASH, view.payload_hash or bytes(32)),
            "payload_round": 0,
        }

    def _constants(self, _: Any) -> dict[str, Any]:
        constants = self.view.constants
        return {
            "minimal_block_delay": str(constants.minimal_block_delay_s),
            "delay_increment_per_round": str(constants.delay_increment_per_round_s),
            "proof_of_work_threshold": str(constants.proof_of_work_threshold),
            "hard_gas_limit_per_block": str(constants.gas_per_block),
            "hard_gas_limit_per_operation": str(constants.gas_per_operation),
            "hard_storage_limit_per_operation": str(constants.storage_per_operation),
        }
