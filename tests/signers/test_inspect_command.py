"""The command: what a person types, and lines that a script sends."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from signers.inspection.inspect_command import inspect
from signers.inspection.inspect_record import LINE_BYTES_MAX, answer_line

VECTORS = Path(__file__).parent / "vectors"
BLOCK = json.loads((VECTORS / "blocks.jsonl").read_text().splitlines()[0])
OPERATION = next(
    record
    for record in map(json.loads, (VECTORS / "operations.jsonl").read_text().splitlines())
    if record.get("signature_valid") and record["public_key"].startswith("edpk")
)
QUESTION = {
    "id": "block",
    "network": "tezos",
    "kind": "block",
    "chain_id": BLOCK["chain_id"],
    "header": BLOCK["header"],
    "operations": BLOCK["operations"],
    "public_key": BLOCK["public_key"],
}
KEYS = [
    "id", "ok", "error", "kind", "fields", "hash", "signature_valid", "pow_stamp",
    "operations_hash_valid", "payload_hash_valid",
]  # fmt: skip


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(inspect, list(arguments), input=stdin)


def ask(*lines: object) -> list[dict[str, Any]]:
    text = b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )
    result = run("--json-lines", stdin=text)
    assert result.exit_code == 0
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(list(answer) == KEYS for answer in answers)
    return answers


def test_a_person_reads_names_and_values() -> None:
    result = run(OPERATION["hex"])
    assert result.exit_code == 0
    assert f"hash       {OPERATION['hash']}\n" in result.stdout
    assert "signature  not checked\n" in result.stdout
    assert "branch" in result.stdout


def test_a_signature_is_checked_with_key_and_chain() -> None:
    known = ("--chain-id", OPERATION["chain_id"], "--public-key", OPERATION["public_key"])
    assert "signature  valid\n" in run(OPERATION["hex"], *known).stdout
    damaged = OPERATION["hex"][:-2] + f"{int(OPERATION['hex'][-2:], 16) ^ 1:02x}"
    result = run(damaged, *known)
    assert result.exit_code == 1
    assert "signature  INVALID\n" in result.stdout


def test_bytes_come_from_standard_input_too() -> None:
    assert run(stdin=f"0x{OPERATION['hex'].upper()}\n").stdout == run(OPERATION["hex"]).stdout


def test_a_whole_block_is_read_from_json() -> None:
    result = run(stdin=json.dumps(QUESTION))
    assert result.exit_code == 0
    for line in ("operations hash  valid", "payload hash     valid", "signature        valid"):
        assert line in result.stdout
    assert "operations 0.0" in result.stdout
    wrong = {**QUESTION, "operations": [*BLOCK["operations"][:3], []]}
    result = run(json.dumps(wrong))
    assert result.exit_code == 1
    assert "operations hash  INVALID" in result.stdout


def test_a_script_reads_one_object() -> None:
    answer = json.loads(run(OPERATION["hex"], "--json", "--kind", "operation").stdout)
    assert list(answer) == KEYS
    assert (answer["ok"], answer["hash"]) == (True, OPERATION["hash"])


@pytest.mark.parametrize(
    "arguments",
    [
        ("zz",),
        ("00",),
        (OPERATION["hex"], "--kind", "header"),
        (OPERATION["hex"], "--network", "mavryk", "--chain-id", "NetX"),
        (OPERATION["hex"], "--public-key", "tz1SodoUsWVe1Yey9eMFbqRUtNpBWfir5NRr"),
        ("{",),
        ("{}",),
    ],
)
def test_what_does_not_decode_ends_with_1(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    answer = json.loads(run(*arguments, "--json").stdout)
    assert (answer["ok"], answer["fields"]) == (False, None)
    assert answer["error"]


@pytest.mark.parametrize(
    "arguments", [(), ("00", "--kind", "key"), ("00", "--network", "x"), ("00", "--json-lines")]
)
def test_a_wrong_command_line_ends_with_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments, stdin="").exit_code == 2


def test_every_line_has_its_answer_in_order() -> None:
    questions = [
        QUESTION,
        {"id": 1, "hex": OPERATION["hex"]},
        {"id": 2, "hex": BLOCK["header"], "kind": "header"},
        {"id": 3, "header": BLOCK["header"]},
        {"id": 4, "hex": OPERATION["hex"], "network": None, "kind": None, "unknown": [1]},
        {"id": 5, "header": BLOCK["header"], "operations": BLOCK["operation_hashes"]},
    ]
    answers = ask(*questions)
    assert [answer["id"] for answer in answers] == ["block", 1, 2, 3, 4, 5]
    assert all(answer["ok"] and answer["error"] is None for answer in answers)
    assert [answer["kind"] for answer in answers] == [
        "block", "operation", "header", "header", "operation", "block",
    ]  # fmt: skip
    assert answers[0]["hash"] == answers[2]["hash"] == answers[5]["hash"] == BLOCK["hash"]
    assert answers[0]["signature_valid"] is True
    assert answers[0]["operations_hash_valid"] is answers[5]["payload_hash_valid"] is True
    assert answers[1]["operations_hash_valid"] is None


def test_operations_may_come_as_a_node_takes_them() -> None:
    branched = [
        [{"branch": item[:64], "data": item[64:]} for item in row] for row in BLOCK["operations"]
    ]
    (answer,) = ask({**QUESTION, "operations": branched})
    assert answer["operations_hash_valid"] is True


BAD_LINES = [
    b'"\x80"',
    b'{"id": "\x80"}',
    b"",
    b"{",
    b"null",
    b"[1]",
    b'"text"',
    b"\xff\xfe\x00",
    b'{"id": "\\ud800", "hex": "00"}',
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"id": 1}',
    b'{"id": 1, "hex": 5}',
    b'{"id": 1, "hex": null}',
    b'{"id": 1, "hex": "0"}',
    b'{"id": 1, "hex": "0g"}',
    b'{"id": 1, "hex": ""}',
    b'{"id": 1, "hex": "00", "network": "x"}',
    b'{"id": 1, "hex": "00", "network": 7}',
    b'{"id": 1, "hex": "00", "kind": "x"}',
    b'{"id": 1, "hex": "00", "kind": "block"}',
    b'{"id": 1, "hex": "00", "chain_id": "NetXdQprcVkpaWX"}',
    b'{"id": 1, "hex": "00", "public_key": "edpk"}',
    b'{"id": 1, "header": "00", "operations": {}}',
    b'{"id": 1, "header": "00", "operations": [[1]]}',
    b'{"id": 1, "header": "00", "operations": [["zz"]]}',
    b'{"id": 1, "header": "00", "operations": [["o' + b"1" * 50 + b'"]]}',
    b'{"id": 1, "header": "00", "operations": [[{"branch": "B", "data": ""}]]}',
    b'{"id": 1, "hex": "' + b"00" * 2_000_000 + b'"}',
    b'{"id": [1], "hex": "00"}',
    b'{"id": 1, "id": 2, "hex": 1e999}',
]


@pytest.mark.parametrize("line", BAD_LINES, ids=range(len(BAD_LINES)))
def test_a_bad_line_has_an_answer_and_the_next_one_too(line: bytes) -> None:
    bad, good = ask(line, {"id": "next", "hex": OPERATION["hex"]})
    assert (bad["ok"], bad["kind"], bad["fields"]) == (False, None, None)
    assert bad["error"]
    assert (good["id"], good["ok"]) == ("next", True)


def test_a_line_too_long_is_skipped_to_its_end() -> None:
    long = b'{"id": 1, "hex": "' + b"0" * (LINE_BYTES_MAX + 5_000_000) + b'"}'
    bad, good = ask(long, {"id": "next", "hex": OPERATION["hex"]})
    assert "longer than" in bad["error"]
    assert good["ok"]


def test_the_last_line_needs_no_end() -> None:
    result = run("--json-lines", stdin=json.dumps({"hex": OPERATION["hex"]}))
    assert json.loads(result.stdout)["ok"]


@given(st.binary(max_size=120))
def test_any_line_has_an_answer(line: bytes) -> None:
    assert list(msgspec.json.decode(answer_line(line))) == KEYS


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "id": values,
        "network": values | st.sampled_from(["tezos", "mavryk"]),
        "kind": values | st.sampled_from(["block", "header", "operation", "signable"]),
        "chain_id": values | st.just(BLOCK["chain_id"]),
        "hex": values | st.sampled_from([BLOCK["header"], OPERATION["hex"]]),
        "header": values | st.just(BLOCK["header"]),
        "operations": values | st.just(BLOCK["operations"]),
        "public_key": values | st.just(BLOCK["public_key"]),
    },
)


@given(fields)
def test_any_question_has_an_answer(question: dict[str, Any]) -> None:
    answer = msgspec.json.decode(answer_line(json.dumps(question).encode()))
    assert list(answer) == KEYS
    assert answer["ok"] is (answer["error"] is None)


@pytest.mark.process
def test_an_answer_comes_before_the_next_question() -> None:
    """Each answer is flushed, and a reader that hangs up ends the command quietly."""
    command = [
        sys.executable,
        "-c",
        "from signers.inspection.inspect_command import inspect; inspect()",
    ]
    process = subprocess.Popen(
        [*command, "--json-lines"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for number in range(3):
            question = json.dumps({"id": number, "hex": OPERATION["hex"]})
            process.stdin.write(question.encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["id"] == number
        process.stdout.close()
        process.stdin.write(b"{}\n" * 3)
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=20) == 0
