"""Which key may sign what, for whom: a rule, a key and a request at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_requests import (
    ALICE,
    BOB,
    CAROL,
    CHAIN,
    OTHER_CHAIN,
    OTHER_CHAIN_TEXT,
    authentication,
    block,
    dal_attestation,
    delegation,
    noop,
    operation,
    origination,
    transaction,
    vote,
)

from signers.formats.operation import GENERIC_KINDS
from signers.formats.signable import Kind
from signers.policy.decision import Allowed, Denied, Policy, decide_on_bytes
from signers.policy.rule import ANY, CONSENSUS_KINDS, OPERATIONS, Rule, listing, matches

NOBODY = ""
PAYOUTS = Rule("payouts", frozenset(), frozenset({"transaction", "reveal"}))


def answer(rule: Rule, message: bytes, client: str = NOBODY) -> Allowed | Denied:
    """What a policy of one rule, which is Alice's, says to her request."""
    return decide_on_bytes(Policy(rules=[(rule, [ALICE])]), ALICE, message, client)


def objection(rule: Rule, message: bytes, client: str = NOBODY) -> str:
    """Why the one rule of a policy does not allow a request; empty when it does."""
    decision = answer(rule, message, client)
    if isinstance(decision, Allowed):
        assert decision.rule == rule.name
        return ""
    ((name, why),) = decision.objections
    assert name == rule.name
    return why


# -- the default ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message", [vote(), vote(Kind.PREATTESTATION), vote(chain=OTHER_CHAIN), dal_attestation()]
)
def test_a_key_that_no_rule_names_signs_votes_for_everybody(message: bytes) -> None:
    assert decide_on_bytes(Policy(), ALICE, message, "anybody") == Allowed("default")


@pytest.mark.parametrize(
    "message", [operation(noop()), operation(transaction()), authentication(vote())]
)
def test_a_key_that_no_rule_names_signs_nothing_else(message: bytes) -> None:
    denied = decide_on_bytes(Policy(), ALICE, message, "gateway")
    assert isinstance(denied, Denied)
    assert denied.code == "policy"
    assert ALICE in denied.text
    assert "'default'" in denied.text
    assert "forgepool explain" in denied.text


def test_the_default_can_be_another() -> None:
    nothing = Policy(Rule("default", frozenset()))
    assert isinstance(decide_on_bytes(nothing, ALICE, vote(), "baker"), Denied)


def test_a_key_with_a_rule_is_not_under_the_default() -> None:
    assert objection(PAYOUTS, vote()) == "it allows no attestation"
    bobs = decide_on_bytes(Policy(rules=[(PAYOUTS, [ALICE])]), BOB, vote(), NOBODY)
    assert bobs == Allowed("default")


# -- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [b"", b"\x11", b"\x05\x01", b"\xff" * 90, vote()[:-1], vote() + b"\0", operation(noop())[:-1],
     authentication(b"\x05\x01"), authentication(authentication(vote())), b"\x03" + vote()[5:]],
)  # fmt: skip
def test_what_cannot_be_read_is_denied_whatever_the_rules(message: bytes) -> None:
    everything = Rule("all", frozenset(Kind) - {Kind.GENERIC}, frozenset({ANY}))
    denied = answer(everything, message, "gateway")
    assert isinstance(denied, Denied)
    assert denied.code == "malformed"


@given(st.binary(max_size=200))
def test_any_bytes_get_an_answer(message: bytes) -> None:
    assert isinstance(answer(PAYOUTS, message), Allowed | Denied)


# -- kinds, chains, clients -----------------------------------------------------------------------


def test_each_kind_is_allowed_by_itself() -> None:
    of_kind = {
        Kind.PREATTESTATION: vote(Kind.PREATTESTATION),
        Kind.ATTESTATION: vote(),
        Kind.DAL_ATTESTATION: dal_attestation(),
    }
    for allowed in of_kind:
        rule = Rule("one", frozenset({allowed}))
        for kind, message in of_kind.items():
            assert (objection(rule, message) == "") == (kind is allowed)


def test_a_chain_that_is_not_in_the_rule_is_named() -> None:
    rule = Rule("here", CONSENSUS_KINDS, chains=frozenset({CHAIN}))
    assert objection(rule, vote()) == ""
    assert OTHER_CHAIN_TEXT in objection(rule, vote(chain=OTHER_CHAIN))


def test_a_client_that_is_not_in_the_rule_is_named() -> None:
    rule = Rule("ours", CONSENSUS_KINDS, clients=("baker-*", "gateway"))
    assert objection(rule, vote(), "baker-2") == ""
    assert objection(rule, vote(), "gateway") == ""
    assert objection(rule, vote(), "gateway-2") == "its clients are baker-*, gateway, not gateway-2"
    assert "just anybody" in objection(rule, vote(), NOBODY)
    assert objection(replace(rule, clients=()), vote(), "baker-2") != "", "nobody"


@pytest.mark.parametrize(
    ("pattern", "name", "is_meant"),
    [
        ("baker", "baker", True), ("baker", "baker-1", False), ("baker*", "baker", True),
        ("*", "", True), ("*", "x", True), ("a*b", "ab", True), ("a*b", "axxb", True),
        ("a*b", "axxbc", False), ("a*a", "a", False), ("*x*y*", "1x2y3", True),
        ("*x*y*", "1y2x3", False), ("ab*ba", "aba", False), ("a.c", "abc", False),
    ],
)  # fmt: skip
def test_a_star_stands_for_any_letters(pattern: str, name: str, is_meant: bool) -> None:
    assert matches(pattern, name) == is_meant


def test_a_pattern_full_of_stars_takes_no_time() -> None:
    assert not matches("*a" * 32 + "b", "a" * 64), "a regular expression would not come to an end"


def test_an_authentication_is_signed_for_the_gateway_only() -> None:
    rule = Rule("auth", frozenset({Kind.AUTHENTICATION}))
    assert objection(rule, authentication(vote()), "gateway-1") == ""
    assert "gateway" in objection(rule, authentication(vote()), "baker")


# -- operations -----------------------------------------------------------------------------------


def test_an_operation_is_allowed_by_its_kind() -> None:
    assert objection(PAYOUTS, operation(transaction())) == ""
    assert objection(PAYOUTS, operation(noop())) == (
        "content 1 of 1, failing_noop: its operations are reveal, transaction, not failing_noop"
    )


def test_one_forbidden_content_denies_the_batch_and_is_named() -> None:
    batch = operation(transaction(), delegation(), transaction())
    assert objection(PAYOUTS, batch).startswith("content 2 of 3, delegation: ")


def test_any_is_every_operation() -> None:
    rule = Rule("all", frozenset(), frozenset({ANY}))
    assert objection(rule, operation(transaction(), delegation())) == ""
    assert objection(rule, vote()) == "it allows no attestation"


def test_votes_are_no_operations_to_be_allowed() -> None:
    assert {"attestation", "preattestation", "dal_attestation"}.isdisjoint(GENERIC_KINDS)
    assert {"reveal", "transaction", "ballot", "seed_nonce_revelation", "stake"} <= OPERATIONS


def test_staking_is_allowed_without_transfers() -> None:
    rule = Rule("stake", frozenset(), frozenset({"stake"}), destinations=frozenset(), amount_max=0)
    assert objection(rule, operation(transaction(ALICE, 1000, call=6))) == ""
    assert "transaction or unstake" in objection(rule, operation(transaction(ALICE, call=7)))
    assert "not transaction" in objection(rule, operation(transaction(BOB, call=6))), "not his own"
    assert "not transaction" in objection(rule, operation(transaction(ALICE, call=0)))
    assert "not transaction" in objection(rule, operation(transaction(ALICE)))


def test_who_may_send_may_stake() -> None:
    assert objection(PAYOUTS, operation(transaction(ALICE, call=6))) == ""


def test_destinations_are_a_list_of_those_who_get_it() -> None:
    rule = replace(PAYOUTS, destinations=frozenset({BOB}))
    assert objection(rule, operation(transaction(BOB), transaction(BOB))) == ""
    assert objection(rule, operation(transaction(BOB), transaction(CAROL))) == (
        f"content 2 of 2, transaction: its destinations do not include {CAROL}"
    )


def test_amounts_are_counted_over_the_whole_operation() -> None:
    rule = replace(PAYOUTS, operations=frozenset({ANY}), amount_max=20)
    assert objection(rule, operation(transaction(amount=10), transaction(amount=10))) == ""
    assert objection(rule, operation(transaction(amount=10), transaction(amount=11))) == (
        "it sends 21, more than amount_max = 20"
    )
    assert objection(rule, operation(transaction(amount=10), origination(11))) != ""
    assert objection(rule, operation(transaction(ALICE, 500, call=6))) == "", "a stake is kept"


def test_fees_are_counted_over_the_whole_operation() -> None:
    rule = replace(PAYOUTS, fee_max=5)
    assert objection(rule, operation(transaction(fee=2), transaction(fee=3))) == ""
    assert objection(rule, operation(transaction(fee=3), transaction(fee=3))) == (
        "its fees are 6, more than fee_max = 5"
    )


def test_an_address_that_the_network_of_the_key_does_not_have_is_denied() -> None:
    content = transaction()
    content = replace(content, fields={**content.fields, "destination": (0, b"\x04" + bytes(20))})
    rule = replace(PAYOUTS, destinations=frozenset({BOB}))
    denied = answer(rule, operation(content))
    assert isinstance(denied, Denied)
    assert denied.code == "malformed"


# -- several rules --------------------------------------------------------------------------------


def test_one_rule_that_allows_all_of_it_is_enough() -> None:
    baking = Rule("baking", CONSENSUS_KINDS, clients=("baker",))
    policy = Policy(rules=[(baking, [ALICE, BOB]), (PAYOUTS, [ALICE])])
    assert decide_on_bytes(policy, ALICE, vote(), "baker") == Allowed("baking")
    assert decide_on_bytes(policy, ALICE, operation(transaction()), "x") == Allowed("payouts")
    denied = decide_on_bytes(policy, ALICE, vote(), "x")
    assert isinstance(denied, Denied)
    assert [name for name, _ in denied.objections] == ["baking", "payouts"]
    assert "rule 'baking'" in denied.text
    assert "rule 'payouts'" in denied.text


def test_two_rules_do_not_add_up() -> None:
    """A batch that no rule allows as a whole is denied, though each content is allowed by one."""
    delegating = Rule("delegating", frozenset(), frozenset({"delegation"}))
    policy = Policy(rules=[(PAYOUTS, [ALICE]), (delegating, [ALICE])])
    batch = operation(transaction(), delegation())
    assert isinstance(decide_on_bytes(policy, ALICE, batch, NOBODY), Denied)


def test_a_story_does_not_grow_with_the_rules() -> None:
    many = [(Rule(f"rule-{i}", frozenset()), [ALICE]) for i in range(50)]
    denied = decide_on_bytes(Policy(rules=many), ALICE, vote(), NOBODY)
    assert isinstance(denied, Denied)
    assert len(denied.objections) == 50
    assert "and 47 more rules" in denied.text
    assert listing([f"{i:02}" for i in range(20)]) == "00, 01, 02, 03, 04, 05, 06, 07 and 12 more"


# -- the rest -------------------------------------------------------------------------------------


def test_a_block_is_a_kind_like_the_others() -> None:
    assert decide_on_bytes(Policy(), ALICE, block(), NOBODY) == Allowed("default")
    assert objection(Rule("votes", frozenset({Kind.ATTESTATION})), block()) == "it allows no block"


def test_what_is_no_hash_of_a_key_sends_nothing_anywhere() -> None:
    payouts = replace(PAYOUTS, destinations=frozenset({BOB}))
    denied = decide_on_bytes(Policy(payouts), "mv1Nobody", operation(transaction(BOB)), NOBODY)
    assert isinstance(denied, Denied)
    assert "is not a public key hash" in denied.text
