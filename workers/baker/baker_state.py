"""The baker's mind: what happened and what time it is go in, what is to be done comes out.

One level at a time. A proposal of the running round is preattested unless another payload is
locked; a quorum of preattestations locks its payload and is answered with attestations; a quorum
of attestations elects it, and the next level is baked on it when its time has come. When a round
ends without an election the next baker proposes: the payload that has a quorum of
preattestations if there is one, a fresh one otherwise.

Whose turn it is says the node, and that nothing is signed twice the pool's watermarks: a mistake
here can cost a block, never a deposit. Pure: `now` is an argument, in Unix seconds.

Source: Octez `lib_delegate/state_transitions.ml`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from signers.formats.signable import Kind
from workers.baker.commands import (
    BlockWanted,
    Command,
    OperationsWanted,
    ParentWanted,
    Payload,
    RightsWanted,
    VotesWanted,
)
from workers.baker.stimuli import (
    ParentSeen,
    Proposal,
    ProposalSeen,
    Rights,
    RightsKnown,
    Stimulus,
    TimePassed,
    VotesSeen,
)
from workers.baker.vote_tally import VoteTally
from workers.preparation.chain_view import ForgingConstants
from workers.preparation.rounds import block_timestamp, round_duration_s

# The lowest level with votes is 2: nobody attests genesis or the activation block.
FIRST_VOTED_LEVEL = 2
# Rounds are tried one by one; a chain that stood still for longer is not ours to revive.
ROUNDS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class ChainRules:
    """What of the protocol the automaton obeys."""

    constants: ForgingConstants
    threshold: int  # slots of a quorum
    branch_is_grandparent: bool  # of votes; otherwise the proposal's predecessor


class BakerState:
    """One chain as some delegates see it; `delegates` are hashes of keys that sign."""

    def __init__(self, delegates: Iterable[str], rules: ChainRules) -> None:
        self._delegates = frozenset(delegates)
        self._rules = rules
        self._tally = VoteTally()
        self._rights: dict[int, Rights] = {}
        self._asked: set[tuple[object, ...]] = set()  # what was wanted once and for all
        self.tip: Proposal | None = None  # the latest proposal
        self._parent: Proposal | None = None  # its predecessor
        self._locked: Proposal | None = None  # of this level, by a quorum of preattestations
        self._elected = False  # the tip has a quorum of attestations

    def handle(self, stimulus: Stimulus, now: float) -> list[Command]:
        """Take in what happened; return what is to be done now."""
        match stimulus:
            case ProposalSeen(proposal):
                self._see(proposal)
            case ParentSeen(parent):
                if self.tip is not None and parent.hash == self.tip.predecessor:
                    self._parent = parent
            case VotesSeen(votes):
                self._tally.add(votes)
            case RightsKnown(rights):
                self._rights[rights.level] = rights
            case TimePassed():
                pass
        return [] if self.tip is None else self._due(self.tip, now)

    def deadline(self, now: float) -> float | None:
        """When the next round begins, in which there may be something to do."""
        if self.tip is None:
            return None
        if now < self.tip.timestamp:
            return float(self.tip.timestamp)
        base = self._base(self.tip)
        if base is None:
            return None
        return self._begins(base, self._round_at(base, now) + 1)

    # -- what happened --

    def _see(self, proposal: Proposal) -> None:
        tip = self.tip
        if tip is not None and proposal.hash == tip.hash:
            if tip.operations is None:
                self.tip = proposal
            return
        if self._locked is not None and proposal.hash == self._locked.hash:
            self._locked = proposal  # asked for again, because its operations were not known
        if tip is None or (proposal.level, proposal.round) > (tip.level, tip.round):
            self._advance(tip, proposal)

    def _advance(self, tip: Proposal | None, proposal: Proposal) -> None:
        """Take a proposal for the tip; forget what belonged to the level below it."""
        self.tip, self._elected = proposal, False
        if tip is not None and proposal.predecessor == tip.predecessor:
            return
        self._parent = tip if tip is not None and proposal.predecessor == tip.hash else None
        self._locked = None
        self._tally.forget_below(proposal.level - 1)
        self._rights = {
            level: rights for level, rights in self._rights.items() if level >= proposal.level
        }
        self._asked = {key for key in self._asked if key[1:2] >= (proposal.level,)}

    # -- what is to be done --

    def _due(self, tip: Proposal, now: float) -> list[Command]:
        commands: list[Command] = []
        if self._parent is None and tip.level >= FIRST_VOTED_LEVEL:
            commands += self._once(ParentWanted(tip.predecessor), "parent", tip.level, tip.hash)
        for level in (tip.level, tip.level + 1):
            if level not in self._rights:
                commands += self._once(RightsWanted(level), "rights", level)
        rights = self._rights.get(tip.level)
        if rights is not None and tip.level >= FIRST_VOTED_LEVEL:
            commands += self._vote(tip, rights, now)
        if tip.level < FIRST_VOTED_LEVEL:
            self._elected = True
        return commands + list(self._bake(tip, now))

    def _vote(self, tip: Proposal, rights: Rights, now: float) -> Iterator[Command]:
        assert tip.payload_hash is not None
        is_its_round = tip.timestamp <= now < self._ends(tip)
        if is_its_round and self._may_preattest(tip):
            yield from self._votes(Kind.PREATTESTATION, tip, rights)
        if self._has_quorum(Kind.PREATTESTATION, tip, rights):
            self._locked = tip
            if is_its_round:
                yield from self._votes(Kind.ATTESTATION, tip, rights)
        self._elected = self._elected or self._has_quorum(Kind.ATTESTATION, tip, rights)

    def _may_preattest(self, tip: Proposal) -> bool:
        """Whether the lock allows it: the same payload, or evidence of a later lock."""
        locked = self._locked
        if locked is None or tip.payload_hash == locked.payload_hash:
            return True
        return tip.locked_round is not None and tip.locked_round >= locked.round

    def _votes(self, kind: Kind, tip: Proposal, rights: Rights) -> list[Command]:
        ours = tuple(
            (delegate, slots[0])
            for delegate, slots in rights.slots.items()
            if delegate in self._delegates and slots
        )
        branch = self._branch(tip)
        if not ours or branch is None or tip.payload_hash is None:
            return []
        wanted = VotesWanted(
            kind, branch, tip.level, tip.round, tip.payload_hash, ours, self._ends(tip)
        )
        return self._once(wanted, kind, tip.level, tip.round)

    def _branch(self, tip: Proposal) -> bytes | None:
        """The block that votes name as their branch; None as long as it is not known."""
        if not self._rules.branch_is_grandparent:
            return tip.predecessor
        return None if self._parent is None else self._parent.predecessor

    def _has_quorum(self, kind: Kind, tip: Proposal, rights: Rights) -> bool:
        return self._tally.power(kind, tip, rights) >= self._rules.threshold

    def _bake(self, tip: Proposal, now: float) -> Iterator[Command]:
        """The block of the running round, if that is ours."""
        base = self._base(tip)
        rights = None if base is None else self._rights.get(base.level + 1)
        if base is None or rights is None or now < self._begins(base, 0):
            return
        round_ = self._round_at(base, now)
        is_taken = base is not tip and round_ <= tip.round
        if is_taken or round_ >= len(rights.bakers):
            return
        delegate = rights.bakers[round_]
        if delegate not in self._delegates:
            return
        votes = self._tally.operations(Kind.ATTESTATION, base)
        payload = None
        if base is not tip:
            votes += _attestations_in(tip)
            if self._locked is not None:
                if self._locked.operations is None:
                    yield from self._once(
                        OperationsWanted(self._locked), "operations", tip.level, self._locked.hash
                    )
                    return
                votes += self._tally.operations(Kind.PREATTESTATION, self._locked)
                payload = _payload_of(self._locked)
        wanted = BlockWanted(
            delegate,
            base.hash,
            base.level + 1,
            round_,
            votes,
            payload,
            self._begins(base, round_ + 1),
        )
        yield from self._once(wanted, "block", wanted.level, round_)

    def _base(self, tip: Proposal) -> Proposal | None:
        """What the next block stands on: the tip if it is elected, otherwise its predecessor."""
        return tip if self._elected else self._parent

    def _once(self, command: Command, *key: object) -> list[Command]:
        """The command, unless it was wanted before. The key's second part is its level."""
        if key in self._asked:
            return []
        self._asked.add(key)
        return [command]

    # -- rounds --

    def _begins(self, base: Proposal, round_: int) -> float:
        """When a round of the level on top of `base` begins."""
        return float(
            block_timestamp(
                self._rules.constants,
                predecessor_timestamp=base.timestamp,
                predecessor_round=base.round,
                round_=round_,
            )
        )

    def _ends(self, tip: Proposal) -> float:
        """When the round of a proposal ends."""
        return tip.timestamp + float(round_duration_s(self._rules.constants, tip.round))

    def _round_at(self, base: Proposal, now: float) -> int:
        """The round that runs on top of `base`; -1 before its first."""
        round_ = -1
        while round_ < ROUNDS_MAX and self._begins(base, round_ + 1) <= now:
            round_ += 1
        return round_


def _attestations_in(tip: Proposal) -> tuple[bytes, ...]:
    """The consensus operations of a block, among them the attestations of its predecessor."""
    return () if tip.operations is None else tip.operations[0]


def _payload_of(proposal: Proposal) -> Payload:
    assert proposal.payload_hash is not None
    assert proposal.operations is not None
    return Payload(proposal.payload_hash, proposal.payload_round, proposal.operations[1:])
