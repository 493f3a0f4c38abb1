"""How the fields of an operation lie in its bytes: small layouts, and how they combine.

A layout reads a value, writes it back and shows it as the node's JSON does. The operations of
all protocols are tables of layouts, so that each is stated once and reading, writing and
showing cannot drift apart.

Source: the combinators of Octez' data-encoding library.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from signers.errors import MalformedBytes
from signers.formats import base58, codec, micheline
from signers.formats.base58 import Prefix
from signers.formats.codec import Reader
from signers.formats.networks import Network
from signers.keyring.curve import CURVE_OF_TAG, Curve

# Fees, counters and gas limits: at most ten groups of seven bits, mutez also below 2**63.
_COUNTER_BYTES_MAX = 10
_MUTEZ_MAX = 2**63 - 1
_ENTRYPOINT_BYTES_MAX = 31


@dataclass(frozen=True, slots=True)
class Layout:
    """One way to lay a value out in bytes, and to show it to people.

    `read` raises MalformedBytes; `show` gives what JSON can hold.
    """

    read: Callable[[Reader], Any]
    write: Callable[[Any], bytes]
    show: Callable[[Any, Network], Any]


def _itself(value: Any, _: Network) -> Any:
    return value


def _hex(value: bytes, _: Network) -> str:
    return value.hex()


def _decimal(value: int, _: Network) -> str:
    return str(value)


def _number(size_bytes: int, *, signed: bool) -> Layout:
    return Layout(
        lambda reader: int.from_bytes(reader.take(size_bytes), signed=signed),
        lambda value: value.to_bytes(size_bytes, signed=signed),
        _itself,
    )


def _natural(what: str) -> Layout:
    return Layout(lambda reader: reader.natural_i32(what), lambda value: value.to_bytes(4), _itself)


def _read_mutez(reader: Reader) -> int:
    amount = reader.natural(bytes_max=_COUNTER_BYTES_MAX)
    if amount > _MUTEZ_MAX:
        raise MalformedBytes(f"an amount of {amount} is out of range")
    return amount


U8 = _number(1, signed=False)
U16 = _number(2, signed=False)
I16 = _number(2, signed=True)
I32 = _number(4, signed=True)
I64 = Layout(Reader.i64, lambda value: value.to_bytes(8, signed=True), _decimal)
LEVEL = _natural("level")
ROUND = _natural("round")
BOOLEAN = Layout(Reader.boolean, codec.boolean, _itself)
MUTEZ = Layout(_read_mutez, codec.natural, _decimal)
COUNTER = Layout(
    lambda reader: reader.natural(bytes_max=_COUNTER_BYTES_MAX), codec.natural, _decimal
)
NATURAL = Layout(Reader.natural, codec.natural, _decimal)
INTEGER = Layout(Reader.integer, codec.integer, _decimal)
UNIT = Layout(lambda _: None, lambda _: b"", _itself)


def _read_bitset(reader: Reader) -> int:
    bits = reader.integer()
    if bits < 0:
        raise MalformedBytes("a set of DAL slots is negative")
    return bits


DAL_SLOTS = Layout(_read_bitset, codec.integer, _decimal)


def fixed(size_bytes: int) -> Layout:
    """Bytes of one known length, shown in hex."""
    return Layout(lambda reader: reader.take(size_bytes), bytes, _hex)


def text_of(prefix: Prefix) -> Layout:
    """Bytes that have a base58 text of their own, such as a hash."""
    return Layout(
        lambda reader: reader.take(prefix.payload_bytes),
        bytes,
        lambda value, _: base58.encode(prefix, value),
    )


BLOCK_HASH = text_of(base58.BLOCK_HASH)
PAYLOAD_HASH = text_of(base58.PAYLOAD_HASH)
PROTOCOL_HASH = text_of(base58.PROTOCOL_HASH)

BYTES = Layout(lambda reader: reader.sized().rest(), codec.sized, _hex)
TEXT = Layout(
    lambda reader: reader.sized().rest(),
    codec.sized,
    lambda value, _: value.decode(errors="backslashreplace"),
)


def _show_expression(value: bytes, network: Network) -> Any:
    """Show an expression, or its bytes: a block may hold one that no node could read."""
    try:
        return micheline.to_json(value, network.amount_type)
    except MalformedBytes:
        return {"unreadable": value.hex()}


EXPRESSION = Layout(lambda reader: reader.sized().rest(), codec.sized, _show_expression)


def _read_expression_in_place(reader: Reader) -> bytes:
    start = reader.offset
    micheline.read(reader)
    return reader.data[start : reader.offset]


EXPRESSION_IN_PLACE = Layout(_read_expression_in_place, bytes, _show_expression)


def optional(inner: Layout) -> Layout:
    """A value or nothing: ``ff`` and the value, or ``00``."""
    return Layout(
        lambda reader: reader.optional(lambda: inner.read(reader)),
        lambda value: codec.optional(None if value is None else inner.write(value)),
        lambda value, network: None if value is None else inner.show(value, network),
    )


def sized(inner: Layout) -> Layout:
    """A value behind its length, which it must fill."""

    def read(reader: Reader) -> Any:
        part = reader.sized()
        value = inner.read(part)
        part.finish()
        return value

    return Layout(read, lambda value: codec.sized(inner.write(value)), inner.show)


def listed(inner: Layout) -> Layout:
    """Values one after the other, behind the length of them all in bytes."""

    def read(reader: Reader) -> list[Any]:
        part = reader.sized()
        values = []
        while part.remaining:
            values.append(inner.read(part))
        return values

    return Layout(
        read,
        lambda values: codec.sized(b"".join(inner.write(value) for value in values)),
        lambda values, network: [inner.show(value, network) for value in values],
    )


def record(**fields: Layout) -> Layout:
    """Named values one after the other; one that is absent is not shown."""
    items = tuple(fields.items())

    def show(values: Mapping[str, Any], network: Network) -> dict[str, Any]:
        return {
            name: layout.show(values[name], network)
            for name, layout in items
            if values[name] is not None
        }

    return Layout(
        lambda reader: {name: layout.read(reader) for name, layout in items},
        lambda values: b"".join(layout.write(values[name]) for name, layout in items),
        show,
    )


def tupled(*inner: Layout) -> Layout:
    """Values one after the other that have no names, shown as a list."""
    return Layout(
        lambda reader: tuple(layout.read(reader) for layout in inner),
        lambda values: b"".join(
            layout.write(value) for layout, value in zip(inner, values, strict=True)
        ),
        lambda values, network: [
            layout.show(value, network) for layout, value in zip(inner, values, strict=True)
        ],
    )


def _read_tag(reader: Reader, cases: Mapping[int, Any], what: str) -> int:
    tag = reader.u8()
    if tag not in cases:
        raise MalformedBytes(f"no {what} has the tag {tag:02x}")
    return tag


def chosen(what: str, key: str, cases: Mapping[int, tuple[str, Layout]]) -> Layout:
    """One of several records behind a tag; `key` names the case in what is shown."""

    def read(reader: Reader) -> tuple[int, Any]:
        tag = _read_tag(reader, cases, what)
        return tag, cases[tag][1].read(reader)

    def show(value: tuple[int, Any], network: Network) -> dict[str, Any]:
        name, layout = cases[value[0]]
        return {key: name, **(layout.show(value[1], network) or {})}

    return Layout(read, lambda value: bytes([value[0]]) + cases[value[0]][1].write(value[1]), show)


def untagged(what: str, cases: Mapping[int, Layout]) -> Layout:
    """One of several layouts behind a tag, each of which shows itself well enough."""

    def read(reader: Reader) -> tuple[int, Any]:
        tag = _read_tag(reader, cases, what)
        return tag, cases[tag].read(reader)

    return Layout(
        read,
        lambda value: bytes([value[0]]) + cases[value[0]].write(value[1]),
        lambda value, network: cases[value[0]].show(value[1], network),
    )


def named(what: str, names: Mapping[int, str]) -> Layout:
    """One byte that stands for a word."""
    return Layout(
        lambda reader: _read_tag(reader, names, what),
        lambda tag: bytes([tag]),
        lambda tag, _: names[tag],
    )


# Keys and contracts.

_KEY_HASH_BYTES = 20
_PUBLIC_KEYS = {curve.value.tag: curve.value.public_key for curve in Curve}


def _read_key_hash(reader: Reader) -> bytes:
    tagged = reader.take(1 + _KEY_HASH_BYTES)
    if tagged[0] not in CURVE_OF_TAG:
        raise MalformedBytes(f"no public key hash has the tag {tagged[0]:02x}")
    return tagged


def _show_key_hash(tagged: bytes, network: Network) -> str:
    prefixes = network.key_hash_prefixes
    if tagged[0] >= len(prefixes):
        raise MalformedBytes(f"{network.name} has no public key hash of tag {tagged[0]:02x}")
    return base58.encode(prefixes[tagged[0]], tagged[1:])


def _read_public_key(reader: Reader) -> bytes:
    tag = _read_tag(reader, _PUBLIC_KEYS, "public key")
    return bytes([tag]) + reader.take(_PUBLIC_KEYS[tag].payload_bytes)


KEY_HASH = Layout(_read_key_hash, bytes, _show_key_hash)
PUBLIC_KEY = Layout(
    _read_public_key, bytes, lambda tagged, _: base58.encode(_PUBLIC_KEYS[tagged[0]], tagged[1:])
)
ED25519_KEY_HASH = Layout(
    lambda reader: reader.take(_KEY_HASH_BYTES),
    bytes,
    lambda value, network: base58.encode(network.key_hash_prefixes[0], value),
)


def padded(prefix: Prefix) -> Layout:
    """The 20 bytes of a contract or rollup, with a zero byte to make them as long as a key's."""

    def read(reader: Reader) -> bytes:
        payload = reader.take(prefix.payload_bytes)
        if reader.u8() != 0:
            raise MalformedBytes("the padding of an address is not zero")
        return payload

    return Layout(read, lambda value: value + b"\0", lambda value, _: base58.encode(prefix, value))


ORIGINATED = untagged("originated contract", {1: padded(base58.CONTRACT)})
CONTRACT = untagged("contract", {0: KEY_HASH, 1: padded(base58.CONTRACT)})


_ENTRYPOINTS = {
    0: "default",
    1: "root",
    2: "do",
    3: "set_delegate",
    4: "remove_delegate",
    5: "deposit",
    6: "stake",
    7: "unstake",
    8: "finalize_unstake",
    9: "set_delegate_parameters",
}
_NAMED_ENTRYPOINT = 0xFF


def _read_entrypoint(reader: Reader) -> bytes:
    tag = reader.u8()
    if tag in _ENTRYPOINTS:
        return bytes([tag])
    if tag != _NAMED_ENTRYPOINT:
        raise MalformedBytes(f"no entrypoint has the tag {tag:02x}")
    length = reader.u8()
    if length > _ENTRYPOINT_BYTES_MAX:
        raise MalformedBytes(f"an entrypoint of {length} bytes is too long")
    return bytes([tag, length]) + reader.take(length)


def _show_entrypoint(raw: bytes, _: Network) -> str:
    if raw[0] == _NAMED_ENTRYPOINT:
        return raw[2:].decode(errors="backslashreplace")
    return _ENTRYPOINTS[raw[0]]


ENTRYPOINT = Layout(_read_entrypoint, bytes, _show_entrypoint)


# Signatures.


def _read_rest_as_signature(reader: Reader) -> bytes | None:
    if reader.remaining == 0:
        return None
    if reader.remaining not in base58.SIGNATURE_OF_LENGTH:
        raise MalformedBytes(f"no signature has {reader.remaining} bytes")
    return reader.rest()


SIGNATURE_TO_THE_END = Layout(
    _read_rest_as_signature,
    lambda value: value or b"",
    lambda value, _: base58.signature_text(value),
)
BLS_PROOF = sized(text_of(base58.BLS_SIGNATURE))
SIGNATURE_PROOF = sized(
    Layout(_read_rest_as_signature, bytes, lambda value, _: base58.signature_text(value))
)
