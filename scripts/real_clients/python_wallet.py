"""Use pytezos or pymavryk as a wallet does, on a sandbox chain that is being baked.

Runs in the client's own environment and imports nothing of this project: `python_wallet.py NAME`,
with the node's address and the secret keys of two funded accounts as JSON on standard input.
Prints one line for each step; the first one that fails is the last, and the status is 1.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

AMOUNT = 1_000_003  # mutez (mumav)
# What a new account costs: 257 bytes of 250 mutez.
BURN = 64_250
BLOCKS_WAIT = 10


class Wallet:
    """Two funded accounts, `payer` and `payee`, seen through one client library."""

    def __init__(self, name: str, url: str, secret_keys: list[str]) -> None:
        library = importlib.import_module(name)
        node = importlib.import_module(f"{name}.rpc.node")
        errors = importlib.import_module(f"{name}.rpc.errors")
        coin = {"pytezos": "tez", "pymavryk": "mav"}[name]
        self.rpc_error: type[Exception] = node.RpcError
        self.arithmetic_error: type[Exception] = getattr(errors, f"{coin.title()}ArithmeticError")
        self.coin = coin
        self._key_class = library.Key
        self._library = getattr(library, name)
        self._url = url
        self.payer, self.payee = map(self.owner, secret_keys)

    def owner(self, secret_key: str) -> Any:
        """Return the client with another account's key."""
        return self._library.using(shell=self._url, key=secret_key)

    def newcomer(self) -> Any:
        """Return the client with a key that no chain has seen."""
        return self.owner(self._key_class.generate(export=False).secret_key())

    # -- reading --------------------------------------------------------------------------------

    def head(self) -> str:
        shell = self.payer.shell
        block = shell.head()
        header = shell.blocks[block["hash"]].header()
        assert header["hash"] == block["hash"] == shell.blocks[header["level"]].hash()
        assert header["predecessor"] == shell.blocks[f"{block['hash']}~1"].hash()
        assert [len(block["operations"]), header["validation_pass"]] == [4, 4]
        assert block["metadata"]["level_info"]["level"] == header["level"]
        assert block["metadata"]["baker"] in shell.head.context.delegates()
        assert shell.blocks["genesis"].header()["level"] == 0
        return f"level {header['level']}, {header['protocol'][:8]}, {header['timestamp']}"

    def constants(self) -> str:
        constants = self.payer.shell.head.context.constants()
        gas = int(constants["hard_gas_limit_per_operation"])
        assert gas == 1_040_000
        return f"a block in {constants['minimal_block_delay']} s, {gas} gas an operation"

    def balances(self) -> str:
        account = self.payer.account()
        assert int(account["balance"]) == self.payer.balance() * 10**6 > 0
        nobody = self.newcomer()
        assert nobody.account()["balance"] == "0"
        return f"{self.payer.balance()}, counter {account['counter']}; 0 of a new key"

    # -- sending --------------------------------------------------------------------------------

    def transfer(self) -> str:
        """Autofill, sign, inject and wait; both balances move by what the operation says."""
        before = balance(self.payer), balance(self.payee)
        done = send(self._to(self.payee, AMOUNT))
        fee = paid(done)
        after = balance(self.payer), balance(self.payee)
        assert after == (before[0] - AMOUNT - fee, before[1] + AMOUNT), (before, after, fee)
        found = self.payer.shell.blocks[-20:].find_operation(done["hash"])
        assert found["contents"] == done["contents"]
        return f"{AMOUNT} in a block, fee {fee}, {done['hash']}"

    def transfer_async(self) -> str:
        """Inject with `async=True`, which the node answers before it has looked."""
        before = balance(self.payee)
        operation = self._to(self.payee, AMOUNT).autofill().sign()
        hash = operation.inject(prevalidate=False)["hash"]
        (done,) = self.payer.shell.wait_operations([hash], ttl=BLOCKS_WAIT, min_confirmations=1)
        assert done["hash"] == hash
        assert balance(self.payee) == before + AMOUNT
        return f"in a block, {hash}"

    def reveal(self) -> str:
        """Fund a new key, then let it reveal itself and send in one operation."""
        newcomer = self.newcomer()
        before = balance(self.payer)
        funded = send(self._to(newcomer, AMOUNT))
        assert balance(newcomer) == AMOUNT
        assert balance(self.payer) == before - AMOUNT - paid(funded) - BURN
        to_payee = newcomer.transaction(destination=address(self.payee), amount=1000)
        done = send(newcomer.bulk(newcomer.reveal(), to_payee))
        assert [content["kind"] for content in done["contents"]] == ["reveal", "transaction"]
        assert balance(newcomer) == AMOUNT - 1000 - paid(done)
        return f"a new account paid {BURN}, revealed its key and sent, {done['hash']}"

    def delegation(self) -> str:
        baker = self.payer.shell.head()["metadata"]["baker"]
        send(self.payee.delegation(delegate=baker))
        assert self.payee.account()["delegate"] == baker
        return f"to {baker}"

    # -- being refused --------------------------------------------------------------------------

    def too_much(self) -> str:
        """The operation could be in a block, but would fail there: the simulation tells."""
        error = refusal(
            self.arithmetic_error, self._to(self.payee, balance(self.payer) + 1).autofill
        )
        assert error["id"].endswith(f".{self.coin}.subtraction_underflow"), error
        return f"{self.arithmetic_error.__name__}, {error['id']}"

    def old_counter(self) -> str:
        """No block may hold it: the simulation is answered with an error."""
        used = int(self.payer.account()["counter"])
        transfer = self._to(self.payee, AMOUNT)
        error = refusal(self.rpc_error, lambda: transfer.autofill(counter=used))
        assert error["id"].endswith(".contract.counter_in_the_past"), error
        assert (error["kind"], error["found"]) == ("branch", str(used))
        return f"RpcError, {error['id']}"

    def old_counter_injected(self) -> str:
        """With `async=False` the injection says so in a sentence; `async=True` says nothing."""
        used = int(self.payer.account()["counter"])
        operation = self._to(self.payee, AMOUNT).fill(counter=used).sign()
        error = refusal(self.rpc_error, operation.inject)
        assert error["id"] == "failure", error
        assert "already used" in error["msg"], error
        other = self._to(self.payee, AMOUNT + 1).fill(counter=used).sign()
        assert other.inject(prevalidate=False)["hash"] == other.hash()
        assert self._waits(other.hash(), "branch_refused")
        return f"RpcError, failure: {error['msg'].splitlines()[-1]}"

    def wrong_signature(self) -> str:
        """The payee signs what the payer sends; the mempool keeps it aside and says why."""
        sent = self._to(self.payee, AMOUNT).autofill()
        signed = self.payee.operation_group(sent.protocol, sent.branch, sent.contents).sign()
        hash = signed.inject(prevalidate=False)["hash"]
        refused = self._waits(hash, "refused")
        assert refused["error"][-1]["id"].endswith(".operation.invalid_signature"), refused
        return f"refused in the mempool, {refused['error'][-1]['id']}"

    def _to(self, payee: Any, amount: int) -> Any:
        return self.payer.transaction(destination=address(payee), amount=amount)

    def _waits(self, hash: str, class_: str) -> dict[str, Any]:
        waiting = self.payer.shell.mempool.pending_operations()
        found: dict[str, Any] = next(each for each in waiting[class_] if each["hash"] == hash)
        return found


def refusal(error: type[Exception], call: Callable[[], Any]) -> dict[str, Any]:
    """Return what the node said when a call raises an error of this class; others pass."""
    try:
        call()
    except error as raised:
        said: dict[str, Any] = raised.args[0]
        return said
    raise AssertionError("it was not refused")


def send(operation: Any) -> dict[str, Any]:
    """Autofill, sign and inject an operation, and wait until it is in a block."""
    signed = operation.autofill().sign()
    signed.forge(validate=True)  # raises when the node forges other bytes than the client
    done: dict[str, Any] = signed.inject(min_confirmations=1, num_blocks_wait=BLOCKS_WAIT)
    assert done["hash"] == signed.hash()
    return done


def address(owner: Any) -> str:
    return str(owner.key.public_key_hash())


def balance(owner: Any) -> int:
    return int(owner.account()["balance"])


def paid(operation: dict[str, Any]) -> int:
    """Return the fees of an operation."""
    return sum(int(content["fee"]) for content in operation["contents"])


STEPS: tuple[tuple[str, Callable[[Wallet], str]], ...] = (
    ("reads the head", Wallet.head),
    ("reads constants", Wallet.constants),
    ("reads balances", Wallet.balances),
    ("transfers", Wallet.transfer),
    ("transfers with async=True", Wallet.transfer_async),
    ("funds, reveals, transfers", Wallet.reveal),
    ("delegates", Wallet.delegation),
    ("is refused: more than it has", Wallet.too_much),
    ("is refused: counter in the past", Wallet.old_counter),
    ("is refused at injection", Wallet.old_counter_injected),
    ("is refused: wrong signature", Wallet.wrong_signature),
)


def main() -> int:
    name = sys.argv[1]
    given = json.load(sys.stdin)
    wallet = Wallet(name, given["url"], given["secret_keys"])
    for title, step in STEPS:
        try:
            print(f"{name}: {title}: {step(wallet)}", flush=True)
        except Exception:
            traceback.print_exc()
            print(f"{name}: {title}: FAILED", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
