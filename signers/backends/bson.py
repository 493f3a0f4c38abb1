"""BSON, as far as JSON goes: how octez-signer's sockets carry the errors of a trace.

A document is its own length, its fields and a zero byte; a field is a type, a name that a zero
byte ends, and a value. Lengths are little-endian. Types that JSON does not have are refused.

Source: bsonspec.org version 1.1; OCaml's ``json-data-encoding`` (``Json_repr_bson``), which Octez
uses.
"""

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Any

from signers.errors import MalformedBytes

_DOUBLE, _STRING, _DOCUMENT, _ARRAY, _BOOLEAN, _NULL, _INT32, _INT64 = (
    0x01, 0x02, 0x03, 0x04, 0x08, 0x0A, 0x10, 0x12,
)  # fmt: skip
_I32, _I64, _F64 = Struct("<i"), Struct("<q"), Struct("<d")

# Errors nest two or three deep; more would be an attack on the stack.
_DEPTH_MAX = 16


def encode(document: Mapping[str, Any]) -> bytes:
    """Write a JSON object. Raises MalformedBytes for what BSON cannot hold."""
    return _encode_fields(document.items(), 0)


def decode(content: bytes) -> dict[str, Any]:
    """Read exactly one document. Raises MalformedBytes."""
    fields, end = _decode_fields(content, 0, len(content), 0)
    if end != len(content):
        raise MalformedBytes(f"{len(content) - end} bytes are left over after a BSON document")
    return dict(fields)


def _encode_fields(fields: Any, depth: int) -> bytes:
    if depth > _DEPTH_MAX:
        raise MalformedBytes(f"BSON nests deeper than {_DEPTH_MAX}")
    body = b"".join(_encode_field(name, value, depth) for name, value in fields)
    return _I32.pack(len(body) + 5) + body + b"\0"


def _encode_field(name: str, value: Any, depth: int) -> bytes:
    raw_name = name.encode()
    if b"\0" in raw_name:
        raise MalformedBytes("a BSON name has no zero byte")
    kind, content = _encode_value(value, depth)
    return bytes([kind]) + raw_name + b"\0" + content


def _encode_value(value: Any, depth: int) -> tuple[int, bytes]:
    if value is None:
        return _NULL, b""
    if isinstance(value, bool):
        return _BOOLEAN, bytes([value])
    if isinstance(value, int):
        if -(1 << 31) <= value < 1 << 31:
            return _INT32, _I32.pack(value)
        if -(1 << 63) <= value < 1 << 63:
            return _INT64, _I64.pack(value)
        raise MalformedBytes("a BSON number has 64 bits at most")
    if isinstance(value, float):
        return _DOUBLE, _F64.pack(value)
    if isinstance(value, str):
        text = value.encode()
        return _STRING, _I32.pack(len(text) + 1) + text + b"\0"
    if isinstance(value, Mapping):
        return _DOCUMENT, _encode_fields(value.items(), depth + 1)
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        numbered = ((str(index), each) for index, each in enumerate(value))
        return _ARRAY, _encode_fields(numbered, depth + 1)
    raise MalformedBytes(f"BSON holds no {type(value).__name__} here")


def _decode_fields(
    content: bytes, at: int, limit: int, depth: int
) -> tuple[list[tuple[str, Any]], int]:
    """Return the fields of the document at `at`, and where it ends."""
    if depth > _DEPTH_MAX:
        raise MalformedBytes(f"BSON nests deeper than {_DEPTH_MAX}")
    size = _number(_I32, content, at, limit)
    end = at + size - 1  # of its zero byte
    if size < 5 or end >= limit or content[end] != 0:
        raise MalformedBytes("a BSON document does not end where it says")
    at += 4
    fields = []
    while at < end:
        kind = content[at]
        name_end = content.find(b"\0", at + 1, end)
        if name_end < 0:
            raise MalformedBytes("a BSON name does not end")
        name = _text(content[at + 1 : name_end])
        value, at = _decode_value(kind, content, name_end + 1, end, depth)
        fields.append((name, value))
    return fields, end + 1


def _decode_value(kind: int, content: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    match kind:
        case 0x0A:
            return None, at
        case 0x08:
            _need(1, at, end)
            return content[at] != 0, at + 1
        case 0x10:
            return _number(_I32, content, at, end), at + 4
        case 0x12:
            return _number(_I64, content, at, end), at + 8
        case 0x01:
            _need(8, at, end)
            return _F64.unpack_from(content, at)[0], at + 8
        case 0x02:
            size = _number(_I32, content, at, end)
            _need(size, at + 4, end)
            stop = at + 4 + size
            if size < 1 or content[stop - 1] != 0:
                raise MalformedBytes("a BSON text does not end")
            return _text(content[at + 4 : stop - 1]), stop
        case 0x03:
            fields, stop = _decode_fields(content, at, end, depth + 1)
            return dict(fields), stop
        case 0x04:
            fields, stop = _decode_fields(content, at, end, depth + 1)
            return [value for _, value in fields], stop
    raise MalformedBytes(f"BSON type {kind:02x} has no JSON form")


def _number(form: Struct, content: bytes, at: int, end: int) -> int:
    _need(form.size, at, end)
    number: int = form.unpack_from(content, at)[0]
    return number


def _need(count: int, at: int, end: int) -> None:
    if count < 0 or at + count > end:
        raise MalformedBytes("a BSON value ends early")


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise MalformedBytes("a BSON text is not UTF-8") from None
