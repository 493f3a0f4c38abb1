"""The policy file's words: what they mean, and what is said of a word that is not known."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_requests import ALICE, BOB, CAROL, CHAIN, CHAIN_TEXT

from signers.formats import base58
from signers.formats.networks import MAVRYK, TEZOS
from signers.formats.signable import Kind
from signers.policy.decision import CONSENSUS_ONLY, Policy
from signers.policy.policy_changes import LINES_MAX, policy_changes
from signers.policy.policy_toml import UnreadablePolicy, read_policy, words_of, write_policy
from signers.policy.rule import CONSENSUS_KINDS, OPERATIONS, Rule

DOCS = Path(__file__).parents[2] / "docs"
RULE = f'''
[[rule]]
name = "payouts"
keys = ["{ALICE}", "{BOB}"]
kinds = []
operations = ["transaction", "reveal"]
clients = ["payout-*"]
destinations = ["{CAROL}"]
amount_max = 5_000_000
fee_max = 2000
'''


def test_no_words_are_the_default_policy() -> None:
    policy = read_policy("")
    assert (policy.default, policy.rules) == (CONSENSUS_ONLY, ())


def test_every_word_of_a_rule_is_read() -> None:
    ((rule, keys),) = read_policy(RULE).rules
    assert keys == (ALICE, BOB)
    assert rule == Rule(
        "payouts", frozenset(), frozenset({"transaction", "reveal"}), None, ("payout-*",),
        frozenset({CAROL}), 5_000_000, 2000,
    )  # fmt: skip


def test_kinds_and_chains_are_read() -> None:
    text = f'[default]\nkinds = ["consensus", "authentication"]\nchains = ["{CHAIN_TEXT}"]\n'
    default = read_policy(text).default
    assert default.kinds == CONSENSUS_KINDS | {Kind.AUTHENTICATION}
    assert default.chains == {CHAIN}
    assert read_policy("[default]\nkinds = []").default.kinds == frozenset()


def test_what_is_written_reads_back() -> None:
    policy = read_policy('[default]\nkinds = ["block"]\n' + RULE)
    again = read_policy(write_policy(policy))
    assert (again.default, again.rules) == (policy.default, policy.rules)


def test_a_chain_may_be_called_by_its_name() -> None:
    policy = read_policy('[default]\nkinds = ["block"]\nchains = ["mainnet", "basenet"]\n')
    written = {TEZOS.chains["mainnet"], MAVRYK.chains["basenet"]}
    assert policy.default.chains == {base58.decode(base58.CHAIN_ID, each) for each in written}
    with pytest.raises(UnreadablePolicy, match="known by name are mainnet, ghostnet, basenet"):
        read_policy('[default]\nkinds = ["block"]\nchains = ["main"]\n')


names = st.text(min_size=1, max_size=20).filter(lambda name: name != "default")
client_names = st.from_regex(r"[a-z*.-]{1,9}", fullmatch=True)
amounts = st.none() | st.integers(0, 2**63 - 1)
rules = st.builds(
    Rule,
    names,
    st.frozensets(st.sampled_from([kind for kind in Kind if kind is not Kind.GENERIC]), min_size=1),
    st.frozensets(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=3),
    clients=st.none() | st.lists(client_names, unique=True).map(tuple),
    destinations=st.none() | st.frozensets(st.sampled_from([ALICE, BOB, CAROL])),
    amount_max=amounts,
    fee_max=amounts,
)  # fmt: skip


@given(st.lists(rules, max_size=3, unique_by=lambda rule: rule.name))
def test_any_policy_that_is_written_reads_back(chosen: list[Rule]) -> None:
    policy = Policy(rules=[(rule, [ALICE]) for rule in chosen])
    assert read_policy(write_policy(policy)).rules == policy.rules


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("kinds = []", 'kinds = ["blok"]', "'blok' is unknown; known are consensus, block, "),
        ('"transaction"', '"transfer"', "'transfer' is unknown; known are any, activate_account, "),
        ("amount_max", "max_amount", "unknown 'max_amount'; known are name, keys, kinds, "),
        ("5_000_000", '"5"', "`amount_max` is a whole number of mutez"),
        ("5_000_000", "-1", "`amount_max` is a whole number of mutez"),
        ("5_000_000", "true", "`amount_max` is a whole number of mutez"),
        ("payout-*", "pay out", "'pay out' is no client's name"),
        (CAROL, "KT1nowhere", "`destinations`: 'KT1nowhere' is no address"),
        (BOB, BOB[:-1], "is no key hash"),
        ('["payout-*"]', '"payout-*"', "`clients` is a list of texts in quotes"),
        ('["payout-*"]', "[1]", "`clients` is a list of texts in quotes"),
        ('name = "payouts"', 'name = ""', "a rule has a `name`"),
        ('name = "payouts"', "", "a rule has a `name`"),
        ('name = "payouts"', 'name = "default"', "another rule called 'default'"),
        (f'["{ALICE}", "{BOB}"]', "[]", "`keys` lists the hashes"),
        ('operations = ["transaction", "reveal"]', "", "`destinations` is for operations"),
        ("kinds = []", f'chains = ["{CHAIN_TEXT}"]', "`chains` is for blocks and votes"),
        ('kinds = []\noperations = ["transaction", "reveal"]', "", "say what it allows"),
    ],
)
def test_a_wrong_word_is_told_with_its_line(old: str, new: str, told: str) -> None:
    with pytest.raises(UnreadablePolicy, match=re.escape(told)) as caught:
        read_policy("\n[default]\nkinds = []\n" + RULE.replace(old, new, 1))
    assert str(caught.value).startswith("line 5, [[rule]]")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[defaults]", "at the top: unknown 'defaults'; known are default, rule"),
        ("\n[default]\nkeys = []", "line 2, [default]: unknown 'keys'; known are kinds"),
        ("[default]\n", "line 1, [default]: say what it allows"),
        ("default = 1", "a rule is a table"),
        ("[rule]\nname = 'x'", "[[rule]], in two brackets"),
        ("rule = [1]", "number 1, [[rule]]: a rule is a table"),
        (
            "a = 1\n[default\n",
            "end of a table declaration (at line 2,",
        ),
        (RULE + RULE, "line 12, [[rule]] 'payouts': there is another rule called 'payouts'"),
        ("a = " + "[" * 50_000, "not TOML"),
    ],
)
def test_a_wrong_file_is_told(text: str, told: str) -> None:
    with pytest.raises(UnreadablePolicy, match=re.escape(told)):
        read_policy(text)


@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_unreadable(text: str) -> None:
    try:
        read_policy(text)
    except UnreadablePolicy:
        return


def test_the_page_has_a_complete_example() -> None:
    """Every word that a rule may have stands in the example of the page, which is a policy."""
    (example,) = re.findall(
        r"```toml\n(# A complete.*?)```", (DOCS / "policy.md").read_text(), re.S
    )
    policy = read_policy(example)
    used = {
        word
        for rule in (policy.default, *(rule for rule, _ in policy.rules))
        for word in words_of(rule)
    }
    assert used == {
        "kinds", "operations", "chains", "clients", "destinations", "amount_max", "fee_max",
    }  # fmt: skip


def test_the_page_names_every_operation_and_kind() -> None:
    named = set(re.findall(r"`(\w+)`", (DOCS / "policy.md").read_text()))
    assert OPERATIONS - named == set()
    assert {kind.name.lower() for kind in Kind if kind is not Kind.GENERIC} - named == set()


# -- what changes ---------------------------------------------------------------------------------


def changed(edit: Callable[[str], str]) -> list[str]:
    return policy_changes(read_policy(RULE), read_policy(edit(RULE)))


def test_the_same_policy_changes_nothing() -> None:
    assert changed(lambda text: "# a comment\n" + text) == []


def test_each_change_is_a_line() -> None:
    assert changed(lambda text: text.replace("2000", "3000")) == [
        "rule 'payouts': fee_max 2000 -> 3000"
    ]
    assert changed(lambda text: text.replace("fee_max = 2000", "")) == [
        "rule 'payouts': fee_max 2000 -> any"
    ]
    assert changed(lambda text: text.replace(f', "{BOB}"', f', "{CAROL}"')) == [
        f"rule 'payouts' is no longer for {BOB}",
        f"rule 'payouts' is now for {CAROL}",
    ]
    assert changed(lambda text: "[default]\nkinds = []\n" + text) == [
        "rule 'default': kinds consensus -> none"
    ]


def test_rules_come_and_go_by_name() -> None:
    gone, come = changed(lambda text: text.replace("payouts", "rewards"))
    assert gone == f"rule 'payouts' removed, was for {', '.join(sorted([ALICE, BOB]))}"
    assert come.startswith("rule 'rewards' added for ")
    assert "operations = reveal, transaction; clients = payout-*" in come


def test_a_long_plan_is_cut_and_says_so() -> None:
    many = Policy(rules=[(Rule(f"rule-{i}", frozenset()), [ALICE]) for i in range(500)])
    lines = policy_changes(Policy(), many)
    assert len(lines) == LINES_MAX
    assert lines[-1] == "and 401 more changes"
