"""An emulated device on a real TCP port, and a hand on its controls."""

from __future__ import annotations

import asyncio
import gc
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from signers.ledger.baking_device import DeviceFinder
from signers.ledger.transport import PROXY_ADDRESS, PROXY_PORT, places
from signers.ledger_emulator.baking_app import BakingApp
from signers.ledger_emulator.emulated_device import EmulatedDevice

# The seed of the baking app's own tests; everybody knows it.
ZEBRAS = " ".join(["zebra"] * 24)


class Device:
    """An emulated device in a thread of its own."""

    def __init__(self, app: BakingApp, lock_dir: Path) -> None:
        self.app = app
        self._lock_dir = lock_dir
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="device")
        self._thread.start()
        self._emulated = EmulatedDevice(self.app)
        listening = self._emulated.listen("127.0.0.1", 0, 0)
        self.port, control = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        self._control = socket.create_connection(("127.0.0.1", control))
        self._answers = self._control.makefile("r")
        self.environment = {
            PROXY_ADDRESS: "127.0.0.1",
            PROXY_PORT: str(self.port),
            "TMPDIR": str(lock_dir),
        }

    def does(self, what: str) -> str:
        """Say one line on the control port; returns the answer."""
        self._control.sendall(what.encode() + b"\n")
        return self._answers.readline().strip()

    def finder(self) -> DeviceFinder:
        return DeviceFinder(lambda: places(self.environment), lock_dir=self._lock_dir)

    def close(self) -> None:
        self._answers.close()
        self._control.close()
        asyncio.run_coroutine_threadsafe(self._emulated.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        with warnings.catch_warnings():  # connections that came while it ended
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture(autouse=True)
def _locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock files of devices, which would otherwise pile up."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(BakingApp(ZEBRAS), tmp_path)
    yield device
    device.close()
