"""Micheline: the syntax trees of smart contracts, their parameters and their storage.

An expression is a number, a string, bytes, a sequence, or a primitive with arguments and
annotations. Nodes keep expressions as bytes and so do we; this reads them for people, without
recursion, so that no depth of nesting can exhaust a stack.

Source: Octez ``src/lib_micheline/micheline_encoding.ml``; protocol
``michelson_v1_primitives.ml``.
"""

from dataclasses import dataclass, field
from typing import Any

from signers.errors import MalformedBytes
from signers.formats.codec import Reader

# A real contract nests some 60 deep. JSON writers recurse, two levels for each of ours, and
# Python ends at 1,000; a deeper tree stays bytes.
DEPTH_MAX = 300
# An expression is part of an operation, which has at most 32 KiB.
_NUMBER_BYTES_MAX = 32 * 1024
# Python writes at most 4,300 digits at once, since writing is quadratic.
_DIGITS_AT_ONCE = 4_000

_INT, _STRING, _SEQUENCE, _GENERIC_PRIM, _BYTES = 0, 1, 2, 9, 10

# In the order of their byte codes, from 0.
_PRIMITIVE_NAMES = """
    parameter storage code False Elt Left None Pair Right Some True Unit PACK UNPACK BLAKE2B
    SHA256 SHA512 ABS ADD AMOUNT AND BALANCE CAR CDR CHECK_SIGNATURE COMPARE CONCAT CONS
    CREATE_ACCOUNT CREATE_CONTRACT IMPLICIT_ACCOUNT DIP DROP DUP EDIV EMPTY_MAP EMPTY_SET EQ
    EXEC FAILWITH GE GET GT HASH_KEY IF IF_CONS IF_LEFT IF_NONE INT LAMBDA LE LEFT LOOP LSL LSR
    LT MAP MEM MUL NEG NEQ NIL NONE NOT NOW OR PAIR PUSH RIGHT SIZE SOME SOURCE SENDER SELF
    STEPS_TO_QUOTA SUB SWAP TRANSFER_TOKENS SET_DELEGATE UNIT UPDATE XOR ITER LOOP_LEFT ADDRESS
    CONTRACT ISNAT CAST RENAME bool contract int key key_hash lambda list map big_map nat option
    or pair set signature string bytes mutez timestamp unit operation address SLICE DIG DUG
    EMPTY_BIG_MAP APPLY chain_id CHAIN_ID LEVEL SELF_ADDRESS never NEVER UNPAIR VOTING_POWER
    TOTAL_VOTING_POWER KECCAK SHA3 PAIRING_CHECK bls12_381_g1 bls12_381_g2 bls12_381_fr
    sapling_state sapling_transaction_deprecated SAPLING_EMPTY_STATE SAPLING_VERIFY_UPDATE
    ticket TICKET_DEPRECATED READ_TICKET SPLIT_TICKET JOIN_TICKETS GET_AND_UPDATE chest
    chest_key OPEN_CHEST VIEW view constant SUB_MUTEZ tx_rollup_l2_address MIN_BLOCK_TIME
    sapling_transaction EMIT Lambda_rec LAMBDA_REC TICKET BYTES NAT Ticket IS_IMPLICIT_ACCOUNT
    INDEX_ADDRESS GET_ADDRESS_INDEX
"""
PRIMITIVES = tuple(_PRIMITIVE_NAMES.split())


@dataclass(slots=True)
class _Open:
    """A sequence or a primitive whose children are still being read.

    It is complete after `wanted` children or at offset `end`, whichever of them it has.
    """

    primitive: str | None
    wanted: int | None
    end: int | None
    is_annotated: bool
    children: list[Any] = field(default_factory=list)

    def is_complete(self, offset: int) -> bool:
        if self.end is None:
            return len(self.children) == self.wanted
        if offset > self.end:
            raise MalformedBytes("a Micheline sequence ends inside of an expression")
        return offset == self.end

    def close(self, reader: Reader, amount_type: str) -> Any:
        if self.primitive is None:
            return self.children
        name = amount_type if self.primitive == "mutez" else self.primitive
        node: dict[str, Any] = {"prim": name}
        if self.children:
            node["args"] = self.children
        if self.is_annotated and (annotations := _text(reader)):
            node["annots"] = annotations.split(" ")
        return node


def read(reader: Reader, amount_type: str = "mutez") -> Any:
    """Read one expression and return it as the node writes it in JSON.

    `amount_type` is the network's name for the primitive that Tezos calls mutez.
    Raises MalformedBytes, also for an expression that nests deeper than DEPTH_MAX.
    """
    open_nodes: list[_Open] = []
    while True:
        tag = reader.u8()
        if tag == _INT:
            node: Any = {"int": decimal(reader.integer(bytes_max=_NUMBER_BYTES_MAX))}
        elif tag == _STRING:
            node = {"string": _text(reader)}
        elif tag == _BYTES:
            node = {"bytes": reader.sized().rest().hex()}
        else:
            open_nodes.append(_open(tag, reader))
            if len(open_nodes) > DEPTH_MAX:
                raise MalformedBytes(f"a Micheline expression is deeper than {DEPTH_MAX}")
            if not open_nodes[-1].is_complete(reader.offset):
                continue
            node = open_nodes.pop().close(reader, amount_type)
        while open_nodes:
            open_nodes[-1].children.append(node)
            if not open_nodes[-1].is_complete(reader.offset):
                break
            node = open_nodes.pop().close(reader, amount_type)
        else:
            return node


def to_json(expression: bytes, amount_type: str = "mutez") -> Any:
    """Return a whole expression as the node writes it in JSON. Raises MalformedBytes."""
    reader = Reader(expression)
    node = read(reader, amount_type)
    reader.finish()
    return node


def decimal(number: int) -> str:
    """Write a number of any length in decimal."""
    if abs(number) < 10**_DIGITS_AT_ONCE:
        return str(number)
    parts = []
    rest = abs(number)
    while rest:
        rest, part = divmod(rest, 10**_DIGITS_AT_ONCE)
        parts.append(f"{part:0{_DIGITS_AT_ONCE}d}")
    digits = "".join(reversed(parts)).lstrip("0")
    return f"-{digits}" if number < 0 else digits


def _open(tag: int, reader: Reader) -> _Open:
    if tag == _SEQUENCE:
        return _Open(None, None, _sequence_end(reader), is_annotated=False)
    if not _SEQUENCE < tag <= _GENERIC_PRIM:
        raise MalformedBytes(f"no Micheline expression has the tag {tag:02x}")
    code = reader.u8()
    if code >= len(PRIMITIVES):
        raise MalformedBytes(f"no primitive has the code {code:02x}")
    if tag == _GENERIC_PRIM:
        return _Open(PRIMITIVES[code], None, _sequence_end(reader), is_annotated=True)
    # 3 none, 5 one, 7 two arguments; 4, 6 and 8 the same with annotations.
    return _Open(PRIMITIVES[code], (tag - 3) // 2, None, is_annotated=tag % 2 == 0)


def _sequence_end(reader: Reader) -> int:
    length = reader.u32()
    if length > reader.remaining:
        raise MalformedBytes("a Micheline sequence is longer than its operation")
    return reader.offset + length


def _text(reader: Reader) -> str:
    try:
        return reader.sized().rest().decode()
    except UnicodeDecodeError:
        raise MalformedBytes("a Micheline string is not UTF-8") from None
