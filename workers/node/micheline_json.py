"""Micheline expressions from the node's JSON to bytes, for the parameters of transactions.

The other direction is `signers.formats.micheline`. Source: Octez `src/lib_micheline`.
"""

from __future__ import annotations

from typing import Any

from signers.errors import MalformedBytes
from signers.formats import codec
from signers.formats.micheline import DEPTH_MAX, PRIMITIVES

_INT, _STRING, _SEQUENCE, _NO_ARGUMENTS, _ANY_ARGUMENTS, _BYTES = 0, 1, 2, 3, 9, 10
_CODES = {name: code for code, name in enumerate(PRIMITIVES)}
# Mavryk's name for the type of amounts.
_CODES["mumav"] = _CODES["mutez"]


def from_json(node: Any, depth: int = 0) -> bytes:
    """The bytes of an expression. Raises MalformedBytes for what is none."""
    if depth > DEPTH_MAX:
        raise MalformedBytes(f"a Micheline expression is deeper than {DEPTH_MAX}")
    match node:
        case list():
            inner = b"".join(from_json(each, depth + 1) for each in node)
            return bytes([_SEQUENCE]) + codec.sized(inner)
        case {"int": str(digits)}:
            return bytes([_INT]) + codec.integer(_whole(digits))
        case {"string": str(text)}:
            return bytes([_STRING]) + codec.sized(text.encode())
        case {"bytes": str(digits)}:
            return bytes([_BYTES]) + codec.sized(_hex(digits))
        case {"prim": str(name)} if name in _CODES:
            return _primitive(_CODES[name], node, depth)
    raise MalformedBytes("not a Micheline expression")


def _primitive(code: int, node: dict[str, Any], depth: int) -> bytes:
    arguments = [from_json(each, depth + 1) for each in node.get("args", ())]
    annotations = " ".join(node.get("annots", ())).encode()
    if len(arguments) > 2:
        inner = codec.sized(b"".join(arguments))
        return bytes([_ANY_ARGUMENTS, code]) + inner + codec.sized(annotations)
    tag = _NO_ARGUMENTS + 2 * len(arguments) + bool(annotations)
    tail = codec.sized(annotations) if annotations else b""
    return bytes([tag, code]) + b"".join(arguments) + tail


def _whole(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:
        raise MalformedBytes("a Micheline number is none") from None


def _hex(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise MalformedBytes("Micheline bytes are not hex") from None
