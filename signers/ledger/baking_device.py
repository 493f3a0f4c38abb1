"""A device with the baking app open: found by its name, asked one thing at a time.

Only one command may be under way, also of other processes of this host, and nothing may come
between the two commands of a signature. So each turn takes a lock file of the place where the
device is plugged in, opens it, looks which app and which device it is, and closes it again.
"""

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from signers.errors import MalformedBytes, Unavailable
from signers.formats.hashes import blake2b_32
from signers.ledger import apdu
from signers.ledger.apdu import (
    PROMPTING,
    VERSION_WITH_HASH,
    AuthorisedKey,
    Derivation,
    DeviceMarks,
    Instruction,
    Version,
)
from signers.ledger.device_errors import (
    DeviceAbsent,
    DeviceBusy,
    DeviceGarbled,
    DeviceLost,
    WrongApp,
)
from signers.ledger.device_name import WordLists, is_called
from signers.ledger.framing import Answer
from signers.ledger.status_words import raise_for
from signers.ledger.transport import Place, Transport

log = logging.getLogger("forgepool.ledger")

COMMAND_S: Final = 5.0  # the slowest silent command takes about one second
# A device that has a signature in hand is waited for: whoever asked has long been told, but what
# it signs is kept for a repeat, and nothing else could be asked of it anyway.
SIGN_S: Final = 60.0
PROMPT_S: Final = 120.0  # for a finger on the button
LOCK_LOOK_S: Final = 0.02
# A command that was given up on TCP may still be answered, on the next connection.
LATE_ANSWERS_MAX: Final = 3
# How long a device is taken for the same one as last time: to ask its root key takes as long as
# to sign.
KNOWN_S: Final = 60.0
_GENERIC: Final = 0x03

T = TypeVar("T")


class BakingDevice:
    """An open device for the length of one turn."""

    def __init__(self, transport: Transport, name: str) -> None:
        self._transport = transport
        self.name = name
        self.version = self._look_at_app()

    def _look_at_app(self) -> Version:
        """See which app is open, past answers to what was given up before."""
        self._transport.send(apdu.command(Instruction.VERSION))
        for _ in range(LATE_ANSWERS_MAX + 1):
            answer = self._receive(COMMAND_S)
            if answer.status == 0x9000 and len(answer.data) != 4:
                log.warning("ledger_late_answer device=%s bytes=%d", self.name, len(answer.data))
                continue
            raise_for(answer.status, Instruction.VERSION)
            version = self._read(apdu.read_version, answer.data)
            if version.app_class != apdu.BAKING_CLASS:
                raise WrongApp(f"the wallet app is open on {self.name}, not the baking app")
            return version
        raise DeviceGarbled(f"{self.name} answers other commands than ours")

    def _read(self, read: Callable[..., T], *given: object) -> T:
        try:
            return read(*given)
        except MalformedBytes as error:
            raise DeviceGarbled(f"{self.name}: {error}") from None

    def _ask(self, instruction: Instruction, p2: int = 0, data: bytes = b"") -> bytes:
        wait_s = PROMPT_S if instruction in PROMPTING else COMMAND_S
        answer = self._exchange(apdu.command(instruction, 0, p2, data), wait_s)
        raise_for(answer.status, instruction)
        return answer.data

    def _exchange(self, command: bytes, timeout_s: float) -> Answer:
        self._transport.send(command)
        return self._receive(timeout_s)

    def _receive(self, timeout_s: float) -> Answer:
        """Wait for an answer to what signs nothing: if it went away, nothing is in doubt."""
        try:
            return self._transport.receive(timeout_s)
        except DeviceLost as error:
            raise DeviceAbsent(str(error)) from None

    def public_key(self, derivation: Derivation, path: apdu.Path, *, prompt: bool = False) -> bytes:
        """Return a raw public key; with `prompt` it is also shown on the screen."""
        instruction = Instruction.PROMPT_PUBLIC_KEY if prompt else Instruction.GET_PUBLIC_KEY
        data = self._ask(instruction, derivation, apdu.encode_path(path))
        return self._read(apdu.read_public_key, data, derivation)

    def sign(
        self, derivation: Derivation, path: apdu.Path, message: bytes, prompt_s: float = 0.0
    ) -> bytes:
        """Have a message signed. From the second command on the device may have signed.

        A person who is asked has `prompt_s`, and never less than `PROMPT_S`.
        """
        with_hash = self.version.number >= VERSION_WITH_HASH
        choose, data = apdu.sign_commands(derivation, path, message, with_hash=with_hash)
        raise_for(self._exchange(choose, COMMAND_S).status, choose[1])
        try:
            self._transport.send(data)
        except DeviceAbsent as error:
            raise DeviceLost(str(error)) from None
        is_asked = message[0] == _GENERIC
        answer = self._transport.receive(max(prompt_s, PROMPT_S) if is_asked else SIGN_S)
        raise_for(answer.status, data[1])
        signature = answer.data
        if with_hash:
            if signature[:32] != blake2b_32(message):
                raise DeviceGarbled(f"{self.name} answered for other bytes")
            signature = signature[32:]
        return self._read(apdu.read_signature, signature, derivation)

    def authorised_key(self) -> AuthorisedKey | None:
        """The key that it bakes with."""
        data = self._ask(Instruction.QUERY_AUTH_KEY_WITH_CURVE)
        return self._read(apdu.read_authorised_key, data)

    def marks(self) -> DeviceMarks:
        """Its own high watermarks."""
        return self._read(apdu.read_marks, self._ask(Instruction.QUERY_ALL_WATERMARKS))

    def set_up(
        self,
        derivation: Derivation,
        path: apdu.Path,
        chain_id: bytes,
        main_level: int,
        test_level: int,
    ) -> bytes:
        """Authorise a key and set the marks, once somebody has agreed on the device."""
        command = apdu.setup_command(derivation, path, chain_id, main_level, test_level)
        answer = self._exchange(command, PROMPT_S)
        raise_for(answer.status, Instruction.SETUP)
        return self._read(apdu.read_public_key, answer.data, derivation)

    def reset_marks(self, level: int) -> None:
        """Set both marks to a level, once somebody has agreed on the device."""
        self._ask(Instruction.RESET, data=level.to_bytes(4))

    def deauthorise(self) -> None:
        """Forget the key to bake with. The device does not ask."""
        self._ask(Instruction.DEAUTHORIZE)


class DeviceFinder:
    """Finds a device wherever it is plugged in; use from one thread at a time.

    `places` lists where to look, anew each time: the path of a device changes when its app does.
    """

    def __init__(
        self,
        places: Callable[[], Iterator[Place]],
        *,
        words: WordLists | None = None,
        coin: int = apdu.COIN_TEZOS,
        lock_dir: Path | None = None,
    ) -> None:
        self._places = places
        self.words = words
        self._root = apdu.full_path((), coin)
        self._lock_dir = lock_dir or Path(tempfile.gettempdir())
        self._known: dict[str, tuple[bytes, float]] = {}  # place: root key, when it was seen

    @contextmanager
    def device(self, name: str, timeout_s: float) -> Iterator[BakingDevice]:
        """Have the device of this name for a turn.

        Raises DeviceAbsent, DeviceBusy, DeviceLocked, WrongApp and what else a device may say.
        """
        with ExitStack() as held:
            device = self._find(name, time.monotonic() + timeout_s, held)
            try:
                yield device
            except Unavailable:
                self._known.pop(device.name, None)
                raise

    def devices(self, timeout_s: float) -> Iterator[tuple[str, BakingDevice | Unavailable]]:
        """Have each place's device in its turn, or hear why there is none to be had."""
        for place in self._places():
            with ExitStack() as held:
                try:
                    yield place.name, self._open(place, time.monotonic() + timeout_s, held)
                except Unavailable as error:
                    yield place.name, error

    def root_key(self, device: BakingDevice) -> bytes:
        """The key by which a device is known."""
        known, seen = self._known.get(device.name, (b"", 0.0))
        if known and time.monotonic() < seen + KNOWN_S:
            return known
        key = device.public_key(Derivation.ED25519, self._root)
        self._known[device.name] = key, time.monotonic()
        return key

    def _find(self, name: str, deadline: float, held: ExitStack) -> BakingDevice:
        troubles: list[Unavailable] = []
        for place in sorted(self._places(), key=lambda place: place.name not in self._known):
            with ExitStack() as tried:
                try:
                    device = self._open(place, deadline, tried)
                    if is_called(name, self.root_key(device), self.words):
                        held.push(tried.pop_all())
                        return device
                except Unavailable as error:
                    self._known.pop(place.name, None)
                    troubles.append(error)
        if len(troubles) == 1:
            raise troubles[0]
        others = "".join(f"; {error}" for error in troubles)
        raise DeviceAbsent(f"no device called {name} is plugged in{others}")

    def _open(self, place: Place, deadline: float, held: ExitStack) -> BakingDevice:
        held.enter_context(self._lock(place, deadline))
        transport = place.open()
        held.callback(transport.close)
        return BakingDevice(transport, place.name)

    @contextmanager
    def _lock(self, place: Place, deadline: float) -> Iterator[None]:
        name = sha256(place.name.encode()).hexdigest()[:16]
        path = self._lock_dir / f"forgepool-ledger-{os.getuid()}-{name}.lock"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise DeviceBusy(f"another process has {place.name}") from None
                    time.sleep(LOCK_LOOK_S)
            yield
        finally:
            os.close(fd)
