"""Where the PIN of a token comes from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from signers.backends.key_uri import Pkcs11Key
from signers.pkcs11.token_errors import PinMissing

PIN_ENV: Final = "FORGEPOOL_PKCS11_PIN"  # of keys whose URI says nothing of a PIN
PIN_BYTES_MAX: Final = 255  # more than any token takes; what is longer is another file


def read_pin(key: Pkcs11Key, environment: Mapping[str, str]) -> str | None:
    """Return the PIN of a key's token: from its URI, a file, or the environment.

    None when nobody names one. Raises PinMissing when it is named and cannot be had.
    """
    if key.pin is not None:
        return key.pin
    if key.pin_source is None:
        return environment.get(PIN_ENV)
    scheme, colon, rest = key.pin_source.partition(":")
    if scheme == "env" and colon:
        if rest not in environment:
            raise PinMissing(f"pin-source: {rest} is not set in the environment")
        return environment[rest]
    path = rest.removeprefix("//") if scheme == "file" and colon else key.pin_source
    if not path.startswith("/"):
        raise PinMissing(
            "pin-source is file:/path, /path or env:NAME; a path begins with a slash, since a "
            "worker may be started anywhere"
        )
    return _read_file(Path(path))


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(PIN_BYTES_MAX + 2)
        pin = content.decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise PinMissing(f"pin-source: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise PinMissing(f"pin-source: {path} is not UTF-8") from None
    if not 0 < len(pin.encode()) <= PIN_BYTES_MAX:
        raise PinMissing(f"pin-source: {path} holds no PIN, of 1 to {PIN_BYTES_MAX} bytes")
    return pin
