"""One file of an Octez or Mavryk client directory: a JSON list of names with a value each.

Read by name: the file is parsed once to learn where each element lies; after that one element
is read at a time, so that a worker holds the secrets that it uses and no others, and loading one
of ten thousand keys takes microseconds. A file that changed is parsed again.

Source: Octez ``src/lib_client_base/client_aliases.ml``, ``client_context_unix.ml``.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import mkstemp
from typing import Any

import msgspec

from signers.errors import Alarm


class BrokenWalletFile(Alarm):
    """A file of the key directory cannot be read: repair it or restore it."""

    code = "broken_wallet_file"


class _Element(msgspec.Struct):
    name: str
    value: Any


_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_element = msgspec.json.Decoder(_Element).decode
_encode = msgspec.json.encode

Stamp = tuple[int, int, int]  # inode, size and modification time


def stamp_of(path: Path | None) -> Stamp | None:
    """Return what differs once a file has changed; None when there is none."""
    if path is None:
        return None
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


class WalletFile:
    """Names and values of one file; an absent file holds none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[str, tuple[int, int]] = {}  # offset and length of an element
        self._parsed: Stamp | None = None

    def stamp(self) -> Stamp | None:
        """Return what differs once the file has changed; None when there is no file."""
        return stamp_of(self._path)

    def __contains__(self, name: str) -> bool:
        self._refresh()
        return name in self._places

    def value(self, name: str) -> Any | None:
        """Return the value of a name, reading nothing else; None when there is no such name.

        Raises BrokenWalletFile.
        """
        self._refresh()
        place = self._places.get(name)
        if place is None:
            return None
        offset, length = place
        fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            element = self._element(os.pread(fd, length, offset))
        finally:
            os.close(fd)
        if element.name != name:
            raise BrokenWalletFile(f"{self._path} changed while it was read: try again")
        return element.value

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield all names with their values. Raises BrokenWalletFile."""
        for raw in self._elements(self._content()):
            element = self._element(raw)
            yield element.name, element.value

    def add(self, values: Mapping[str, Any]) -> None:
        """Add names, durably and at once; what is there stays as it is.

        The caller holds the wallet's lock and has checked that the names are new.
        """
        old = [bytes(raw) for raw in self._elements(self._content())]
        new = [_encode(_Element(name, value)) for name, value in values.items()]
        _replace(self._path, b"[ " + b",\n  ".join(old + new) + b" ]\n")

    def _refresh(self) -> None:
        stamp = self.stamp()
        if stamp == self._parsed:
            return
        content, places, at = self._content(), {}, 0
        for raw in self._elements(content):
            element = bytes(raw)
            # Between two elements there is nothing but a comma and white space.
            at = content.index(element, at)
            places[self._element(raw).name] = at, len(element)
            at += len(element)
        self._places, self._parsed = places, stamp

    def _content(self) -> bytes:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b"[]"

    def _elements(self, content: bytes) -> list[msgspec.Raw]:
        try:
            return _decode_elements(content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise BrokenWalletFile(f"{self._path} is not a JSON list") from None

    def _element(self, raw: msgspec.Raw | bytes) -> _Element:
        try:
            return _decode_element(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise BrokenWalletFile(
                f"{self._path} has an element without a name and a value"
            ) from None


def _replace(path: Path, content: bytes) -> None:
    """Give a file new content: all of it or none, and on the disk when this returns."""
    fd, draft = mkstemp(prefix=f"{path.name}.new-", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
