"""Cables to devices: USB through hidapi, or TCP as an emulated device has it.

A transport carries one command at a time. After a command that was not answered in time it must
be closed: what comes late would be taken for the next command's answer.
"""

import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, Protocol

from signers.errors import MalformedBytes
from signers.ledger.device_errors import DeviceAbsent, DeviceGarbled, DeviceLost, DeviceStuck
from signers.ledger.framing import (
    LENGTH_BYTES,
    REPORT_BYTES,
    Answer,
    ReportReader,
    answer,
    answer_bytes,
    to_reports,
    to_stream,
)

# Both or either, as other clients of emulated devices understand them.
PROXY_ADDRESS: Final = "LEDGER_PROXY_ADDRESS"
PROXY_PORT: Final = "LEDGER_PROXY_PORT"
_PROXY_HOST_DEFAULT: Final = "127.0.0.1"
_PROXY_PORT_DEFAULT: Final = "9999"
CONNECT_S: Final = 2.0
_VENDOR: Final = 0x2C97
_USAGE_PAGE: Final = 0xFFA0  # where the system does not number interfaces


class Transport(Protocol):
    """An open cable to one device."""

    def send(self, command: bytes) -> None:
        """Send a command. Raises DeviceAbsent when it did not get there."""
        ...

    def receive(self, timeout_s: float) -> Answer:
        """Wait for an answer. Raises DeviceStuck, DeviceLost, DeviceGarbled."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


class Place(Protocol):
    """A place where a device may be plugged in; `name` stays while it is."""

    @property
    def name(self) -> str: ...

    def open(self) -> Transport:
        """Raises DeviceAbsent."""
        ...


def places(environment: Mapping[str, str]) -> Iterator[Place]:
    """Everywhere that a device may be now: the emulated one first, if the environment names it."""
    if PROXY_ADDRESS in environment or PROXY_PORT in environment:
        host = environment.get(PROXY_ADDRESS) or _PROXY_HOST_DEFAULT
        port = environment.get(PROXY_PORT) or _PROXY_PORT_DEFAULT
        if not port.isascii() or not port.isdigit() or not 0 < int(port) < 1 << 16:
            raise DeviceAbsent(f"{PROXY_PORT} is no port number")
        yield TcpPlace(host, int(port))
    yield from _usb_places()


# -- TCP ------------------------------------------------------------------------------------------


class TcpPlace:
    """Where an emulated device listens."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self.name = f"tcp://{host}:{port}"

    def open(self) -> Transport:
        try:
            connection = socket.create_connection(self._address, CONNECT_S)
        except OSError as error:
            raise DeviceAbsent(f"nothing listens at {self.name}: {error}") from None
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _TcpTransport(connection, self.name)


class _TcpTransport:
    def __init__(self, connection: socket.socket, name: str) -> None:
        self._connection = connection
        self._name = name

    def send(self, command: bytes) -> None:
        try:
            self._connection.settimeout(CONNECT_S)
            self._connection.sendall(to_stream(command))
        except OSError as error:
            raise DeviceAbsent(f"{self._name} went away: {error}") from None

    def receive(self, timeout_s: float) -> Answer:
        deadline = time.monotonic() + timeout_s
        try:
            length = self._exactly(LENGTH_BYTES, deadline)
            return answer(self._exactly(answer_bytes(length), deadline))
        except MalformedBytes as error:
            raise DeviceGarbled(f"{self._name}: {error}") from None

    def _exactly(self, count: int, deadline: float) -> bytes:
        found = bytearray()
        while len(found) < count:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise DeviceStuck(f"{self._name} has not answered")
            self._connection.settimeout(left_s)
            try:
                piece = self._connection.recv(count - len(found))
            except TimeoutError:
                continue
            except OSError as error:
                raise DeviceLost(f"{self._name} went away: {error}") from None
            if not piece:
                raise DeviceLost(f"{self._name} went away in the middle of a command")
            found += piece
        return bytes(found)

    def close(self) -> None:
        self._connection.close()


# -- USB ------------------------------------------------------------------------------------------


def _usb_places() -> Iterator[Place]:
    try:
        import hid
    except ImportError:  # the extra `ledger` is not installed
        return
    for found in hid.enumerate(_VENDOR, 0):
        if found["interface_number"] == 0 or found["usage_page"] == _USAGE_PAGE:
            yield UsbPlace(found["path"], hid.device)


class UsbPlace:
    """A device that the system lists. Its path changes when an app is opened or closed."""

    def __init__(self, path: bytes, make_handle: Any) -> None:
        self._path = path
        self._make_handle = make_handle
        self.name = f"usb:{path.decode(errors='replace')}"

    def open(self) -> Transport:
        handle = self._make_handle()
        try:
            handle.open_path(self._path)
        except (OSError, ValueError) as error:
            raise DeviceAbsent(
                f"{self.name} cannot be opened ({error}): another program has it, or the system "
                "does not allow it (udev rules for vendor 2c97)"
            ) from None
        return UsbTransport(handle, self.name)


class UsbTransport:
    """An open hidapi handle. Each opening has a channel of its own, which the device echoes."""

    def __init__(self, handle: Any, name: str) -> None:
        self._handle = handle
        self._name = name
        self._channel = secrets.randbelow(0xFFFF) + 1

    def send(self, command: bytes) -> None:
        for report in to_reports(command, self._channel):
            try:
                written = self._handle.write(b"\0" + report)  # the report's number in front
            except (OSError, ValueError) as error:
                raise DeviceAbsent(f"{self._name} went away: {error}") from None
            if written < 0:
                raise DeviceAbsent(f"{self._name} went away")

    def receive(self, timeout_s: float) -> Answer:
        deadline = time.monotonic() + timeout_s
        reader = ReportReader(self._channel)
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                report = bytes(self._handle.read(REPORT_BYTES, timeout_ms=int(left_s * 1000) + 1))
            except (OSError, ValueError) as error:
                raise DeviceLost(f"{self._name} went away: {error}") from None
            if not report:
                continue
            try:
                body = reader.take(report)
                if body is not None:
                    return answer(body)
            except MalformedBytes as error:
                raise DeviceGarbled(f"{self._name}: {error}") from None
        raise DeviceStuck(f"{self._name} has not answered")

    def close(self) -> None:
        with suppress(OSError, ValueError):
            self._handle.close()
