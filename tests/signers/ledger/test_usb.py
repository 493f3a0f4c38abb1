"""USB reports through a handle that is played: there is no device here."""

from __future__ import annotations

from collections import deque

import pytest

from signers.ledger.apdu import Instruction, command
from signers.ledger.device_errors import DeviceAbsent, DeviceGarbled, DeviceLost, DeviceStuck
from signers.ledger.framing import ReportReader, to_reports
from signers.ledger.transport import UsbPlace, UsbTransport
from signers.ledger_emulator.baking_app import BakingApp
from tests.signers.ledger.conftest import ZEBRAS


class Handle:
    """What hidapi gives: reports in, reports out, with an app behind it."""

    def __init__(self) -> None:
        self.app = BakingApp(ZEBRAS)
        self.reports: deque[bytes] = deque()
        self._asked: list[bytes] = []
        self.is_broken = False

    def open_path(self, path: bytes) -> None:
        if path == b"locked":
            raise OSError("open failed")

    def write(self, data: bytes) -> int:
        if self.is_broken:
            return -1
        assert data[0] == 0
        assert len(data) == 65
        self._asked.append(data[1:])
        channel = int.from_bytes(data[1:3])
        reader = ReportReader(channel)
        for report in self._asked:
            if (body := reader.take(report)) is not None:
                self._asked = []
                self.reports += to_reports(self.app.exchange(body), channel)
        return len(data)

    def read(self, count: int, timeout_ms: int) -> list[int]:
        if self.is_broken:
            raise OSError("read error")
        return list(self.reports.popleft()) if self.reports else []

    def close(self) -> None:
        self.is_broken = True


@pytest.fixture
def handle() -> Handle:
    return Handle()


@pytest.fixture
def usb(handle: Handle) -> UsbTransport:
    transport = UsbPlace(b"1-1:1.0", lambda: handle).open()
    assert isinstance(transport, UsbTransport)
    return transport


VERSION = command(Instruction.VERSION)


def test_commands_of_one_and_of_several_reports(usb: UsbTransport) -> None:
    usb.send(VERSION)
    assert usb.receive(1.0) == (bytes([1, 2, 5, 1]), 0x9000)
    usb.send(command(Instruction.SIGN, 0x81, 0, bytes(200)))
    assert usb.receive(1.0) == (b"", 0x917E)


def test_a_late_answer_of_the_last_opening_is_passed_over(
    usb: UsbTransport, handle: Handle
) -> None:
    handle.reports += to_reports(b"late\x90\x00", (usb._channel + 1) & 0xFFFF)
    usb.send(VERSION)
    assert usb.receive(1.0).data == bytes([1, 2, 5, 1])


def test_silence_garbage_and_a_pulled_cable(usb: UsbTransport, handle: Handle) -> None:
    with pytest.raises(DeviceStuck):
        usb.receive(0.05)
    handle.reports.append(bytes(63))
    with pytest.raises(DeviceGarbled):
        usb.receive(0.05)
    handle.is_broken = True
    with pytest.raises(DeviceAbsent):
        usb.send(VERSION)
    with pytest.raises(DeviceLost):
        usb.receive(0.05)


def test_a_device_that_another_program_has(handle: Handle) -> None:
    with pytest.raises(DeviceAbsent, match="udev"):
        UsbPlace(b"locked", lambda: handle).open()
