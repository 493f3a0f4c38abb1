"""A report of `forgepool inspect` as aligned text, for people."""

from collections.abc import Iterator
from typing import Any

import msgspec

from signers.inspection.inspect import Report

# Long enough for every hash and signature; a contract's script is cut and told so.
_VALUE_LETTERS_MAX = 160
_INDENT = "  "
_EXPRESSION_KEYS = frozenset(("prim", "args", "annots", "int", "string", "bytes"))
_CHECKS = {True: "valid", False: "INVALID", None: "not checked"}


def text_of(report: Report) -> str:
    """Write a report in lines of name and value, what it belongs to by indentation."""
    summary = {
        "kind": report.kind,
        "hash": report.hash or "none: not signed yet",
        "signature": _CHECKS[report.signature_valid],
    }
    if report.pow_stamp is not None:
        summary["proof of work"] = report.pow_stamp
    if report.operations_hash_valid is not None:
        summary["operations hash"] = _CHECKS[report.operations_hash_valid]
    if report.payload_hash_valid is not None:
        summary["payload hash"] = _CHECKS[report.payload_hash_valid]
    if report.error is not None:
        summary["error"] = report.error
    return "\n".join([*_lines(summary, ""), "", *_lines(report.fields, "")])


def _lines(fields: dict[str, Any], indent: str) -> Iterator[str]:
    width = max((len(name) for name in fields), default=0)
    for name, value in fields.items():
        if _is_leaf(value):
            yield f"{indent}{name:<{width}}  {_shown(value)}"
        elif isinstance(value, dict):
            yield f"{indent}{name}"
            yield from _lines(value, indent + _INDENT)
        else:
            yield from _numbered(f"{name} ", value, indent)


def _numbered(label: str, items: list[Any], indent: str) -> Iterator[str]:
    for index, item in enumerate(items):
        if isinstance(item, dict):
            yield f"{indent}{label}{index}"
            yield from _lines(item, indent + _INDENT)
        elif isinstance(item, list):
            yield f"{indent}{label}{index}: {len(item)}"
            yield from _numbered(f"{label}{index}.", item, indent + _INDENT)
        else:
            yield f"{indent}{label}{index}  {_shown(item)}"


def _is_leaf(value: Any) -> bool:
    """Whether a value is shown in one line: plain, a list of plain ones, or Micheline."""
    while isinstance(value, list) and value:
        value = next((item for item in value if item != []), [])
    return not isinstance(value, dict) or (bool(value) and value.keys() <= _EXPRESSION_KEYS)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    if len(text) <= _VALUE_LETTERS_MAX:
        return text
    return f"{text[:_VALUE_LETTERS_MAX]}… ({len(text)} letters)"
