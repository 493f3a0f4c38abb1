"""Services about the state after a block: accounts, delegates, nonces and constants."""

from __future__ import annotations

from functools import partial
from typing import Any

from signers.formats import base58
from workers.sandbox.directory import Call, Directory, NotFound
from workers.sandbox.ledger import Account, Ledger, addresses
from workers.sandbox.levels import level_info, voting_period
from workers.sandbox.names import IMPLICIT, public_key_text, text
from workers.sandbox.node import Json, SandboxNode

_BLOCK = "/chains/{chain}/blocks/{block}"
_CONTEXT = f"{_BLOCK}/context"
_CONTRACT = f"{_CONTEXT}/contracts/{{contract}}"
_DELEGATE = f"{_CONTEXT}/delegates/{{pkh}}"

_SPENDABLE = ("balance", "spendable", "balance_and_frozen_bonds", "spendable_and_frozen_bonds")
# What only code has: there is none on this chain.
_OF_CODE_ALONE = ("script", "storage", "entrypoints")
_STAKING = ("unstaked_frozen_balance", "unstaked_finalizable_balance")


class ContextServices:
    """`/context/…` and the voting period."""

    def __init__(self, node: SandboxNode) -> None:
        self._node = node

    def add_to(self, directory: Directory) -> None:
        def serve(path: str, service: Any) -> None:
            directory.serve("GET", path, service)

        serve(f"{_CONTEXT}/constants", self.constants)
        serve(f"{_CONTEXT}/contracts", self.contracts)
        serve(_CONTRACT, self.contract)
        for name in _SPENDABLE:
            serve(f"{_CONTRACT}/{name}", self.balance)
        serve(f"{_CONTRACT}/full_balance", self.full_balance)
        serve(f"{_CONTRACT}/frozen_bonds", partial(self.amount_of_implicit, "0"))
        serve(f"{_CONTRACT}/counter", self.counter)
        serve(f"{_CONTRACT}/manager_key", self.manager_key)
        serve(f"{_CONTRACT}/delegate", self.delegate_of_contract)
        serve(f"{_CONTRACT}/staked_balance", self.staked_balance)
        for name in _STAKING:
            serve(f"{_CONTRACT}/{name}", partial(self.amount_of_implicit, "0"))
        serve(f"{_CONTRACT}/unstake_requests", partial(self.amount_of_implicit, None))
        for name in _OF_CODE_ALONE:
            serve(f"{_CONTRACT}/{name}", self.of_code_alone)
        serve(f"{_CONTEXT}/delegates", self.delegates)
        serve(_DELEGATE, self.delegate)
        serve(f"{_DELEGATE}/deactivated", partial(self.of_delegate, "deactivated"))
        serve(f"{_DELEGATE}/consensus_key", partial(self.of_delegate, "consensus_key"))
        serve(f"{_DELEGATE}/full_balance", partial(self.of_delegate, "full_balance"))
        serve(f"{_DELEGATE}/staking_balance", partial(self.of_delegate, "staking_balance"))
        serve(f"{_CONTEXT}/nonces/{{level}}", self.nonce)
        serve(f"{_CONTEXT}/seed_computation", self.seed_computation)
        serve(f"{_BLOCK}/votes/current_period", self.current_period)

    def constants(self, call: Call) -> Any:
        self._node.block_of(call)
        return self._node.constants.served

    # -- accounts -------------------------------------------------------------------------------

    def contracts(self, call: Call) -> list[str]:
        _, context = self._node.context_of(call)
        return sorted(map(self._node.names.address, addresses(context)))

    def contract(self, call: Call) -> Json:
        account = self._account(call)
        shown: Json = {"balance": str(account.balance)}
        if account.delegate is not None:
            shown["delegate"] = self._node.names.address(account.delegate)
        shown["counter"] = str(account.counter)
        if self._node.dialect.account_says_revealed:
            shown["revealed"] = account.public_key is not None
        return shown

    def balance(self, call: Call) -> str:
        return str(self._account(call).balance)

    def full_balance(self, call: Call) -> str:
        account = self._account(call)
        return str(account.balance + account.frozen)

    def staked_balance(self, call: Call) -> str:
        return str(self._account(call).frozen)

    def amount_of_implicit(self, amount: str | None, call: Call) -> str | None:
        self._account(call)
        return amount

    def counter(self, call: Call) -> str:
        return str(self._account(call).counter)

    def manager_key(self, call: Call) -> str | None:
        key = self._account(call).public_key
        return None if key is None else public_key_text(key)

    def delegate_of_contract(self, call: Call) -> str:
        delegate = self._account(call).delegate
        if delegate is None:
            raise NotFound
        return self._node.names.address(delegate)

    def of_code_alone(self, call: Call) -> None:
        self._account(call)
        raise NotFound

    def _account(self, call: Call) -> Account:
        """Return the account that a call names: one of nothing when it was never used."""
        _, context = self._node.context_of(call)
        tag, address = self._node.contract_of(call)
        if tag != IMPLICIT:
            raise NotFound
        ledger = Ledger(context)
        return ledger.account(address) or Account(0, counter=ledger.progress.global_counter)

    # -- delegates ------------------------------------------------------------------------------

    def delegates(self, call: Call) -> list[str]:
        self._node.context_of(call)
        return sorted(map(self._node.names.address, self._node.rules.consensus_keys))

    def delegate(self, call: Call) -> Json:
        _, context = self._node.context_of(call)
        address = self._node.delegate_of(call)
        account = Ledger(context).account(address) or Account(0, 0)
        name = self._node.names.address(address)
        full_balance = str(account.balance + account.frozen)
        return {
            "full_balance": full_balance,
            "frozen_deposits": str(account.frozen),
            "staking_balance": full_balance,
            "delegated_contracts": [name],
            "delegated_balance": str(account.balance),
            "deactivated": False,
            "active_consensus_key": name,
            "consensus_key": {"active": {"pkh": name, "pk": self._key(address)}},
        }

    def of_delegate(self, name: str, call: Call) -> Any:
        return self.delegate(call)[name]

    def _key(self, address: bytes) -> str:
        return public_key_text(self._node.rules.consensus_keys[address])

    # -- nonces and periods ---------------------------------------------------------------------

    def nonce(self, call: Call) -> Json:
        _, context = self._node.context_of(call)
        commitment = Ledger(context).nonce(call.number("level"))
        if commitment is None:
            return {}
        if commitment.nonce is None:
            return {"hash": text(base58.NONCE_HASH, commitment.nonce_hash)}
        return {"nonce": commitment.nonce.hex()}

    def seed_computation(self, call: Call) -> Json:
        block = self._node.block_of(call)
        constants = self._node.constants
        position = level_info(constants, block.level).cycle_position
        revealing = position < constants.nonce_revelation_threshold
        stage = "nonce_revelation_stage" if revealing else "computation_finished"
        return {stage: True}

    def current_period(self, call: Call) -> Json:
        return voting_period(self._node.constants, self._node.block_of(call).level)
