"""Logs that can be grepped: one line an event, `event key=value …`, to standard error."""

from __future__ import annotations

import logging
import sys
import time


class _Lines(logging.Formatter):
    _second, _text = -1, ""  # of the last line: a busy process writes thousands in one

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        second = int(record.created)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int(record.msecs):03d}Z"

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = printable(record.message)
        return super().formatMessage(record)


def printable(text: str, *, keeping: str = "") -> str:
    """A text of others without what would be a line or a terminal's command of its own.

    Args:
        keeping: characters that stay although they are not printable.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keeping else c.encode("unicode_escape").decode() for c in text
    )


def stderr_lines(process: str) -> logging.Handler:
    """Return what writes a log's lines to standard error, each with the process's name."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(f"%(asctime)s %(levelname)s {process} %(message)s"))
    return handler


def log_to_stderr(process: str, *, verbose: bool = False) -> None:
    """Send this process's log to standard error, each line with the process's name."""
    # No line says these; to find them out for each costs as much as the rest of it.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger("forgepool")
    root.handlers[:] = [stderr_lines(process)]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    root.propagate = False
