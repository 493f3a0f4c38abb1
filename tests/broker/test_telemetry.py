"""Lines of the log."""

from __future__ import annotations

import logging

import pytest

from broker.telemetry import printable, stderr_lines


def line(message: str) -> str:
    record = logging.LogRecord("forgepool", logging.INFO, "", 0, "%s", (message,), None)
    return stderr_lines("worker").format(record)


def test_a_message_is_one_line_whatever_others_have_written_into_it() -> None:
    forged = line("task_dead text=oh\n2026-01-01T00:00:00.000Z INFO worker all_is_well")
    assert len(forged.splitlines()) == 1
    assert forged.endswith("text=oh\\n2026-01-01T00:00:00.000Z INFO worker all_is_well")


@pytest.mark.parametrize("text", ["", "plain = words", "größer, \u00e9, \U0001f980"])
def test_what_can_be_printed_stays(text: str) -> None:
    assert printable(text) == text


def test_commands_of_a_terminal_can_be_read() -> None:
    assert printable("\x1b[2Jgone\u2028") == "\\x1b[2Jgone\\u2028"
    assert printable("a\tb\nc\x07", keeping="\t\n") == "a\tb\nc\\x07"
