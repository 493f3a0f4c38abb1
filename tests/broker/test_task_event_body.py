"""Events of tasks as `forgepool watch` shows them, and topics that it knows not to exist."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from broker.applications import TASK_OUTCOME
from broker.cli import _print_event, watch
from broker.messages import Event
from broker.task_event_body import read_body

ID = bytes(range(16))


def outcome(**fields: object) -> Event:
    return Event(ID, "a" * 128, TASK_OUTCOME, msgspec.msgpack.encode(fields))


def test_the_fields_of_a_task_s_event_are_shown_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    event = outcome(operator="price", attempt=2, output_hash=b"\x01\xff", group=None)
    _print_event(event, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["event"], shown["operator"], shown["attempt"]) == ("task_outcome", "price", 2)
    assert (shown["output_hash"], shown["group"]) == ("01ff", None)
    assert "body" not in shown
    _print_event(event, as_json=False)
    assert "operator=price attempt=2 output_hash=01ff" in capsys.readouterr().out


def test_a_field_of_the_body_takes_no_place_of_the_event_s_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _print_event(outcome(event="signed", id="x"), as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert (shown["event"], shown["id"]) == ("task_outcome", ID.hex())


def test_what_an_application_has_written_obeys_nobody_s_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _print_event(outcome(operator="\x1b[2J\nsigned"), as_json=False)
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    "body", [b"\xff\xc1", msgspec.msgpack.encode([1]), b"\xa1\xff", b"\x81", b"\x81\xa1a\x90"]
)
def test_a_body_that_is_none_is_shown_as_hex(body: bytes) -> None:
    assert read_body(Event(ID, "a", TASK_OUTCOME, body)) == {"body": body.hex()}
    assert read_body(Event(ID, "a", "signed", body)) == {"body": body.hex()}
    assert read_body(Event(ID, "a", TASK_OUTCOME)) == {}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["d/xyz"], "36 letters"),
        (["d/mv1QVrXoh32T4EadVM64DV9JW6BZpfE643o.h"], "36 letters"),
        (["d/" + "a" * 64], "an application"),
        (["c/" + "a" * 65], "64 letters"),
        (["c/quarantine"], "--quarantine"),
        (["--quarantine", "c/offchain"], "without --quarantine"),
    ],
)
def test_a_topic_that_cannot_exist_is_an_error(tmp_path: Path, words: list[str], says: str) -> None:
    done = CliRunner().invoke(watch, [*words, "--state-dir", str(tmp_path)])
    assert done.exit_code == 2
    assert says in done.stderr
