"""What can be told of accounts after blocks that nobody has applied here."""

from __future__ import annotations

from typing import Any

import pytest
from bakery import ACCOUNTS, Bakery, genesis_of

from signers.formats.networks import MAVRYK
from workers.preparation.operation_validation import AccountFacts
from workers.sandbox.accounts import make_transfer
from workers.sandbox.chain import Chain
from workers.verification.block_state import MUTEZ_MAX, BlockEffects, effect_steps, state_on_top

ONE, TWO = ACCOUNTS[1], ACCOUNTS[2]
KNOWN = AccountFacts(balance=1000, counter=7, public_key=ONE.public_key)


def effects(*managers: bytes, anonymous: bytes = b"") -> BlockEffects:
    """The effects of one block, read to the end."""
    steps = effect_steps([[b"a vote"], [], [anonymous] if anonymous else [], managers], MAVRYK)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: BlockEffects = done.value
            return found


def transfer(source: Any = ONE, counter: int = 8, **other: Any) -> bytes:
    fields = {"branch": bytes(32), "destination": TWO.address, "amount": 30, "fee": 10}
    return make_transfer(MAVRYK, source, counter=counter, **{**fields, **other})


def after(account: AccountFacts, *above: BlockEffects, source: Any = ONE, **other: Any) -> Any:
    rewarded = {source.address} if other.get("is_rewarded") else set()
    blocks = [(bytes([n]) * 32, each) for n, each in enumerate(above)]
    state = state_on_top(
        [b"k" * 32, b"j" * 32], {source.address: account}, blocks,
        rewarded=rewarded, branch_length=3,
    )  # fmt: skip
    return state.accounts[source.address]


def test_counters_are_exact_and_fees_are_paid() -> None:
    found = after(KNOWN, effects(transfer()), effects(transfer(counter=9)))
    assert found == AccountFacts(1000 - 2 * 10, 9, ONE.public_key)
    assert after(KNOWN) == KNOWN


def test_what_was_received_is_an_upper_bound() -> None:
    assert after(KNOWN, effects(transfer()), source=TWO).balance == 1030
    empty = AccountFacts(0, 3, None)
    assert after(empty, effects(transfer()), source=TWO) is None, (
        "its counter is the chain's choice"
    )
    assert after(empty, effects(), source=TWO) == empty


def test_an_account_that_was_emptied_and_filled_again_has_another_counter() -> None:
    poor = AccountFacts(40, 7, ONE.public_key)
    filled = effects(transfer(TWO, counter=3, destination=ONE.address))
    emptied = effects(transfer())  # 30 and a fee of 10
    assert after(poor, emptied) == AccountFacts(30, 8, ONE.public_key)
    assert after(poor, emptied, filled) is None
    assert after(AccountFacts(41, 7, ONE.public_key), emptied, filled) is not None, "1 was left"


@pytest.mark.parametrize("what", ["unreadable", "anonymous", "rewarded", "parameters"])
def test_where_anything_may_have_been_paid_there_is_no_bound(what: str) -> None:
    blocks = {
        "unreadable": effects(b"junk"),
        "anonymous": effects(anonymous=bytes(32) + b"\x01" + bytes(4 + 32) + bytes(64)),
        "rewarded": effects(),
        "parameters": effects(),
    }
    if what == "parameters":
        blocks[what].pays_out = True
    found = after(KNOWN, blocks[what], is_rewarded=what == "rewarded")
    assert found == AccountFacts(MUTEZ_MAX, 7, ONE.public_key)


def test_a_revealed_key_counts() -> None:
    hidden = AccountFacts(1000, 7, None)
    block = effects(transfer(reveal=True))
    assert after(hidden, block) == AccountFacts(1000 - 20, 9, ONE.public_key)


def test_the_branch_grows_and_keeps_its_length() -> None:
    block = effects(transfer())
    state = state_on_top(
        [b"k" * 32, b"j" * 32], {}, [(b"1" * 32, block), (b"2" * 32, effects())],
        rewarded=(), branch_length=3,
    )  # fmt: skip
    assert state.branch == (b"2" * 32, b"1" * 32, b"k" * 32)
    assert state.included == block.hashes
    assert len(block.hashes) == 1


def test_all_that_a_bakery_made_is_read() -> None:
    bakery = Bakery(Chain(genesis_of()))
    bakery.bake_to(3)
    block = bakery.bake([bakery.transfer_of(1)])
    signed = [[each.signed for each in one_pass] for one_pass in block.operations]
    assert effects(*signed[3]).contents == {ONE.address: 1}
