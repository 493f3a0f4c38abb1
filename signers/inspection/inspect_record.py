"""One question to `forgepool inspect --json-lines` and its answer, as JSON.

A question holds `hex`, or `header` and `operations` of a whole block, and what is known besides:
`network`, `kind`, `chain_id`, `public_key`. Whatever a line holds, it gets an answer.
"""

from typing import Any

import msgspec

from signers.errors import BadRequest, MalformedBytes
from signers.formats import base58
from signers.formats.networks import TEZOS, network_by_name
from signers.formats.signable import CHAIN_ID_BYTES
from signers.inspection.inspect import (
    BLOCK,
    HEADER,
    KINDS,
    Report,
    Surroundings,
    inspect,
    inspect_block,
)
from signers.keyring.keys import PublicKey

# The operations of a block have at most 4.7 MiB (the quotas of its four passes), twice that in
# hex.
LINE_BYTES_MAX = 16 * 1024 * 1024

_OPERATION_HASH_LETTERS = 51


class RawOperation(msgspec.Struct):
    """An operation as nodes take it in an injected block: the branch apart, both in hex or text."""

    branch: str
    data: str


class Question(msgspec.Struct):
    """What to take apart; `header` is another name for the `hex` of a block's header."""

    network: str | None = None
    kind: str | None = None
    chain_id: str | None = None
    public_key: str | None = None
    hex: str | None = None
    header: str | None = None
    operations: list[list[str | RawOperation]] | None = None


def answer_line(line: bytes) -> bytes:
    """Answer one line of JSON with one line of JSON, without the line end."""
    id_: object = None
    try:
        question = _read_json(line)
        id_ = _scalar(question.get("id"))
        report = report_on(_convert(question))
    except BadRequest as error:
        return msgspec.json.encode(failure(str(error), id_))
    return msgspec.json.encode(answer(report, id_))


def answer(report: Report, id_: object = None) -> dict[str, Any]:
    """Write a report as the answer to a question."""
    return {
        "id": id_,
        "ok": report.error is None,
        "error": report.error,
        "kind": report.kind,
        "fields": report.fields,
        "hash": report.hash,
        "signature_valid": report.signature_valid,
        "pow_stamp": report.pow_stamp,
        "operations_hash_valid": report.operations_hash_valid,
        "payload_hash_valid": report.payload_hash_valid,
    }


def failure(error: str, id_: object = None) -> dict[str, Any]:
    """Write that a question has no report, in the form of an answer."""
    nothing = Report(kind="", fields={}, hash=None, error=error)
    return {**answer(nothing, id_), "kind": None, "fields": None}


def read_question(text: bytes) -> Question:
    """Read a question from JSON. Raises MalformedBytes."""
    return _convert(_read_json(text))


def report_on(question: Question) -> Report:
    """Take apart what a question holds. Raises BadRequest."""
    surroundings = Surroundings(
        network=TEZOS if question.network is None else network_by_name(question.network),
        chain_id=None if question.chain_id is None else read_chain_id(question.chain_id),
        public_key=None if question.public_key is None else PublicKey.read(question.public_key),
    )
    kind = question.kind
    if kind is not None and kind not in KINDS:
        raise MalformedBytes(f"no kind {kind[:40]!r}; known are {', '.join(KINDS)}")
    text = question.hex if question.hex is not None else question.header
    if text is None:
        raise MalformedBytes("there is nothing to take apart: give `hex`, or `header`")
    data = read_hex(text)
    if kind == BLOCK or (kind is None and question.operations is not None):
        if question.operations is None:
            raise MalformedBytes("a whole block has `operations`, one list for each pass")
        passes = [[_operation(item) for item in row] for row in question.operations]
        return inspect_block(data, passes, surroundings)
    if kind is None and question.hex is None:
        kind = HEADER
    return inspect(data, kind, surroundings)


def read_hex(text: str) -> bytes:
    """Read hex, with or without ``0x`` in front. Raises MalformedBytes."""
    try:
        return bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError:
        raise MalformedBytes("not hex: an odd number of digits, or something else") from None


def read_chain_id(text: str) -> bytes:
    """Read a chain id, as ``Net…`` or as 8 hex digits. Raises MalformedBytes."""
    if len(text) == 2 * CHAIN_ID_BYTES:
        return read_hex(text)
    return base58.decode(base58.CHAIN_ID, text)


def _read_json(text: bytes) -> dict[str, Any]:
    if len(text) > LINE_BYTES_MAX:
        raise MalformedBytes(f"a question is longer than {LINE_BYTES_MAX} bytes")
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedBytes(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise MalformedBytes("a question is a JSON object")
    return value


def _convert(value: dict[str, Any]) -> Question:
    try:
        return msgspec.convert(value, Question)
    except msgspec.ValidationError as error:
        raise MalformedBytes(f"not a question: {error}") from None


def _scalar(id_: object) -> object:
    """An id is given back as it came, unless it is a structure."""
    return id_ if isinstance(id_, str | int | float) else None


def _operation(item: str | RawOperation) -> bytes | str:
    if isinstance(item, RawOperation):
        return _branch(item.branch) + read_hex(item.data)
    if len(item) == _OPERATION_HASH_LETTERS and item.startswith("o"):
        return item
    return read_hex(item)


def _branch(text: str) -> bytes:
    return base58.decode(base58.BLOCK_HASH, text) if text.startswith("B") else read_hex(text)
