"""What a signer of the Octez family says when it does not sign: a trace of JSON errors.

Over HTTP the trace is the body of the answer, over sockets it is in BSON.

Source: Octez ``src/lib_error_monad/``, ``src/bin_signer/``; Signatory ``pkg/server/server.go``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import msgspec

# How much of a signer's text is passed on to clients and logs.
TEXT_LETTERS_MAX = 600
_ERRORS_MAX = 64  # a trace has one to five

Error = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ErrorTrace:
    """The errors of a trace, the outermost first; `is_told` is false of what was no trace."""

    errors: tuple[Error, ...]
    is_told: bool = True

    @classmethod
    def failure(cls, text: str) -> Self:
        """Make the trace of one sentence, as Octez' ``failwith`` does."""
        return cls(({"kind": "temporary", "id": "failure", "msg": text},))

    @classmethod
    def from_body(cls, body: bytes) -> Self:
        """Read an HTTP answer of any kind: a JSON trace, or plain text as it is; total."""
        try:
            errors = msgspec.json.decode(body, type=list[dict[str, Any]])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            text = body[: 4 * TEXT_LETTERS_MAX].decode("utf-8", "replace")
            return cls(({"msg": text},), is_told=False)
        return cls(tuple(errors[:_ERRORS_MAX]))

    def json(self) -> bytes:
        """Write the trace as the body of an HTTP answer."""
        return msgspec.json.encode(self.errors)

    @property
    def text(self) -> str:
        """The messages in one bounded line of printable letters; an id where there is no text."""
        parts = [str(error.get("msg") or error.get("id") or "") for error in self.errors]
        line = " < ".join(" ".join(part.split()) for part in parts if part.strip())
        return "".join(c for c in line if c.isprintable())[:TEXT_LETTERS_MAX] or "no reason given"
