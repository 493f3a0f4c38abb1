"""`forgepool policy` and `forgepool explain`, as they are typed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from broker.config import STATE_DIR_ENV
from signers.policy.policy_toml import read_policy
from tests.workers.worker_script import CHAIN_TEXT, A, B, a_vote
from workers.policy_command import explain, policy

NOOP = (b"\x03" + bytes(32) + b"\x11" + (4).to_bytes(4) + b"text").hex()
VOTE = a_vote().hex()
POLICY = f"""
[[rule]]
name = "texts"
keys = ["{A}"]
operations = ["failing_noop"]
clients = ["wallet"]
"""


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(STATE_DIR_ENV, str(tmp_path))
    return tmp_path


@pytest.fixture
def in_place(state_dir: Path) -> Path:
    path = state_dir / "policy.toml"
    path.write_text(POLICY)
    return path


def run(command: Any, *words: str | Path, ends: int = 0, stdin: str | None = None) -> Result:
    result = CliRunner().invoke(command, [str(word) for word in words], input=stdin)
    assert result.exit_code == ends, result.output + repr(result.exception)
    return result


def explained(*words: str, ends: int) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(run(explain, "--json", *words, ends=ends).stdout)
    return answer


# -- explain --------------------------------------------------------------------------------------


def test_a_vote_is_allowed_and_its_mark_is_named() -> None:
    answer = explained("--key", A, VOTE, ends=0)
    assert (answer["allowed"], answer["rule"], answer["code"]) == (True, "default", None)
    assert answer["mark"] == {
        "kind": "attestation", "chain_id": CHAIN_TEXT, "level": 5, "round": 0,
    }  # fmt: skip
    assert answer["signable"]["signable_kind"] == "attestation"
    assert len(answer["digest"]) == 64
    told = run(explain, "--key", A, VOTE).stdout
    assert "answer     allowed by the policy" in told
    on_mainnet = VOTE[:2] + "7a06a770" + VOTE[10:]
    named = run(explain, "--key", A, on_mainnet).stdout
    assert "chain      NetXdQprcVkpaWU (mainnet)" in named
    assert "the attestation mark of the key, and of the delegate" in told
    assert "Level 5 round 0 must be above both" in told


def test_an_operation_is_denied_and_the_rule_is_named(in_place: Path) -> None:
    answer = explained("--key", A, NOOP, ends=1)
    assert (answer["allowed"], answer["code"], answer["mark"]) == (False, "policy", None)
    assert answer["objections"] == [
        {"rule": "texts", "why": "its clients are wallet, not just anybody"}
    ]
    told = run(explain, "--key", A, "--client", "baker", NOOP, ends=1).stdout
    assert "content 1  failing_noop" in told
    assert "answer     refused (policy)" in told
    assert "rule       texts: its clients are wallet, not baker" in told


def test_the_client_decides(in_place: Path) -> None:
    answer = explained("--key", A, "--client", "wallet", NOOP, ends=0)
    assert (answer["rule"], answer["mark"]) == ("texts", None)
    assert "No mark is asked" in run(explain, "--key", A, "--client", "wallet", NOOP).stdout


def test_bytes_come_from_standard_input(in_place: Path) -> None:
    assert "attestation" in run(explain, "--key", B, stdin=f"0x{VOTE}\n").stdout


def test_what_cannot_be_read_is_denied() -> None:
    answer = explained("--key", A, VOTE[:-2], ends=1)
    assert (answer["code"], answer["signable"]) == ("malformed", None)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--key", "mv1nobody", VOTE], "checksum"),
        (["--key", A, "xyz"], "not hex"),
        (["--key", A, "--policy", "nowhere.toml", VOTE], "nowhere.toml: No such file"),
        (["--key", A, "--config", "nowhere.toml", VOTE], "nowhere.toml: no such file"),
    ],
)
def test_no_answer_is_no_denial(words: Sequence[str], told: str) -> None:
    assert told in run(explain, *words, ends=2).stderr
    assert told in json.loads(run(explain, "--json", *words, ends=2).stdout)["error"]


# -- policy ---------------------------------------------------------------------------------------


def test_a_policy_is_checked(in_place: Path) -> None:
    assert run(policy, "check").stdout == "A policy of 1 rules for 1 keys.\n"
    in_place.write_text(POLICY.replace("failing_noop", "noop"))
    assert "line 2, [[rule]] 'texts'" in run(policy, "check", ends=1).stderr


def test_a_new_policy_is_compared_with_the_one_in_place(in_place: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    new.write_text(POLICY.replace("wallet", "wallet-*"))
    change = "rule 'texts': clients wallet -> wallet-*"
    assert change in run(policy, "check", new).stdout
    assert json.loads(run(policy, "check", new, "--json").stdout)["changes"] == [change]
    new.write_text(POLICY)
    assert "It changes nothing." in run(policy, "check", new).stdout


def test_the_policy_may_lie_where_the_settings_say(state_dir: Path) -> None:
    (state_dir / "forgepool.toml").write_text('policy = "ours.toml"\n')
    assert "ours.toml: No such file" in run(policy, "check", ends=1).stderr
    (state_dir / "ours.toml").write_text(POLICY)
    assert "1 rules" in run(policy, "check").stdout
    other = state_dir / "other.toml"
    other.write_text("")
    assert "0 rules" in run(policy, "check", "--policy", other).stdout


def test_signatory_s_policy_is_printed_in_our_words(tmp_path: Path) -> None:
    config = tmp_path / "signatory.yaml"
    config.write_text(f"vaults: {{}}\nmavryk:\n  {A}:\n  {B}: {{allow: {{generic: [reveal]}}}}\n")
    result = run(policy, "import-signatory", config)
    assert result.stderr.startswith("warning: vaults: not read")
    taken = read_policy(result.stdout)
    assert taken.default.kinds == frozenset()
    assert list(taken.of_key) == [A, B]
    assert run(policy, "import-signatory", "-", stdin=config.read_text()).stdout == result.stdout
    assert "no `tezos:`" in run(policy, "import-signatory", "-", ends=1, stdin="a: 1").stderr
