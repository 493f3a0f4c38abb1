"""Signatory's and MavSign's policy, read from their YAML and said in our words.

Only the section of the keys is read: ``tezos:``, a map from key hashes to what each may sign. A
key that it does not name signs nothing there, so nothing is what our default allows afterwards.
Where a restriction has no counterpart here the rule becomes narrower, never wider, and a warning
says so.

PyYAML reads it: maintained, with wheels of its C parser, and a safe loader that makes nothing but
plain values. What longer libraries add, comments and layout kept for writing, is of no use here.

Source: Signatory ``pkg/config/config.go``, ``pkg/signatory/signatory.go`` (``matchFilter``,
``PreparePolicy``), ``docs/start.md``.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import yaml

from signers.errors import BadRequest, MalformedBytes
from signers.formats import base58
from signers.formats.networks import NETWORKS
from signers.formats.signable import Kind
from signers.formats.tagged_keys import curve_of_hash, network_of_hash
from signers.keyring.keys import PublicKey, UnsupportedCurve
from signers.policy.decision import DEFAULT_NAME, Policy
from signers.policy.rule import GATEWAY, OPERATIONS, Rule, listing

# Thousands of keys; what is longer is something else, and the parser is slow.
CONFIG_BYTES_MAX: Final = 4 * 1024 * 1024
# Lists of lists, through YAML's references, can be without end.
LISTED_MAX: Final = 1_000

_SECTIONS = ("tezos", "mavryk")
_NOTHING = Rule(DEFAULT_NAME, frozenset())
# A key without settings: Signatory's default policy.
_KINDS_BY_DEFAULT = ("block", "preattestation", "attestation")
_KINDS: Mapping[str, tuple[Kind, ...]] = {
    "block": (Kind.BLOCK,),
    "preattestation": (Kind.PREATTESTATION,),
    "attestation": (Kind.ATTESTATION,),
    "attestation_with_dal": (Kind.ATTESTATION,),
}
_RENAMED = {
    "endorsement": "attestation",
    "preendorsement": "preattestation",
    "proposal": "proposals",
    "double_endorsement_evidence": "double_attestation_evidence",
    "double_preendorsement_evidence": "double_preattestation_evidence",
}
_READ = frozenset(
    ("allow", "allowed_operations", "allowed_kinds", "allowed_chains", "authorized_keys",
     "jwt_users", "log_payloads", "allow_proof_of_possession")
)  # fmt: skip
_HASH_BEGINNINGS = ("tz1", "tz2", "tz3", "tz4", "mv1", "mv2", "mv3", "mv4")
_NOT_READ = {
    "policy_hook": "an outside policy service is not asked here: the rules below are all there is",
    "server": "addresses and authorized keys are settings of the gateway: docs/gateway.md",
    "vaults": "where the keys are is said in the client directory: docs/signers.md",
    "watermark": "marks are taken over with `forgepool watermarks import`",
}


class MalformedConfig(BadRequest):
    """The file is no configuration of Signatory: look at what the message names."""

    code = "malformed_config"


class Imported(NamedTuple):
    """A policy in our words, and what of the other's has no counterpart in it."""

    policy: Policy
    warnings: list[str]


def read_signatory(text: str) -> Imported:
    """Read the policy of a Signatory or MavSign configuration. Raises MalformedConfig."""
    document = _read_yaml(text)
    section = next((document[name] for name in _SECTIONS if name in document), None)
    if not isinstance(section, dict):
        raise MalformedConfig("there is no `tezos:` with key hashes under it")
    warnings = [f"{name}: not read; {why}" for name, why in _NOT_READ.items() if name in document]
    keys_of: dict[Rule, list[str]] = {}
    for key_hash, settings in section.items():
        reading = _KeySection(_key_hash(key_hash), settings)
        keys_of.setdefault(reading.rule(), []).append(reading.key_hash)
        warnings += reading.warnings
    rules = [
        (dataclasses.replace(rule, name=f"signatory-{number}"), keys)
        for number, (rule, keys) in enumerate(keys_of.items(), start=1)
    ]
    return Imported(Policy(_NOTHING, rules), warnings)


class _KeySection:
    """What Signatory's file says of one key."""

    def __init__(self, key_hash: str, settings: Any) -> None:
        self.key_hash = key_hash
        self.warnings: list[str] = []
        if settings is not None and not isinstance(settings, dict):
            raise MalformedConfig(f"{key_hash}: settings are a map, not {settings!r:.40}")
        self._settings: Mapping[Any, Any] = settings or {}

    def rule(self) -> Rule:
        """Say it in our words; the name is the caller's to give."""
        kinds: set[Kind] = set()
        operations: set[str] = set()
        for word, listed in self._allowed():
            self._allow(word, listed, kinds, operations)
        if self._settings.get("allow_proof_of_possession"):
            kinds.add(Kind.PROOF_OF_POSSESSION)
        chains = self._chains()
        if chains is not None and not kinds:
            chains = None
            self._warn("allowed_chains: operations do not name their chain; left out")
        self._tell_the_rest()
        return Rule("", frozenset(kinds), frozenset(operations), chains, self._clients())

    def _allowed(self) -> Iterator[tuple[str, Any]]:
        """Kinds of requests, each with the operations under it."""
        settings = self._settings
        if settings.get("allow") is not None:
            allow = settings["allow"]
            if not isinstance(allow, dict):
                raise MalformedConfig(f"{self.key_hash}: `allow` is a map of kinds of requests")
            yield from ((str(word), listed) for word, listed in allow.items())
        elif settings.get("allowed_operations") or settings.get("allowed_kinds"):
            for word in self._texts("allowed_operations", settings.get("allowed_operations")):
                yield word, settings.get("allowed_kinds") if word == "generic" else None
        else:
            yield from ((word, None) for word in _KINDS_BY_DEFAULT)

    def _allow(self, word: str, listed: Any, kinds: set[Kind], operations: set[str]) -> None:
        name = self._renamed(word)
        if name in _KINDS:
            kinds.update(_KINDS[name])
        elif name == "failing_noop":
            operations.add(name)
        elif name == "generic":
            for text in self._texts("generic", listed):
                operation = self._renamed(text)
                if operation in OPERATIONS:
                    operations.add(operation)
                else:
                    self._warn(f"generic: {text!r} is no operation that can be allowed; left out")
        else:
            self._warn(f"allow: {word!r} has no counterpart; left out")

    def _renamed(self, word: str) -> str:
        name = _RENAMED.get(word, word)
        if name != word:
            self._warn(f"{word!r} is called {name!r} now")
        return name

    def _chains(self) -> frozenset[bytes] | None:
        if self._settings.get("allowed_chains") is None:
            return None
        texts = self._texts("allowed_chains", self._settings["allowed_chains"])
        try:
            return frozenset(base58.decode(base58.CHAIN_ID, text) for text in texts)
        except MalformedBytes as error:
            raise MalformedConfig(f"{self.key_hash}: allowed_chains: {error}") from None

    def _clients(self) -> tuple[str, ...] | None:
        """Who may ask: the gateway names a client who has authenticated by the hash of his key.

        Nobody, as long as users of Signatory's are among the conditions: they have no names here.
        """
        settings, clients = self._settings, None
        if settings.get("authorized_keys") is not None:
            texts = self._texts("authorized_keys", settings["authorized_keys"])
            names = [name for name in map(self._client_of, texts) if name is not None]
            clients = tuple(dict.fromkeys(names))
            self._warn(
                f"authorized_keys: the rule is for {listing(clients)}; list their public keys in "
                "`authorized_keys` of the client directory, and set require_authentication"
            )
        if settings.get("jwt_users") is not None:
            users = ", ".join(self._texts("jwt_users", settings["jwt_users"]))
            self._warn(
                f"jwt_users: there are none here ({users}), so nobody may ask until `clients` of "
                f"the rule names somebody; by authorized_keys it would be {listing(clients or ())}"
            )
            clients = ()
        return clients

    def _client_of(self, text: str) -> str | None:
        """The gateway's name of the client with a key, which is given itself or by its hash."""
        try:
            if text[:3] in _HASH_BEGINNINGS:
                curve_of_hash(text)
                return f"{GATEWAY}.{text}"
            return f"{GATEWAY}.{PublicKey.read(text).hash(network_of_hash(self.key_hash))}"
        except (MalformedBytes, UnsupportedCurve) as error:
            self._warn(f"authorized_keys: {text!r:.100} is no key: {error}; left out")
            return None

    def _tell_the_rest(self) -> None:
        settings = self._settings
        if settings.get("log_payloads"):
            self._warn(
                "log_payloads: no counterpart; the gateway's log has the key, kind, level and "
                "round of each request, and never its bytes"
            )
        for word in settings:
            if word not in _READ:
                self._warn(f"{word!r} is not known; left out")

    def _texts(self, word: str, value: Any) -> list[str]:
        """A list of texts; lists in it, and names as a map, are taken flat."""
        texts: list[str] = []
        waiting, steps = [value], 0
        while waiting:
            each, steps = waiting.pop(0), steps + 1
            if isinstance(each, list | dict):
                waiting[:0] = list(each)
            elif each is not None:
                texts.append(str(each))
            if steps + len(waiting) > LISTED_MAX:
                raise MalformedConfig(f"{self.key_hash}: `{word}` lists more than {LISTED_MAX}")
        return texts

    def _warn(self, what: str) -> None:
        self.warnings.append(f"{self.key_hash}: {what}")


class _Loader(yaml.SafeLoader):
    """Plain values only; a key that stands twice is an error, as it is for Signatory's parser."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Make a map. Raises YAMLError for a key that stands twice in it."""
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                what = f"{key.value!r} stands twice"
                raise yaml.MarkedYAMLError(problem=what, problem_mark=key.start_mark)
            seen.add(key.value)
        made: dict[Any, Any] = super().construct_mapping(node, deep)
        return made


def _read_yaml(text: str) -> dict[Any, Any]:
    if len(text) > CONFIG_BYTES_MAX:
        raise MalformedConfig(f"longer than {CONFIG_BYTES_MAX} letters")
    try:
        # A loader of our own that is safe: see its base.
        document = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise MalformedConfig(f"not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise MalformedConfig("the file is no map of settings")
    return document


def _key_hash(text: Any) -> str:
    prefixes = [prefix for each in NETWORKS.values() for prefix in each.key_hash_prefixes]
    try:
        base58.decode(prefixes, str(text))
    except MalformedBytes as error:
        raise MalformedConfig(f"{text!r:.60} is no key hash: {error}") from None
    return str(text)
