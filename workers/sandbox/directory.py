"""The paths that the node serves: which service answers, and what a call says to it.

Paths match segment by segment; a doubled or trailing slash counts for nothing. What cannot be
parsed is a 400 with the words of an Octez node, what does not exist a 404 with an empty body.
Source: Octez ``resto``, ``RPC_directory``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import msgspec

T = TypeVar("T")

_TRUE = frozenset({"", "true", "t", "yes", "y"})
_FALSE = frozenset({"false", "f", "no", "n"})


class BadCall(Exception):
    """A path argument, the query or the body cannot be parsed; the text is for the caller."""


class NotFound(Exception):
    """There is no such path, block, account or thing."""


class MethodNotAllowed(Exception):
    """The path exists, but not with this method."""

    def __init__(self, allowed: Sequence[str]) -> None:
        self.allowed = tuple(allowed)
        super().__init__(", ".join(allowed))


class Query:
    """The part of a call behind the question mark; unknown names are ignored."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def texts(self, name: str) -> list[str]:
        """Return every value given under this name."""
        return self._values.get(name, [])

    def text(self, name: str) -> str | None:
        """Return the one value of this name, None when it is absent."""
        values = self._values.get(name, [])
        if len(values) > 1:
            raise BadCall(f"Failed to parse the query string: {name} is given more than once")
        return values[0] if values else None

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean: present without a value means true."""
        text = self.text(name)
        if text is None:
            return default
        if text.lower() in _TRUE:
            return True
        if text.lower() in _FALSE:
            return False
        raise BadCall(f'Failed to parse the query string: {name}: "{text}" is not a boolean')

    def number(self, name: str) -> int | None:
        """Return an integer."""
        text = self.text(name)
        return None if text is None else _number(name, text)

    def numbers(self, name: str) -> list[int]:
        """Return every integer given under this name."""
        return [_number(name, text) for text in self.texts(name)]


@dataclass(frozen=True, slots=True)
class Call:
    """One request: where it went, what it said, and when (Unix seconds)."""

    path: tuple[str, ...]
    positions: Mapping[str, int]
    query: Query
    body: bytes
    now: float

    def argument(self, name: str) -> str:
        """Return the segment of the path that stands for `name`."""
        return self.path[self.positions[name]]

    def number(self, name: str) -> int:
        """Return a path argument that is a number which is not negative."""
        text = self.argument(name)
        if not (text.isascii() and text.isdecimal() and len(text) <= 10):
            raise self.bad_argument(name, "int")
        return int(text)

    def bad_argument(self, name: str, type_name: str) -> BadCall:
        """Return the error for a path argument that cannot be parsed."""
        position = self.positions[name]
        before = "/".join(self.path[:position])
        return BadCall(
            f'Failed to parsed an argument in path. After "{before}", the value '
            f'"{self.path[position]}" is not acceptable for type "{type_name}"'
        )

    def json(self, type: type[T]) -> T:
        """Return the body as `type`."""
        try:
            return msgspec.json.decode(self.body, type=type)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadCall(f"Failed to parse the request body: {error}") from None


Service = Callable[[Call], Any]


class Route(NamedTuple):
    """A service that was found, and where the arguments stand in the path."""

    service: Service
    positions: Mapping[str, int]


@dataclass(slots=True)
class _Place:
    fixed: dict[str, _Place] = field(default_factory=dict)
    argument: tuple[str, _Place] | None = None
    services: dict[str, Service] = field(default_factory=dict)


class Directory:
    """Services by path and method; a segment like ``{block}`` stands for an argument."""

    def __init__(self) -> None:
        self._root = _Place()

    def serve(self, method: str, path: str, service: Service) -> None:
        """Answer calls to a path with this service."""
        place = self._root
        for segment in split(path):
            place = (
                _argument_place(place, segment)
                if segment[0] == "{"
                else (place.fixed.setdefault(segment, _Place()))
            )
        if method in place.services:
            raise ValueError(f"{method} {path} is served twice")
        place.services[method] = service

    def find(self, method: str, path: tuple[str, ...]) -> Route:
        """Return the service of a call. Raises NotFound, MethodNotAllowed."""
        place, positions = self._root, {}
        for index, segment in enumerate(path):
            following = place.fixed.get(segment)
            if following is None:
                if place.argument is None:
                    raise NotFound
                name, following = place.argument
                positions[name] = index
            place = following
        if not place.services:
            raise NotFound
        service = place.services.get(method)
        if service is None:
            raise MethodNotAllowed(sorted(place.services))
        return Route(service, positions)


def split(path: str) -> tuple[str, ...]:
    """Return the segments of a path."""
    return tuple(segment for segment in path.split("/") if segment)


def _argument_place(place: _Place, segment: str) -> _Place:
    name = segment.strip("{}")
    if place.argument is None:
        place.argument = (name, _Place())
    if place.argument[0] != name:
        raise ValueError(f"{segment} stands where {{{place.argument[0]}}} does")
    return place.argument[1]


def _number(name: str, text: str) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 19):
        raise BadCall(f'Failed to parse the query string: {name}: "{text}" is not an integer')
    return int(text)
