"""Reveals, transactions and delegations: who may have them in a block, and what they do.

Validation decides whether an operation may be in a block at all; it looks at keys, counters,
limits and whether the fees can be paid. Application then takes the fees, whatever happens, and
performs the contents all or none: a transaction of more than its source has is in the block,
failed. Source: protocol ``validate.ml`` (``Manager``), ``apply.ml``.

Gas is a table of constants here. A real node measures, and comes to about the same for
implicit accounts: 169 units for a transfer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

from signers.formats.manager_operation import DELEGATION, TRANSACTION
from signers.formats.operation import Content
from workers.sandbox.constants import Constants
from workers.sandbox.dialect import Dialect
from workers.sandbox.ledger import Account, Ledger
from workers.sandbox.names import IMPLICIT, Contract, Names, address_of, public_key_text
from workers.sandbox.refusal import ChainError, ErrorKind, Refusal, protocol_error, shell_error

# Every content, once per operation for its signature, and for what the content does.
_CONTENT_MILLIGAS = 100_000
_SIGNATURE_MILLIGAS = 66_000
_EFFECT_MILLIGAS = 3_000

_BLS_TAG = 3
_DEFAULT_ENTRYPOINT = b"\x00"
_UNIT = b"\x03\x0b"

PERMANENT, TEMPORARY = ErrorKind.PERMANENT, ErrorKind.TEMPORARY
BRANCH, OUTDATED = ErrorKind.BRANCH, ErrorKind.OUTDATED


class Status(Enum):
    """What became of a content."""

    APPLIED = "applied"
    FAILED = "failed"
    SKIPPED = "skipped"  # one before it failed
    BACKTRACKED = "backtracked"  # one after it failed


class Receipt(NamedTuple):
    """What became of a content; `allocated` says that a transaction made its destination."""

    status: Status
    milligas: int
    allocated: bool = False
    errors: tuple[ChainError, ...] = ()


class Admitted(NamedTuple):
    """What validation found out about an operation: who pays what, and whose key signs."""

    source: bytes
    public_key: bytes
    fee: int
    gas_limit: int


class Managers:
    """The rules for manager operations of one protocol.

    `delegates` are the registered ones, to whom accounts may delegate.
    """

    def __init__(
        self, constants: Constants, dialect: Dialect, names: Names, delegates: frozenset[bytes]
    ) -> None:
        self._constants = constants
        self._dialect = dialect
        self._names = names
        self._delegates = delegates

    def validate(self, contents: Sequence[Content], ledger: Ledger) -> Admitted:
        """Check everything but the signature and the gas of the block. Raises Refusal."""
        first = contents[0].fields
        source: bytes = first["source"]
        _check_batch(contents)
        account = ledger.account(source)
        if account is None:
            raise self._empty(source)
        self._check_counter(source, account, first["counter"])
        public_key = self._public_key(source, account, contents[0])
        for position, content in enumerate(contents):
            self._check_limits(content, signs=position == 0)
            if content.name == "reveal":
                self._check_revealed(source, content.fields["public_key"])
        self._check_fees(source, account, contents)
        return Admitted(
            source=source,
            public_key=public_key,
            fee=sum(content.fields["fee"] for content in contents),
            gas_limit=sum(content.fields["gas_limit"] for content in contents),
        )

    def apply(self, contents: Sequence[Content], ledger: Ledger) -> tuple[Receipt, ...]:
        """Take the fees of a validated operation and perform its contents, all or none."""
        source: bytes = contents[0].fields["source"]
        self._take_fees(source, contents, ledger)
        draft = Ledger(ledger)
        receipts: list[Receipt] = []
        for position, content in enumerate(contents):
            milligas = _milligas(signs=position == 0)
            try:
                if content.fields["gas_limit"] * 1000 < milligas + _EFFECT_MILLIGAS:
                    raise Refusal(_gas_exhausted())
                allocated = self._perform(content, draft)
            except Refusal as refusal:
                ledger.drop_if_empty(source)
                return (
                    *(done._replace(status=Status.BACKTRACKED) for done in receipts),
                    Receipt(Status.FAILED, milligas, errors=refusal.trace),
                    *(Receipt(Status.SKIPPED, 0) for _ in contents[position + 1 :]),
                )
            receipts.append(_applied(milligas + _EFFECT_MILLIGAS, allocated))
        draft.drop_if_empty(source)
        draft.merge()
        return tuple(receipts)

    # -- validation -----------------------------------------------------------------------------

    def _check_counter(self, source: bytes, account: Account, found: int) -> None:
        expected = account.counter + 1
        if found == expected:
            return
        contract = self._names.address(source)
        fields = {"contract": contract, "expected": str(expected), "found": str(found)}
        if found < expected:
            text = f"Counter {found} already used for contract {contract} (expected {expected})"
            raise Refusal(protocol_error(BRANCH, "contract.counter_in_the_past", text, **fields))
        text = f"Counter {found} not yet reached for contract {contract} (expected {expected})"
        raise Refusal(protocol_error(TEMPORARY, "contract.counter_in_the_future", text, **fields))

    def _public_key(self, source: bytes, account: Account, first: Content) -> bytes:
        key: bytes | None = account.public_key
        if first.name == "reveal":
            key = first.fields["public_key"]
        if key is None:
            contract = self._names.address(source)
            text = f"Unrevealed manager key for contract {contract}."
            raise Refusal(
                protocol_error(BRANCH, "contract.unrevealed_key", text, contract=contract)
            )
        return key

    def _check_limits(self, content: Content, *, signs: bool) -> None:
        gas_limit, storage_limit = content.fields["gas_limit"], content.fields["storage_limit"]
        if gas_limit > self._constants.hard_gas_limit_per_operation:
            text = "Gas limit is too high."
            raise Refusal(protocol_error(PERMANENT, "gas_limit_too_high", text))
        if gas_limit * 1000 < _milligas(signs=signs):
            text = "Gas limit is too low to cover the initial cost of manager operations."
            too_low = "validate.operation.insufficient_gas_for_manager"
            raise Refusal(protocol_error(PERMANENT, too_low, text), _gas_exhausted())
        if storage_limit > self._constants.hard_storage_limit_per_operation:
            text = "Storage limit is too high."
            raise Refusal(protocol_error(PERMANENT, "storage_limit_too_high", text))

    def _check_revealed(self, source: bytes, public_key: bytes) -> None:
        if public_key[0] == _BLS_TAG:
            text = "The sandbox does not check proofs of possession, so it reveals no BLS key."
            raise Refusal(shell_error(PERMANENT, "sandbox.unsupported_key", text))
        provided = address_of(public_key)
        if provided != source:
            raise Refusal(
                protocol_error(
                    PERMANENT,
                    "contract.manager.inconsistent_hash",
                    "The hash of the manager public key is not the manager's.",
                    public_key=public_key_text(public_key),
                    expected_hash=self._names.address(source),
                    provided_hash=self._names.address(provided),
                )
            )

    def _check_fees(self, source: bytes, account: Account, contents: Sequence[Content]) -> None:
        balance = account.balance
        keeps_account = bool(account.frozen or account.delegate)
        for position, content in enumerate(contents):
            if position and balance == 0 and not keeps_account:
                raise self._empty(source)
            fee = content.fields["fee"]
            if fee > balance:
                raise self._too_low(source, balance, fee)
            balance -= fee

    # -- application ----------------------------------------------------------------------------

    def _take_fees(self, source: bytes, contents: Sequence[Content], ledger: Ledger) -> None:
        account = ledger.account(source)
        assert account is not None
        fees = sum(content.fields["fee"] for content in contents)
        counter = account.counter + len(contents)
        ledger.put_account(
            source, replace(account, balance=account.balance - fees, counter=counter)
        )
        progress = ledger.progress
        ledger.put_progress(
            replace(progress, global_counter=progress.global_counter + len(contents))
        )

    def _perform(self, content: Content, ledger: Ledger) -> bool:
        """Do what a content says; return whether it made an account. Raises Refusal."""
        source: bytes = content.fields["source"]
        if content.kind is TRANSACTION:
            return self._transfer(source, content.fields, ledger)
        if content.kind is DELEGATION:
            self._delegate(source, content.fields["delegate"], ledger)
        else:
            self._reveal(source, content.fields["public_key"], ledger)
        return False

    def _reveal(self, source: bytes, public_key: bytes, ledger: Ledger) -> None:
        account = self._allocated(source, ledger)
        if account.public_key is not None:
            contract = self._names.address(source)
            text = f"Previously revealed manager key for contract {contract}."
            raise Refusal(
                protocol_error(BRANCH, "contract.previously_revealed_key", text, contract=contract)
            )
        ledger.put_account(source, replace(account, public_key=public_key))

    def _transfer(self, source: bytes, fields: Mapping[str, Any], ledger: Ledger) -> bool:
        amount: int = fields["amount"]
        address = self._implicit_destination(fields["destination"], fields["parameters"], amount)
        made = ledger.account(address) is None
        self._spend(source, amount, ledger)
        ledger.credit(address, amount)
        if made:
            self._burn_for_account(source, fields["storage_limit"], ledger)
        return made

    def _implicit_destination(
        self, destination: Contract, parameters: Mapping[str, bytes] | None, amount: int
    ) -> bytes:
        tag, address = destination
        contract = self._names.contract(destination)
        if tag != IMPLICIT:
            text = f"Contract {contract} does not exist"
            raise Refusal(
                protocol_error(TEMPORARY, "contract.non_existing_contract", text, contract=contract)
            )
        if parameters and parameters != {"entrypoint": _DEFAULT_ENTRYPOINT, "value": _UNIT}:
            text = "An implicit account of the sandbox takes Unit at its default entrypoint."
            bad = "michelson_v1.bad_contract_parameter"
            raise Refusal(protocol_error(PERMANENT, bad, text, contract=contract))
        if amount == 0:
            text = f"Transactions of 0 towards a contract without code are forbidden ({contract})."
            raise Refusal(
                protocol_error(BRANCH, "contract.empty_transaction", text, contract=contract)
            )
        return address

    def _spend(self, source: bytes, amount: int, ledger: Ledger) -> None:
        account = self._allocated(source, ledger)
        if amount > account.balance:
            raise self._too_low(source, account.balance, amount)
        ledger.put_account(source, replace(account, balance=account.balance - amount))

    def _burn_for_account(self, source: bytes, storage_limit: int, ledger: Ledger) -> None:
        if storage_limit < self._constants.account_bytes:
            text = "Storage quota exceeded for the operation"
            raise Refusal(protocol_error(TEMPORARY, "storage_exhausted.operation", text))
        burnt = self._constants.account_bytes * self._constants.cost_per_byte
        try:
            self._spend(source, burnt, ledger)
        except Refusal as refusal:
            text = "Cannot pay storage fee"
            outer = protocol_error(TEMPORARY, "contract.cannot_pay_storage_fee", text)
            raise Refusal(outer, *refusal.trace) from None
        ledger.put_progress(replace(ledger.progress, burnt=ledger.progress.burnt + burnt))

    def _delegate(self, source: bytes, delegate: bytes | None, ledger: Ledger) -> None:
        account = self._allocated(source, ledger)
        if source in self._delegates:
            text = "Delegates of the sandbox stay their own delegates."
            raise Refusal(
                protocol_error(
                    PERMANENT, "delegate.no_deletion", text, delegate=self._names.address(source)
                )
            )
        if delegate is not None and delegate not in self._delegates:
            text = "The delegate is not registered."
            raise Refusal(
                protocol_error(
                    TEMPORARY,
                    "contract.manager.unregistered_delegate",
                    text,
                    hash=self._names.address(delegate),
                )
            )
        ledger.put_account(source, replace(account, delegate=delegate))

    # -- errors ---------------------------------------------------------------------------------

    def _allocated(self, source: bytes, ledger: Ledger) -> Account:
        account = ledger.account(source)
        if account is None:
            raise self._empty(source)
        return account

    def _empty(self, source: bytes) -> Refusal:
        address = self._names.address(source)
        text = f"Empty implicit contract ({address})"
        empty = "implicit.empty_implicit_contract"
        return Refusal(protocol_error(BRANCH, empty, text, implicit=address))

    def _too_low(self, source: bytes, balance: int, amount: int) -> Refusal:
        contract, coin = self._names.address(source), self._dialect.coin
        return Refusal(
            protocol_error(
                TEMPORARY,
                "contract.balance_too_low",
                f"Balance of contract {contract} too low ({balance}) to spend {amount}",
                contract=contract,
                balance=str(balance),
                amount=str(amount),
            ),
            protocol_error(
                TEMPORARY,
                f"{coin}.subtraction_underflow",
                f"Underflowing subtraction of {balance} and {amount}",
                amounts=[str(balance), str(amount)],
            ),
        )


@lru_cache(maxsize=16)
def _applied(milligas: int, allocated: bool) -> Receipt:
    """Return the receipt of a success; blocks keep many, and there are few different ones."""
    return Receipt(Status.APPLIED, milligas, allocated)


def _check_batch(contents: Sequence[Content]) -> None:
    """Check that a batch has one source, counters in sequence, and a reveal only in front."""
    previous = contents[0].fields
    for content in contents[1:]:
        if content.fields["source"] != previous["source"]:
            raise _batch_error("inconsistent_sources", "different sources")
        if content.fields["counter"] != previous["counter"] + 1:
            raise _batch_error("inconsistent_counters", "counters that are not successive")
        if content.name == "reveal":
            raise _batch_error("incorrect_reveal_position", "a reveal that is not the first")
        previous = content.fields


def _batch_error(id: str, what: str) -> Refusal:
    text = f"The operation batch has {what}."
    return Refusal(protocol_error(PERMANENT, f"validate.operation.{id}", text))


def _milligas(*, signs: bool) -> int:
    return _CONTENT_MILLIGAS + (_SIGNATURE_MILLIGAS if signs else 0)


def _gas_exhausted() -> ChainError:
    return protocol_error(TEMPORARY, "gas_exhausted.operation", "Gas quota exceeded")
