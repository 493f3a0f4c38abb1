"""What a worker knows of a chain: rules, rights by level, what blocks left behind; bounded.

All of it comes from the node, but for the effects of blocks that were cleared and that the node
does not have yet: these are read off their operations (`block_state`).

A check that lacks something gets None and leaves a note in `missing`; whoever runs the check asks
the node and runs it again. What the node could not tell is not asked for again at once.

Pure: answers and the time go in.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from math import inf
from typing import TypeVar

from broker.verification import ANCESTORS_MAX, Ancestor
from signers.errors import MalformedBytes
from signers.formats.networks import Network, Protocol
from signers.formats.tagged_keys import hash_text
from signers.keyring.keys import PublicKey
from workers.preparation.chain_view import ForgingConstants
from workers.preparation.operation_validation import AccountFacts
from workers.verification.ancestor_block import AncestorBlock
from workers.verification.block_operations import BlockOperations
from workers.verification.block_state import (
    BlockEffects,
    BlockState,
    effect_steps,
    state_on_top,
)
from workers.verification.chain_rules import ChainRules
from workers.verification.level_rights import LevelRights, Voter
from workers.verification.node_questions import (
    IncludedTold,
    IncludedWanted,
    Question,
    RightsTold,
    RightsWanted,
    RulesTold,
    RulesWanted,
    StateTold,
    StateWanted,
    Told,
    VoterTold,
)

# The levels from the final one to those that are taken ahead of the head, on both sides of a turn;
# 7,000 slots take 56 KB.
LEVELS_KEPT = 64
# How long "the node cannot tell" stands; a round is ten times as long.
ASK_AGAIN_S = 1.0
# Questions whose answers are missing, with their times; each takes some 200 bytes.
FAILURES_KEPT = 256
# What blocks left behind: of those that are checked now. One takes 15 KB and 300 bytes an account.
STATES_KEPT = 8
# Of cleared blocks that the node may not have: one of 3,000 transfers takes about 1 MB.
EFFECTS_KEPT = ANCESTORS_MAX
# Operations of passes 1 and 2 by block: an operation may name a branch 360 blocks back.
INCLUDED_KEPT = 1024

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class KnownChain:
    """One chain; see the module's text."""

    def __init__(self, chain_id: bytes, network: Network) -> None:
        self.missing: list[Question] = []  # by the check that runs now
        self._chain_id = chain_id
        self._network = network
        self._rules: ChainRules | None = None
        self._head_level = -1  # the asker's highest
        self._rights: OrderedDict[int, LevelRights] = OrderedDict()
        self._not_told: OrderedDict[Question, float] = OrderedDict()  # until when
        self._states: OrderedDict[StateWanted, StateTold] = OrderedDict()
        self._effects: OrderedDict[bytes, BlockEffects] = OrderedDict()
        self._included: OrderedDict[bytes, frozenset[bytes]] = OrderedDict()

    @property
    def rules(self) -> ChainRules | None:
        if self._rules is None:
            self.missing.append(RulesWanted())
        return self._rules

    def may_have_changed(self, head_level: int) -> bool:
        """Whether the rules are known from a lower head than the asker's: ask for them again.

        A protocol ends with a block, and only the head tells by which rules the next one goes.
        """
        if head_level <= self._head_level:
            return False
        self._head_level = head_level
        return self._rules is not None

    def rights(self, level: int) -> LevelRights | None:
        """Who has the slots of a level, if the node has told."""
        known = self._rights.get(level)
        if known is None:
            self.missing.append(RightsWanted(level))
        else:  # levels far ahead, which anybody may name, must not push out those in use
            self._rights.move_to_end(level)
        return known

    def read_operations(
        self, given: Sequence[Ancestor], ancestors: Sequence[AncestorBlock]
    ) -> Iterator[None]:
        """Read what came along of cleared blocks' operations, in steps, and remember it."""
        for each, ancestor in zip(given, ancestors, strict=True):
            if each.operations is not None and ancestor.hash not in self._effects:
                effects = yield from effect_steps(each.operations, self._network)
                _keep(self._effects, ancestor.hash, effects, EFFECTS_KEPT)

    def state(
        self, ancestors: Sequence[AncestorBlock], operations: BlockOperations
    ) -> BlockState | list[bytes] | None:
        """What the first ancestor left behind; or the ancestors whose operations are wanted."""
        rules, signers = self._rules, tuple(operations.signers())
        wanted = StateWanted(tuple(each.hash for each in ancestors), signers)
        told = self._states.get(wanted)
        if told is None or rules is None:
            self.missing.append(wanted)
            return None
        accounts = {
            each.source: AccountFacts(each.balance, each.counter, each.public_key)
            for each in told.accounts
        }
        if len(accounts) < len(signers):
            return None
        above = ancestors[: told.base]
        if absent := [each.hash for each in above if each.hash not in self._effects]:
            return absent
        rights = [self.rights(each.level) for each in above]
        if None in rights:
            return None
        return state_on_top(
            told.branch,
            accounts,
            [(each.hash, self._effects[each.hash]) for each in reversed(above)],
            rewarded=_delegates_among(signers, rights, self._network),
            branch_length=rules.operations_ttl + 1,
        )

    def included_since(self, state: BlockState, branch: bytes) -> set[bytes] | None:
        """The operations of passes 1 and 2 in the blocks after a live branch."""
        since = state.branch[: state.branch.index(branch)]
        absent = tuple(
            hash_ for hash_ in since if hash_ not in self._included and hash_ not in self._effects
        )
        if absent:
            self.missing.append(IncludedWanted(absent))
            return None
        found: set[bytes] = set()
        for hash_ in since:
            found |= self._included.get(hash_) or self._effects_hashes(hash_)
        return found

    def _effects_hashes(self, hash_: bytes) -> frozenset[bytes]:
        effects = self._effects.get(hash_)
        return effects.hashes if effects is not None else frozenset()

    def to_ask(self, now: float) -> Question | None:
        """What to ask for the check that has just run, if asking can help."""
        for question in self.missing:
            if self._not_told.get(question, -inf) <= now:
                return question
        return None

    def told(self, question: Question, answer: Told) -> None:
        """The node has answered. Raises ValueError, MalformedBytes when it makes no sense."""
        match question, answer:
            case RulesWanted(), RulesTold():
                self._take_rules(answer)
            case RightsWanted(), RightsTold():
                self._take_rights(answer)
            case StateWanted(), StateTold():
                if answer.branch[:1] != [*question.blocks][answer.base : answer.base + 1]:
                    raise ValueError("the state of another block than was asked for")
                _keep(self._states, question, answer, STATES_KEPT)
            case IncludedWanted(), IncludedTold():
                for hash_, operations in zip(question.blocks, answer.operations, strict=True):
                    _keep(self._included, hash_, frozenset(operations), INCLUDED_KEPT)
            case _:
                raise ValueError("an answer to another question")

    def not_told(self, question: Question, now: float) -> None:
        """The node has no answer, now."""
        _keep(self._not_told, question, now + ASK_AGAIN_S, FAILURES_KEPT)

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
        voters, bakers = (list(map(_voter, each)) for each in (told.voters, told.bakers))
        if not voters:
            raise ValueError(f"nobody has rights at level {told.level}")
        rights = LevelRights(told.level, voters, self._rules.committee_size, bakers)
        _keep(self._rights, told.level, rights, LEVELS_KEPT)


def _voter(told: VoterTold) -> Voter:
    return Voter(
        told.delegate,
        told.consensus_hash,
        PublicKey.from_tagged(told.key),
        told.slots,
        told.companion_hash,
        None if told.companion is None else PublicKey.from_tagged(told.companion),
    )


def _delegates_among(
    sources: Iterable[bytes], rights: Sequence[LevelRights | None], network: Network
) -> set[bytes]:
    """The sources that blocks and votes of these levels may have been paid to."""
    known = [each for each in rights if each is not None]
    names = {one.delegate for each in known for one in (*each.voters, *each.bakers)}
    found = set()
    for source in sources:
        try:
            if names and hash_text(source, network) in names:
                found.add(source)
        except MalformedBytes:
            continue  # a key of no curve of this network: the operation will not be valid
    return found


def _keep(kept: OrderedDict[_Key, _Value], key: _Key, value: _Value, count_max: int) -> None:
    """Remember something, and forget what was told longest ago beyond the bound."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > count_max:
        kept.popitem(last=False)


def _protocol(network: Network, hash_: str) -> Protocol:
    """The protocol that is called so; an unknown one is taken for the newest that we know."""
    return next((each for each in network.protocols if each.hash == hash_), network.protocol)
