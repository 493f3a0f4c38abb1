"""What checks know of a chain that the test has baked, told as a node would tell it."""

from __future__ import annotations

from typing import Any

from bakery import Bakery

from broker.verification import Ancestor, CheckItem, Position
from signers.formats.hashes import HASH_BYTES
from workers.sandbox.block_tree import Block
from workers.sandbox.ledger import Ledger
from workers.verification.known_chain import KnownChain
from workers.verification.node_questions import (
    AccountTold,
    IncludedTold,
    IncludedWanted,
    RightsTold,
    RightsWanted,
    RulesTold,
    RulesWanted,
    StateTold,
    StateWanted,
    Told,
    VoterTold,
)

Passes = list[list[bytes]]


class Node:
    """Answers questions from the chain of a bakery, of which it may lack the newest blocks."""

    def __init__(self, bakery: Bakery) -> None:
        self.bakery = bakery
        self.lacks: set[bytes] = set()
        self.holds: dict[bytes, list[bytes]] = {}  # operations of passes 1 and 2 by block
        self.asked: list[Any] = []

    def answer(self, question: Any) -> Told | None:
        self.asked.append(question)
        match question:
            case RulesWanted():
                return self._rules()
            case RightsWanted():
                return self._rights(question.level)
            case StateWanted():
                return self._state(question)
            case IncludedWanted():
                return IncludedTold([self.holds.get(hash_, []) for hash_ in question.blocks])
        raise AssertionError(question)

    def _rules(self) -> RulesTold:
        constants = self.bakery.chain.rules.constants
        return RulesTold(
            self.bakery.chain.rules.genesis.protocol.hash,
            constants.minimal_block_delay_s,
            constants.delay_increment_per_round_s,
            constants.proof_of_work_threshold,
            constants.hard_gas_limit_per_block,
            constants.hard_gas_limit_per_operation,
            constants.hard_storage_limit_per_operation,
            constants.consensus_committee_size,
            constants.consensus_threshold,
            constants.max_operations_time_to_live,
            constants.max_operation_data_length,
        )

    def _rights(self, level: int) -> RightsTold:
        rules = self.bakery.chain.rules
        voters = []
        for address, slots in rules.rights.committee(level).slots.items():
            name = rules.names.address(address)
            voters.append(VoterTold(name, name, rules.consensus_keys[address], tuple(slots)))
        return RightsTold(level, voters)

    def _state(self, asked: StateWanted) -> StateTold | None:
        tree = self.bakery.chain.tree
        for place, hash_ in enumerate(asked.blocks):
            block = tree.get(hash_)
            if block is None or hash_ in self.lacks:
                continue
            live = self.bakery.chain.rules.constants.max_operations_time_to_live + 1
            branch = [each.hash for each in tree.ancestors(block)][:live]
            assert block.context is not None
            ledger = Ledger(block.context)
            accounts = []
            for source in asked.sources:
                account = ledger.account(source)
                told = (0, ledger.progress.global_counter, None)
                if account is not None:
                    told = (account.balance, account.counter, account.public_key)
                accounts.append(AccountTold(source, *told))
            return StateTold(place, branch, accounts)
        return None


class Checker:
    """Runs a check again and again until the node has nothing more to tell."""

    def __init__(self, bakery: Bakery) -> None:
        self.bakery = bakery
        self.node = Node(bakery)
        rules = bakery.chain.rules
        self.chain = KnownChain(rules.chain_id, rules.network)

    def learn(self, check: Any) -> Any:
        for _ in range(10):
            self.chain.missing.clear()
            verdict = check(self.chain)
            question = self.chain.to_ask(0.0)
            if question is None:
                return verdict
            told = self.node.answer(question)
            if told is None:
                self.chain.not_told(question, 0.0)
            else:
                self.chain.told(question, told)
        raise AssertionError("it asks and asks")

    def position(self, head: Block, now_s: float | None = None) -> Position:
        now = head.header.timestamp if now_s is None else now_s
        timestamp = head.header.timestamp
        final = max(0, head.level - 2)
        return Position(int(now * 1000), final, head.level, head.round, timestamp)


def item_of(
    bakery: Bakery, raw: bytes, passes: Any, predecessor: Block, *, depth: int = 8,
    operations: bool = False,
) -> CheckItem:  # fmt: skip
    """A block with the headers of its ancestors, and their operations when they are wanted."""
    ancestors = []
    for block in bakery.chain.tree.ancestors(predecessor):
        if len(ancestors) == depth or block.level == 0:
            break
        held: Passes | None = None
        if operations:
            held = [[each.signed for each in one_pass] for one_pass in block.operations]
        ancestors.append(Ancestor(block.raw_header, held or ([] if operations else None)))
    return CheckItem(1, raw, [list(one_pass) for one_pass in passes], ancestors)


def other_hash(hash_: bytes) -> bytes:
    """A hash that is not this one."""
    assert len(hash_) == HASH_BYTES
    return bytes([hash_[0] ^ 1]) + hash_[1:]
