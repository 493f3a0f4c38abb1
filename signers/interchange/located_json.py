"""JSON whose every value knows where it stands, so that what is wrong can be named.

Any bytes give a value or one `MalformedMarks`: text that is not UTF-8 or breaks off, names that
stand twice in an object, numbers that are no integers in their range, nesting without end.
"""

import json
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, NoReturn

from signers.errors import MalformedBytes
from signers.formats import base58
from signers.formats.base58 import Prefix
from signers.interchange.recorded_mark import MalformedMarks

# 100,000 keys with their signatures; every file of a signer in use is far smaller.
FILE_BYTES_MAX: Final = 64 * 1024 * 1024
_DIGITS_MAX = 20  # of an integer; more is out of any range here, and slow to convert
_QUOTED_MAX = 40


class _Object(list[tuple[str, Any]]):
    """The members of an object in their order, also those that stand twice."""


class LocatedValue(NamedTuple):
    """A JSON value and its place, as ``blocks[3].highwatermark.round``."""

    value: Any
    place: str

    def members(self) -> dict[str, "LocatedValue"]:
        """Return the members of an object. Raises MalformedMarks also for a name twice."""
        if not isinstance(self.value, _Object):
            self.refuse("an object is expected")
        found: dict[str, LocatedValue] = {}
        for name, value in self.value:
            member = LocatedValue(value, f"{self.place}.{_shown(name)}".lstrip("."))
            if name in found:
                member.refuse("this name stands twice")
            found[name] = member
        return found

    def record(self, *required: str, optional: tuple[str, ...] = ()) -> dict[str, "LocatedValue"]:
        """Return the members of an object that has these and no others; null counts as absent."""
        found = self.members()
        for name, member in found.items():
            if name not in required and name not in optional:
                member.refuse("nothing of this name is known here")
        for name in required:
            if name not in found:
                self.refuse(f"{name!r} is missing")
        return {
            name: member
            for name, member in found.items()
            if name in required or member.value is not None
        }

    def value_of(self, name: str) -> Any:
        """Return the bare value of a member; None when this is no object or has no such member."""
        return dict(self.value).get(name) if isinstance(self.value, _Object) else None

    def elements(self) -> Iterator["LocatedValue"]:
        """Yield the elements of an array. Raises MalformedMarks."""
        if isinstance(self.value, _Object) or not isinstance(self.value, list):
            self.refuse("an array is expected")
        for number, value in enumerate(self.value):
            yield LocatedValue(value, f"{self.place}[{number}]")

    def integer(self, lowest: int, highest: int) -> int:
        """Return an integer of a range. Raises MalformedMarks."""
        if type(self.value) is not int or not lowest <= self.value <= highest:
            self.refuse(f"an integer from {lowest} to {highest} is expected")
        return int(self.value)

    def text(self) -> str:
        """Return a text. Raises MalformedMarks."""
        if not isinstance(self.value, str):
            self.refuse("a text is expected")
        return str(self.value)

    def payload(self, prefixes: Prefix | tuple[Prefix, ...]) -> bytes:
        """Return what a base58 text holds. Raises MalformedMarks."""
        try:
            return base58.decode(prefixes, self.text())
        except MalformedBytes as error:
            self.refuse(str(error))

    def hexadecimal(self, length_bytes: int) -> bytes:
        """Return so many bytes that stand in hexadecimal. Raises MalformedMarks."""
        text = self.text()
        try:
            raw = bytes.fromhex(text)
        except ValueError:
            raw = b""
        if len(raw) != length_bytes or len(text) != 2 * length_bytes:
            self.refuse(f"{2 * length_bytes} hexadecimal digits are expected")
        return raw

    def refuse(self, problem: str) -> NoReturn:
        """Raise the MalformedMarks that names this place."""
        raise MalformedMarks(f"{self.place or 'the file'}: {problem}")


def read_json(data: bytes) -> LocatedValue:
    """Read a JSON text. Raises MalformedMarks."""
    if len(data) > FILE_BYTES_MAX:
        raise MalformedMarks(f"more than {FILE_BYTES_MAX} bytes: this is no file of marks")
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_Object,
            parse_int=_integer,
            parse_constant=_no_number,
        )
    except UnicodeDecodeError as error:
        raise MalformedMarks(f"byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise MalformedMarks(f"{where}: not JSON, or cut off ({error.msg})") from None
    except RecursionError:
        raise MalformedMarks("nested too deep: this is no file of marks") from None
    return LocatedValue(value, "")


def write_json(value: Any) -> bytes:
    """Write a JSON text that people can read, one value a line."""
    return json.dumps(value, indent=2).encode() + b"\n"


def _shown(name: str) -> str:
    """Write a name of the file so that it can be printed anywhere and does nothing there."""
    shown = name[:_QUOTED_MAX]
    return shown if shown.isascii() and shown.isprintable() else ascii(shown)


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS_MAX:
        raise MalformedMarks(f"a number of {len(digits)} digits is beyond every range")
    return int(digits)


def _no_number(name: str) -> NoReturn:
    raise MalformedMarks(f"{name} is no number of JSON")
