"""The numbers of a protocol, as its node serves them and as the chain uses them.

The three JSON files beside this module are what nodes in sandbox mode answered to
``/context/constants``: ``tezt/tests/expected/RPC_test.ml`` of tezos/tezos-mirror (Ushuaia) and
mavryk-network/mavryk-protocol (Boreas, Atlas), with longer operation lifetimes. The one value
masked there, Ushuaia's canonical rollup address, is the address of twenty zero bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import msgspec

RECORDED = ("atlas", "boreas", "ushuaia")


class UnknownConstant(Exception):
    """A constant is set that this protocol does not have, or to a value of another type."""


@dataclass(frozen=True, slots=True)
class Constants:
    """What the chain needs of a protocol's constants; `served` is the whole JSON object.

    Amounts are in mutez (mumav), times in seconds, gas in units.
    """

    served: Mapping[str, Any]
    minimal_block_delay_s: int
    delay_increment_per_round_s: int
    consensus_committee_size: int
    consensus_threshold: int
    proof_of_work_threshold: int
    blocks_per_cycle: int
    blocks_per_commitment: int
    cycles_per_voting_period: int
    max_operations_time_to_live: int
    hard_gas_limit_per_operation: int
    hard_gas_limit_per_block: int
    hard_storage_limit_per_operation: int
    cost_per_byte: int
    account_bytes: int
    max_operation_data_length: int
    baking_reward: int
    baking_bonus: int
    nonce_revelation_tip: int
    nonce_revelation_threshold: int

    @property
    def bonus_per_slot(self) -> int:
        """What each slot above the threshold earns the baker who includes its attestation."""
        above = self.consensus_committee_size - self.consensus_threshold
        return self.baking_bonus // above if above > 0 else 0


def recorded(protocol: str) -> dict[str, Any]:
    """Return the constants that a node of this protocol served."""
    text = files(__package__).joinpath(f"constants_{protocol}.json").read_bytes()
    constants: dict[str, Any] = msgspec.json.decode(text)
    return constants


def sandbox_constants(protocol: str, changes: Mapping[str, Any]) -> Constants:
    """Return the recorded constants of a protocol with some of them changed.

    The recorded consensus threshold is 0, which would make a quorum of nobody; unless
    `changes` says otherwise it becomes what the protocol's mainnet has: more than two thirds
    of the committee. Raises UnknownConstant.
    """
    served = recorded(protocol)
    threshold = _threshold_name(served)
    for name, value in changes.items():
        if name not in served or type(value) is not type(served[name]):
            raise UnknownConstant(f"{protocol} has no constant {name} like {value!r}")
        served[name] = value
    if threshold not in changes:
        served[threshold] = served["consensus_committee_size"] * 2 // 3 + 1
    return _read(served)


def _threshold_name(served: Mapping[str, Any]) -> str:
    tezos, mavryk = "consensus_threshold_size", "consensus_threshold"
    return tezos if tezos in served else mavryk


def _read(served: Mapping[str, Any]) -> Constants:
    delay_s = int(served["minimal_block_delay"])
    weights = served["issuance_weights"]
    issued_per_block = int(weights["base_total_issued_per_minute"]) * delay_s // 60
    weights_total = sum(
        weight for name, weight in weights.items() if name != "base_total_issued_per_minute"
    )

    def share(name: str) -> int:
        return int(issued_per_block * weights[name] // weights_total)

    return Constants(
        served=served,
        minimal_block_delay_s=delay_s,
        delay_increment_per_round_s=int(served["delay_increment_per_round"]),
        consensus_committee_size=served["consensus_committee_size"],
        consensus_threshold=served[_threshold_name(served)],
        proof_of_work_threshold=int(served["proof_of_work_threshold"]),
        blocks_per_cycle=served["blocks_per_cycle"],
        blocks_per_commitment=served["blocks_per_commitment"],
        cycles_per_voting_period=served["cycles_per_voting_period"],
        max_operations_time_to_live=served["max_operations_time_to_live"],
        hard_gas_limit_per_operation=int(served["hard_gas_limit_per_operation"]),
        hard_gas_limit_per_block=int(served["hard_gas_limit_per_block"]),
        hard_storage_limit_per_operation=int(served["hard_storage_limit_per_operation"]),
        cost_per_byte=int(served["cost_per_byte"]),
        account_bytes=served["origination_size"],
        max_operation_data_length=served["max_operation_data_length"],
        baking_reward=share("baking_reward_fixed_portion_weight"),
        baking_bonus=share("baking_reward_bonus_weight"),
        nonce_revelation_tip=share("seed_nonce_revelation_tip_weight"),
        nonce_revelation_threshold=served["nonce_revelation_threshold"],
    )
