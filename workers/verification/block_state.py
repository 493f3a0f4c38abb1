"""What a block's predecessor left behind, as far as it decides which operations may follow.

A node tells it for the blocks that it has. On top of these the effects of the cleared blocks are
added, one after the other (the *rewinder*): nothing is replayed from genesis and nothing rolled
back, and any cleared block above the final one can be the predecessor.

What effects are, is read off the operations without applying them. Counters are exact, for they
count whether or not an operation fails. A balance is an upper bound, for fees are paid in any case
and transfers may fail; where code, rewards or staking may have paid out too it has no bound. So
nobody is accused of what he may well have. Source: protocol ``validate.ml``, ``apply.ml``.

Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from signers.errors import MalformedBytes
from signers.formats.content_kind import MANAGER_PASS
from signers.formats.hashes import blake2b_32
from signers.formats.networks import Network
from signers.formats.operation import Operation, decode_operation
from workers.preparation.operation_validation import AccountFacts

MUTEZ_MAX = 2**63 - 1
# What a byte of storage costs at most: 250 on all networks so far.
_MUTEZ_PER_BYTE_MAX = 1_000
_IMPLICIT = 0
# Contents whose effect on balances is the fee, and for a plain transaction the amount.
_SIMPLE = frozenset({"reveal", "delegation", "transaction"})


@dataclass(slots=True)
class BlockEffects:
    """What the operations of one block changed; accounts are tagged key hashes."""

    contents: dict[bytes, int] = field(default_factory=dict)  # by source: counters used
    fees: dict[bytes, int] = field(default_factory=dict)
    spent: dict[bytes, int] = field(default_factory=dict)  # at most, fees among it
    received: dict[bytes, int] = field(default_factory=dict)  # at most
    revealed: dict[bytes, bytes] = field(default_factory=dict)  # perhaps
    pays_out: bool = False  # code or staking may have paid anybody
    hashes: frozenset[bytes] = frozenset()  # of passes 1 to 3


@dataclass(frozen=True, slots=True)
class BlockState:
    """What operations on top of a block are judged by.

    `accounts` has an entry for each source that was asked for: None where a block may have made
    the account (an empty one is removed), so that its counter is not known.
    """

    branch: tuple[bytes, ...]  # the block, its predecessor, …: what operations may name
    accounts: Mapping[bytes, AccountFacts | None]
    included: Collection[bytes]  # operations since the block that the node knows


def effect_steps(
    passes: Sequence[Sequence[bytes]], network: Network
) -> Generator[None, None, BlockEffects]:
    """Read the effects of a cleared block off its operations, one a step; votes have none here."""
    effects = BlockEffects()
    hashes = []
    for one_pass in passes[1:]:
        for signed in one_pass:
            hashes.append(blake2b_32(signed))
            try:
                _add(effects, decode_operation(signed, network))
            except MalformedBytes:
                effects.pays_out = True  # what cannot be read may have done anything
            yield
    effects.hashes = frozenset(hashes)
    return effects


def state_on_top(
    branch: Sequence[bytes],
    accounts: Mapping[bytes, AccountFacts],
    above: Sequence[tuple[bytes, BlockEffects]],
    *,
    rewarded: Collection[bytes],
    branch_length: int,
) -> BlockState:
    """The state after the blocks `above` one that the node knows, oldest first.

    Args:
        branch: the known block, its predecessor, …
        rewarded: the sources that may have been paid for blocks and votes meanwhile.
    """
    hashes = [hash_ for hash_, _ in reversed(above)]
    return BlockState(
        tuple([*hashes, *branch][:branch_length]),
        {
            source: _after(
                source,
                account,
                [effects for _, effects in above],
                is_rewarded=source in rewarded,
            )
            for source, account in accounts.items()
        },
        frozenset().union(*(effects.hashes for _, effects in above)),
    )


def _add(effects: BlockEffects, operation: Operation) -> None:
    if operation.validation_pass != MANAGER_PASS:
        effects.pays_out = True  # a reward for evidence or a revelation, a drained delegate
        return
    for content in operation.contents:
        fields = content.fields
        source: bytes = fields["source"]
        effects.contents[source] = effects.contents.get(source, 0) + 1
        effects.fees[source] = effects.fees.get(source, 0) + fields["fee"]
        effects.spent[source] = effects.spent.get(source, 0) + _spent(content.name, fields)
        if content.name not in _SIMPLE:
            effects.pays_out = True
        elif content.name == "reveal":
            effects.revealed[source] = fields["public_key"]
        elif content.name == "transaction":
            _add_transaction(effects, fields)


def _spent(name: str, fields: Mapping[str, Any]) -> int:
    """What a content costs its source at most."""
    if name not in _SIMPLE:
        return MUTEZ_MAX
    amount: int = fields["amount"] if name == "transaction" else 0
    burnt: int = fields["storage_limit"] * _MUTEZ_PER_BYTE_MAX
    return amount + burnt + int(fields["fee"])


def _add_transaction(effects: BlockEffects, fields: Mapping[str, Any]) -> None:
    tag, address = fields["destination"]
    if tag != _IMPLICIT or fields["parameters"] is not None:
        effects.pays_out = True
    else:
        effects.received[address] = effects.received.get(address, 0) + fields["amount"]


def _after(
    source: bytes,
    account: AccountFacts,
    above: Iterable[BlockEffects],
    *,
    is_rewarded: bool,
) -> AccountFacts | None:
    balance, counter, key = account.balance, account.counter, account.public_key
    at_least, has_bound = balance, True
    for effects in above:
        counter += effects.contents.get(source, 0)
        received = effects.received.get(source, 0)
        at_least -= effects.spent.get(source, 0)
        if at_least <= 0 and (received or effects.pays_out):
            return None  # emptied and made anew, perhaps, with a counter of the chain's choice
        balance += received - effects.fees.get(source, 0)
        has_bound &= not (effects.pays_out or is_rewarded)
        if key is None:
            key = effects.revealed.get(source)
    return AccountFacts(balance if has_bound else MUTEZ_MAX, counter, key)
