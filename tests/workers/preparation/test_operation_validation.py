"""One test a rule that a manager operation must obey."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from signers.formats import base58
from signers.formats.networks import BlsScheme, network_by_name
from tests.workers.preparation.views import CONSTANTS
from tests.workers.preparation.wallet import Wallet
from workers.preparation.operation_validation import AccountFacts, NotValid, check_manager_operation
from workers.preparation.submitted_operation import read_operation

MAVRYK = network_by_name("mavryk")
BRANCH = bytes(32)
ALICE, BOB = Wallet(1), Wallet(2)
ACCOUNT = AccountFacts(balance=5_000, counter=6, public_key=ALICE.public_key)
UNREVEALED = replace(ACCOUNT, public_key=None)


def check(signed: bytes, account: AccountFacts = ACCOUNT) -> None:
    check_manager_operation(read_operation(signed, MAVRYK), account, CONSTANTS, BlsScheme.AUGMENTED)


def refused(signed: bytes, why: str, account: AccountFacts = ACCOUNT) -> None:
    with pytest.raises(NotValid, match=why):
        check(signed, account)


def test_an_ordinary_transfer_is_valid() -> None:
    check(ALICE.transaction(BRANCH, counter=7))


def test_a_batch_counts_up() -> None:
    contents = [ALICE.transaction_content(counter=counter) for counter in (7, 8, 9)]
    check(ALICE.managers(BRANCH, *contents))
    refused(ALICE.managers(BRANCH, contents[0], contents[2]), "do not follow each other")


@pytest.mark.parametrize("counter", [0, 5, 6, 8, 700])
def test_only_the_next_counter_is_valid(counter: int) -> None:
    refused(ALICE.transaction(BRANCH, counter=counter), f"counter {counter} after 6")


def test_fees_must_be_payable_amounts_need_not() -> None:
    check(ALICE.transaction(BRANCH, counter=7, fee=5_000))
    refused(ALICE.transaction(BRANCH, counter=7, fee=5_001), "fees of 5001 exceed")
    contents = [ALICE.transaction_content(counter=counter, fee=2_600) for counter in (7, 8)]
    refused(ALICE.managers(BRANCH, *contents), "fees of 5200 exceed")


def test_limits_are_those_of_the_protocol() -> None:
    check(ALICE.transaction(BRANCH, counter=7, gas_limit=1_040_000, storage_limit=60_000))
    refused(ALICE.transaction(BRANCH, counter=7, gas_limit=1_040_001), "gas limit of 1040001")
    refused(ALICE.transaction(BRANCH, counter=7, storage_limit=60_001), "storage limit of 60001")


def test_one_operation_has_one_source() -> None:
    contents = (ALICE.transaction_content(counter=7), BOB.transaction_content(counter=8))
    refused(ALICE.managers(BRANCH, *contents), "different sources")


def test_an_unknown_key_must_be_revealed_first() -> None:
    reveal, transfer = ALICE.reveal_content(counter=7), ALICE.transaction_content(counter=8)
    check(ALICE.managers(BRANCH, reveal, transfer), UNREVEALED)
    refused(ALICE.transaction(BRANCH, counter=7), "not revealed", UNREVEALED)
    check(ALICE.managers(BRANCH, reveal, transfer), ACCOUNT)  # fails later, when it is applied


def test_a_reveal_comes_first_and_reveals_the_sources_own_key() -> None:
    transfer, reveal = ALICE.transaction_content(counter=7), ALICE.reveal_content(counter=8)
    refused(ALICE.managers(BRANCH, transfer, reveal), "must come first", UNREVEALED)
    foreign = ALICE.reveal_content(counter=7, public_key=BOB.public_key)
    refused(ALICE.managers(BRANCH, foreign), "not that of the source", UNREVEALED)


def test_the_signature_is_the_sources_over_these_bytes() -> None:
    signed = ALICE.transaction(BRANCH, counter=7)
    refused(BOB.managers(BRANCH, ALICE.transaction_content(counter=7)), "signature is wrong")
    refused(bytes([1]) + signed[1:], "signature is wrong")
    refused(signed[:-1] + bytes([signed[-1] ^ 1]), "signature is wrong")
    refused(signed[:-64] + bytes(64), "signature is wrong")


REAL = json.loads((Path(__file__).parent / "vectors" / "operations.json").read_text())


def real_transfers() -> list[dict]:
    return [
        record
        for record in REAL
        if record["public_key"]
        and record["public_key"].startswith("edpk")
        and set(record["kinds"]) <= {"transaction", "delegation"}
    ]


@pytest.mark.parametrize("record", real_transfers(), ids=lambda record: record["id"])
def test_real_operations_are_valid_on_their_accounts(record: dict) -> None:
    operation = read_operation(bytes.fromhex(record["operation"]), network_by_name("tezos"))
    key = base58.decode(base58.ED25519_PUBLIC_KEY, record["public_key"])
    first = int(record["json"]["contents"][0]["counter"])
    account = AccountFacts(10**12, first - 1, b"\0" + key)
    check_manager_operation(operation, account, CONSTANTS, BlsScheme.AUGMENTED)
    wrong = replace(account, public_key=BOB.public_key)
    with pytest.raises(NotValid, match="signature is wrong"):
        check_manager_operation(operation, wrong, CONSTANTS, BlsScheme.AUGMENTED)


def test_there_are_real_operations_to_check() -> None:
    assert real_transfers()
