"""What transfers, reveals and delegations do once they are in a block."""

from collections.abc import Callable
from typing import Any

import pytest

from signers.formats.manager_operation import DELEGATION
from signers.formats.networks import TEZOS
from signers.formats.operation import Content, Operation, decode_operation
from workers.sandbox.accounts import make_transfer, sign_operation
from workers.sandbox.manager_operations import Status

FUNDS = 10_000_000_000
NEW_ACCOUNT = 257 * 250


def receipts(block: Any) -> list[Any]:
    """The receipts of the one manager operation of a block."""
    (only,) = block.receipts[3]
    return list(only)


def balance(bakery: Any, key: Any) -> int:
    account = bakery.account(key)
    return 0 if account is None else int(account.balance)


def delegation(bakery: Any, source: Any, delegate: bytes | None) -> bytes:
    fields = {
        "source": source.address,
        "fee": 1000,
        "counter": bakery.account(source).counter + 1,
        "gas_limit": 1000,
        "storage_limit": 0,
        "delegate": delegate,
    }
    content = Content(110, DELEGATION, fields)
    return sign_operation(source, Operation(bakery.head.hash, (content,), None))


def test_a_transfer_moves_money_and_pays_its_fee(bakery: Any, accounts: list[Any]) -> None:
    block = bakery.bake([bakery.transfer(accounts[1], amount=5, fee=500)])
    assert balance(bakery, accounts[0]) == FUNDS + 5
    assert balance(bakery, accounts[1]) == FUNDS - 505
    assert bakery.account(accounts[1]).counter == 1
    assert block.fees == 500
    assert receipts(block)[0].status is Status.APPLIED


def test_a_transfer_makes_an_account_and_burns_for_it(
    bakery: Any, accounts: list[Any], strangers: list[Any]
) -> None:
    new = strangers[0].address
    transfer = bakery.transfer(accounts[1], destination=new, storage_limit=257, fee=400)
    block = bakery.bake([transfer])
    assert receipts(block)[0].allocated
    assert balance(bakery, strangers[0]) == 1_000_000
    assert balance(bakery, accounts[1]) == FUNDS - 400 - 1_000_000 - NEW_ACCOUNT
    # A new account begins at the counter that the chain has reached.
    assert bakery.account(strangers[0]).counter == 1
    again = bakery.bake([bakery.transfer(accounts[1], destination=new)])
    assert not receipts(again)[0].allocated


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"amount": 2 * FUNDS}, "mav.subtraction_underflow"),
        ({"amount": 0}, "contract.empty_transaction"),
        ({"destination": "new"}, "storage_exhausted.operation"),
        (
            {"destination": "new", "storage_limit": 257, "amount": FUNDS - 500},
            "mav.subtraction_underflow",
        ),
        ({"gas_limit": 166}, "gas_exhausted.operation"),
    ],
)
def test_what_cannot_be_done_fails_in_the_block_and_pays_all_the_same(
    bakery: Any, accounts: list[Any], strangers: list[Any], other: dict[str, Any], reason: str
) -> None:
    if "destination" in other:
        other = {**other, "destination": strangers[0].address}
    block = bakery.bake([bakery.transfer(accounts[1], fee=400, **other)])
    (receipt,) = receipts(block)
    assert receipt.status is Status.FAILED
    assert receipt.errors[-1].id == reason
    assert balance(bakery, accounts[1]) == FUNDS - 400
    assert balance(bakery, accounts[0]) == FUNDS
    assert balance(bakery, strangers[0]) == 0
    assert bakery.account(accounts[1]).counter == 1


def test_a_batch_is_done_whole_or_not_at_all(bakery: Any, accounts: list[Any]) -> None:
    source = accounts[1]
    contents = []
    for position, amount in enumerate((5, 2 * FUNDS, 7)):
        signed = bakery.transfer(source, amount=amount, counter=position + 1, fee=400)
        contents += decode_operation(signed, bakery.network).contents
    batch = sign_operation(source, Operation(bakery.head.hash, tuple(contents), None))
    block = bakery.bake([batch])
    assert [each.status for each in receipts(block)] == [
        Status.BACKTRACKED,
        Status.FAILED,
        Status.SKIPPED,
    ]
    assert balance(bakery, source) == FUNDS - 3 * 400
    assert balance(bakery, accounts[0]) == FUNDS
    assert bakery.account(source).counter == 3


def test_a_batch_keeps_to_one_source_and_successive_counters(
    bakery: Any, accounts: list[Any]
) -> None:
    def batch(*signed: bytes) -> bytes:
        contents = [
            content
            for each in signed
            for content in decode_operation(each, bakery.network).contents
        ]
        operation = Operation(bakery.head.hash, tuple(contents), None)
        return sign_operation(accounts[1], operation)

    transfer = bakery.transfer
    reveal = transfer(accounts[1], counter=2, reveal=True)
    for wrong, reason in (
        (batch(transfer(accounts[1]), transfer(accounts[2])), "inconsistent_sources"),
        (batch(transfer(accounts[1]), transfer(accounts[1])), "inconsistent_counters"),
        (batch(transfer(accounts[1]), reveal), "incorrect_reveal_position"),
    ):
        outcome = bakery.inject_operation(wrong)
        assert outcome.refusal is not None
        assert outcome.refusal.reason == f"validate.operation.{reason}"
        assert outcome.refusal.kind.value == "permanent"


def test_a_reveal_in_front_of_the_first_transfer(
    new_bakery: Callable[..., Any], network: Any, accounts: list[Any]
) -> None:
    bakery = new_bakery(network)
    source = accounts[6]
    assert bakery.account(source).public_key is None
    block = bakery.bake([bakery.transfer(source, reveal=True)])
    assert [each.status for each in receipts(block)] == [Status.APPLIED] * 2
    assert bakery.account(source).public_key == source.public_key
    # A second reveal is in the block, and fails.
    block = bakery.bake([bakery.transfer(source, reveal=True)])
    assert receipts(block)[0].errors[-1].id == "contract.previously_revealed_key"
    assert receipts(block)[1].status is Status.SKIPPED


def test_a_reveal_of_another_key(bakery: Any, accounts: list[Any]) -> None:
    signed = bakery.transfer(accounts[6], reveal=True)
    operation = decode_operation(signed, bakery.network)
    fields = {**operation.contents[0].fields, "public_key": accounts[7].public_key}
    wrong = Content(107, operation.contents[0].kind, fields)
    outcome = bakery.inject_operation(
        sign_operation(accounts[7], Operation(bakery.head.hash, (wrong,), None))
    )
    assert outcome.refusal is not None
    assert outcome.refusal.reason == "contract.manager.inconsistent_hash"


def test_a_reveal_has_the_layout_of_its_network(
    new_bakery: Callable[..., Any], accounts: list[Any]
) -> None:
    """Tezos ends a reveal with a byte for a proof, Mavryk does not."""
    tezos, mavryk = new_bakery(TEZOS), new_bakery()
    for bakery, other in ((tezos, mavryk), (mavryk, tezos)):
        signed = make_transfer(
            other.network,
            accounts[6],
            branch=bakery.head.hash,
            counter=1,
            destination=accounts[0].address,
            amount=1,
            reveal=True,
        )
        assert str(bakery.inject_operation(signed).refusal) == "Can't parse the operation"


def test_an_account_that_spends_everything_ceases_to_be(bakery: Any, accounts: list[Any]) -> None:
    source = accounts[1]
    bakery.bake([bakery.transfer(source, amount=FUNDS - 400, fee=400)])
    assert bakery.account(source) is None
    bakery.bake([bakery.transfer(accounts[2], destination=source.address, storage_limit=257)])
    reborn = bakery.account(source)
    assert (reborn.public_key, reborn.counter) == (None, 2)


def test_a_transfer_of_everything_to_oneself(bakery: Any, accounts: list[Any]) -> None:
    source = accounts[1]
    transfer = bakery.transfer(source, destination=source.address, amount=FUNDS - 400, fee=400)
    block = bakery.bake([transfer])
    assert receipts(block)[0] == receipts(block)[0]._replace(status=Status.APPLIED, allocated=False)
    assert bakery.account(source).public_key == source.public_key
    assert balance(bakery, source) == FUNDS - 400


def test_a_fee_that_takes_the_last_coin(bakery: Any, accounts: list[Any]) -> None:
    block = bakery.bake([bakery.transfer(accounts[1], fee=FUNDS)])
    assert receipts(block)[0].status is Status.FAILED
    assert block.fees == FUNDS
    assert bakery.account(accounts[1]) is None


def test_code_is_called_by_nobody_here(bakery: Any, accounts: list[Any]) -> None:
    one = decode_operation(bakery.transfer(accounts[1]), bakery.network)
    for changes, reason in (
        ({"destination": (1, b"c" * 20)}, "contract.non_existing_contract"),
        (
            {"parameters": {"entrypoint": b"\x01", "value": b"\x03\x0b"}},
            "michelson_v1.bad_contract_parameter",
        ),
    ):
        fields = {**one.contents[0].fields, **changes}
        fields["counter"] = bakery.account(accounts[1]).counter + 1
        content = Content(108, one.contents[0].kind, fields)
        signed = sign_operation(accounts[1], Operation(bakery.head.hash, (content,), None))
        assert receipts(bakery.bake([signed]))[0].errors[-1].id == reason


def test_delegation(bakery: Any, accounts: list[Any]) -> None:
    baker = bakery.baker(2, 0)
    source = accounts[1]
    bakery.bake([delegation(bakery, source, baker.address)])
    assert bakery.account(source).delegate == baker.address
    bakery.bake([delegation(bakery, source, None)])
    assert bakery.account(source).delegate is None
    block = bakery.bake([delegation(bakery, source, accounts[2].address)])
    assert receipts(block)[0].errors[-1].id == "contract.manager.unregistered_delegate"
    block = bakery.bake([delegation(bakery, baker, None)])
    assert receipts(block)[0].errors[-1].id == "delegate.no_deletion"
