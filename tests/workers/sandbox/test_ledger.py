"""The state and its drafts."""

import random

import pytest

from workers.sandbox.context import Context
from workers.sandbox.ledger import Account, Ledger, NonceCommitment, Progress, addresses


def address(number: int) -> bytes:
    return b"\x00" + number.to_bytes(20)


def state_with(accounts: dict[int, Account]) -> Context:
    ledger = Ledger(Context())
    for number, account in accounts.items():
        ledger.put_account(address(number), account)
    return ledger.context()


def test_a_draft_changes_nothing_until_it_is_merged() -> None:
    before = state_with({1: Account(100, 0)})
    block = Ledger(before)
    operation = Ledger(block)
    operation.credit(address(1), 5)
    assert block.account(address(1)) == Account(100, 0)
    operation.merge()
    assert block.account(address(1)) == Account(105, 0)
    assert Ledger(before).account(address(1)) == Account(100, 0)


def test_a_new_account_starts_at_the_global_counter() -> None:
    ledger = Ledger(Context())
    ledger.put_progress(Progress(level=1, global_counter=41))
    ledger.credit(address(1), 7)
    ledger.credit(address(1), 1)
    assert ledger.account(address(1)) == Account(balance=8, counter=41)


def test_an_account_with_nothing_left_ceases_to_be() -> None:
    ledger = Ledger(state_with({1: Account(100, 0), 2: Account(100, 0, delegate=address(2))}))
    ledger.put_account(address(1), Account(0, 9))
    ledger.put_account(address(2), Account(0, 9, delegate=address(2)))
    ledger.drop_if_empty(address(1))
    ledger.drop_if_empty(address(2))
    ledger.drop_if_empty(address(3))
    assert ledger.account(address(1)) is None
    assert ledger.account(address(2)) is not None
    assert set(addresses(ledger.context())) == {address(2)}


def test_the_hash_covers_every_field_of_every_entry() -> None:
    key = b"\x00" + b"k" * 32
    hashes = {
        state_with({1: account}).hash
        for account in (
            Account(100, 0),
            Account(101, 0),
            Account(100, 1),
            Account(100, 0, public_key=key),
            Account(100, 0, delegate=key),
            Account(100, 0, frozen=1),
        )
    }
    hashes.add(state_with({2: Account(100, 0)}).hash)
    with_nonce = Ledger(state_with({1: Account(100, 0)}))
    with_nonce.put_nonce(4, NonceCommitment(bytes(32), address(1)))
    hashes.add(with_nonce.context().hash)
    with_nonce.put_nonce(4, NonceCommitment(bytes(32), address(1), bytes(32)))
    hashes.add(with_nonce.context().hash)
    assert len(hashes) == 9


def test_the_hash_depends_on_the_state_and_not_on_the_way_to_it() -> None:
    shuffle = random.Random(7)
    numbers = list(range(2_000))
    straight = state_with({number: Account(number + 1, 0) for number in numbers})
    context = Context()
    shuffle.shuffle(numbers)
    for start in range(0, len(numbers), 100):
        detour = Ledger(context)
        for number in numbers[start : start + 100]:
            detour.put_account(address(number), Account(1, 1))
        context = detour.context()
    last = Ledger(context)
    for number in numbers:
        last.put_account(address(number), Account(number + 1, 0))
    assert last.context().hash == straight.hash


def test_old_states_stay_as_they_were() -> None:
    first = state_with({1: Account(100, 0)})
    second = Ledger(first)
    second.credit(address(1), 1)
    assert second.context().hash != first.hash
    assert Ledger(first).account(address(1)) == Account(100, 0)


def test_drafts_are_told_apart() -> None:
    draft = Ledger(Ledger(Context()))
    with pytest.raises(TypeError):
        draft.context()
    with pytest.raises(TypeError):
        Ledger(Context()).merge()
