"""A policy as people write it: TOML, read strictly, and written so that it reads back the same.

Whoever misspells a word must not end up with a key that may sign more than he meant, or less; so
every word is known or an error, which names the line of the rule, the word, and those it could be.
docs/policy.md describes the format.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from signers.errors import BadRequest, MalformedBytes
from signers.formats import base58
from signers.formats.networks import CHAIN_IDS, NETWORKS
from signers.formats.signable import Kind
from signers.policy.decision import CONSENSUS_ONLY, DEFAULT_NAME, Policy
from signers.policy.rule import ANY, CONSENSUS_KINDS, OPERATIONS, Rule

# 50,000 keys, or as many thousand rules as a worker can read without being missed.
POLICY_BYTES_MAX: Final = 4 * 1024 * 1024
MUTEZ_MAX: Final = 2**63 - 1  # amounts are signed 64-bit numbers on chain
NAME_LETTERS_MAX: Final = 64
CHECKED_TEXTS_MAX: Final = 50_000  # remembered, at about 200 bytes each

CONSENSUS: Final = "consensus"
_KINDS: Final[Mapping[str, frozenset[Kind]]] = {
    CONSENSUS: CONSENSUS_KINDS,
    **{kind.name.lower(): frozenset((kind,)) for kind in Kind if kind is not Kind.GENERIC},
}
_OPERATIONS: Final = dict.fromkeys((ANY, *sorted(OPERATIONS)))
_CLIENT = re.compile(r"[A-Za-z0-9._*-]{1,64}")
_KEY_HASHES = tuple(prefix for each in NETWORKS.values() for prefix in each.key_hash_prefixes)
_ADDRESSES = (*_KEY_HASHES, base58.CONTRACT)
_LIMITS = ("destinations", "amount_max", "fee_max")
_WORDS_OF_RULE = ("kinds", "operations", "chains", "clients", *_LIMITS)


class UnreadablePolicy(BadRequest):
    """The policy cannot be read: change what the message names; nothing of it is in force."""

    code = "unreadable_policy"


def read_policy(text: str) -> Policy:
    """Read a policy. Raises UnreadablePolicy, whose text names the line and the word."""
    if len(text) > POLICY_BYTES_MAX:
        raise UnreadablePolicy(f"a policy is longer than {POLICY_BYTES_MAX} letters")
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UnreadablePolicy(f"not TOML: {error}") from None
    _check_words(document, (DEFAULT_NAME, "rule"), "at the top")
    default = _read_default(text, document)
    tables = document.get("rule", [])
    if not isinstance(tables, list):
        raise UnreadablePolicy("rules are written as [[rule]], in two brackets")
    lines = _lines_of_tables(text, "rule")
    rules: dict[str, tuple[Rule, Sequence[str]]] = {}
    for number, table in enumerate(tables):
        # Whoever writes rules in another of TOML's ways is told their number.
        where = f"line {lines[number]}" if len(lines) == len(tables) else f"number {number + 1}"
        reader = _Reader(table, f"{where}, [[rule]]")
        name = reader.name()
        if name in rules or name == DEFAULT_NAME:
            raise reader.wrong(f"there is another rule called {name!r}")
        rules[name] = reader.rule(name), reader.keys()
    return Policy(default, list(rules.values()))


def _read_default(text: str, document: Mapping[str, Any]) -> Rule:
    if DEFAULT_NAME not in document:
        return CONSENSUS_ONLY
    lines = _lines_of_tables(text, DEFAULT_NAME) or [1]
    reader = _Reader(document[DEFAULT_NAME], f"line {lines[0]}, [{DEFAULT_NAME}]")
    reader.check_words(_WORDS_OF_RULE)
    return reader.rule(DEFAULT_NAME)


def write_policy(policy: Policy) -> str:
    """Write a policy so that `read_policy` makes the same of it."""
    parts = [f"[{DEFAULT_NAME}]\n" + "".join(_lines_of(policy.default))]
    for rule, keys in policy.rules:
        head = [f"name = {_quoted(rule.name)}\n", _list_line("keys", keys)]
        parts.append("[[rule]]\n" + "".join([*head, *_lines_of(rule)]))
    return "\n".join(parts)


def words_of(rule: Rule) -> dict[str, Any]:
    """The settings of a rule as they stand in the file; what does not matter is absent."""
    chains = rule.chains
    words: dict[str, Any] = {
        "kinds": _kind_words(rule.kinds),
        "operations": sorted(rule.operations) or None,
        "chains": None if chains is None else sorted(map(_chain_text, chains)),
        "clients": None if rule.clients is None else list(rule.clients),
        "destinations": None if rule.destinations is None else sorted(rule.destinations),
        "amount_max": rule.amount_max,
        "fee_max": rule.fee_max,
    }
    return {word: value for word, value in words.items() if value is not None}


class _Reader:
    """The table of one rule, and where it stands."""

    def __init__(self, table: Any, place: str) -> None:
        self._place = place
        if not isinstance(table, dict):
            raise self.wrong("a rule is a table of settings")
        self._table: Mapping[str, Any] = table

    def name(self) -> str:
        name = self._table.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= NAME_LETTERS_MAX:
            raise self.wrong(f"a rule has a `name` of 1 to {NAME_LETTERS_MAX} letters")
        self._place += f" {name!r}"
        self.check_words(("name", "keys", *_WORDS_OF_RULE))
        return name

    def check_words(self, known: Sequence[str]) -> None:
        _check_words(self._table, known, self._place)

    def keys(self) -> Sequence[str]:
        keys = self._texts("keys", _checked_by(_KEY_HASHES, "key hash (tz1…, mv1…)"))
        if not keys:
            raise self.wrong("`keys` lists the hashes of the keys that the rule is for")
        return tuple(dict.fromkeys(keys))

    def rule(self, name: str) -> Rule:
        if "kinds" not in self._table and "operations" not in self._table:
            raise self.wrong("say what it allows: `kinds`, `operations`; kinds = [] is nothing")
        chains = self._texts("chains", _check_chain)
        destinations = self._texts("destinations", _checked_by(_ADDRESSES, "address"))
        clients = self._texts("clients", _check_client)
        rule = Rule(
            name,
            frozenset(kind for word in self._words("kinds", _KINDS) for kind in _KINDS[word]),
            frozenset(self._words("operations", _OPERATIONS)),
            None if chains is None else frozenset(map(_chain, chains)),
            None if clients is None else tuple(dict.fromkeys(clients)),
            None if destinations is None else frozenset(destinations),
            self._amount("amount_max"),
            self._amount("fee_max"),
        )
        self._check_sense(rule)
        return rule

    def _check_sense(self, rule: Rule) -> None:
        """A limit of what is not allowed anyhow was meant for something else."""
        if rule.chains is not None and rule.kinds.isdisjoint(CONSENSUS_KINDS):
            raise self.wrong("`chains` is for blocks and votes; operations do not name their chain")
        for limit in _LIMITS:
            if limit in self._table and not rule.operations:
                raise self.wrong(f"`{limit}` is for operations, and the rule allows none")

    def _texts(self, word: str, check: Callable[[str], str | None]) -> list[str] | None:
        if word not in self._table:
            return None
        texts = self._table[word]
        if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
            raise self.wrong(f"`{word}` is a list of texts in quotes")
        for text in texts:
            problem = check(text)
            if problem is not None:
                raise self.wrong(f"`{word}`: {text[:80]!r} is {problem}")
        return texts

    def _words(self, word: str, known: Mapping[str, object]) -> list[str]:
        def check(text: str) -> str | None:
            return None if text in known else f"unknown; known are {', '.join(known)}"

        return self._texts(word, check) or []

    def _amount(self, word: str) -> int | None:
        amount = self._table.get(word)
        if amount is None:
            return None
        if type(amount) is not int or not 0 <= amount <= MUTEZ_MAX:
            raise self.wrong(f"`{word}` is a whole number of mutez (mumav), millionths of a coin")
        return amount

    def wrong(self, what: str) -> UnreadablePolicy:
        return UnreadablePolicy(f"{self._place}: {what}")


def _check_words(table: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    for word in table:
        if word not in known:
            raise UnreadablePolicy(f"{place}: unknown {word[:80]!r}; known are {', '.join(known)}")


def _checked_by(prefixes: tuple[base58.Prefix, ...], what: str) -> Callable[[str], str | None]:
    def check(text: str) -> str | None:
        try:
            _check_text(prefixes, text)
        except MalformedBytes as error:
            return f"no {what}: {error}"
        return None

    return check


@lru_cache(maxsize=CHECKED_TEXTS_MAX)
def _check_text(prefixes: tuple[base58.Prefix, ...], text: str) -> None:
    """Raise MalformedBytes unless a text is of one of the kinds.

    It costs 30 microseconds, and a policy that is read again has mostly the same texts.
    """
    base58.decode(prefixes, text)


_check_chain_id = _checked_by((base58.CHAIN_ID,), "chain id (Net…)")


def _check_chain(text: str) -> str | None:
    problem = None if text in CHAIN_IDS else _check_chain_id(text)
    return problem and f"{problem}; known by name are {', '.join(CHAIN_IDS)}"


def _check_client(text: str) -> str | None:
    if _CLIENT.fullmatch(text):
        return None
    return "no client's name: up to 64 of A–Z a–z 0–9 . _ - and * for any letters"


def _lines_of_tables(text: str, name: str) -> list[int]:
    """The lines on which tables of this name begin."""
    head = re.compile(rf"[ \t]*\[\[?[ \t]*{name}[ \t]*\]")
    return [number for number, line in enumerate(text.split("\n"), start=1) if head.match(line)]


def _chain(text: str) -> bytes:
    return base58.decode(base58.CHAIN_ID, CHAIN_IDS.get(text, text))


def _chain_text(chain: bytes) -> str:
    return base58.encode(base58.CHAIN_ID, chain)


def _kind_words(kinds: frozenset[Kind]) -> list[str]:
    if kinds >= CONSENSUS_KINDS:
        return [CONSENSUS, *(kind.name.lower() for kind in sorted(kinds - CONSENSUS_KINDS))]
    return [kind.name.lower() for kind in sorted(kinds)]


def _lines_of(rule: Rule) -> Iterable[str]:
    for word, value in words_of(rule).items():
        yield _list_line(word, value) if isinstance(value, list) else f"{word} = {value}\n"


def _list_line(word: str, texts: Sequence[str]) -> str:
    quoted = [_quoted(text) for text in texts]
    line = f"{word} = [{', '.join(quoted)}]\n"
    if len(line) <= 100:
        return line
    return f"{word} = [\n" + "".join(f"  {each},\n" for each in quoted) + "]\n"


def _quoted(text: str) -> str:
    """A basic string of TOML: what JSON escapes is escaped in the same way there."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
