"""A device on a TCP port: the baking app, and everything that can go wrong with a device.

It answers on the port as Speculos does: one command after the other, and only to whoever has
connected last. What goes wrong is said on a second port, one word a line (`help` lists them).

Source: LedgerHQ speculos ``mcu/apdu.py``.
"""

import asyncio
import logging
from typing import Final

from signers.ledger import apdu
from signers.ledger.framing import LENGTH_BYTES, answer_to_stream
from signers.ledger_emulator.baking_app import App, BakingApp, Finger

log = logging.getLogger("forgepool.ledger_emulator")

COMMAND_BYTES_MAX: Final = 1024
HELP: Final = """\
lock | unlock            the PIN
app baking|wallet|dashboard   what is open
finger accepts|rejects   what the person does when it asks
unplug | plug            the cable; unplug breaks connections
stick | unstick          take commands and answer nothing; unstick answers what was asked meanwhile
delay MS                 before each answer
cut                      break the next answer in its middle
lose                     obey the next command, and break the connection instead of answering
lose signature           likewise with the next command that gives a signature
status WORD COUNT        answer so many commands with a status word, as 6f00
state                    marks and authorised key
"""


class EmulatedDevice:
    """Serves one device until `close`."""

    def __init__(self, app: BakingApp) -> None:
        self.app = app
        self._is_plugged = True
        self._delay_s = 0.0
        self._stuck: asyncio.Event = asyncio.Event()
        self._stuck.set()  # set: it answers
        self._cuts = self._loses = self._loses_signature = False
        self._forced: list[int] = []
        self._latest: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()
        self._connections: set[asyncio.StreamWriter] = set()
        self._servers: list[asyncio.Server] = []

    async def listen(self, host: str, port: int, control_port: int) -> tuple[int, int]:
        """Begin to listen; returns both ports (0 takes free ones)."""
        for serve, wanted in ((self._serve, port), (self._control, control_port)):
            self._servers.append(await asyncio.start_server(serve, host, wanted))
        ports = [server.sockets[0].getsockname()[1] for server in self._servers]
        return ports[0], ports[1]

    async def close(self) -> None:
        """Break everything and stop listening."""
        self._stuck.set()
        self._break_connections()
        for server in self._servers:
            server.close()
            await server.wait_closed()

    # -- the cable --------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._is_plugged:
            writer.close()
            return
        self._latest = writer
        self._connections.add(writer)
        try:
            while True:
                length = int.from_bytes(await reader.readexactly(LENGTH_BYTES))
                if length > COMMAND_BYTES_MAX:
                    return
                command = await reader.readexactly(length)
                async with self._turn:  # the device does one thing at a time
                    await self._answer(command)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, command: bytes) -> None:
        body = self._forced_status() or self.app.exchange(command)
        log.info("command=%s answer=%s", command.hex(), body.hex())
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        await self._stuck.wait()
        writer = self._latest
        if writer is None or writer.is_closing():
            return
        stream = answer_to_stream(body)
        if self._loses or (self._loses_signature and apdu.gives_signature(command)):
            self._loses = self._loses_signature = False
            writer.close()
        elif self._cuts:
            self._cuts = False
            writer.write(stream[: len(stream) // 2])
            writer.close()
        else:
            writer.write(stream)
            await writer.drain()

    def _forced_status(self) -> bytes:
        return self._forced.pop().to_bytes(2) if self._forced else b""

    def _break_connections(self) -> None:
        for writer in list(self._connections):
            writer.close()

    # -- what goes wrong --------------------------------------------------------------------------

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(self._do(line.decode(errors="replace").split()).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass
        finally:
            writer.close()

    def _do(self, words: list[str]) -> str:
        match words:
            case ["lock" | "unlock" as word]:
                self.app.is_locked = word == "lock"
            case ["app", name] if name in {app.value for app in App}:
                self.app.app = App(name)
            case ["finger", what] if what in {finger.value for finger in Finger}:
                self.app.finger = Finger(what)
            case ["unplug"]:
                self._is_plugged = False
                self._break_connections()
            case ["plug"]:
                self._is_plugged = True
            case ["stick"]:
                self._stuck.clear()
            case ["unstick"]:
                self._stuck.set()
            case ["delay", ms] if ms.isdigit():
                self._delay_s = int(ms) / 1000
            case ["cut"]:
                self._cuts = True
            case ["lose"]:
                self._loses = True
            case ["lose", "signature"]:
                self._loses_signature = True
            case ["status", word, count] if count.isdigit():
                self._forced = [int(word, 16)] * int(count)
            case ["state"]:
                return f"{self.app.marks} authorised={self.app.authorised}"
            case _:
                return HELP
        return "ok"
