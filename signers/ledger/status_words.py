"""What a status word means, and whose turn it is.

Source: ledger-app-tezos-baking ``src/exception.h``, Ledger's SDK and operating system.
"""

from typing import Final, NoReturn

from signers.errors import SignersError
from signers.ledger.apdu import Instruction
from signers.ledger.device_errors import (
    DeviceBusy,
    DeviceGarbled,
    DeviceLocked,
    DeviceMisconfigured,
    DeviceWatermark,
    KeyNotAuthorised,
    NotForDevice,
    RejectedOnDevice,
    WrongApp,
)

OK: Final = 0x9000

_MEANINGS: Final[dict[int, tuple[type[SignersError], str]]] = {
    0x9001: (DeviceMisconfigured, "the app does not derive such a path, or not on this curve"),
    0x6982: (
        KeyNotAuthorised,
        "the key is not the one that the device bakes with (or an old device is locked)",
    ),
    0x6985: (RejectedOnDevice, "it was rejected on the device"),
    0x6A80: (DeviceMisconfigured, "the app takes no such data"),
    0x6A88: (KeyNotAuthorised, "no key is set up for baking"),
    0x6B00: (DeviceMisconfigured, "this device does not know that curve"),
    0x6C00: (DeviceMisconfigured, "the app reads this command otherwise: another version?"),
    0x6D00: (WrongApp, "the open app does not know the command"),
    0x6E00: (WrongApp, "no app is open, or another one"),
    0x9405: (NotForDevice, "the baking app does not understand or does not sign these bytes"),
    0x917E: (NotForDevice, "the bytes are too long for the device"),
    0x9200: (DeviceGarbled, "the app has a memory error"),
    0x5515: (DeviceLocked, "the device is locked"),
    0x6804: (DeviceLocked, "the device is locked"),
    0x6B0C: (DeviceLocked, "the device is locked"),
    0x6901: (DeviceBusy, "a question stands on the screen of the device"),
    0x6983: (DeviceMisconfigured, "the command needs the USB cable"),
}
_SIGNS: Final = frozenset({Instruction.SIGN, Instruction.SIGN_WITH_HASH})


def raise_for(status: int, instruction: int) -> None:
    """Raise what a status word means in an answer to an instruction; nothing when all is well."""
    if status == OK:
        return
    if status == 0x6A80 and instruction in _SIGNS:
        _raise(DeviceWatermark, "the device has signed this level and round or higher", status)
    error, text = _MEANINGS.get(status, (DeviceGarbled, "an answer that no list explains"))
    _raise(error, text, status)


def _raise(error: type[SignersError], text: str, status: int) -> NoReturn:
    raise error(f"{text} (status {status:04x})")
