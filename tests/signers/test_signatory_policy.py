"""Signatory's YAML in our words: nothing becomes wider, and what is lost is told."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signers.formats import base58
from signers.formats.networks import MAVRYK
from signers.formats.signable import Kind
from signers.keyring.keys import PublicKey
from signers.policy.decision import DEFAULT_NAME
from signers.policy.rule import Rule
from signers.policy.signatory_policy import MalformedConfig, read_signatory

KEY = "tz1Wz4ZabKRsz842Xuzy4a7CcWADfPVsPKus"
OTHER = "tz3MhmeqpudUqEX8PYTbNDF3CVcnnjNQoo8N"
CHAIN_TEXT = "NetXdQprcVkpaWU"
# The first Ed25519 key of Octez' key_encoding_vectors, and its hash.
CLIENT_KEY = "edpkuBknW28nW72KG6RoHtYW7p12T6GKc7nAbwYX5m8Wd9sDVC9yav"
CLIENT_HASH = "tz1KqTpEZ7Yob7QbPE4Hy4Wo8fHG8LhKxZSx"
BAKING = frozenset((Kind.BLOCK, Kind.PREATTESTATION, Kind.ATTESTATION))


def rule_of(settings: str) -> tuple[Rule, list[str]]:
    """The rule of the one key of a configuration, and the warnings."""
    policy, warnings = read_signatory(f"tezos:\n  {KEY}:\n" + settings)
    assert policy.default == Rule(DEFAULT_NAME, frozenset()), "who is not listed signs nothing"
    ((rule, keys),) = policy.rules
    assert keys == (KEY,)
    return rule, warnings


def test_a_key_without_settings_bakes() -> None:
    rule, warnings = rule_of("")
    assert (rule.kinds, rule.operations, rule.clients) == (BAKING, frozenset(), None)
    assert warnings == []


def test_what_is_allowed_is_read() -> None:
    rule, warnings = rule_of("""
    allow:
      block: []
      attestation:
      preattestation:
      generic: [transaction, reveal, stake, ballot]
      failing_noop:
    allowed_chains: [NetXdQprcVkpaWU]
""")
    assert rule.kinds == BAKING
    assert rule.operations == {"transaction", "reveal", "stake", "ballot", "failing_noop"}
    assert rule.chains == {base58.decode(base58.CHAIN_ID, CHAIN_TEXT)}
    assert warnings == []


def test_old_names_are_read_and_told() -> None:
    rule, warnings = rule_of("    allow: {endorsement: , preendorsement: }\n")
    assert rule.kinds == {Kind.PREATTESTATION, Kind.ATTESTATION}
    assert warnings == [
        f"{KEY}: 'endorsement' is called 'attestation' now",
        f"{KEY}: 'preendorsement' is called 'preattestation' now",
    ]


def test_the_lists_of_old_configurations_are_read() -> None:
    rule, _ = rule_of("""
    allowed_operations: [generic, block]
    allowed_kinds: [transaction, proposal]
""")
    assert rule.kinds == {Kind.BLOCK}
    assert rule.operations == {"transaction", "proposals"}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("    allow: {generic: [nonsense]}", "'nonsense' is no operation that can be allowed"),
        ("    allow: {nonsense: }", "'nonsense' has no counterpart"),
        ("    colour: red", "'colour' is not known"),
        ("    log_payloads: true", "log_payloads: no counterpart"),
        ("    allow: {generic: [reveal]}\n    allowed_chains: [NetXdQprcVkpaWU]", "left out"),
    ],
)
def test_what_has_no_counterpart_is_told(settings: str, told: str) -> None:
    _, (warning,) = rule_of(settings)
    assert warning.startswith(f"{KEY}: ")
    assert told in warning


@pytest.mark.parametrize("is_allowed", [True, False])
def test_proofs_of_possession_are_a_kind(is_allowed: bool) -> None:
    rule, _ = rule_of(f"    allow: {{block: }}\n    allow_proof_of_possession: {is_allowed}")
    assert (Kind.PROOF_OF_POSSESSION in rule.kinds) is is_allowed


def test_authorized_keys_are_clients_by_their_names_at_the_gateway() -> None:
    rule, warnings = rule_of(f"""
    authorized_keys:
      - &one {CLIENT_KEY}
      - *one
      - {OTHER}
      - edpkNone
""")
    assert rule.clients == (f"gateway.{CLIENT_HASH}", f"gateway.{OTHER}")
    not_a_key, told = warnings
    assert "'edpkNone' is no key" in not_a_key
    assert f"gateway.{CLIENT_HASH}" in told
    assert "require_authentication" in told


def test_the_name_of_a_client_is_that_of_the_network_of_the_key() -> None:
    key = "mv1LJED4gb3VJJfVBjsRfJV5gqgbHzUvjiqG"
    policy, _ = read_signatory(f"mavryk: {{{key}: {{authorized_keys: [{CLIENT_KEY}]}}}}")
    ((rule, _),) = policy.rules
    name = PublicKey.read(CLIENT_KEY).hash(MAVRYK)
    assert rule.clients == (f"gateway.{name}",)
    assert name.startswith("mv1")


@pytest.mark.parametrize("more", ["", f"    authorized_keys: [{OTHER}]\n"])
def test_users_have_no_names_here_so_nobody_is_let_in(more: str) -> None:
    rule, warnings = rule_of(f"    jwt_users: [ann, bob]\n{more}")
    assert rule.clients == ()
    assert "ann, bob" in warnings[-1]
    assert (OTHER in warnings[-1]) is bool(more)


def test_a_list_of_no_clients_lets_nobody_in() -> None:
    rule, _ = rule_of("    authorized_keys: []\n")
    assert rule.clients == ()


def test_keys_with_the_same_settings_share_a_rule() -> None:
    same = "{block: , attestation: , preattestation: }"
    policy, _ = read_signatory(f"tezos:\n  {KEY}:\n  {OTHER}: {{allow: {same}}}")
    assert [keys for _, keys in policy.rules] == [(KEY, OTHER)]


def test_other_sections_are_told_and_not_read() -> None:
    _, warnings = read_signatory(f"server: 1\nvaults: 2\npolicy_hook: 3\ntezos: {{{KEY}: }}")
    told = [warning.partition(":")[0] for warning in warnings]
    assert told == ["policy_hook", "server", "vaults"]


def test_mavsign_has_a_section_of_its_own() -> None:
    key = "mv1LJED4gb3VJJfVBjsRfJV5gqgbHzUvjiqG"
    policy, _ = read_signatory(f"mavryk: {{{key}: }}")
    assert list(policy.of_key) == [key]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no map of settings"),
        ("[", "not YAML"),
        ("server: 1", "no `tezos:`"),
        ("tezos: 1", "no `tezos:`"),
        ("tezos: {tz1nobody: }", "'tz1nobody' is no key hash"),
        (f"tezos:\n  {KEY}:\n  {KEY}:\n", f"'{KEY}' stands twice in"),
        (f"tezos: {{{KEY}: 1}}", "settings are a map"),
        (f"tezos: {{{KEY}: {{allow: [block]}}}}", "`allow` is a map"),
        (f"tezos: {{{KEY}: {{allowed_chains: [x]}}}}", "allowed_chains: "),
        (f"tezos: {{{KEY}: {{authorized_keys: &a [*a]}}}}", "lists more than 1000"),
        (f"tezos: {{{KEY}: {{authorized_keys: &a [*a, *a]}}}}", "lists more than 1000"),
        ("tezos: !!python/object/apply:os.system [ls]", "not YAML: could not determine"),
        ("? [a]\n: 1", "not YAML"),
        ("a: 2001-99-99", "not YAML"),
        ("[" * 10_000, "not YAML"),
    ],
)
def test_a_wrong_configuration_is_told(text: str, told: str) -> None:
    with pytest.raises(MalformedConfig, match=re.escape(told)):
        read_signatory(text)


@given(st.text(max_size=100))
def test_any_text_is_a_policy_or_malformed(text: str) -> None:
    for whole in (text, f"tezos:\n  {KEY}:\n    allow: {text}"):
        try:
            read_signatory(whole)
        except MalformedConfig:
            continue
