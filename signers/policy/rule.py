"""One rule of a policy: what it lets a key sign, on which chains, for which clients.

A rule says yes to a whole request or says why not. Of a batch of operation contents one that is
not allowed is enough for a no: the signature would cover them all.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from signers.formats import base58, layout
from signers.formats.networks import TEZOS
from signers.formats.operation import GENERIC_KINDS, Content
from signers.formats.signable import Kind, Signable
from signers.formats.tagged_keys import network_of_hash

CONSENSUS_KINDS: Final = frozenset(
    (Kind.BLOCK, Kind.PREATTESTATION, Kind.ATTESTATION, Kind.DAL_ATTESTATION)
)
# What a delegate does with his own funds: calls of his own account, transactions on the wire.
CALLS_OF_ONESELF: Final = frozenset(
    ("stake", "unstake", "finalize_unstake", "set_delegate_parameters")
)
OPERATIONS: Final = GENERIC_KINDS | CALLS_OF_ONESELF
ANY: Final = "any"
_FIELD_OF_AMOUNT = {"transaction": "amount", "origination": "balance"}
_WORDS_SHOWN_MAX = 8  # of a list in a sentence; a rule may have thousands of destinations

# Only this client asks for others, so only it has requests to other signers to vouch for.
GATEWAY: Final = "gateway"


@dataclass(frozen=True, slots=True)
class Request:
    """A request to sign as the rules see it: what was read from the bytes, and who asks.

    `contents` are those of an operation under the generic watermark, else empty. `client` is
    empty when nobody in particular asks.
    """

    signable: Signable
    contents: Sequence[Content]
    client: str
    key_hash: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What a rule allows.

    `kinds` has no GENERIC: `operations` says which operations may be signed, in words of
    `OPERATIONS` or the one word `ANY`. None for `chains`, `clients`, `destinations` and the
    two amounts means that they do not matter. A chain is 4 bytes; a client is a name in which
    ``*`` stands for any letters; a destination is the text of an address. Amounts are in mutez
    (mumav on Mavryk), over all contents of an operation.
    """

    name: str
    kinds: frozenset[Kind]
    operations: frozenset[str] = frozenset()
    chains: frozenset[bytes] | None = None
    clients: tuple[str, ...] | None = None
    destinations: frozenset[str] | None = None
    amount_max: int | None = None
    fee_max: int | None = None

    def objection(self, request: Request) -> str | None:
        """Say why the rule does not allow a request; None when it does."""
        return (
            self._objection_to_client(request)
            or self._objection_to_kind(request.signable)
            or self._objection_to_contents(request)
        )

    @property
    def unconditional_kinds(self) -> frozenset[Kind]:
        """The kinds that the rule allows whoever asks, and on whichever chain."""
        if self.chains is not None or self.clients is not None:
            return frozenset()
        return self.kinds & CONSENSUS_KINDS

    def _objection_to_client(self, request: Request) -> str | None:
        client = request.client
        if self.clients is not None and not any(matches(each, client) for each in self.clients):
            return f"its clients are {listing(self.clients)}, not {client or 'just anybody'}"
        if request.signable.kind is Kind.AUTHENTICATION and not client.startswith(GATEWAY):
            return f"an authentication is signed for the {GATEWAY} only"
        return None

    def _objection_to_kind(self, signable: Signable) -> str | None:
        kind, chain = signable.kind, signable.chain_id
        if kind is Kind.GENERIC:
            return None if self.operations else "it allows no operations"
        if kind not in self.kinds:
            return f"it allows no {kind.name.lower()}"
        if self.chains is not None and chain and chain not in self.chains:
            return f"its chains do not include {base58.encode(base58.CHAIN_ID, chain)}"
        return None

    def _objection_to_contents(self, request: Request) -> str | None:
        contents = request.contents
        for number, content in enumerate(contents, start=1):
            objection = self._objection_to_content(content, request.key_hash)
            if objection is not None:
                return f"content {number} of {len(contents)}, {content.name}: {objection}"
        sent, fees = sum(map(_sent, contents)), sum(map(_fee, contents))
        if self.amount_max is not None and sent > self.amount_max:
            return f"it sends {sent}, more than amount_max = {self.amount_max}"
        if self.fee_max is not None and fees > self.fee_max:
            return f"its fees are {fees}, more than fee_max = {self.fee_max}"
        return None

    def _objection_to_content(self, content: Content, key_hash: str) -> str | None:
        call = call_of_oneself(content)
        if self.operations.isdisjoint((ANY, content.name, call)):
            words = content.name if call is None else f"{content.name} or {call}"
            return f"its operations are {listing(self.operations)}, not {words}"
        if self.destinations is None or call is not None or "destination" not in content.fields:
            return None
        shown = content.kind.layout.show(content.fields, network_of_hash(key_hash))
        destination = shown["destination"]
        if destination in self.destinations:
            return None
        return f"its destinations do not include {destination}"


def call_of_oneself(content: Content) -> str | None:
    """Return which of `CALLS_OF_ONESELF` a content is, None when it is none."""
    if content.name != "transaction" or content.fields["parameters"] is None:
        return None
    if content.fields["destination"] != (0, content.fields["source"]):
        return None
    name: str = layout.ENTRYPOINT.show(content.fields["parameters"]["entrypoint"], TEZOS)
    return name if name in CALLS_OF_ONESELF else None


def matches(pattern: str, name: str) -> bool:
    """Whether a name is one that a pattern means; ``*`` stands for any letters, also none."""
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    *middle, last = rest
    if not name.startswith(first):
        return False
    at = len(first)
    for part in middle:
        found = name.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return name.endswith(last, at)


def listing(words: Collection[str]) -> str:
    """Write words for a sentence, sorted, and not too many of them."""
    if not words:
        return "none"
    shown = ", ".join(sorted(words)[:_WORDS_SHOWN_MAX])
    more = len(words) - _WORDS_SHOWN_MAX
    return shown if more <= 0 else f"{shown} and {more} more"


def _sent(content: Content) -> int:
    """What leaves the account with a content; what is staked stays."""
    if call_of_oneself(content) is not None:
        return 0
    field = _FIELD_OF_AMOUNT.get(content.name)
    amount: int = 0 if field is None else content.fields[field]
    return amount


def _fee(content: Content) -> int:
    fee: int = content.fields.get("fee", 0)
    return fee
