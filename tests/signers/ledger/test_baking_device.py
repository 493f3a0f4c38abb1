"""A device over a real connection: what is signed, and each way in which it is not."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from signers.backends.backend import HAS_NOT_SIGNED, IS_ALIVE
from signers.backends.key_uri import LedgerKey
from signers.formats.hashes import blake2b_20
from signers.formats.networks import TEZOS
from signers.keyring.keys import PublicKey
from signers.ledger import baking_device
from signers.ledger.apdu import COIN_MAVRYK, HARDENED, Derivation, DeviceMark, full_path
from signers.ledger.baking_device import DeviceFinder
from signers.ledger.device_errors import (
    DeviceAbsent,
    DeviceBusy,
    DeviceGarbled,
    DeviceLocked,
    DeviceLost,
    DeviceMisconfigured,
    DeviceStuck,
    DeviceWatermark,
    KeyNotAuthorised,
    NotForDevice,
    RejectedOnDevice,
    WrongApp,
)
from signers.ledger.ledger_signer import LedgerSigner
from signers.ledger.transport import PROXY_PORT, TcpPlace, places
from tests.signers.ledger.conftest import Device
from tests.signers.ledger.test_baking_app import vote

STEPS = (HARDENED, HARDENED)
KEY_HASH = "tz1dyX3B1CFYa2DfdFLyPtiJCfQRUgPVME6E"
ROOT_HASH = "tz1hnWLTrBX8JrSJJX7FfgoYTgv25HgaAuqL"
DEVICE = "f2ed2bbe"
WAIT_S = 5.0


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baking_device, "COMMAND_S", 1.0)
    monkeypatch.setattr(baking_device, "SIGN_S", 0.5)


@pytest.fixture
def signer(device: Device) -> LedgerSigner:
    with device.finder().device(DEVICE, WAIT_S) as turn:
        turn.set_up(Derivation.ED25519, full_path(STEPS), bytes(4), 0, 0)
    return LedgerSigner(DEVICE, keys(), device.finder())


def keys() -> Callable[[str], LedgerKey | None]:
    return {KEY_HASH: LedgerKey(DEVICE, "ed25519", STEPS)}.get


def key_of(signer: LedgerSigner) -> PublicKey:
    return signer.public_key(KEY_HASH, WAIT_S)


def sign(signer: LedgerSigner, level: int, round: int = 0) -> bytes:
    return signer.sign(key_of(signer), KEY_HASH, vote(level, round), WAIT_S)


@pytest.mark.parametrize("name", [DEVICE, ROOT_HASH, "mv1R5xC6ZhQBvyMXnNnQJFv7Qjv1ZaXxJ3nP"])
def test_a_device_is_found_by_its_name(device: Device, name: str) -> None:
    if name.startswith("mv1"):
        with pytest.raises(Exception, match="called"), device.finder().device(name, WAIT_S):
            pass
        return
    with device.finder().device(name, WAIT_S) as turn:
        assert str(turn.version) == "2.5.1"


def test_it_signs_and_the_signature_is_the_keys(signer: LedgerSigner) -> None:
    key = key_of(signer)
    assert key.hash(TEZOS) == KEY_HASH
    assert key.verify(vote(1, 0), sign(signer, 1))
    assert key.verify(vote(1, 1), sign(signer, 1, 1))


def test_the_devices_own_watermark_is_a_refusal(signer: LedgerSigner, device: Device) -> None:
    sign(signer, 5)
    with pytest.raises(DeviceWatermark):
        sign(signer, 5)
    with device.finder().device(DEVICE, WAIT_S) as turn:
        assert turn.marks().main == DeviceMark(5, 0)


@pytest.mark.parametrize(
    ("trouble", "cure", "error"),
    [
        ("lock", "unlock", DeviceLocked),
        ("app wallet", "app baking", WrongApp),
        ("app dashboard", "app baking", WrongApp),
        ("unplug", "plug", DeviceAbsent),
        ("stick", "unstick", DeviceStuck),
        ("status 6901 1", "state", DeviceBusy),
        ("status 6f00 1", "state", DeviceGarbled),
        ("cut", "state", DeviceAbsent),
    ],
)
def test_troubles_are_told_apart_and_pass(
    signer: LedgerSigner, device: Device, trouble: str, cure: str, error: type[Exception]
) -> None:
    key = key_of(signer)
    assert device.does(trouble) == "ok"
    with pytest.raises(error) as raised:
        signer.sign(key, KEY_HASH, vote(1, 0), WAIT_S)
    assert type(raised.value) is error
    device.does(cure)
    assert key.verify(vote(2, 0), signer.sign(key, KEY_HASH, vote(2, 0), WAIT_S))


def test_an_answer_that_comes_late_is_not_taken_for_the_next(
    signer: LedgerSigner, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    key = key_of(signer)
    late = bytes.fromhex("8002000011048000002c800006c18000000080000000")
    with device.finder().device(DEVICE, WAIT_S) as turn:
        device.does("stick")
        turn._transport.send(late)
        with pytest.raises(DeviceStuck):
            turn._transport.receive(0.1)
    mended = threading.Timer(0.1, device.does, ["unstick"])
    mended.start()
    assert key.verify(vote(1, 0), signer.sign(key, KEY_HASH, vote(1, 0), WAIT_S))
    mended.join()
    assert "ledger_late_answer" in caplog.text


def test_a_signature_that_was_lost_may_have_been_made(
    signer: LedgerSigner, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_of(signer)
    finder = device.finder()
    with finder.device(DEVICE, WAIT_S) as turn:
        send = turn._transport.send

        def send_and_lose(command: bytes) -> None:
            if command[2] == 0x81:
                device.does("lose")
            send(command)

        monkeypatch.setattr(turn._transport, "send", send_and_lose)
        with pytest.raises(DeviceLost) as lost:
            turn.sign(Derivation.ED25519, full_path(STEPS), vote(1, 0))
    assert not isinstance(lost.value, HAS_NOT_SIGNED)
    with pytest.raises(DeviceWatermark):
        signer.sign(key, KEY_HASH, vote(1, 0), WAIT_S)


def test_which_errors_leave_a_doubt() -> None:
    for doubtful in (DeviceStuck, DeviceLost, DeviceGarbled):
        assert not issubclass(doubtful, HAS_NOT_SIGNED)
    for alive in (DeviceLocked, WrongApp, DeviceWatermark, RejectedOnDevice, KeyNotAuthorised):
        assert issubclass(alive, IS_ALIVE)
        assert issubclass(alive, HAS_NOT_SIGNED)


def test_a_person_has_as_long_as_the_caller_says(
    signer: LedgerSigner, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_of(signer)
    own, fees = b"\0" + blake2b_20(key.raw), bytes([1, 1, 1, 1])
    to_self = b"\3" + bytes(32) + b"\x6e" + own + fees + b"\xff" + own
    device.does("delay 100")
    monkeypatch.setattr(baking_device, "PROMPT_S", 0.01)
    assert key.verify(to_self, signer.sign(key, KEY_HASH, to_self, WAIT_S))
    monkeypatch.setattr(baking_device, "SIGN_S", 0.01)
    with pytest.raises(DeviceStuck):
        signer.sign(key, KEY_HASH, vote(1, 0), WAIT_S)


def test_what_the_app_does_not_sign(signer: LedgerSigner) -> None:
    key = key_of(signer)
    with pytest.raises(NotForDevice):
        signer.sign(key, KEY_HASH, b"\5\1\2", WAIT_S)
    with pytest.raises(NotForDevice):
        signer.sign(key, KEY_HASH, bytes(300), WAIT_S)


def test_another_key_than_the_authorised_one(device: Device) -> None:
    signer = LedgerSigner(DEVICE, keys(), device.finder())
    with pytest.raises(KeyNotAuthorised):
        sign(signer, 1)


def test_a_uri_whose_key_is_not_the_one_meant(device: Device) -> None:
    other = LedgerKey(DEVICE, "ed25519", (HARDENED,))
    with pytest.raises(DeviceMisconfigured, match="is not tz1"):
        LedgerSigner(DEVICE, lambda _: other, device.finder()).public_key(KEY_HASH, WAIT_S)


def test_mavryks_path_needs_mavryks_app(device: Device, tmp_path: Path) -> None:
    finder = DeviceFinder(lambda: places(device.environment), coin=COIN_MAVRYK, lock_dir=tmp_path)
    with pytest.raises(DeviceMisconfigured), finder.device(DEVICE, WAIT_S):
        pass


def test_no_device_of_that_name(device: Device) -> None:
    with pytest.raises(DeviceAbsent, match="00000000"), device.finder().device("00000000", WAIT_S):
        pass


def test_nothing_listens(tmp_path: Path) -> None:
    finder = DeviceFinder(lambda: iter([TcpPlace("127.0.0.1", 9)]), lock_dir=tmp_path)
    with pytest.raises(DeviceAbsent, match="nothing listens"), finder.device(DEVICE, WAIT_S):
        pass
    with pytest.raises(DeviceAbsent, match="port number"):
        list(places({PROXY_PORT: "ninety"}))


def test_processes_take_turns(device: Device) -> None:
    one, other = device.finder(), device.finder()
    busy = pytest.raises(DeviceBusy, match="another process")
    with one.device(DEVICE, WAIT_S), busy, other.device(DEVICE, 0.05):
        pass
    with other.device(DEVICE, WAIT_S) as turn:
        assert turn.authorised_key() is None


def test_threads_take_turns(signer: LedgerSigner, device: Device) -> None:
    device.does("delay 5")
    key = key_of(signer)
    signatures: dict[int, bytes] = {}

    def one(level: int) -> None:
        while True:  # a vote of a lower level may come after a higher one: then it is refused
            try:
                signatures[level] = signer.sign(key, KEY_HASH, vote(level, 0), 30.0)
            except DeviceWatermark:
                signatures[level] = b""
            return

    threads = [threading.Thread(target=one, args=(level,)) for level in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(signatures) == 8
    for level, signature in signatures.items():
        assert not signature or key.verify(vote(level, 0), signature)


def test_setting_up_is_asked_on_the_device(device: Device) -> None:
    device.does("finger rejects")
    with device.finder().device(DEVICE, WAIT_S) as turn:
        with pytest.raises(RejectedOnDevice):
            turn.set_up(Derivation.ED25519, full_path(STEPS), bytes(4), 7, 0)
        with pytest.raises(RejectedOnDevice):
            turn.reset_marks(9)
        device.does("finger accepts")
        turn.reset_marks(9)
        assert turn.marks().main == DeviceMark(9, 0)


def test_a_device_is_known_for_a_while_and_forgotten_after_trouble(device: Device) -> None:
    finder = device.finder()
    for _ in range(2):
        with finder.device(DEVICE, WAIT_S):
            pass
    assert finder._known
    device.does("lock")
    with pytest.raises(DeviceLocked), finder.device(DEVICE, WAIT_S):
        pass
    assert not finder._known
