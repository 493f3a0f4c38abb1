"""Whether a key may sign these bytes for this client: a rule says yes, or every rule says why not.

A key is under the rules that name it, or, when none does, under the default one, which lets it
sign blocks and votes for whoever asks. A request is allowed when one rule allows all of it. What
cannot be read is not allowed. A policy never permits what the watermarks forbid: it is asked first,
and they are asked after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from signers.errors import MalformedBytes
from signers.formats.networks import TEZOS
from signers.formats.operation import Content, decode_operation
from signers.formats.signable import Kind, Signable, read_signable
from signers.policy.rule import CONSENSUS_KINDS, Request, Rule

DEFAULT_NAME: Final = "default"
CONSENSUS_ONLY: Final = Rule(DEFAULT_NAME, CONSENSUS_KINDS)
_OBJECTIONS_TOLD_MAX = 3  # in a sentence; `explain` tells them all


@dataclass(frozen=True, slots=True)
class Allowed:
    """The request may be signed as far as the policy goes; `rule` is the one that says so."""

    rule: str


@dataclass(frozen=True, slots=True)
class Denied:
    """The request is refused; `objections` are a rule's name and its reason each."""

    text: str
    objections: Sequence[tuple[str, str]] = ()
    code: str = "policy"


Decision = Allowed | Denied


class KeyRules(NamedTuple):
    """The rules of one key, and the answers that depend on nothing else, by kind."""

    rules: tuple[Rule, ...]
    at_once: tuple[Allowed | None, ...]


class Policy:
    """The rules of a pool: `of_key` those of keys that rules name, `of_others` the default."""

    def __init__(
        self,
        default: Rule = CONSENSUS_ONLY,
        rules: Sequence[tuple[Rule, Sequence[str]]] = (),
    ) -> None:
        """Take the rules, each with the hashes of the keys that it is for."""
        self.default = default
        self.rules = tuple((rule, tuple(keys)) for rule, keys in rules)
        of_key: dict[str, list[Rule]] = {}
        for rule, keys in self.rules:
            for key_hash in keys:
                of_key.setdefault(key_hash, []).append(rule)
        known = {each: _key_rules(each) for each in set(map(tuple, of_key.values()))}
        self.of_key = {key_hash: known[tuple(each)] for key_hash, each in of_key.items()}
        self.of_others = _key_rules((default,))


def decide(
    policy: Policy, key_hash: str, message: bytes, signable: Signable, client: str
) -> Decision:
    """Say whether a key may sign for a client what was read from a message as `signable`."""
    rules = policy.of_key.get(key_hash, policy.of_others)
    at_once = rules.at_once[signable.kind]
    if at_once is not None:  # every vote of an ordinary pool ends here
        return at_once
    return _decide_by_rules(rules.rules, key_hash, message, signable, client)


def decide_on_bytes(policy: Policy, key_hash: str, message: bytes, client: str) -> Decision:
    """Say whether a key may sign a message, watermark included, for a client."""
    try:
        signable = read_signable(message)
    except MalformedBytes as error:
        return Denied(f"nothing is signed that cannot be read: {error}", code=error.code)
    return decide(policy, key_hash, message, signable, client)


def contents_of(message: bytes, signable: Signable) -> Sequence[Content]:
    """The contents of an operation under the generic watermark; none of anything else."""
    if signable.kind is not Kind.GENERIC:
        return ()
    # Tezos has every layout that Mavryk has; `read_signable` reads them so, too.
    return decode_operation(message[1:], TEZOS, signed=False).contents


def named(signable: Signable, contents: Sequence[Content]) -> str:
    """What is to be signed, for a sentence."""
    if contents:
        return f"an operation ({', '.join(dict.fromkeys(content.name for content in contents))})"
    words = signable.kind.name.lower().replace("_", " ")
    article = "an" if words[0] in "aeiou" else "a"
    if signable.kind not in CONSENSUS_KINDS:
        return f"{article} {words}"
    return f"{article} {words} of level {signable.level} round {signable.round}"


def _key_rules(rules: tuple[Rule, ...]) -> KeyRules:
    at_once: list[Allowed | None] = [None] * len(Kind)
    for rule in reversed(rules):
        for kind in rule.unconditional_kinds:
            at_once[kind] = Allowed(rule.name)
    return KeyRules(rules, tuple(at_once))


def _decide_by_rules(
    rules: Sequence[Rule], key_hash: str, message: bytes, signable: Signable, client: str
) -> Decision:
    contents = contents_of(message, signable)
    request = Request(signable, contents, client, key_hash)
    objections = []
    try:
        for rule in rules:
            objection = rule.objection(request)
            if objection is None:
                return Allowed(rule.name)
            objections.append((rule.name, objection))
    except MalformedBytes as error:  # the key's hash, or an address that its network has not
        return Denied(f"nothing is signed that cannot be read: {error}", code=error.code)
    return Denied(_story(key_hash, named(signable, contents), objections), tuple(objections))


def _story(key_hash: str, wanted: str, objections: Sequence[tuple[str, str]]) -> str:
    told = [f"rule {name!r}: {why}" for name, why in objections[:_OBJECTIONS_TOLD_MAX]]
    more = len(objections) - len(told)
    if more:
        told.append(f"and {more} more rules")
    return (
        f"the policy does not let {key_hash} sign {wanted}: {'; '.join(told)}. "
        "If it should, change the policy file (`forgepool explain` tries it out)"
    )
