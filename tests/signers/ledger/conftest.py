"""An emulated device on a real TCP port, and a hand on its controls."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from signers.ledger.baking_device import DeviceFinder
from signers.ledger.transport import PROXY_ADDRESS, PROXY_PORT, places
from signers.ledger_emulator.baking_app import BakingApp
from signers.ledger_emulator.emulated_device import EmulatedDevice

# The seed of the baking app's own tests; everybody knows it.
ZEBRAS = " ".join(["zebra"] * 24)


class Device:
    """An emulated device in a thread of its own."""

    def __init__(self) -> None:
        self.app = BakingApp(ZEBRAS)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="device")
        self._thread.start()
        self._emulated = EmulatedDevice(self.app)
        listening = self._emulated.listen("127.0.0.1", 0, 0)
        self.port, control = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        self._control = socket.create_connection(("127.0.0.1", control))
        self._answers = self._control.makefile("r")
        self.environment = {PROXY_ADDRESS: "127.0.0.1", PROXY_PORT: str(self.port)}

    def does(self, what: str) -> str:
        """Say one line on the control port; returns the answer."""
        self._control.sendall(what.encode() + b"\n")
        return self._answers.readline().strip()

    def finder(self) -> DeviceFinder:
        return DeviceFinder(lambda: places(self.environment))

    def close(self) -> None:
        self._answers.close()
        self._control.close()
        asyncio.run_coroutine_threadsafe(self._emulated.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    yield device
    device.close()
