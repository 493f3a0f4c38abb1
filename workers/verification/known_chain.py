"""What a worker knows of a chain from its node: rules, rights by level; bounded, and forgetful.

A check that lacks something gets None and leaves a note in `missing`; whoever runs the check asks
the node and runs it again. What the node could not tell is not asked for again at once.

Pure: answers and the time go in.
"""

from __future__ import annotations

from collections import OrderedDict
from math import inf

from signers.formats.networks import Network, Protocol
from signers.keyring.keys import PublicKey
from workers.preparation.chain_view import ForgingConstants
from workers.verification.chain_rules import ChainRules
from workers.verification.level_rights import LevelRights, Voter
from workers.verification.node_questions import (
    Question,
    RightsTold,
    RightsWanted,
    RulesTold,
    RulesWanted,
    Told,
)

# The levels from the final one to those that are taken ahead of the head, on both sides of a turn;
# 7,000 slots take 56 KB.
LEVELS_KEPT = 64
# How long "the node cannot tell" stands; a round is ten times as long.
ASK_AGAIN_S = 1.0
# Questions whose answers are missing, with their times; each takes some 200 bytes.
FAILURES_KEPT = 256


class KnownChain:
    """One chain; see the module's text."""

    def __init__(self, chain_id: bytes, network: Network) -> None:
        self.missing: list[Question] = []  # by the check that runs now
        self._chain_id = chain_id
        self._network = network
        self._rules: ChainRules | None = None
        self._rights: OrderedDict[int, LevelRights] = OrderedDict()
        self._not_told: OrderedDict[Question, float] = OrderedDict()  # until when

    @property
    def rules(self) -> ChainRules | None:
        if self._rules is None:
            self.missing.append(RulesWanted())
        return self._rules

    def rights(self, level: int) -> LevelRights | None:
        """Who has the slots of a level, if the node has told."""
        known = self._rights.get(level)
        if known is None:
            self.missing.append(RightsWanted(level))
        return known

    def to_ask(self, now: float) -> Question | None:
        """What to ask for the check that has just run, if asking can help."""
        for question in self.missing:
            if self._not_told.get(question, -inf) <= now:
                return question
        return None

    def told(self, answer: Told) -> None:
        """The node has answered. Raises ValueError, MalformedBytes when it makes no sense."""
        if isinstance(answer, RulesTold):
            self._take_rules(answer)
        elif isinstance(answer, RightsTold):
            self._take_rights(answer)

    def not_told(self, question: Question, now: float) -> None:
        """The node has no answer, now."""
        self._not_told[question] = now + ASK_AGAIN_S
        self._not_told.move_to_end(question)
        if len(self._not_told) > FAILURES_KEPT:
            self._not_told.popitem(last=False)

    def _take_rules(self, told: RulesTold) -> None:
        constants = ForgingConstants(
            told.minimal_block_delay_s,
            told.delay_increment_per_round_s,
            told.proof_of_work_threshold,
            told.gas_per_block,
            told.gas_per_operation,
            told.storage_per_operation,
        )
        if constants.minimal_block_delay_s <= 0 or constants.delay_increment_per_round_s < 0:
            raise ValueError("rounds of this chain would not last")
        if told.committee_size <= 0:
            raise ValueError("a committee of nobody")
        rules = ChainRules(
            self._network,
            _protocol(self._network, told.protocol),
            self._chain_id,
            constants,
            told.committee_size,
            told.consensus_threshold,
            told.operations_ttl,
            told.operation_bytes_max,
        )
        if rules != self._rules:
            self._rights.clear()  # a new protocol may have a committee of another size
        self._rules = rules

    def _take_rights(self, told: RightsTold) -> None:
        if self._rules is None:
            raise ValueError("rights of a chain whose committee is not known")
        voters = [
            Voter(
                each.delegate,
                each.consensus_hash,
                PublicKey.from_tagged(each.key),
                each.slots,
                each.companion_hash,
                None if each.companion is None else PublicKey.from_tagged(each.companion),
            )
            for each in told.voters
        ]
        if not voters:
            raise ValueError(f"nobody has rights at level {told.level}")
        self._rights[told.level] = LevelRights(told.level, voters, self._rules.committee_size)
        if len(self._rights) > LEVELS_KEPT:
            self._rights.popitem(last=False)


def _protocol(network: Network, hash_: str) -> Protocol:
    """The protocol that is called so; an unknown one is taken for the newest that we know."""
    return next((each for each in network.protocols if each.hash == hash_), network.protocol)
